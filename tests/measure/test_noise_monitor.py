"""The probe's samples beside a block, as block.json holds them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.machine import probe
from bench.measure import noise_monitor
from bench.measure.clock import BudgetClock
from bench.measure.noise_monitor import BlockNoise
from bench.runs.schema import ProbeSeconds

CALM = probe.Calibration(fma_s=(0.010,), copy_s=(0.003,))


def test_samples_belong_to_the_block_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise_monitor.paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(probe, "remember", lambda *_: CALM)
    clock = BudgetClock(None)
    monitor = noise_monitor.NoiseMonitor(clock, tmp_path / "probe.json")
    assert json.loads((tmp_path / "probe.json").read_text()) == {"fma_s": 0.010, "copy_s": 0.003}
    monkeypatch.setattr(probe.Probe, "sample", lambda _: probe.Sample(0.025, 0.003, 0.01, 0.003))
    monitor.sample()
    noise = monitor.judge("closed-1")
    assert noise.note and "2.50 ×" in noise.note and noise.probe.fma_s == (0.025,) * 3
    monkeypatch.setattr(probe.Probe, "sample", lambda _: probe.Sample(0.01, 0.003, 0.01, 0.003))
    for _ in range(5):
        monitor.sample()
    assert monitor.judge("closed-1") == BlockNoise(None, ProbeSeconds((0.01,) * 5, (0.003,) * 5))
    assert clock.measured_s > 0
