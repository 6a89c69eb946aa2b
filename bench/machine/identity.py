"""Which machine this is: what decides how fast it can be, and how much of it this process may use.

Readers take `root`, so that a test can hand them a tree of known content.
"""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

import psutil

from bench.core.files import short_hash

ROOT = Path("/")
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
    info = cpu_info(root)
    return (info.get("flags") or info.get("Features") or "").split()


def cpu_name(root: Path = ROOT) -> str:
    info = cpu_info(root)
    return info.get("model name") or info.get("CPU part") or platform.processor() or platform.machine()


def cpu_quota(root: Path = ROOT) -> float | None:
    """CPUs' worth of time that the cgroups above this process allow; None without a limit."""
    limits: list[float] = []
    for line in (text(root / "proc/self/cgroup") or "").splitlines():
        number, controllers, group = line.split(":", 2)
        if number == "0":
            for folder in (root / "sys/fs/cgroup" / group.lstrip("/"), root / "sys/fs/cgroup"):
                quota, _, period = (text(folder / "cpu.max") or "max").partition(" ")
                if quota != "max":
                    limits.append(int(quota) / int(period or 100_000))
        elif "cpu" in controllers.split(","):
            base = root / "sys/fs/cgroup/cpu" / group.lstrip("/")
            allowed_us, period_us = text(base / "cpu.cfs_quota_us"), text(base / "cpu.cfs_period_us")
            if allowed_us and period_us and int(allowed_us) > 0:
                limits.append(int(allowed_us) / int(period_us))
    return min(limits) if limits else None


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
    quota = cpu_quota()
    return max(1, min(cores, math.floor(quota) if quota else cores))


def boot_id() -> str:
    return text(Path("/proc/sys/kernel/random/boot_id")) or UNKNOWN


def one_line() -> str:
    """The machine in one line for people: CPU, cores, memory."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{cpu_name()}, {physical_cores()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"


def machine_id() -> str:
    """Stable over boots: the same CPU kind, cores, memory and virtualisation."""
    info = cpu_info()
    memory = round(psutil.virtual_memory().total / 2**30)
    return short_hash(
        cpu_name(), info.get("cpu family"), info.get("model"), info.get("stepping"), sorted(cpu_flags()), physical_cores(), memory
    )
