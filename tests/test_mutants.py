"""A wrong worker is caught: none of these may show a time, and the honest one beside them must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.house import House

WRONG = ("no_normalisation", "truncation", "constant", "stale", "nan", "no_mask")
BROKEN = {"crash": "SIGABRT", "exception": "planted"}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """One run of all mutants beside an honest worker: leaderboard rows of closed-1 by framework."""
    house = House(tmp_path_factory.mktemp("mutants"))
    bugs = [*WRONG, *BROKEN, "cached", "none"]
    names = ",".join(f"mutant-{bug}" for bug in bugs)
    done = house.invoke(
        "bench", "--model", "minilm", "--framework", names, "--scenario", "closed-1", "--requests", "210",
        "--catalog", str(house.catalog(*bugs)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = house.rows("select * from leaderboard where scenario = 'closed-1'")
    return {row["framework"].removeprefix("mutant-"): row for row in found}


def test_the_honest_worker_passes(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["none"]["status"] == "OK" and rows["none"]["p50_ms"] > 0 and rows["none"]["min_cosine"] >= 1 - 1e-7


@pytest.mark.parametrize("bug", [*WRONG, "cached"])
def test_a_wrong_worker_shows_no_time(rows: dict[str, dict[str, Any]], bug: str) -> None:
    row = rows[bug]
    assert (row["status"], row["ranked"]) == ("PARITY_FAIL", False)
    assert row["reason"]
    for column in ("p50_ms", "p99_ms", "mean_ms", "requests_per_s", "ratio_to_best"):
        assert row[column] is None, f"{column} of a wrong worker is shown"


def test_only_the_repeat_test_sees_a_cache(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["cached"]["min_cosine"] >= 1 - 1e-7
    assert "cached" in rows["cached"]["reason"]


@pytest.mark.parametrize(("bug", "reason"), BROKEN.items())
def test_a_broken_worker_is_a_row_with_its_reason(rows: dict[str, dict[str, Any]], bug: str, reason: str) -> None:
    assert rows[bug]["status"] == "CRASH" and reason in rows[bug]["reason"] and rows[bug]["p50_ms"] is None


def test_bugs_in_the_model_itself_are_caught(artefact: Path) -> None:
    """Wrong pooling, tanh for erf GELU and a wrong LayerNorm eps, planted into the Embedder and judged as a worker's vectors are."""
    import torch
    from torch import nn

    from bench import checks, embedder

    rng = torch.Generator().manual_seed(3)
    inputs = []
    for length in (2, 5, 9, 17, 40, 64, 129, 256) * 4:
        ids = torch.randint(1000, 29000, (1, length), generator=rng)
        inputs.append((ids, torch.ones_like(ids)))

    def vectors(plant: Any) -> Any:
        model = embedder.load(artefact)
        plant(model)
        with torch.inference_mode():
            return torch.cat([model(*pair) for pair in inputs]).numpy()

    def tanh(model: nn.Module) -> None:
        for layer in model.backbone.encoder.layer:
            layer.intermediate.intermediate_act_fn = nn.GELU(approximate="tanh")

    def eps(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-5

    def pooling(model: nn.Module) -> None:
        model.pooling = "cls"

    honest = vectors(lambda model: None)
    assert all(check["held"] for check in checks.hard_inputs("fp32", honest, honest, honest))
    for plant in (tanh, eps, pooling):
        wrong = vectors(plant)
        found = {check["name"]: check["held"] for check in checks.hard_inputs("fp32", wrong, wrong, honest)}
        assert not found["hard inputs"], f"{plant.__name__} was let through"
