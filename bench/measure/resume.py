"""Which run goes on: one that was interrupted, or one whose budget was too small for every scenario.

Finished blocks are kept. A run of the very same experiment that lacks nothing never goes on: the same again is another run.
"""

from __future__ import annotations

from dataclasses import replace

from bench.core import files, git, paths, redact
from bench.machine import identity
from bench.measure.budget import BLOCKS
from bench.prepare.spec import Experiment
from bench.runs.headers import runs_of_machine
from bench.runs.writer import RunFolder


def take_up(experiment: Experiment) -> RunFolder | None:
    """The run of this experiment since the machine was booted that goes on, made ready for it: the newest that was interrupted, or the
    newest of all where its budget was smaller and left a scenario short of K = 12 blocks. None: a new one begins."""
    spec, newest = experiment.spec, True
    for run in runs_of_machine(paths.RUNS, identity.machine_id()):
        if run.boot_id != identity.boot_id() or run.experiment_hash != experiment.hash_within(run.budget_s):
            continue
        folder = RunFolder(run.folder)
        if run.budget_s == spec.budget_s and not run.done:
            folder.forget_failures()
            return folder
        larger = run.budget_s is not None and (spec.budget_s is None or spec.budget_s > run.budget_s)
        if newest and larger and spec.requests is None and _is_short(folder, experiment):
            _enlarge(folder, experiment)
            return folder
        newest = False
    return None


def _is_short(folder: RunFolder, experiment: Experiment) -> bool:
    """Did some scenario get fewer than K = 12 blocks, or (a search) nothing?"""
    loads = [scenario for scenario in experiment.spec.scenarios if scenario.name in experiment.plans]
    return any(folder.block_count(scenario.name) < (1 if scenario.load == "slo" else BLOCKS) for scenario in loads)


def _enlarge(folder: RunFolder, experiment: Experiment) -> None:
    """Make the run one of a larger budget: its blocks stay, what was skipped for want of budget is open again."""
    run, done = files.read_json(folder.path / "run.json"), folder.path / "done.json"
    spec, ended = experiment.spec, files.read_json(done) if folder.is_done() else {}
    done.unlink(missing_ok=True)
    folder.forget_failures("SKIPPED" if ended else None)
    for scenario in spec.scenarios:
        if allocation := folder.allocation(scenario.name):
            room = experiment.plans[scenario.name].measured // (allocation.rounds * allocation.rows) - len(
                folder.discard_numbers(scenario.name)
            )
            blocks = max(allocation.blocks, min(BLOCKS, room)) if spec.budget_s is None else allocation.blocks
            folder.write_allocation(scenario.name, replace(allocation, blocks=blocks, until_s=None))
    earlier = {name: run[name] for name in ("budget_s", "command", "code_commit")} | ended
    commit, dirty = git.state()
    folder.write_run({
        **run, "budget_s": spec.budget_s, "command": redact.command(spec.command), "experiment_hash": experiment.hash,
        "code_commit": commit, "code_dirty": dirty, "continues": [*folder.continues(), earlier],
    })  # fmt: skip
