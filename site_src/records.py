"""Records as text: JSON that is the same on every build, and nested records as (path, text) pairs."""

from __future__ import annotations

import json
import math
from typing import Any

from bench.core.formatting import DASH


def parse(text: str | None) -> Any:
    """The value of a JSON column; an empty dict for NULL."""
    return json.loads(text) if text else {}


def to_json(value: Any, indent: int | None = 1) -> str:
    """JSON with sorted keys; NaN and ∞, which JSON lacks, become strings."""
    return json.dumps(finite(value), indent=indent, sort_keys=True, ensure_ascii=False, default=str)


def to_lines(value: dict[str, Any] | list[dict[str, Any]]) -> str:
    """JSON with one line per entry of a dict or per row of a list."""
    if isinstance(value, dict):
        return "{\n " + ",\n ".join(f"{to_json(key)}: {to_json(entry, None)}" for key, entry in sorted(value.items())) + "\n}"
    return "[\n " + ",\n ".join(to_json(row, None) for row in value) + "\n]"


def finite(value: Any) -> Any:
    """A nested value with NaN and ∞ as strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return value


def flatten(value: Any, path: str = "") -> list[tuple[str, str]]:
    """A nested record as (path, text) pairs; `{"unavailable": reason}` becomes `not available: reason`."""
    if isinstance(value, dict):
        if set(value) == {"unavailable"}:
            return [(path, f"not available: {value['unavailable']}")]
        return [row for key, entry in value.items() for row in flatten(entry, f"{path} · {key}" if path else str(key))]
    if isinstance(value, list):
        if any(isinstance(entry, dict) for entry in value):
            return [row for index, entry in enumerate(value) for row in flatten(entry, f"{path} {index}")]
        return [(path, ", ".join(str(entry) for entry in value) or "none")]
    if isinstance(value, bool):
        return [(path, "yes" if value else "no")]
    return [(path, DASH if value is None else str(value))]
