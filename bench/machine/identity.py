"""The identity of a machine, and how much of it this process may use: CPU, cores, memory.

Readers take `root`, so that a test can hand them a tree of known content.
"""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

import psutil

from bench.core.files import short_hash
from bench.machine import cgroup
from bench.machine.cgroup import ROOT

UNKNOWN = "unknown"


def text(file: Path) -> str | None:
    """The stripped text of a kernel file; None where there is none, or nothing in it."""
    try:
        return file.read_text(errors="replace").strip() or None
    except OSError:
        return None


def cpu_info(root: Path = ROOT) -> dict[str, str]:
    """The first processor of /proc/cpuinfo, key → value."""
    first = (text(root / "proc/cpuinfo") or "").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def cpu_flags(root: Path = ROOT) -> list[str]:
    """The instruction sets of the first processor, as the kernel names them (`avx2`, `asimd` …)."""
    info = cpu_info(root)
    return (info.get("flags") or info.get("Features") or "").split()


def cpu_name(root: Path = ROOT) -> str:
    """The processor's marketing name; its part number or its architecture where the kernel has none."""
    info = cpu_info(root)
    return info.get("model name") or info.get("CPU part") or platform.processor() or platform.machine()


def allowed_cpus() -> list[int]:
    """The logical CPUs that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def siblings(cpu: int, root: Path = ROOT) -> str:
    """The logical CPUs of the same physical core, as the kernel lists them."""
    return text(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)


def one_cpu_per_core() -> list[int]:
    """The first logical CPU of each physical core that this process may run on."""
    return sorted({siblings(cpu): cpu for cpu in reversed(allowed_cpus())}.values())


def physical_cores() -> int:
    """P: physical cores this process may use, by affinity, topology and CPU quota; at least 1."""
    cores = len(one_cpu_per_core())
    quota = cgroup.cpu_quota()
    return max(1, min(cores, math.floor(quota) if quota else cores))


def memory_bytes() -> int:
    """Bytes of memory that this process may use: the machine's, or the smallest limit of its control groups."""
    total = int(psutil.virtual_memory().total)
    return min(total, cgroup.memory_limit_bytes() or total)


def available_memory_bytes() -> int:
    """Bytes of memory that this process may still use: what is free on the machine, or what its control groups leave it."""
    available, left = int(psutil.virtual_memory().available), cgroup.memory_left_bytes()
    return available if left is None else min(available, left)


def boot_id() -> str:
    """The kernel's id of the present boot; `unknown` where there is none."""
    return text(Path("/proc/sys/kernel/random/boot_id")) or UNKNOWN


def one_line() -> str:
    """The machine in one line for people: CPU, cores, memory."""
    return f"{cpu_name()}, {physical_cores()} cores, {memory_bytes() / 2**30:.0f} GiB, {platform.system()} {platform.machine()}"


def machine_id() -> str:
    """Stable over boots: the same CPU kind, cores, memory and virtualisation."""
    info = cpu_info()
    memory = round(psutil.virtual_memory().total / 2**30)
    return short_hash(
        cpu_name(), info.get("cpu family"), info.get("model"), info.get("stepping"), sorted(cpu_flags()), physical_cores(), memory
    )
