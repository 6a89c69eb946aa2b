"""CPU time, memory, faults and energy of a worker and its machine, from /proc, the control groups and RAPL.

Counters are read before and after a slice, memory at its end.
Nothing samples while a worker is at work. Every reader takes `root`, so that a test can hand it a tree of known content. What this
machine does not expose is None here, and the reason stands in machine.json (`instruments`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from bench.machine import cgroup
from bench.machine.cgroup import ROOT

RAPL = "sys/class/powercap"
#: Kernel lines about stalled tasks: (resource, line) → the field of `Pressure`.
PRESSURES = (("cpu", "some"), ("memory", "some"), ("memory", "full"), ("io", "some"), ("io", "full"))


@dataclass(frozen=True)
class Memory:
    """Memory of a process in bytes. `peak_rss_bytes` is VmHWM since `reset_peak`; `pss_bytes` shares what is mapped by several."""

    peak_rss_bytes: int
    rss_bytes: int
    rss_anon_bytes: int | None
    rss_file_bytes: int | None
    rss_shmem_bytes: int | None
    swap_bytes: int | None
    pss_bytes: int | None
    threads: int


@dataclass(frozen=True)
class Meter:
    """Counters that only grow, of one process and of the machine it runs on; the difference of two is what a slice took.

    CPU time covers the process with all threads, in ns. Context switches are those of the threads that are alive. Steal is what the
    hypervisor took from all CPUs together, throttling what the cgroup's quota did, energy that of the packages and their memory.
    """

    cpu_ns: int
    voluntary_switches: int | None
    involuntary_switches: int | None
    minor_faults: int
    major_faults: int
    steal_ns: int | None
    throttled_ns: int | None
    energy_uj: int | None

    def since(self, before: Meter) -> Meter:
        """The difference to `before`, a field at a time; None where either is. Where RAPL's counter wrapped round, energy is None."""
        used = {field.name: _difference(getattr(self, field.name), getattr(before, field.name)) for field in fields(Meter)}
        if self.energy_uj is not None and before.energy_uj is not None and self.energy_uj < before.energy_uj:
            used["energy_uj"] = None
        return Meter(**used)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Machine:
    """Counters of the whole machine. `pressure_us` is the kernel's total of stalled time by `cpu_some`, `memory_full` …, in µs."""

    steal_ns: int | None
    throttled_ns: int | None
    throttled_periods: int | None
    swapped_out_pages: int | None
    pressure_us: Mapping[str, int]

    def since(self, before: Machine) -> dict[str, int | None]:
        """The difference to `before`, flat, as block.json holds it: counters, and pressures as `pressure_cpu_some_us` … in µs.

        None where the kernel keeps no such count.
        """
        plain = {name: _difference(getattr(self, name), getattr(before, name)) for name in MACHINE_COUNTERS}
        stalled = {f"pressure_{key}_us": _difference(self.pressure_us.get(key), before.pressure_us.get(key)) for key in PRESSURE_KEYS}
        return plain | stalled


Reading = TypeVar("Reading", Memory, Meter)
#: Fields of a Meter that are not the process's own.
OF_THE_MACHINE = ("steal_ns", "throttled_ns", "energy_uj")
MACHINE_COUNTERS = ("steal_ns", "throttled_ns", "throttled_periods", "swapped_out_pages")
PRESSURE_KEYS = tuple(f"{resource}_{line}" for resource, line in PRESSURES)


def with_children(pid: int, root: Path = ROOT) -> list[int]:
    """The pids of a process and its children (not of their children)."""
    children = []
    with suppress(OSError):
        children = [int(word) for word in (_process(pid, root) / "task" / str(pid) / "children").read_text().split()]
    return [pid, *children]


def summed(readings: Sequence[Reading]) -> Reading:
    """The readings of several processes as one: their own counts added, the machine's (which all of them show) once.

    Resident sets hold what is shared as often as it is mapped; the PSS does not.
    """
    first = readings[0]
    if len(readings) == 1:
        return first
    own = [field.name for field in fields(first) if field.name not in OF_THE_MACHINE]
    counts = {name: [getattr(reading, name) for reading in readings] for name in own}
    sums: dict[str, Any] = {name: None if None in values else sum(values) for name, values in counts.items()}
    return replace(first, **sums)


def memory(pid: int, root: Path = ROOT, proportional: bool = True) -> Memory:
    """Memory of a process now. The PSS walks its page table: some ms per GB, so it is asked for between slices only.

    Raises:
        OSError: there is no such process.
        ValueError: it has no memory any more (it is ending).
    """
    status = _pairs(_process(pid, root) / "status")
    if "VmRSS" not in status:
        raise ValueError(f"process {pid} has no memory any more")
    pss = _pairs(_process(pid, root) / "smaps_rollup", missing_ok=True).get("Pss") if proportional else None
    kib = {name: _kib(status.get(name)) for name in ("VmHWM", "VmRSS", "RssAnon", "RssFile", "RssShmem", "VmSwap")}
    resident = kib["VmRSS"] or 0
    return Memory(
        peak_rss_bytes=kib["VmHWM"] or resident, rss_bytes=resident, rss_anon_bytes=kib["RssAnon"], rss_file_bytes=kib["RssFile"],
        rss_shmem_bytes=kib["RssShmem"], swap_bytes=kib["VmSwap"], pss_bytes=_kib(pss), threads=int(status["Threads"]),
    )  # fmt: skip


