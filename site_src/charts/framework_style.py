"""How each framework looks in every chart and table: colour in both schemes, dash of its lines, shape of its points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt


@dataclass(frozen=True)
class Style:
    """The look of one framework.

    Attributes:
        light: colour in the light scheme.
        dark: colour in the dark scheme.
        dash: lengths of dash and gap of its lines, in pixels.
        shape: Vega-Lite's name of the shape of its points.
        path: the same shape as an SVG path, in a box from −6 to 6, for the icon beside a name.
    """

    light: str
    dark: str
    dash: tuple[int, ...]
    shape: str
    path: str


# Each colour has a contrast of at least 3:1 against its page; shape and dash carry the same difference without colour.
STYLES: dict[str, Style] = {
    "pytorch": Style("#c8451b", "#ff8f66", (1, 0), "circle", "M5 0A5 5 0 1 1-5 0A5 5 0 1 1 5 0Z"),
    "onnx-python": Style("#1f5fbf", "#7aaeff", (6, 2), "square", "M-4.5-4.5h9v9h-9Z"),
    "onnx-rust": Style("#0b7a5b", "#45d3a0", (2, 2), "triangle-up", "M0-5.2L5.5 4.4H-5.5Z"),
    "onnx-cpp": Style("#1190b8", "#6fdcf2", (8, 2, 2, 2), "diamond", "M0-6L5.5 0L0 6L-5.5 0Z"),
    "candle": Style("#a8680c", "#f2bd4b", (4, 4), "cross", "M-2-5.5h4v3.5h3.5v4h-3.5v3.5h-4v-3.5h-3.5v-4h3.5Z"),
    "openvino": Style("#9b3fa5", "#e29aea", (3, 1), "triangle-down", "M0 5.2L5.5-4.4H-5.5Z"),
}
#: Of a framework that has no style of its own.
OTHER = Style("#5c6370", "#a8b0bd", (1, 2), "triangle-right", "M5.2 0L-4.4 5.5V-5.5Z")

#: Colours of what belongs to no framework, in the light and in the dark scheme.
INK = {
    "ink": ("#1d2430", "#e8ebf0"),
    "muted": ("#5a6372", "#a5aebb"),
    "grid": ("#e3e6eb", "#363d49"),
    "band": ("#dde3ea", "#323a47"),
    "heat": ("#2f7fd6", "#3f8fe6"),
}


def style_of(framework: str) -> Style:
    return STYLES.get(framework, OTHER)


def css_name(framework: str) -> str:
    return framework if framework in STYLES else "other"


def colour(framework: str) -> str:
    """The framework's colour as a CSS variable, which has the value of the page's scheme."""
    return f"var(--fw-{css_name(framework)})"


def variables(dark: bool) -> dict[str, str]:
    """Every colour of one scheme: CSS variable, without its dashes → value."""
    styles = {**STYLES, "other": OTHER}
    frameworks = {f"fw-{name}": style.dark if dark else style.light for name, style in styles.items()}
    return frameworks | {f"chart-{name}": pair[dark] for name, pair in INK.items()}


def stylesheet() -> str:
    """CSS that sets the variables in both schemes."""
    # Without JavaScript nothing sets the scheme: then the reader's own preference decides.
    blocks = ((":root, [data-md-color-scheme=default]", variables(dark=False)), ("[data-md-color-scheme=slate]", variables(dark=True)))
    return "\n".join(f"{selector} {{ {' '.join(f'--{k}: {v};' for k, v in names.items())} }}" for selector, names in blocks) + "\n"


def scale(frameworks: Sequence[str]) -> dict[str, alt.Scale]:
    """Vega-Lite scales "color", "shape" and "dash" over the named frameworks, in the order of STYLES, unknown ones last."""
    order = list(STYLES)
    present = sorted(set(frameworks), key=lambda name: (order.index(name) if name in STYLES else len(order), name))
    return {
        "color": alt.Scale(domain=present, range=[colour(name) for name in present]),
        "shape": alt.Scale(domain=present, range=[style_of(name).shape for name in present]),
        "dash": alt.Scale(domain=present, range=[list(style_of(name).dash) for name in present]),
    }
