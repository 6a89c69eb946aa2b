"""Social cards: the picture that a link to a model shows elsewhere (Open Graph), 1200 × 630, with who leads and a bar per framework."""

from __future__ import annotations

from markupsafe import escape

from bench.core import formatting
from site_src import markup, sentences
from site_src.charts import framework_style, render
from site_src.data.leaderboard import Leaderboard, ModelResults, Table
from site_src.page_writer import PageWriter

WIDTH, HEIGHT = 1200, 630
INK, MUTED, PAPER, LINE = "#1d2430", "#5a6372", "#ffffff", "#e3e6eb"


def write(writer: PageWriter) -> None:
    """Write the card of each model that was measured."""
    for model, by_machine in writer.board.results.items():
        headline = by_machine[0].headline if by_machine else []
        if headline:
            card = render.png(picture(writer.board, by_machine[0], headline[0]), scale=1)
            writer.write_when_drawn(f"data/models/{markup.slug(model)}/card.png", card)


def picture(board: Leaderboard, results: ModelResults, table: Table) -> str:
    """The card as SVG, in the colours of the light scheme."""
    lines = [
        text(60, 84, "Embedding models on CPU", 26, MUTED),
        text(60, 150, short(board.model_title(results.model), 34), 56, INK, bold=True),
        text(60, 196, short(f"{table.title[:1].upper()}{table.title[1:]}, {table.precision}: {leaders_of(board, table)}", 78), 28, MUTED),
    ]
    numbers = [(row, row["requests_per_s"] if table.has_rate else row["p50_ms"]) for row in table.rows[:8]]
    most = max((value for _row, value in numbers if value is not None), default=0.0)
    unit = "/s" if table.has_rate else " ms"
    step = min(60, 330 // max(1, len(table.rows)))
    for place, (row, value) in enumerate(numbers):
        top = 236 + place * step
        colour = framework_style.style_of(row["framework"]).light
        wide = 600 * (value or 0.0) / most if most else 0.0
        lines += [
            f'<g transform="translate(72 {top + 22}) scale(1.8)">'
            f'<path d="{framework_style.style_of(row["framework"]).path}" fill="{colour}"/></g>',
            text(96, top + 31, short(board.framework_title(row["framework"]), 24), 26, INK),
            f'<rect x="420" y="{top + 6}" width="{wide:.1f}" height="{step - 18}" rx="3" fill="{colour}"/>',
            text(420 + wide + 14, top + 31, f"{formatting.number(value)}{unit}", 24, INK),
        ]
    weights = " · synthetic weights" if results.weights == "synthetic" else ""
    day = formatting.when(results.runs[0]["measured_at"], False)
    lines.append(text(60, 600, short(f"{results.machine} · {day}{weights}", 92), 22, MUTED))
    frame = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/><rect width="{WIDTH}" height="12" fill="#24405f"/>'
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{frame}<path d="M60 560H1140" stroke="{LINE}"/>{"".join(lines)}</svg>'


def leaders_of(board: Leaderboard, table: Table) -> str:
    """Who leads, in a few words."""
    names = [board.framework_title(row["framework"]) for row in sentences.leaders(table)]
    if not table.rows:
        return "no framework has a number"
    return "not ranked" if not names else f"{formatting.listing(names)} lead together" if len(names) > 1 else f"{names[0]} leads"


def short(value: str, most: int) -> str:
    """A text of at most `most` characters, an ellipsis for the rest."""
    return value if len(value) <= most else value[: most - 1].rstrip() + "…"


def text(x: float, y: float, value: str, size: int, colour: str, bold: bool = False) -> str:
    """A line of text as SVG, its baseline at (x, y)."""
    weight = ' font-weight="700"' if bold else ""
    return f'<text x="{x:.1f}" y="{y}" font-family="sans-serif" font-size="{size}"{weight} fill="{colour}">{escape(value)}</text>'
