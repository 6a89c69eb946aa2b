"""The claims of the protocol in the order of the table, each with the function that measures it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.core.errors import BenchError
from bench.verify import campaigns, derived, live, model, mutant_catalogue, synthetic
from bench.verify.claim import Claim, Conditions, Outcome
from bench.verify.live_bench import opened

Measure = Callable[[Conditions], Outcome]


def _without_machine(measure: Callable[..., Outcome]) -> Measure:
    """`measure(tick=…)`, which needs neither catalogue nor machine."""
    return lambda conditions: measure(tick=conditions.tick)


def _on_live_bench(measure: Callable[..., Outcome]) -> Measure:
    """`measure(live_bench, tick=…)` on a live bench of its own."""

    def on_live_bench(conditions: Conditions) -> Outcome:
        with opened(conditions.machine_lock, conditions.catalogue) as live_bench:
            outcome: Outcome = measure(live_bench, tick=conditions.tick)
            return outcome

    return on_live_bench


def _quick(name: str, text: str, measure: Callable[..., Outcome], seconds: float) -> Claim:
    return Claim(name, text, _without_machine(measure), frozenset(), True, seconds)


def _live(name: str, text: str, measure: Callable[..., Outcome], seconds: float, *needs: str) -> Claim:
    return Claim(name, text, _on_live_bench(measure), frozenset(needs), False, seconds)


def _model(name: str, text: str, measure: Measure, seconds: float, *needs: str) -> Claim:
    return Claim(name, text, measure, frozenset({"model", *needs}), False, seconds)


CLAIMS: Sequence[Claim] = (
    _quick("identical-arms", "Two identical arms are called different in at most 7 % of experiments, all looks together",
           synthetic.identical_arms, 25),
    _quick("five-percent", "An arm 5 % slower is found in 90 % or more, at 24 blocks that scatter by 4 %", synthetic.five_percent, 4),
    _quick("six-twins", "Six identical arms form one group in 95 % or more", synthetic.six_twins, 40),
    _quick("equivalence", "Arms 2 % apart are called equivalent in at most 7 %", synthetic.equivalence, 6),
    _quick("coverage", "95 % intervals of percentiles hold the truth in 93–97 %, queueing or not", synthetic.coverage, 90),
    _quick("pooled", "Pooled requests would have lied: the block is the unit of analysis", synthetic.pooled_requests, 1),
    _quick("fail-safe", "NaN, infinity, too few blocks and any error give “unresolved”, never a verdict", synthetic.fail_safe, 1),
    _live("stall", "A stall of S s in a window of T s shows in the open loop's p99 within 10 % of S − 0.01(1 − ρ)T + service, and not in "
          "that of one client back to back", live.stall, 35, "nulls"),
    _live("little", "L = λW within 2 %, L watched from outside", live.littles_law, 10),
    _live("window", "Only what is answered inside the window counts, and a growing backlog is seen", live.overload, 5),
    _live("late-send", "A request that is due is taken at once when the session is free; the p99 of the lateness is told",
          live.late_send, 10, "nulls"),
    _live("closed-loop", "The closed loop derived from one service sequence is that of real client threads, within 5 %",
          derived.fixed_service, 8),
    _model("closed-loop-onnx", "The same around ONNX Runtime, one request at a time", model.real_clients, 20),
    _model("language-gap", "A request that does no work costs at most 5 µs in Python's loop, 1 µs in Rust's and C++'s",
           model.language_gap, 10, "nulls"),
    _model("plans", "A plan has the same hash whatever process makes it", model.plans, 20),
    _model("gate", "The parity gate catches the bugs planted into the model and lets the honest one pass", model.planted_bugs, 40),
    _model("controls", "The controls of this machine since it booted: twins do not differ, the arm 5 % slower and the stall are found",
           campaigns.newest_controls, 130),
    _model("mutants", "A worker with a planted bug never shows a time; the honest one beside them does",
           mutant_catalogue.measure_mutants, 90),
)  # fmt: skip


def pick(only: str, quick: bool) -> list[Claim]:
    """The claims that `--only` (names, separated by commas; `none` for none) and `--quick` leave, in the order of the table.

    Raises:
        BenchError: an unknown name.
    """
    by_name = {claim.name: claim for claim in CLAIMS}
    names = [name.strip() for name in only.split(",") if name.strip()] or list(by_name)
    if names == ["none"]:
        return []
    if unknown := [name for name in names if name not in by_name]:
        raise BenchError(f"promise {unknown[0]}: not known; there are {', '.join(by_name)}")
    return [claim for claim in CLAIMS if claim.name in names and (claim.quick or not quick)]
