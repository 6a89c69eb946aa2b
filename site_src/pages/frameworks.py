"""`/frameworks/`: grids of models × frameworks, and below it a page per framework."""

from __future__ import annotations

from typing import Any

from site_src import markup
from site_src.page_writer import PageWriter
from site_src.pages import framework


def write(writer: PageWriter) -> None:
    board = writer.board
    names = board.measured_frameworks
    grids: dict[tuple[str, str], dict[str, Any]] = {}
    for by_machine in board.results.values():
        for results in by_machine:
            for table in results.served:
                key = (table.scenario, table.precision)
                grid = grids.setdefault(
                    key,
                    {
                        "id": markup.ident("-".join(key)),
                        "title": table.title,
                        "precision": table.precision,
                        "frameworks": names,
                        "lines": [],
                    },
                )
                line = {"results": results, "table": table, "several": len(by_machine) > 1, "cells": [table.of(name) for name in names]}
                grid["lines"].append(line)
    writer.write_page(
        "frameworks/index",
        "frameworks.md.j2",
        title="Frameworks",
        section="Frameworks",
        description="Six frameworks over all models: throughput over the best",
        grids=list(grids.values()),
        frameworks=list(board.catalog.frameworks.values()),
    )
    for entry in board.catalog.frameworks.values():
        framework.write(writer, entry)
