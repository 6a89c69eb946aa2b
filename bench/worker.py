"""What the author of a Python worker imports. The contract is WORKER.md; the code is in `bench/workers/`."""

from bench.workers.api import PROCESSES, Array, Loaded, NotApplicable, Options, Session, WorkerError, bind_to_parent, padded_to
from bench.workers.main import run

__all__ = ["PROCESSES", "Array", "Loaded", "NotApplicable", "Options", "Session", "WorkerError", "bind_to_parent", "padded_to", "run"]
