"""The command line as it is published: every task with its help, options, defaults and which of them are positional.

python -m tests.golden.tasks
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from invoke import Collection, Task

import tasks

FILE = Path(__file__).with_suffix(".json")


def command_line() -> dict[str, Any]:
    """Each task of tasks.py by name, as invoke understands it."""
    collection = Collection.from_module(tasks)
    return {name: _described(collection[name]) for name in sorted(collection.task_names)}


def _described(task: Task[Any]) -> dict[str, Any]:
    texts = dict(task.help)
    arguments = task.get_arguments()
    task.help = texts  # invoke empties it while it makes the arguments
    return {
        "help": inspect.getdoc(task),
        "options": [
            {
                "flags": list(argument.names),
                "type": argument.kind.__name__,
                "default": argument.default,
                "positional": argument.positional,
                "help": argument.help,
            }
            for argument in arguments
        ],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(command_line(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
