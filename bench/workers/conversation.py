"""A loaded model in conversation with its parent: one answer for each line (WORKER.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

from bench.workers import loop
from bench.workers.api import Loaded, one_line
from bench.workers.embed import Embed, EmbeddingSession, SideBySide
from bench.workers.loop import Fault, Serve, SliceFailed
from bench.workers.plan_file import PlanFile


class Conversation:
    """Answers lines about one loaded model. Plans and shared memory are mapped once and kept."""

    def __init__(self, loaded: Loaded, pad_id: int, fault: Fault | None, say: Callable[[str], None]) -> None:
        """
        Args:
            say: writes one line to the parent; several threads call it.
        """
        self.loaded, self.pad_id, self.fault, self.say = loaded, pad_id, fault, say
        self.plans: dict[str, PlanFile] = {}
        self.embedding = [EmbeddingSession(session, loaded.dim, pad_id, loaded.image_size) for session in loaded.sessions]

    def converse(self, lines: Iterable[str]) -> None:
        """Answer lines until `quit` or their end. Whatever goes wrong becomes an answer too."""
        for line in lines:
            words = line.split()
            if words == ["quit"]:
                return
            try:
                if words[:1] == ["embed"]:
                    self.embed(Embed.parse(words[1:], len(self.embedding)))
                else:
                    self.say(f"served {self.serve(Serve.parse(words))}")
            except SliceFailed as failed:
                self.say(f"failed {failed.rows} {failed}")
            except Exception as error:
                self.say(f"failed 0 {one_line(error)}")

    def embed(self, order: Embed) -> None:
        """Answer an `embed` line: at once where there is one session, else in the thread of its session."""
        if len(self.embedding) == 1:
            self.say(self.embedding[0].answer(order))
        else:
            self.side_by_side.put(order)

    @cached_property
    def side_by_side(self) -> SideBySide:
        """The sessions' threads, started by the first `embed`."""
        return SideBySide(self.embedding, self.say)

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
