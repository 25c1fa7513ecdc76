"""Executors whose workers die: in earnest in spawned processes, in this one by their traces."""

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

from flowlift.store import claims as all_claims
from flowlift.store.claims import Holder


class Died(BaseException):
    """Stands for the death of the process: nothing in a run may catch it."""


def die(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def compute_until(victim: str, times: int, folder: str, function, arguments):
    """In a spawned worker: die when the victim's flow has written a checkpoint."""
    from flowlift.flow import checkpoints

    original = checkpoints.Checkpoints.keep

    def keep(self, checkpoint, engine, **options):
        original(self, checkpoint, engine, **options)
        deaths = len(os.listdir(folder))
        if victim in self.path.name and self.path.exists() and deaths < times:
            open(os.path.join(folder, str(deaths)), "w").close()
            die()

    checkpoints.Checkpoints.keep = keep
    try:
        return function(*arguments)
    finally:
        checkpoints.Checkpoints.keep = original


class Deadly(concurrent.futures.Executor):
    """Another executor's, whose worker dies a number of times while it computes the victim."""

    def __init__(self, inner, victim: str, times: int, folder):
        self._given = victim, times, str(folder)
        self._inner = inner

    def submit(self, fn, /, *args, **kwargs):
        return self._inner.submit(compute_until, *self._given, fn, args)


class Traces(concurrent.futures.Executor):
    """Computes here and now; the victim leaves what a dead worker leaves, and breaks the pool."""

    def __init__(self, directory, victim: str, times: int):
        self._directory, self._victim, self.left = directory, victim, times
        self._broken = False
        self.submitted = []

    def submit(self, fn, /, *args, **kwargs):
        future = concurrent.futures.Future()
        self.submitted.append(args[1]["runs"])
        original = Holder.know

        def know(holder, facts):
            original(holder, facts)
            if self._victim == holder._run["run"] and self.left:
                self.left -= 1
                raise Died

        Holder.know = know
        held = Holder.__exit__
        Holder.__exit__ = lambda holder, *error: self._leave(holder, held, error)
        try:
            future.set_result(fn(*args, **kwargs))
        except Died:
            future.set_exception(BrokenProcessPool("a process died"))
        finally:
            Holder.know, Holder.__exit__ = original, held
        return future

    def _leave(self, holder, held, error):
        died = error and error[0] is Died
        text = holder._path.read_text() if died else ""
        held(holder, *error)
        if died:
            gone = subprocess.Popen([sys.executable, "-c", ""])
            gone.wait()
            # Under the name of another process: this one goes on and uses its own again.
            left = holder._path.with_name(f"{gone.pid}.json")
            left.write_text(json.dumps(json.loads(text) | {"process": gone.pid}))
            assert [c.alive for c in all_claims(self._directory)] == [False]
