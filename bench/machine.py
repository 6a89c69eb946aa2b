"""What machine this is: everything that decides speed, and nothing silently missing (`{"unavailable": reason}`)."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import re
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from bench import paths
from bench.files import short_hash

#: CPU flags that decide which kernels a runtime may use.
TELLING_FLAGS = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)
LIBRARIES = ("torch", "transformers", "tokenizers", "onnxruntime", "openvino", "onnx", "onnxscript", "numpy", "duckdb", "scipy", "pandas")


def unavailable(reason: str) -> dict[str, str]:
    return {"unavailable": reason}


def read(path: str) -> str | dict[str, str]:
    """The text of a kernel file, or why there is none."""
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        return unavailable(f"{path}: {error.strerror}")


def cpu_info() -> dict[str, str]:
    """The first processor of /proc/cpuinfo, key → value."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def cpu_flags() -> list[str]:
    info = cpu_info()
    return (info.get("flags") or info.get("Features") or "").split()


def cpu_name() -> str:
    info = cpu_info()
    return info.get("model name") or info.get("CPU part") or platform.processor() or platform.machine()


def cpu_quota() -> float | None:
    """CPUs' worth of time that the cgroups above this process allow; None without a limit."""
    limits: list[float] = []
    for line in _lines("/proc/self/cgroup"):
        number, controllers, group = line.split(":", 2)
        if number == "0":
            for folder in (Path("/sys/fs/cgroup") / group.lstrip("/"), Path("/sys/fs/cgroup")):
                quota, _, period = (_text(folder / "cpu.max") or "max").partition(" ")
                if quota != "max":
                    limits.append(int(quota) / int(period or 100_000))
        elif "cpu" in controllers.split(","):
            base = Path("/sys/fs/cgroup/cpu") / group.lstrip("/")
            allowed_us, period_us = _text(base / "cpu.cfs_quota_us"), _text(base / "cpu.cfs_period_us")
            if allowed_us and period_us and int(allowed_us) > 0:
                limits.append(int(allowed_us) / int(period_us))
    return min(limits) if limits else None


def physical_cores() -> int:
    """P: physical cores this process may use, by affinity, topology and CPU quota; at least 1."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_text(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")) or str(cpu) for cpu in allowed}
    quota = cpu_quota()
    return max(1, min(len(cores), math.floor(quota) if quota else len(cores)))


def boot_id() -> str:
    value = read("/proc/sys/kernel/random/boot_id")
    return value if isinstance(value, str) else "unknown"


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


def git_state() -> tuple[str | None, bool | None]:
    """(commit, dirty flag) of the code; (None, None) outside a checkout."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=paths.ROOT, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, status = git("rev-parse", "HEAD"), git("status", "--porcelain")
    return commit, None if status is None else bool(status)


def library_versions() -> dict[str, Any]:
    versions: dict[str, Any] = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = unavailable("not installed")
    return versions


