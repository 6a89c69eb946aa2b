"""May the workers of a run stay in memory side by side, and does each of them fit at all? Estimated before anything is loaded."""

from __future__ import annotations

import psutil

from bench.core.errors import BenchError
from bench.prepare.experiment import Experiment, PreparedArm

#: From here on a model's workers are not kept side by side.
RESIDENT_BYTES = 1_000_000_000
#: What a worker needs besides its weights, and how often it (with half of that, each further session) may hold them (packed copies); an
#: estimate, on the safe side.
WORKER_BYTES, WEIGHT_COPIES = 600_000_000, 2.5


def worker_bytes(prepared: PreparedArm) -> int:
    """What a worker may need in memory: an estimate, on the safe side."""
    copies = WEIGHT_COPIES * (1 + prepared.arm.sessions) / 2
    return int(WORKER_BYTES + copies * prepared.artefact.bytes) if prepared.arm.role != "floor" else 100_000_000


def stays_resident(experiment: Experiment) -> bool:
    """May the workers of all arms stay in memory side by side?

    Raises:
        BenchError: not even one of them fits; the need is named before anything is loaded.
    """
    needs = {prepared.name: worker_bytes(prepared) for prepared in experiment.prepared_arms}
    available = psutil.virtual_memory().available
    for name, need in needs.items():
        if need > available:
            raise BenchError(
                f"{experiment.spec.model.name}: {name} needs about {need / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB are free: "
                "end other programs, or leave that framework out with --framework"
            )
    return experiment.spec.model.bytes_fp32 < RESIDENT_BYTES and sum(needs.values()) < available
