"""What a worker uses: read from a tree of known content, and once from this very process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench.machine import cgroup, counters
from tests.support import fake_machines

PID = 7
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fake_machines.write(tmp_path)


def test_memory_of_a_process(root: Path) -> None:
    found = counters.memory(PID, root)
    kib = 1024
    assert found == counters.Memory(900 * kib, 700 * kib, 400 * kib, 250 * kib, 50 * kib, 16 * kib, 512 * kib, 3)
    assert counters.memory(PID, root, proportional=False).pss_bytes is None


def test_counters_of_a_process_and_its_machine(root: Path) -> None:
    found = counters.meter(PID, root)
    assert (found.minor_faults, found.major_faults) == (1200, 3)
    assert found.cpu_ns == 300 * TICK_NS
    assert (found.voluntary_switches, found.involuntary_switches) == (325, 65), "switches of all threads"
    assert found.steal_ns == 42 * TICK_NS
    assert found.throttled_ns == 350_000, "the group above holds it back"
    assert found.energy_uj == 5_700_000, "package and memory; the cores are part of the package"


def test_the_processes_of_a_worker_are_one(root: Path) -> None:
    one = counters.meter(PID, root)
    both = counters.summed([one, replace(one, cpu_ns=7, voluntary_switches=None)])
    assert (both.cpu_ns, both.minor_faults, both.voluntary_switches) == (one.cpu_ns + 7, 2400, None)
    assert (both.steal_ns, both.throttled_ns, both.energy_uj) == (one.steal_ns, one.throttled_ns, one.energy_uj), "taken once"
    held = counters.memory(PID, root)
    twice = counters.summed([held, held])
    assert (twice.rss_bytes, twice.pss_bytes, twice.threads) == (1400 * 1024, 1024 * 1024, 6)
    (root / f"proc/{PID}/task/{PID}").mkdir(parents=True, exist_ok=True)
    (root / f"proc/{PID}/task/{PID}/children").write_text("8 9 ")
    assert counters.with_children(PID, root) == [PID, 8, 9] and counters.with_children(6, root) == [6]


def test_a_difference_is_what_was_used_and_none_where_nothing_is_known(root: Path) -> None:
    first = counters.meter(PID, root)
    later = replace(first, cpu_ns=first.cpu_ns + 5, voluntary_switches=400, minor_faults=1300, energy_uj=6_000_000)
    used = later.since(first)
    assert (used.cpu_ns, used.voluntary_switches, used.minor_faults, used.energy_uj, used.steal_ns) == (5, 75, 100, 300_000, 0)
    assert replace(later, energy_uj=10).since(first).energy_uj is None, "a counter that wrapped round tells nothing"
    assert replace(later, energy_uj=None).since(first).energy_uj is None
    assert replace(later, voluntary_switches=1).since(first).voluntary_switches == 0, "a thread that ended took its counts along"


def test_a_block_of_the_machine(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    changed = {"proc/pressure/cpu": "some avg10=1.00 avg60=0.50 avg300=0.10 total=1500\n", "proc/vmstat": "pswpout 15\n"}
    later = counters.machine(fake_machines.write(tmp_path_factory.mktemp("later"), changed))
    used = later.since(counters.machine(root))
    assert used == {
        "steal_ns": 0, "throttled_ns": 0, "throttled_periods": 0, "swapped_out_pages": 4, "pressure_cpu_some_us": 500,
        "pressure_memory_some_us": 0, "pressure_memory_full_us": 0, "pressure_io_some_us": None, "pressure_io_full_us": None,
    }  # fmt: skip


def test_throttling_of_the_older_cgroups(tmp_path: Path) -> None:
    old = {
        "proc/self/cgroup": "4:memory:/x\n1:cpu,cpuacct:/\n0::/\n",
        "sys/fs/cgroup/cpu/cpu.stat": "nr_periods 4\nnr_throttled 2\nthrottled_time 900\n",
        "sys/fs/cgroup/cpu.stat": None,
    }
    assert cgroup.throttling(fake_machines.write(tmp_path, old)) == (900, 2)


def test_what_is_not_there_is_none_and_its_reason_is_told(tmp_path: Path) -> None:
    gone: dict[str, str | None] = {name: None for name in fake_machines.FILES if name.startswith(("sys/", "proc/pressure"))}
    root = fake_machines.write(tmp_path, {**gone, "proc/stat": "cpu 1 2 3\n", "proc/1/smaps_rollup": None, "proc/7/smaps_rollup": None})
    assert counters.memory(PID, root).pss_bytes is None
    found = counters.meter(PID, root)
    assert (found.steal_ns, found.throttled_ns, found.energy_uj) == (None, None, None)
    assert counters.machine(root).pressure_us == {}
    told = counters.instruments(root)
    for name in ("steal", "throttling", "pressure", "energy", "proportional_memory"):
        assert isinstance(told[name], dict), f"{name} says not why it is missing"
    whole = counters.instruments(fake_machines.write(tmp_path / "whole"))
    assert all(isinstance(source, str) for source in whole.values())


def test_the_peak_begins_anew_through_clear_refs(root: Path) -> None:
    assert counters.reset_peak(PID, root)
    assert (root / "proc/7/clear_refs").read_text() == "5"
    assert not counters.reset_peak(99, root)


def test_a_process_that_is_gone(root: Path) -> None:
    (root / "proc/7/status").write_text("Name:\tworker\nThreads:\t1\n")
    with pytest.raises(ValueError, match="no memory"):
        counters.memory(PID, root)
    with pytest.raises(OSError, match="No such file"):
        counters.meter(99, root)


CHILD = """
import sys
held = bytearray(80 << 20); del held
print("big", flush=True); sys.stdin.readline()
held = bytearray(10 << 20); x = sum(range(3_000_000))
print("small", flush=True); sys.stdin.readline()
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_the_peak_of_a_real_process_is_that_since_the_reset() -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout and child.stdin
        child.stdout.readline()
        before, began = counters.memory(child.pid), counters.meter(child.pid)
        assert before.peak_rss_bytes > before.rss_bytes + (70 << 20)
        assert counters.reset_peak(child.pid)
        child.stdin.write("\n")
        child.stdin.flush()
        child.stdout.readline()
        after, used = counters.memory(child.pid), counters.meter(child.pid).since(began)
        child.stdin.write("\n")
    assert after.peak_rss_bytes < before.peak_rss_bytes - (50 << 20), "the peak of before was kept"
    assert after.peak_rss_bytes >= after.rss_bytes > 0 and (after.pss_bytes or 0) > 0
    assert used.cpu_ns > 0 and used.minor_faults > 2000, "10 MB of new pages"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the CPU clock of another process is Linux's")
def test_the_cpu_clock_is_finer_than_a_tick() -> None:
    before = counters.meter(os.getpid())
    end = time.process_time() + 0.002
    while time.process_time() < end:
        pass
    used = counters.meter(os.getpid()).since(before).cpu_ns
    assert 2_000_000 <= used < 200_000_000