def describe(workers: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The machine record. `workers` maps a framework to what its worker's `--version` printed."""
    commit, dirty = git_state()
    memory, swap, disk = psutil.virtual_memory(), psutil.swap_memory(), psutil.disk_usage(str(paths.DATA.parent))
    info, flags = cpu_info(), cpu_flags()
    quota = cpu_quota()
    cpu0 = "/sys/devices/system/cpu/cpu0"
    return {
        "machine_id": machine_id(),
        "machine": one_line(),
        "hostname_hash": short_hash(socket.gethostname()),
        "cpu": {
            "model": cpu_name(),
            "vendor": info.get("vendor_id") or unavailable("not in /proc/cpuinfo"),
            "family": info.get("cpu family") or unavailable("not in /proc/cpuinfo"),
            "model_number": info.get("model") or unavailable("not in /proc/cpuinfo"),
            "stepping": info.get("stepping") or unavailable("not in /proc/cpuinfo"),
            "microcode": info.get("microcode") or unavailable("not in /proc/cpuinfo"),
            "flags": flags,
            "telling_flags": [flag for flag in TELLING_FLAGS if flag in flags],
            "logical": os.cpu_count(),
            "allowed": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else unavailable("no sched_getaffinity"),
            "physical_cores_allowed": physical_cores(),
            "quota_cpus": quota if quota is not None else unavailable("no cgroup limit"),
            "caches": _caches(),
            "numa_nodes": len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or unavailable("no NUMA in /sys"),
        },
        "frequency": {
            "governor": read(f"{cpu0}/cpufreq/scaling_governor"),
            "driver": read(f"{cpu0}/cpufreq/scaling_driver"),
            "no_turbo": read("/sys/devices/system/cpu/intel_pstate/no_turbo"),
        },
        "memory": {
            "total_bytes": memory.total,
            "available_bytes": memory.available,
            "swap_total_bytes": swap.total,
            "swap_used_bytes": swap.used,
        },
        "disk": {"free_bytes": disk.free},
        "os": {
            "system": platform.system(),
            "kernel": platform.release(),
            "version": platform.version(),
            "distribution": _distribution(),
            "cmdline": read("/proc/cmdline"),
            "mitigations": {file.name: _text(file) for file in sorted(Path("/sys/devices/system/cpu/vulnerabilities").glob("*"))}
            or unavailable("not in /sys"),
            "transparent_hugepages": read("/sys/kernel/mm/transparent_hugepage/enabled"),
            "aslr": read("/proc/sys/kernel/randomize_va_space"),
            "clocksource": read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            "libc": " ".join(platform.libc_ver()),
        },
        "virtualisation": {
            "hypervisor_flag": "hypervisor" in flags,
            "product": read("/sys/class/dmi/id/product_name"),
            "vendor": read("/sys/class/dmi/id/sys_vendor"),
        },
        "container": {"cgroup": read("/proc/self/cgroup"), "memory_max": read("/sys/fs/cgroup/memory.max")},
        "load_average_at_start": list(os.getloadavg()),
        "boot_id": boot_id(),
        "versions": {
            "python": platform.python_version(),
            "libraries": library_versions(),
            "workers": {k: dict(v) for k, v in workers.items()},
            "compilers": compilers(),
        },
        "code": {
            "commit": commit or unavailable("not a git checkout"),
            "dirty": dirty if dirty is not None else unavailable("not a git checkout"),
        },
        "described_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def compilers() -> dict[str, Any]:
    """First line of each compiler's own version."""
    found: dict[str, Any] = {}
    for name, flag in (("rustc", "--version"), ("cargo", "--version"), ("g++", "--version"), ("cmake", "--version")):
        try:
            done = subprocess.run([name, flag], capture_output=True, text=True, timeout=20, check=False)
            found[name] = done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else unavailable("gave no version")
        except (OSError, subprocess.TimeoutExpired):
            found[name] = unavailable("not installed")
    return found


def _caches() -> Any:
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_text(index / part) for part in ("level", "type", "size"))
        caches[f"L{level} {kind}"] = size
    return caches or unavailable("not in /sys")


def _distribution() -> Any:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError as error:
        return unavailable(str(error))


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _lines(path: str) -> list[str]:
    return (_text(Path(path)) or "").splitlines()


def advice() -> list[tuple[str, str, str]]:
    """(fact, value, what follows) for `invoke doctor`: the machine facts that decide speed."""
    flags = set(cpu_flags())
    memory, swap, disk = psutil.virtual_memory(), psutil.swap_memory(), psutil.disk_usage(str(paths.ROOT))
    governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    quota = cpu_quota()
    gib: Callable[[float], str] = lambda size: f"{size / 2**30:.1f} GiB"  # noqa: E731
    rows = [
        ("CPU", cpu_name(), ""),
        ("physical cores allowed", str(physical_cores()), f"of {os.cpu_count()} logical; sessions × threads never exceed it"),
        ("CPU quota", "none" if quota is None else f"{quota:.2f} CPUs", "" if quota is None else "a cgroup limit throttles bursts"),
        ("AVX-512", _yes("avx512f" in flags), ""),
        ("VNNI (int8)", _yes(bool(flags & {"avx512_vnni", "avx_vnni", "asimddp"})), ""),
        ("bf16 units", _yes(bool(flags & {"amx_bf16", "avx512_bf16", "bf16"})), "AMX" if "amx_bf16" in flags else ""),
        (
            "governor",
            governor if isinstance(governor, str) else "not exposed",
            "" if governor == "performance" or not isinstance(governor, str) else "`performance` measures steadier",
        ),
        ("virtual machine", _yes("hypervisor" in flags), "neighbours may make it noisy" if "hypervisor" in flags else ""),
        ("swap", gib(swap.total), f"{gib(swap.used)} in use; a swapped run is not ranked" if swap.used else ""),
        ("free memory", gib(memory.available), f"of {gib(memory.total)}"),
        ("free disk", gib(disk.free), "artefacts of all models want about 30 GiB" if disk.free < 30 * 2**30 else ""),
        ("load average", f"{os.getloadavg()[0]:.2f}", "other work is running: numbers will be noisy" if os.getloadavg()[0] > 0.5 else ""),
    ]
    return [(fact, re.sub(r"\s+", " ", value), note) for fact, value, note in rows]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
