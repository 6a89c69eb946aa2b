"""A loaded model in conversation with its parent: one answer for each line (WORKER.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.workers import loop
from bench.workers.api import Loaded, one_line
from bench.workers.loop import Fault, Serve, SliceFailed
from bench.workers.plan_file import PlanFile


@dataclass
class Conversation:
    """Answers lines about one loaded model. Plans are mapped once and kept."""

    loaded: Loaded
    pad_id: int
    fault: Fault | None
    plans: dict[str, PlanFile] = field(default_factory=dict)

    def answers(self, lines: Iterable[str]) -> Iterator[str]:
        """Yield an answer for each line until `quit` or the end."""
        for line in lines:
            words = line.split()
            if words == ["quit"]:
                return
            yield self.answer(words)

    def answer(self, words: list[str]) -> str:
        """The answer to one line. Whatever goes wrong becomes `failed N reason`, and the worker goes on."""
        try:
            if words[:1] != ["serve"]:
                raise ValueError("wants `serve PLAN FIRST COUNT RATE BATCH SECONDS OUT` or `quit`")
            return f"served {self.serve(Serve.parse(words[1:]))}"
        except SliceFailed as failed:
            return f"failed {failed.rows} {failed}"
        except Exception as error:
            return f"failed 0 {one_line(error)}"

    def serve(self, order: Serve) -> int:
        """Serve one slice and write OUT; returns the rows answered.

        Raises:
            SliceFailed: it began and did not end well.
        """
        if order.plan not in self.plans:
            self.plans[order.plan] = PlanFile.open(Path(order.plan), self.loaded.image_size)
        plan = self.plans[order.plan]
        if order.first + order.count > len(plan.lengths):
            raise ValueError(f"plan {order.plan} has {len(plan.lengths)} rows, asked for up to {order.first + order.count}")
        return loop.serve(self.loaded.sessions, self.loaded.dim, plan, self.pad_id, order, self.fault)
