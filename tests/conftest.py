"""Fixtures of several packages. The real runs are made once in a session, by the first test that asks for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import real_model
from tests.support.real_runs import FaultyRun, RightRun
from tests.support.sandbox import Sandbox


def pytest_configure() -> None:
    """Workers of pytest-xdist compute with one thread each: their idle OpenMP threads spin, and take the cores from one another."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


@pytest.fixture(scope="session")
def artefact() -> Path:
    """The safetensors artefact of MiniLM's real weights."""
    return real_model.artefact("safetensors").folder


@pytest.fixture(scope="session")
def right_run(tmp_path_factory: pytest.TempPathFactory) -> RightRun:
    return RightRun.measure(Sandbox(tmp_path_factory.mktemp("real")))


@pytest.fixture(scope="session")
def faulty_run(right_run: RightRun) -> FaultyRun:
    return FaultyRun.measure(right_run)