def reset_peak(pid: int, root: Path = ROOT) -> bool:
    """Let VmHWM begin anew at the memory held now; False where the kernel does not let us."""
    try:
        (_process(pid, root) / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def meter(pid: int, root: Path = ROOT) -> Meter:
    """The counters of a process and of its machine, now.

    Raises:
        OSError: there is no such process.
    """
    # What follows the name in brackets, which may hold blanks itself: fields 3 … of proc(5).
    stat = (_process(pid, root) / "stat").read_text().rpartition(")")[2].split()
    voluntary, involuntary = _switches(pid, root)
    return Meter(
        cpu_ns=_cpu_ns(pid) if root == ROOT else _ticks_ns(int(stat[11]) + int(stat[12])), minor_faults=int(stat[7]),
        major_faults=int(stat[9]), voluntary_switches=voluntary, involuntary_switches=involuntary, steal_ns=steal_ns(root),
        throttled_ns=cgroup.throttling(root)[0], energy_uj=energy_uj(root),
    )  # fmt: skip


def machine(root: Path = ROOT) -> Machine:
    """The counters of the whole machine, now."""
    throttled_ns, periods = cgroup.throttling(root)
    swapped = _words(root / "proc/vmstat").get("pswpout")
    pressure = {f"{resource}_{line}": total for resource, line in PRESSURES if (total := _pressure_us(root, resource, line)) is not None}
    return Machine(steal_ns(root), throttled_ns, periods, None if swapped is None else int(swapped), pressure)


def steal_ns(root: Path = ROOT) -> int | None:
    """Time that the hypervisor gave to others while a CPU of ours had work, summed over CPUs."""
    total = _words(root / "proc/stat", whole_line=True).get("cpu", "").split()
    return _ticks_ns(int(total[8])) if len(total) > 8 else None


def energy_uj(root: Path = ROOT) -> int | None:
    """Energy of all packages and their memory by RAPL, in µJ; None where it is not exposed or may not be read."""
    zones_uj: list[int] = []
    for zone in sorted((root / RAPL).glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
            if name.startswith("package") or name == "dram":
                zones_uj.append(int((zone / "energy_uj").read_text()))
        except (OSError, ValueError):
            return None
    return sum(zones_uj) if zones_uj else None


def instruments(root: Path = ROOT) -> dict[str, str | dict[str, str]]:
    """For machine.json: where each counter is read from, or why it is not available."""

    def either(available: bool, source: str, reason: str) -> str | dict[str, str]:
        return source if available else {"unavailable": reason}

    me = os.getpid() if root == ROOT else 1
    rapl = root / RAPL
    rapl_reason = "RAPL is not exposed (no package zone under /sys/class/powercap)"
    if energy_uj(root) is None and any(rapl.glob("intel-rapl:*")):
        rapl_reason = "RAPL may not be read by this user"
    return {
        "cpu_time": "the process's CPU clock, ns",
        "peak_memory": either(os.access(_process(me, root) / "clear_refs", os.W_OK), "VmHWM, reset through clear_refs before each block",
                              "clear_refs may not be written: peaks hold loading too"),
        "proportional_memory": either((_process(me, root) / "smaps_rollup").exists(), "Pss of smaps_rollup", "no smaps_rollup in /proc"),
        "steal": either(steal_ns(root) is not None, "/proc/stat", "no steal column in /proc/stat"),
        "throttling": either(cgroup.throttling(root)[0] is not None, "cpu.stat of the cgroup",
                             "the cgroup has no cpu.stat with throttled time"),
        "pressure": either(bool(machine(root).pressure_us), "/proc/pressure", "the kernel has no pressure stall information"),
        "energy": either(energy_uj(root) is not None, "RAPL packages and memory", rapl_reason),
    }  # fmt: skip


# --- reading -------------------------------------------------------------------------------------------------------------------------


def _process(pid: int, root: Path) -> Path:
    return root / "proc" / str(pid)


def _cpu_ns(pid: int) -> int:
    """The CPU clock of another process, to the ns: /proc/PID/stat counts whole ticks, 4 % of a short slice.

    The clock's id is what clock_getcpuclockid(3) makes of a pid.
    """
    return time.clock_gettime_ns((~pid << 3) | 2)


def _ticks_ns(ticks: int) -> int:
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def _switches(pid: int, root: Path) -> tuple[int | None, int | None]:
    """(voluntary, involuntary) context switches, summed over the threads: the process's own status has those of one thread only."""
    voluntary = involuntary = 0
    for task in (_process(pid, root) / "task").iterdir():
        with suppress(OSError, KeyError):
            status = _pairs(task / "status")
            voluntary += int(status["voluntary_ctxt_switches"])
            involuntary += int(status["nonvoluntary_ctxt_switches"])
    return voluntary, involuntary


def _pressure_us(root: Path, resource: str, line: str) -> int | None:
    words = _words(root / "proc/pressure" / resource, whole_line=True).get(line, "").split()
    return next((int(word.removeprefix("total=")) for word in words if word.startswith("total=")), None)


def _pairs(file: Path, missing_ok: bool = False) -> dict[str, str]:
    """`Key: value` lines."""
    try:
        text = file.read_text(errors="replace")
    except OSError:
        if missing_ok:
            return {}
        raise
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def _words(file: Path, whole_line: bool = False) -> dict[str, str]:
    """`key value` lines: the first word → the second, or → the whole line."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return {}
    split = (line.split(maxsplit=1) for line in lines)
    return {words[0]: " ".join(words) if whole_line else words[1] for words in split if len(words) == 2}


def _kib(text: str | None) -> int | None:
    return None if text is None else int(text.split()[0]) * 1024


def _difference(now: int | None, before: int | None) -> int | None:
    """`now` − `before`; None where either is, and never below 0, as a thread that ended takes its counts with it."""
    return None if now is None or before is None else max(0, now - before)
