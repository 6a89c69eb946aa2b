"""`/frameworks/`: the grid of models × frameworks, and below it a page per framework."""

from __future__ import annotations

from typing import Any

from site_src import formatting
from site_src.page_writer import Press
from site_src.pages import framework


def write(press: Press) -> None:
    board = press.board
    names = board.measured_frameworks
    grids: dict[tuple[str, str], dict[str, Any]] = {}
    for standings in board.standings.values():
        for standing in standings:
            for table in standing.served:
                key = (table.scenario, table.precision)
                grid = grids.setdefault(
                    key,
                    {
                        "id": formatting.ident("-".join(key)),
                        "title": table.title,
                        "precision": table.precision,
                        "frameworks": names,
                        "lines": [],
                    },
                )
                line = {"standing": standing, "table": table, "several": len(standings) > 1, "cells": [table.of(name) for name in names]}
                grid["lines"].append(line)
    press.page(
        "frameworks/index",
        "frameworks.md.j2",
        title="Frameworks",
        section="Frameworks",
        description="Six frameworks over all models: throughput over the best",
        grids=list(grids.values()),
        frameworks=list(board.catalog.frameworks.values()),
    )
    for entry in board.catalog.frameworks.values():
        framework.write(press, entry)
