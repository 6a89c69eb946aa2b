"""The page cache before a process start, made cold or left as it is, and the facts of the start that are recorded.

Each arm gets one cold start in a run, after its first and as soon as no other process has its files mapped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.machine import page_cache
from bench.prepare import footprint
from bench.prepare.spec import PreparedArm
from bench.runs.schema import Start
from bench.workers.client import Ready, Worker

OTHER_RELEASE = "another release stands in an environment of its own, whose files are not listed here"


@dataclass(frozen=True)
class PageCacheState:
    """The page cache before a start: `cold` (artefact, library and binary evicted, which was verified), `warm` (all of the artefact in
    it, and the arm was started before) or `unknown`. The note says why it is not cold though it was to be."""

    page_cache: str
    page_cache_note: str | None = None


class ColdStarts:
    """Which arms of a run have had their cold start."""

    def __init__(self) -> None:
        self._cold: set[str] = set()

    def order(self, prepared_arms: Iterable[PreparedArm]) -> list[PreparedArm]:
        """Arms without a cold start come first: then the fewest others have their files mapped."""
        return sorted(prepared_arms, key=lambda prepared: prepared.arm.id in self._cold)

    def prepare(self, prepared: PreparedArm, start: int) -> PageCacheState:
        """Make the page cache cold for the start numbered `start` of an arm, if it is the arm's turn; say what it is then."""
        if start == 0 or prepared.arm.role != "measured":
            return PageCacheState("unknown")
        if prepared.framework.release:
            return PageCacheState("unknown", OTHER_RELEASE)
        if prepared.arm.id in self._cold:
            return PageCacheState("warm" if page_cache.is_warm(footprint.artefact_files(prepared)) else "unknown")
        reason = page_cache.evict(footprint.start_files(prepared))
        if reason:
            return PageCacheState("unknown", reason)
        self._cold.add(prepared.arm.id)
        return PageCacheState("cold")


def start_of(prepared: PreparedArm, start: int, worker: Worker, ready: Ready, state: PageCacheState) -> Start:
    """The record of the start numbered `start` of an arm: its times, its page cache and its memory when it is ready."""
    memory = worker.memory()
    return Start(
        arm_id=prepared.arm.id,
        start=start,
        spawn_ns=worker.spawn_ns,
        load_ns=ready.load_ns,
        first_ns=ready.first_ns,
        second_ns=ready.second_ns,
        load_pss_bytes=memory.pss_bytes,
        rss_bytes=memory.rss_bytes,
        peak_rss_bytes=memory.peak_rss_bytes,
        page_cache=state.page_cache,
        page_cache_note=state.page_cache_note,
        dim=ready.dim,
        version=dict(prepared.version),
        settings=dict(ready.settings),
    )
