"""How each framework looks: colour in both schemes, dash of its lines, shape of its points. The one place where they are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt


@dataclass(frozen=True)
class Mark:
    """How one framework looks in every chart: colour in both schemes, dash of its lines, shape of its points."""

    light: str
    dark: str
    dash: tuple[int, ...]
    shape: str
    path: str
    """The same shape for the icon beside a name, in a box from −6 to 6."""


# Each colour has a contrast of at least 3:1 against its page; shape and dash carry the same difference without colour.
MARKS: dict[str, Mark] = {
    "pytorch": Mark("#c8451b", "#ff8f66", (1, 0), "circle", "M5 0A5 5 0 1 1-5 0A5 5 0 1 1 5 0Z"),
    "onnx-python": Mark("#1f5fbf", "#7aaeff", (6, 2), "square", "M-4.5-4.5h9v9h-9Z"),
    "onnx-rust": Mark("#0b7a5b", "#45d3a0", (2, 2), "triangle-up", "M0-5.2L5.5 4.4H-5.5Z"),
    "onnx-cpp": Mark("#1190b8", "#6fdcf2", (8, 2, 2, 2), "diamond", "M0-6L5.5 0L0 6L-5.5 0Z"),
    "candle": Mark("#a8680c", "#f2bd4b", (4, 4), "cross", "M-2-5.5h4v3.5h3.5v4h-3.5v3.5h-4v-3.5h-3.5v-4h3.5Z"),
    "openvino": Mark("#9b3fa5", "#e29aea", (3, 1), "triangle-down", "M0 5.2L5.5-4.4H-5.5Z"),
}
OTHER = Mark("#5c6370", "#a8b0bd", (1, 2), "triangle-right", "M5.2 0L-4.4 5.5V-5.5Z")

INK = {
    "ink": ("#1d2430", "#e8ebf0"),
    "muted": ("#5a6372", "#a5aebb"),
    "grid": ("#e3e6eb", "#363d49"),
    "band": ("#dde3ea", "#323a47"),
    "heat": ("#2f7fd6", "#3f8fe6"),
}


def mark(framework: str) -> Mark:
    return MARKS.get(framework, OTHER)


def css_name(framework: str) -> str:
    return framework if framework in MARKS else "other"


def colour(framework: str) -> str:
    return f"var(--fw-{css_name(framework)})"


def stylesheet() -> str:
    """The colours as CSS variables of both schemes: the only place where they become CSS."""
    light = {f"fw-{name}": m.light for name, m in MARKS.items()} | {"fw-other": OTHER.light} | {f"chart-{k}": v[0] for k, v in INK.items()}
    dark = {f"fw-{name}": m.dark for name, m in MARKS.items()} | {"fw-other": OTHER.dark} | {f"chart-{k}": v[1] for k, v in INK.items()}
    # Without JavaScript nothing sets the scheme: then the reader's own preference decides.
    blocks = (
        (":root, [data-md-color-scheme=default]", light),
        ("[data-md-color-scheme=slate]", dark),
    )
    return "\n".join(f"{selector} {{ {' '.join(f'--{k}: {v};' for k, v in names.items())} }}" for selector, names in blocks) + "\n"


def scale(names: Sequence[str]) -> dict[str, alt.Scale]:
    """Colour, shape and dash of the frameworks that are present."""
    present = sorted(set(names), key=lambda name: (name not in MARKS, list(MARKS).index(name) if name in MARKS else 0, name))
    return {
        "color": alt.Scale(domain=present, range=[colour(name) for name in present]),
        "shape": alt.Scale(domain=present, range=[mark(name).shape for name in present]),
        "dash": alt.Scale(domain=present, range=[list(mark(name).dash) for name in present]),
    }
