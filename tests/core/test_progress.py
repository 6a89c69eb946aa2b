"""How far the work is, for a person and for a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.core.progress import LINE_EVERY_S, Progress


def test_a_log_hears_of_the_time_left_once_a_minute() -> None:
    log, now_s = io.StringIO(), 0.0
    progress = Progress(Console(file=log, force_terminal=False), clock_s=lambda: now_s)
    with progress.turns(12) as comes:
        for block in range(12):
            for name in ("a", "b"):
                comes(block, name, ["a", "b"])
                now_s += (0.4 if block else 30) * LINE_EVERY_S  # joining takes long and tells nothing of what is to come
    lines = log.getvalue().splitlines()
    assert lines[0] == "2 scenarios in turns: block 2 of b: 3 of 24 done, about 8m24s left"
    assert lines[-1].endswith("21 of 24 done, about 1m12s left")
    assert len(lines) == 7  # of the 22 steps after the first block, of 0.4 of the time between two lines: the first, then every third


def test_short_work_says_nothing_in_a_log_and_moves_the_bar_of_a_terminal() -> None:
    for terminal in (False, True):
        out = io.StringIO()
        with Progress(Console(file=out, force_terminal=terminal, width=120)).steps("closed-1: 3 blocks", 3) as one_more:
            for _ in range(3):
                one_more()
        assert ("3/3" in out.getvalue()) is terminal and ("closed-1" in out.getvalue()) is terminal


def said_of_a_search(first: int, arms: int) -> str:
    """What the log says of a search of at most 10 trials: `first` with six arms, 2 × LINE_EVERY_S later the next with `arms`."""
    log, now_s = io.StringIO(), 0.0
    with Progress(Console(file=log, force_terminal=False), clock_s=lambda: now_s).search("closed-1", 10) as comes:
        comes(first, 6)
        now_s = 2 * LINE_EVERY_S
        comes(first + 1, arms)
    return log.getvalue()


def test_a_search_may_end_long_before_its_last_trial() -> None:
    assert said_of_a_search(0, 4) == "closed-1: trial 2 of at most 10, 4 arms still searching: 1 of 10 done, at most 18m00s left\n"


def test_what_was_done_before_a_run_was_resumed_tells_nothing_of_the_time_left() -> None:
    assert said_of_a_search(8, 6).endswith("9 of 10 done, at most 2m00s left\n")


def test_a_step_says_what_it_took_and_a_long_one_is_announced_in_a_log() -> None:
    log, now_s = io.StringIO(), 0.0
    progress = Progress(Console(file=log, force_terminal=False), clock_s=lambda: now_s)
    for expected_s in (None, 3.0, 40.0):
        with progress.step("export", expected_s):
            now_s += 7
    with pytest.raises(ValueError, match="broken"), progress.step("export"):
        raise ValueError("broken")
    assert log.getvalue().splitlines() == ["export: 7 s", "export: 7 s", "export: about 40 s", "export: 7 s"]


def test_a_terminal_shows_the_time_left_of_a_step_and_the_item_of_a_count() -> None:
    out = io.StringIO()
    progress = Progress(Console(file=out, force_terminal=True, width=120))
    with progress.step("export [tiny]", 40.0):
        pass
    with progress.counted("building candle") as reached:
        reached(12, 150, "gemm")
    assert "about 40 s left" in out.getvalue() and "export [tiny]" in out.getvalue()
    assert "12/150" in out.getvalue() and "gemm" in out.getvalue()
