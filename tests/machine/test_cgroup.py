"""Limits of the control groups: a limit anywhere above the process holds, in both hierarchies, wherever they are mounted."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.machine import cgroup, identity

GROUP = "sys/fs/cgroup"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("group", "quotas", "expected"),
    [
        ("/kubepods/pod1/c1", {"kubepods/pod1/c1": "150000 100000"}, 1.5),
        ("/kubepods/pod1/c1", {"kubepods/pod1/c1": "max 100000", "kubepods/pod1": "200000 100000"}, 2.0),
        ("/user.slice/user-1000.slice/session-2.scope", {"user.slice": "150000 100000"}, 1.5),
        ("/a/b", {"a": "100000 100000", "a/b": "400000 100000"}, 1.0),
        ("/a", {"a": "50000 50000"}, 1.0),
        ("/a", {"a": "max"}, None),
        ("/of/the/host", {"": "300000 100000"}, 3.0),
        ("/../../elsewhere", {"": "300000 100000"}, 3.0),
        ("/", {}, None),
    ],
)
def test_the_smallest_cpu_quota_of_all_groups_above_holds(
    tmp_path: Path, group: str, quotas: dict[str, str], expected: float | None
) -> None:
    files = {f"{GROUP}/{place}/cpu.max": f"{quota}\n" for place, quota in quotas.items()}
    tree(tmp_path, {"proc/self/cgroup": f"0::{group}\n", **files})
    (tmp_path / GROUP).mkdir(parents=True, exist_ok=True)
    assert cgroup.cpu_quota(tmp_path) == expected


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_a_quota_of_a_parent_in_the_older_hierarchy_holds(tmp_path: Path, mount: str) -> None:
    folder = f"{GROUP}/{mount}"
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/box/child\n3:cpu,cpuacct:/box/child\n0::/\n" if "," in mount else "3:cpu:/box/child\n",
            f"{folder}/cpu.cfs_quota_us": "-1\n",
            f"{folder}/cpu.cfs_period_us": "100000\n",
            f"{folder}/box/cpu.cfs_quota_us": "100000\n",
            f"{folder}/box/cpu.cfs_period_us": "100000\n",
            f"{folder}/box/child/cpu.cfs_quota_us": "-1\n",
            f"{folder}/box/child/cpu.cfs_period_us": "100000\n",
        },
    )
    assert cgroup.cpu_quota(tmp_path) == 1.0


def test_mounts_are_where_the_kernel_says(tmp_path: Path) -> None:
    """A container's group is the top of its mount, which lies in a folder of another name with a blank in it."""
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc/child\n4:memory:/docker/abc/child\n",
            "proc/self/mountinfo": (
                "30 20 0:26 / / rw - ext4 /dev/sda1 rw\n"
                r"33 30 0:30 /docker/abc /my\040groups/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct" + "\n"
                r"34 30 0:31 /docker/abc /my\040groups/memory rw,relatime - cgroup cgroup rw,memory" + "\n"
            ),
            "my groups/cpu/child/cpu.cfs_quota_us": "250000\n",
            "my groups/cpu/child/cpu.cfs_period_us": "100000\n",
            "my groups/cpu/cpu.cfs_quota_us": "200000\n",
            "my groups/cpu/cpu.cfs_period_us": "100000\n",
            "my groups/memory/memory.limit_in_bytes": "4096\n",
        },
    )
    (tmp_path / "my groups/memory/child").mkdir()
    assert cgroup.cpu_quota(tmp_path) == 2.0
    assert cgroup.memory_limit_bytes(tmp_path) == 4096


def test_memory_is_what_the_tightest_group_leaves(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b\n",
            f"{GROUP}/a/memory.max": "1000\n",
            f"{GROUP}/a/memory.current": "900\n",
            f"{GROUP}/a/memory.stat": "anon 300\ninactive_file 500\nactive_file 100\n",
            f"{GROUP}/a/b/memory.max": "800\n",
            f"{GROUP}/a/b/memory.current": "100\n",
        },
    )
    assert cgroup.memory_limit_bytes(tmp_path) == 800
    assert cgroup.memory_left_bytes(tmp_path) == 600, "cached files are dropped before memory is refused: 1000 − (900 − 500)"


def test_memory_of_the_older_hierarchy(tmp_path: Path) -> None:
    top = f"{GROUP}/memory"
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/box/child\n",
            f"{top}/memory.limit_in_bytes": "9223372036854771712\n",
            f"{top}/box/memory.limit_in_bytes": "5000\n",
            f"{top}/box/memory.usage_in_bytes": "2000\n",
            f"{top}/box/memory.stat": "cache 1\ntotal_inactive_file 500\ninactive_file 7\n",
            f"{top}/box/child/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert (cgroup.memory_limit_bytes(tmp_path), cgroup.memory_left_bytes(tmp_path)) == (5000, 3500)


def test_without_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert (cgroup.cpu_quota(tmp_path), cgroup.memory_limit_bytes(tmp_path), cgroup.memory_left_bytes(tmp_path)) == (None, None, None)
    assert cgroup.throttling(tmp_path) == (None, None) and cgroup.cpuset(tmp_path) is None


@given(st.lists(st.one_of(st.none(), st.integers(1, 64)), min_size=1, max_size=6))
def test_any_chain_of_groups_has_its_smallest_limit(tmp_path_factory: pytest.TempPathFactory, limits: list[int | None]) -> None:
    root = tmp_path_factory.mktemp("chain")
    places = ["/".join(f"g{depth}" for depth in range(depth + 1)) for depth in range(len(limits))]
    files = {
        f"{GROUP}/{place}/cpu.max": f"{'max' if cpus is None else cpus * 1000} 1000" for place, cpus in zip(places, limits, strict=True)
    }
    tree(root, {"proc/self/cgroup": f"0::/{places[-1]}\n", **files})
    assert cgroup.cpu_quota(root) == min((cpus for cpus in limits if cpus is not None), default=None)


def test_threads_and_memory_follow_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    cores, available = len(identity.one_cpu_per_core()), identity.available_memory_bytes()
    monkeypatch.setattr(cgroup, "cpu_quota", lambda: 1.5)
    monkeypatch.setattr(cgroup, "memory_limit_bytes", lambda: 2**30)
    monkeypatch.setattr(cgroup, "memory_left_bytes", lambda: 2**20)
    assert identity.physical_cores() == min(cores, 1)
    assert identity.memory_bytes() == 2**30 and identity.available_memory_bytes() == min(available, 2**20)
    assert "1 cores, 1 GiB" in identity.one_line()
