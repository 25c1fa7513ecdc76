"""The names of what a store holds."""

import os
import socket

CELLS, INDEX, CLAIMS, SET_ASIDE, CHECKPOINTS = "cells", "index", "claims", "set_aside", "running"
# How the names of folded files begin, below cells/.
FOLDED = "folded-"
STUDY, PLAN, DAMAGE, LOCK = "study.toml", "plan.json", "damaged.jsonl", "folding.lock"


def writer() -> str:
    """A name for this process among all that write into a store."""
    return f"{socket.gethostname()}-{os.getpid()}"
