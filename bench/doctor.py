"""What runs here: each framework loaded for real, the cure for each that does not, and the machine facts that decide speed."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from bench import experiment, machine
from bench.catalog import Framework
from bench.errors import BenchError
from bench.process import WorkerFailed, state_version


def frameworks(wanted: Iterable[Framework]) -> Table:
    """One row per framework: loads or not, version, what is missing and the cure."""
    table = Table("framework", "loads", "version", "what is missing: the cure", title="Frameworks", title_justify="left")
    for framework in wanted:
        version, problem = "", experiment.missing(framework)
        if not problem:
            try:
                command, env = experiment.command_and_env(framework, 1, machine.physical_cores())
                stated = state_version(command, env)
                version = f"{stated['runtime']} {stated['version']}"
            except (BenchError, WorkerFailed, KeyError) as error:
                problem = f"{error}: invoke build --framework {framework.name}" if framework.build else str(error)
        table.add_row(framework.title, "no" if problem else "yes", version, problem or "")
    return table


def facts() -> Table:
    """The machine facts that decide speed."""
    table = Table("fact", "value", "what follows", title="Machine", title_justify="left")
    for row in machine.advice():
        table.add_row(*row)
    return table


def print_all(wanted: Iterable[Framework]) -> None:
    console = Console()
    console.print(frameworks(wanted))
    console.print(facts())
