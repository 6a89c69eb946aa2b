"""`invoke doctor`: each framework loaded for real, the cure for each that does not load, and the machine facts that decide speed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

import psutil
from rich.console import Console
from rich.table import Table

from bench.catalog import Framework
from bench.core import paths
from bench.core.errors import BenchError
from bench.machine import cgroup, counters, identity, record
from bench.prepare import launch
from bench.workers.client import WorkerFailed, state_version


def framework_table(frameworks: Iterable[Framework]) -> Table:
    """One row per framework: loads or not, version, what is missing and the cure."""
    table = Table("framework", "loads", "version", "what is missing: the cure", title="Frameworks", title_justify="left")
    for framework in frameworks:
        version, problem = "", launch.missing(framework)
        if not problem:
            try:
                command, env = launch.command_and_env(framework, 1, identity.physical_cores())
                stated = state_version(command, env)
                version = f"{stated['runtime']} {stated['version']}"
            except (BenchError, WorkerFailed, KeyError) as error:
                problem = f"{error}: invoke build --framework {framework.name}" if framework.build else str(error)
        table.add_row(framework.title, "no" if problem else "yes", version, problem or "")
    return table


def fact_table() -> Table:
    """The machine facts that decide speed, and what cannot be measured here."""
    table = Table("fact", "value", "what follows", title="Machine", title_justify="left")
    for fact, value, note in [*advice(), *instruments()]:
        table.add_row(fact, re.sub(r"\s+", " ", value), note)
    return table


def advice() -> list[tuple[str, str, str]]:
    """(fact, value, what follows) for each machine fact that decides speed."""
    flags = set(identity.cpu_flags())
    swap, disk = psutil.swap_memory(), psutil.disk_usage(str(paths.ROOT))
    governor, quota, load = record.frequency()["governor"], cgroup.cpu_quota(), os.getloadavg()[0]
    exposed = isinstance(governor, str)
    return [
        ("CPU", identity.cpu_name(), ""),
        ("physical cores allowed", str(identity.physical_cores()), f"of {os.cpu_count()} logical; sessions × threads never exceed it"),
        ("CPU quota", "none" if quota is None else f"{quota:.2f} CPUs", "" if quota is None else "a cgroup limit throttles bursts"),
        ("AVX-512", _yes("avx512f" in flags), ""),
        ("VNNI (int8)", _yes(bool(flags & {"avx512_vnni", "avx_vnni", "asimddp"})), ""),
        ("bf16 units", _yes(bool(flags & {"amx_bf16", "avx512_bf16", "bf16"})), "AMX" if "amx_bf16" in flags else ""),
        (
            "governor",
            governor if exposed else "not exposed",
            "`performance` measures steadier" if exposed and governor != "performance" else "",
        ),
        ("virtual machine", _yes("hypervisor" in flags), "neighbours may make it noisy" if "hypervisor" in flags else ""),
        ("swap", _gib(swap.total), f"{_gib(swap.used)} in use; a swapped run is not ranked" if swap.used else ""),
        ("free memory", _gib(identity.available_memory_bytes()), f"of {_gib(identity.memory_bytes())} that this process may use"),
        ("free disk", _gib(disk.free), "artefacts of all models want about 30 GiB" if disk.free < 30 * 2**30 else ""),
        ("load average", f"{load:.2f}", "other work is running: numbers will be noisy" if load > 0.5 else ""),
    ]


def instruments() -> list[tuple[str, str, str]]:
    """(resource, "not exposed", why) for each resource that this machine does not let us measure."""
    states = counters.instruments()
    return [(name.replace("_", " "), "not exposed", state["unavailable"]) for name, state in states.items() if isinstance(state, dict)]


def print_tables(frameworks: Iterable[Framework]) -> None:
    """`invoke doctor`: both tables."""
    console = Console()
    console.print(framework_table(frameworks))
    console.print(fact_table())


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
