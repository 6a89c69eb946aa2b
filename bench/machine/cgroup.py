"""What the control groups above this process allow it: CPU time, memory, CPUs. A limit anywhere above it holds.

Both hierarchies are read, v2 and v1, each from the group of this process up to what is mounted as its top. Readers take `root`, so that
a test can hand them a tree of known content.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
#: The older hierarchy writes "no limit" as the largest multiple of a page.
NO_LIMIT_BYTES = 1 << 60


def folders(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """Folders of the groups that rule this process for a controller (`cpu`, `memory`, `cpuset`), innermost first, v2 before v1."""
    seen: set[Path] = set()
    for mount, group in sorted(_groups(controller, root), key=lambda pair: not pair[0].v2):
        # Of the host's path a container sees only what lies below its mount; a group outside of it is the mount's own top.
        inside = group.removeprefix(mount.top.rstrip("/")) if f"{group}/".startswith(f"{mount.top.rstrip('/')}/") else group
        parts = [part for part in inside.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            folder = mount.folder.joinpath(*parts[:depth])
            if folder.is_dir() and folder.resolve() not in seen:
                seen.add(folder.resolve())
                yield folder


@dataclass(frozen=True)
class _Mount:
    """Where a hierarchy is mounted: `top` is the group that its folder shows."""

    folder: Path
    top: str
    v2: bool
    controllers: frozenset[str]


def _groups(controller: str, root: Path) -> Iterator[tuple[_Mount, str]]:
    """(mount, group of this process) of each hierarchy that a controller may be in."""
    mounts = list(_mounts(root)) or list(_usual_mounts(controller, root))
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        for mount in mounts:
            if mount.v2 if number == "0" else controller in controllers.split(",") and controller in mount.controllers:
                yield mount, group


def _mounts(root: Path) -> Iterator[_Mount]:
    """What /proc/self/mountinfo lists: `ID PARENT DEVICE TOP FOLDER OPTIONS … - TYPE SOURCE SUPER-OPTIONS`, blanks as octal numbers."""
    for line in (_text(root / "proc/self/mountinfo") or "").splitlines():
        mount, _, system = line.partition(" - ")
        words, kind = mount.split(), system.split()
        if len(words) > 4 and len(kind) > 2 and kind[0] in ("cgroup", "cgroup2"):
            top, folder = (re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), word) for word in words[3:5])
            yield _Mount(root / folder.lstrip("/"), top, kind[0] == "cgroup2", frozenset(kind[2].split(",")))


def _usual_mounts(controller: str, root: Path) -> Iterator[_Mount]:
    """Where distributions mount the hierarchies; v2 in a folder of its own beside v1, and cpu together with cpuacct."""
    base = root / "sys/fs/cgroup"
    yield from (_Mount(folder, "/", v2=True, controllers=frozenset()) for folder in (base, base / "unified"))
    yield from (_Mount(base / name, "/", v2=False, controllers=frozenset({controller})) for name in (controller, "cpu,cpuacct"))


def cpu_quota(root: Path = ROOT) -> float | None:
    """CPUs' worth of time that the groups allow, such as 1.5; None without a limit."""
    quotas = []
    for folder in folders("cpu", root):
        # v2 has both in one file, "max" or µs, then the period in µs; v1 has a file for each, and −1 for no limit.
        allowed, _, period = (_text(folder / "cpu.max") or "").partition(" ")
        pairs = [(allowed, period or "100000"), (_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))]
        numbers = [(_number(quota), _number(per)) for quota, per in pairs]
        quotas += [quota / per for quota, per in numbers if quota and per]
    return min(quotas, default=None)


def memory_limit_bytes(root: Path = ROOT) -> int | None:
    """Bytes of memory that the groups allow; None without a limit."""
    return min((limit for _, limit in _memory_limits(root)), default=None)


def memory_left_bytes(root: Path = ROOT) -> int | None:
    """Bytes of memory that the groups still allow, page cache that can be dropped not counted as used; None without a limit."""
    left = []
    for folder, limit in _memory_limits(root):
        used = _number(_text(folder / "memory.current")) or _number(_text(folder / "memory.usage_in_bytes"))
        left.append(max(0, limit - max(0, used - _droppable_bytes(folder))))
    return min(left, default=None)


def cpuset(root: Path = ROOT) -> str | None:
    """The CPUs of the innermost group that names any, as the kernel lists them; None without one."""
    names = ("cpuset.cpus.effective", "cpuset.cpus")
    return next((cpus for folder in folders("cpuset", root) for name in names if (cpus := _text(folder / name))), None)


def throttling(root: Path = ROOT) -> tuple[int | None, int | None]:
    """(ns, periods) for which the CPU quota of a group held its tasks back: of the group that did so most; None without such a count."""
    counts = []
    for folder in folders("cpu", root):
        stat = _pairs(folder / "cpu.stat")
        if "throttled_usec" in stat:
            counts.append((stat["throttled_usec"] * 1000, stat["nr_throttled"]))
        elif "throttled_time" in stat:
            counts.append((stat["throttled_time"], stat["nr_throttled"]))
    return max(counts, default=(None, None))


def _memory_limits(root: Path) -> Iterator[tuple[Path, int]]:
    """(folder, bytes) of every group that limits memory."""
    for folder in folders("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            if 0 < (limit := _number(_text(folder / name))) < NO_LIMIT_BYTES:
                yield folder, limit


def _droppable_bytes(folder: Path) -> int:
    """Page cache of files that the kernel drops before it refuses memory."""
    stat = _pairs(folder / "memory.stat")
    return stat.get("total_inactive_file", stat.get("inactive_file", 0))


def _number(text: str | None) -> int:
    """0 where there is none, or a word (`max`), or −1 (no limit)."""
    return int(text) if text and text.isdecimal() else 0


def _pairs(file: Path) -> dict[str, int]:
    """`key number` lines."""
    split = (line.split() for line in (_text(file) or "").splitlines())
    return {words[0]: int(words[1]) for words in split if len(words) == 2 and words[1].isdecimal()}


def _text(file: Path) -> str | None:
    with suppress(OSError):
        return file.read_text(errors="replace").strip() or None
    return None
