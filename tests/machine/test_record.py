"""machine.json: read from a tree of known content, held to its published schema, and free of this machine's paths."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bench.core import paths
from bench.core.errors import BenchError
from bench.machine import identity
from bench.machine import record as machine_record
from tests.support import fake_machines

STATED = {
    "framework": "candle",
    "language": "rust",
    "runtime": "candle",
    "version": "0.11.1",
    "build": f"{paths.BINARIES}/candle, rustc 1.95",
}
HASH = "0123456789ab"
CPU = "sys/devices/system/cpu"

TREE: dict[str, str | None] = {
    "proc/cpuinfo": (
        "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\nmodel name\t: Test CPU @ 2.00GHz\nstepping\t: 7\n"
        "microcode\t: 0x5003707\ncpu MHz\t\t: 2000.5\nflags\t\t: fpu avx2 avx512f hypervisor\n\nprocessor\t: 1\nmodel name\t: Other\n"
    ),
    "proc/meminfo": (
        "MemTotal:  1000 kB\nMemAvailable:  600 kB\nSwapTotal:  300 kB\nSwapFree:  100 kB\nHugePages_Total:  4\nHugepagesize:  2048 kB\n"
    ),
    "proc/cmdline": "BOOT_IMAGE=/boot/vmlinuz root=UUID=0a quiet init=/home/me/init mitigations=off -- --secret /x\n",
    "proc/sys/vm/swappiness": "60\n",
    "proc/sys/kernel/randomize_va_space": "2\n",
    f"{CPU}/cpu0/cpufreq/scaling_driver": "intel_pstate\n",
    f"{CPU}/cpu0/cpufreq/scaling_governor": "performance\n",
    f"{CPU}/cpu0/cpufreq/scaling_min_freq": "800000\n",
    f"{CPU}/cpu0/cpufreq/scaling_max_freq": "3900000\n",
    f"{CPU}/intel_pstate/no_turbo": "1\n",
    f"{CPU}/cpu0/cache/index0/level": "1\n",
    f"{CPU}/cpu0/cache/index0/type": "Data\n",
    f"{CPU}/cpu0/cache/index0/size": "32K\n",
    f"{CPU}/vulnerabilities/meltdown": "Mitigation: PTI\n",
    "sys/devices/system/node/node0/cpulist": "0-3\n",
    "sys/devices/system/node/node1/cpulist": "4-7\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    "sys/class/dmi/id/sys_vendor": "Amazon EC2\n",
    "sys/class/dmi/id/product_name": "c7i.large\n",
    "proc/self/cgroup": "0::/bench/run\n",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
    "sys/fs/cgroup/bench/cpu.max": "max 100000\n",
    "sys/fs/cgroup/bench/run/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/bench/run/memory.max": "4096\n",
    "sys/fs/cgroup/bench/memory.max": "1024\n",
    "sys/fs/cgroup/bench/run/cpuset.cpus.effective": "0-1\n",
    **{f"{CPU}/cpu{n}/topology/physical_package_id": f"{n // 4}\n" for n in range(8)},
    **{f"{CPU}/cpu{n}/topology/thread_siblings_list": f"{n // 2 * 2}-{n // 2 * 2 + 1}\n" for n in range(8)},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fake_machines.write(tmp_path, TREE)


def test_a_known_machine_part_by_part(root: Path) -> None:
    cpu = machine_record.cpu(root)
    assert (cpu["model"], cpu["stepping"], cpu["microcode"], cpu["telling_flags"]) == (
        "Test CPU @ 2.00GHz",
        "7",
        "0x5003707",
        ["avx2", "avx512f"],
    )
    assert (cpu["logical"], cpu["sockets"], cpu["cores"], cpu["threads_per_core"]) == (8, 2, 4, 2)
    assert (cpu["quota_cpus"], cpu["caches"], cpu["numa"]) == (1.5, {"L1 Data": "32K"}, {"node0": "0-3", "node1": "4-7"})
    assert machine_record.frequency(root) == {
        "driver": "intel_pstate", "governor": "performance", "turbo": False, "min_khz": 800_000, "max_khz": 3_900_000,
        "reported_mhz": 2000.5,
    }  # fmt: skip
    assert machine_record.memory(root) == {
        "total_bytes": 1_024_000, "available_bytes": 614_400, "swap_total_bytes": 307_200, "swap_used_bytes": 204_800, "swappiness": 60,
        "huge_pages_total": 4,
    }  # fmt: skip
    system = machine_record.operating_system(root)
    assert (system["transparent_hugepages"], system["aslr"], system["clocksource"]) == ("madvise", 2, "tsc")
    assert system["mitigations"] == {"meltdown": "Mitigation: PTI"}
    assert system["cmdline"] == "BOOT_IMAGE={path} root=UUID=0a quiet init={path} mitigations=off"
    assert machine_record.virtualisation(root)["product"] == "c7i.large"
    assert machine_record.container(root) == {
        "runtime": "none seen", "cgroup": "v2", "cpu_quota_cpus": 1.5, "cpuset": "0-1", "memory_limit_bytes": 1024,
    }  # fmt: skip


def test_turbo_where_acpi_tells_it(root: Path) -> None:
    (root / CPU / "intel_pstate/no_turbo").unlink()
    (root / CPU / "cpufreq").mkdir()
    (root / CPU / "cpufreq/boost").write_text("1\n")
    assert machine_record.frequency(root)["turbo"] is True


def test_nothing_is_silently_missing(tmp_path: Path) -> None:
    """An empty tree: every fact that is not there says why, and the record still fits the schema."""
    record = machine_record.describe({}, {}, fake_machines.write(tmp_path, {name: None for name in fake_machines.FILES}))
    for part, name in (
        ("frequency", "governor"),
        ("cpu", "microcode"),
        ("os", "clocksource"),
        ("instruments", "energy"),
        ("container", "cgroup"),
    ):
        assert set(record[part][name]) == {"unavailable"} and record[part][name]["unavailable"]


def test_a_real_record_fits_the_schema_and_holds_no_path_of_this_machine() -> None:
    record = machine_record.describe({"candle": STATED}, {"candle": HASH})
    text = json.dumps(record)
    for folder in (paths.ROOT, paths.BUILD, Path(sys.prefix), Path.home()):
        assert f'"{folder}/' not in text and f" {folder}/" not in text, folder
    assert record["versions"]["workers"]["candle"]["build"] == "{native}/candle, rustc 1.95"
    assert record["machine_id"] == identity.machine_id()


def test_the_schema_is_a_schema_and_refuses_what_is_not_a_record() -> None:
    schema = json.loads(machine_record.SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    record = machine_record.describe({"candle": STATED}, {"candle": HASH})

    def but(part: str, **changed: Any) -> Any:
        return {**record, part: {**record[part], **changed}}

    without = {**record, "cpu": {name: value for name, value in record["cpu"].items() if name != "microcode"}}
    for wrong, place in (
        (but("cpu", logical="8"), "cpu.logical"),
        (but("cpu", invented=1), "cpu"),
        (but("os", aslr=None), "os.aslr"),
        (but("os", aslr={"unavailable": ""}), "os.aslr"),
        (but("versions", workers={"x": {"framework": "x"}}), "versions.workers.x"),
        ({**record, "more": 1}, "its top"),
        (without, "cpu"),
    ):
        with pytest.raises(BenchError, match=f"machine.json: {place}: "):
            machine_record.validate(wrong)


def test_every_object_of_the_schema_is_closed_and_complete() -> None:
    def walk(node: Any, place: str) -> None:
        if isinstance(node, dict):
            if node.get("type") == "object" and "properties" in node and "additionalProperties" in node:
                assert node["additionalProperties"] is not True, place
                if node["additionalProperties"] is False:
                    assert set(node["required"]) == set(node["properties"]), f"{place}: a key may be left out silently"
            for key, child in node.items():
                walk(child, f"{place}.{key}")

    walk(json.loads(machine_record.SCHEMA.read_text()), "schema")
