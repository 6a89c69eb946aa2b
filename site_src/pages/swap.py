"""`/swap/`: whether an index that one arm built can be asked by another arm without embedding the documents again."""

from __future__ import annotations

from typing import Any

from site_src.page_writer import PageWriter

SWAPS = """
SELECT swaps.*, runs.model, runs.weights, runs.machine
FROM swaps JOIN runs USING (run_id)
QUALIFY {run: runs.complete, moment: runs.measured_at}
        = max({run: runs.complete, moment: runs.measured_at}) OVER (PARTITION BY runs.model, runs.weights)
ORDER BY runs.model, runs.weights, built_arm, asked_arm
"""


def write(writer: PageWriter) -> None:
    board = writer.board
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in board.query(SWAPS):
        groups.setdefault(row["run_id"], []).append(row)
    parts: list[dict[str, Any]] = []
    for run_id, rows in groups.items():
        arms = {arm["arm_id"]: arm for arm in board.query("SELECT * FROM arms WHERE run_id = ? ORDER BY rowid", [run_id])}
        present = {row[end] for row in rows for end in ("built_arm", "asked_arm")}
        order = [arm_id for arm_id in arms if arm_id in present] + sorted(present - set(arms))
        cells = {(row["built_arm"], row["asked_arm"]): row for row in rows}
        parts.append({"run": rows[0], "arms": [(arm_id, arms.get(arm_id)) for arm_id in order], "cells": cells})
    place = {name: index for index, name in enumerate(board.catalog.models)}
    parts.sort(key=lambda part: (place.get(part["run"]["model"], len(place)), part["run"]["model"]))
    writer.write_page(
        "swap",
        "swap.md.j2",
        title="Swap without re-indexing",
        section="Compare",
        description="Whether an index that one framework built may be asked by another",
        parts=parts,
    )
