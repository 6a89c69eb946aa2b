"""machine.json: everything about a machine that decides speed; a fact that is not there is `{"unavailable": reason}`.

Its shape is machine.schema.json, to which every record is held before anything is measured. Paths of this machine and the words of a
container's name are left out, since the record is published.
"""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema
import psutil

from bench.core import git, paths
from bench.core.errors import BenchError
from bench.core.files import short_hash
from bench.core.redact import portable
from bench.machine import cgroup, counters, identity, probe
from bench.machine.cgroup import ROOT
from bench.machine.identity import text
from bench.machine.versions import versions

SCHEMA = Path(__file__).with_name("machine.schema.json")
#: CPU flags that decide which kernels a runtime may use.
TELLING_FLAGS = (
    "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_tile",
    "amx_bf16", "amx_int8", "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
CPU0 = "sys/devices/system/cpu/cpu0"
Record = dict[str, Any]


def describe(workers: Mapping[str, Mapping[str, str]], binaries: Mapping[str, str], root: Path = ROOT) -> Record:
    """The record of this machine, valid by its schema.

    `workers` maps a framework to what its worker's `--version` printed, `binaries` to the sha256 of what runs.

    Raises:
        BenchError: the record is not as the schema says; names the key.
    """
    commit, dirty = git.state()
    disk = psutil.disk_usage(str(paths.DATA.parent))
    record = portable({
        "machine_id": identity.machine_id(),
        "machine": identity.one_line(),
        "hostname_hash": short_hash(socket.gethostname()),
        "boot_id": identity.boot_id(),
        "described_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": cpu(root),
        "frequency": frequency(root),
        "memory": memory(root),
        "disk": {"free_bytes": disk.free},
        "os": operating_system(root),
        "virtualisation": virtualisation(root),
        "container": container(root),
        "instruments": counters.instruments(root),
        "load_average_at_start": list(os.getloadavg()),
        "versions": versions(workers),
        "binaries": dict(binaries),
        "code": {"commit": _or(commit, "not a git checkout"), "dirty": _or(dirty, "not a git checkout")},
    })  # fmt: skip
    validate(record)
    return dict(record)


def validate(record: Any) -> None:
    """Hold a record to the published schema.

    Raises:
        BenchError: the first key that does not fit, and why.
    """
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    errors = sorted(
        jsonschema.Draft202012Validator(schema).iter_errors(record), key=lambda error: [str(part) for part in error.absolute_path]
    )
    if errors:
        place = ".".join(str(part) for part in errors[0].absolute_path) or "its top"
        raise BenchError(f"machine.json: {place}: {errors[0].message[:200]}: report it, with the output of `invoke doctor`")


# --- the parts -------------------------------------------------------------------------------------------------------------------------


def cpu(root: Path = ROOT) -> Record:
    info, flags = identity.cpu_info(root), identity.cpu_flags(root)
    allowed, quota = identity.allowed_cpus(), cgroup.cpu_quota(root)
    topology = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/topology"))
    sockets = {text(folder / "physical_package_id") for folder in topology} - {None}
    cores = {text(folder / "thread_siblings_list") for folder in topology} - {None}
    return {
        "model": identity.cpu_name(root),
        "architecture": platform.machine(),
        **{name: _or(info.get(key), f"no {key!r} in /proc/cpuinfo") for name, key in CPUINFO.items()},
        "flags": flags,
        "telling_flags": [flag for flag in TELLING_FLAGS if flag in flags],
        "logical": len(topology) or os.cpu_count() or 1,
        "sockets": _or(len(sockets) or None, "no package id in /sys"),
        "cores": _or(len(cores) or None, "no topology in /sys"),
        "threads_per_core": _or(len(topology) // len(cores) if cores else None, "no topology in /sys"),
        "allowed": allowed,
        "physical_cores_allowed": identity.physical_cores(),
        "cores_together": _parallel_speedup(root),
        "quota_cpus": _or(quota, "no cgroup limit"),
        "caches": _or(_caches(root), "not in /sys"),
        "numa": _or(_numa(root), "no NUMA in /sys"),
    }


#: Our name → the key of /proc/cpuinfo.
CPUINFO = {"vendor": "vendor_id", "family": "cpu family", "model_number": "model", "stepping": "stepping", "microcode": "microcode"}


def frequency(root: Path = ROOT) -> Record:
    """Who sets the clock, within which bounds, and whether beyond the nominal one."""
    no_turbo, boost = text(root / "sys/devices/system/cpu/intel_pstate/no_turbo"), text(root / "sys/devices/system/cpu/cpufreq/boost")
    turbo = {"0": True, "1": False}.get(no_turbo or "") if no_turbo else {"0": False, "1": True}.get(boost or "")
    scaling = root / CPU0 / "cpufreq"
    reason = "no cpufreq in /sys"
    return {
        "driver": _or(text(scaling / "scaling_driver"), reason),
        "governor": _or(text(scaling / "scaling_governor"), reason),
        "turbo": _or(turbo, "neither intel_pstate/no_turbo nor cpufreq/boost in /sys"),
        "min_khz": _or(_number(text(scaling / "scaling_min_freq")), reason),
        "max_khz": _or(_number(text(scaling / "scaling_max_freq")), reason),
        "reported_mhz": _or(_real(identity.cpu_info(root).get("cpu MHz")), "no 'cpu MHz' in /proc/cpuinfo"),
    }


def memory(root: Path = ROOT) -> Record:
    pairs = (line.partition(":") for line in (text(root / "proc/meminfo") or "").splitlines())
    kib = {key: _number(value.split()[0]) for key, _, value in pairs if value.split()}

    def size(name: str, unit: int = 1024) -> Any:
        value = kib.get(name)
        return _or(None if value is None else value * unit, f"no {name} in /proc/meminfo")

    total, free = kib.get("SwapTotal"), kib.get("SwapFree")
    return {
        "total_bytes": size("MemTotal"),
        "available_bytes": size("MemAvailable"),
        "swap_total_bytes": size("SwapTotal"),
        "swap_used_bytes": _or(None if total is None or free is None else (total - free) * 1024, "no swap in /proc/meminfo"),
        "swappiness": _or(_number(text(root / "proc/sys/vm/swappiness")), "no vm.swappiness"),
        "huge_pages_total": size("HugePages_Total", 1),
    }


def operating_system(root: Path = ROOT) -> Record:
    vulnerabilities = sorted((root / "sys/devices/system/cpu/vulnerabilities").glob("*"))
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "version": platform.version(),
        "distribution": _distribution(),
        "cmdline": _or(_cmdline(text(root / "proc/cmdline")), "no /proc/cmdline"),
        "mitigations": _or({file.name: text(file) or "" for file in vulnerabilities} or None, "not in /sys"),
        "transparent_hugepages": _or(_chosen(text(root / "sys/kernel/mm/transparent_hugepage/enabled")), "not in /sys"),
        "aslr": _or(_number(text(root / "proc/sys/kernel/randomize_va_space")), "no kernel.randomize_va_space"),
        "clocksource": _or(text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource"), "not in /sys"),
        "libc": _or(" ".join(platform.libc_ver()).strip() or None, "the C library does not say"),
    }


def virtualisation(root: Path = ROOT) -> Record:
    dmi = root / "sys/class/dmi/id"
    return {
        "hypervisor_flag": "hypervisor" in identity.cpu_flags(root),
        "detected": _or(_first_line("systemd-detect-virt", "--vm") if root == ROOT else None, "systemd-detect-virt does not say"),
        "vendor": _or(text(dmi / "sys_vendor"), "no DMI in /sys"),
        # Cloud providers write the instance type here.
        "product": _or(text(dmi / "product_name") or text(root / "sys/firmware/devicetree/base/model"), "no DMI in /sys"),
    }


def container(root: Path = ROOT) -> Record:
    """The limits of the cgroups; their names say only who started us."""
    mounts = [mount for mount, mark in (("v2", "cgroup.controllers"), ("v1", "cpu")) if (root / "sys/fs/cgroup" / mark).exists()]
    marks = {"docker": ".dockerenv", "podman": "run/.containerenv"}
    return {
        "runtime": next((name for name, mark in marks.items() if (root / mark).exists()), "none seen"),
        "cgroup": _or(mounts[0] if mounts else None, "no cgroup is mounted"),
        "cpu_quota_cpus": _or(cgroup.cpu_quota(root), "no limit"),
        "cpuset": _or(cgroup.cpuset(root), "no limit"),
        "memory_limit_bytes": _or(cgroup.memory_limit_bytes(root), "no limit"),
    }


def _parallel_speedup(root: Path) -> Record:
    """How many cores' worth of work the allowed cores really do at once: in a guest two CPUs may be two threads of one core."""
    if root != ROOT:
        return {"unavailable": "only the machine itself can be tried"}
    return asdict(probe.parallel_speedup(probe.Probe(identity.physical_cores())))


def _or(value: Any, reason: str) -> Any:
    """The value, or why it is not there."""
    return {"unavailable": reason} if value is None else value


def _number(value: str | None) -> int | None:
    return int(value) if value and re.fullmatch(r"-?\d+", value) else None


def _real(value: str | None) -> float | None:
    return float(value) if value and re.fullmatch(r"\d+(\.\d+)?", value) else None


def _chosen(value: str | None) -> str | None:
    """`always [madvise] never` → madvise."""
    chosen = re.search(r"\[(\w+)\]", value or "")
    return chosen[1] if chosen else None


def _cmdline(value: str | None) -> str | None:
    """The kernel's own parameters without paths and without what comes after `--`, which is for the first process."""
    if value is None:
        return None
    own = value.split(" -- ", maxsplit=1)[0].split()
    return " ".join(re.sub(r"=(/|[A-Za-z]+=).*", r"={path}", word) if "/" in word else word for word in own)


def _caches(root: Path) -> dict[str, str] | None:
    caches = {}
    for index in sorted((root / CPU0 / "cache").glob("index*")):
        level, kind, size = (text(index / part) for part in ("level", "type", "size"))
        if level and kind and size:
            caches[f"L{level} {kind}"] = size
    return caches or None


def _numa(root: Path) -> dict[str, str] | None:
    """Node → its logical CPUs, as the kernel lists them."""
    nodes = sorted((root / "sys/devices/system/node").glob("node[0-9]*"))
    return {node.name: text(node / "cpulist") or "" for node in nodes} or None


def _distribution() -> Any:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", identity.UNKNOWN)
    except OSError:
        return {"unavailable": "no os-release file"}


def _first_line(*words: str) -> str | None:
    """The first line that a program prints, whatever its exit status; None where there is no such program or no line."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines: Iterable[str] = done.stdout.splitlines()
    return next(iter(lines), None)
