"""A differential fuzzer: random flows, each checked against what must hold of it.

`python -m tests.fuzz --seconds 600` runs new cases until its time is over, `--case ends:17` one.
A case is a family and a number, and nothing else: the same two give the same case anywhere.
"""
