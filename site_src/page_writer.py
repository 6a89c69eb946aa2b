"""Writing pages and data files into one folder: how a page is rendered, whatever page it is."""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bench.core import formatting
from site_src import markup, records, sentences
from site_src.charts import framework_style, render
from site_src.charts.chart import Chart, plain_colours
from site_src.data.leaderboard import Leaderboard, Row, is_measured, is_shown, latency

#: The folder of the site's sources: templates, assets, theme.
HERE = Path(__file__).resolve().parent
#: The largest number of charts on one page.
MOST_CHARTS = 7


class PageWriter:
    """Writes the pages of one leaderboard into one folder.

    Charts are rendered in other processes, which takes most of a build's time. Pages that embed a chart are therefore queued in `pending`
    and written by `flush`, when their charts are there.
    """

    def __init__(self, board: Leaderboard, folder: Path) -> None:
        self.board = board
        self.folder = folder
        self.env = environment(board)
        self.pending: deque[Callable[[], None]] = deque()

    def write_file(self, path: str, content: str | bytes) -> None:
        """Write one file now. `path` is relative to the folder."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    def write_when_drawn(self, path: str, picture: Future[bytes]) -> None:
        """Queue a file whose content is still being drawn."""
        self.pending.append(lambda: self.write_file(path, picture.result()))

    def flush(self) -> None:
        """Write everything that is pending, waiting for pictures where necessary."""
        while self.pending:
            self.pending.popleft()()

    def write_page(
        self, path: str, template: str, *, title: str, description: str, section: str, sidebars: str = "", image: str = "", **context: Any
    ) -> None:
        """Queue the page `<path>.md`, rendered from a template with `context`.

        Templates also get `root`, the relative path to the top of the site, and `base`, the folder of this page's data files.

        Args:
            section: the navigation tab that is highlighted.
            sidebars: "navigation", "toc", both or none; a sidebar that is not named is hidden.
            image: the picture for links to this page (og:image), relative to the top of the site.
        """
        depth = path.count("/") + (0 if path.rsplit("/", 1)[-1] == "index" else 1)
        root = "../" * depth
        hide = [name for name in ("navigation", "toc") if name not in sidebars]
        front = {"title": markup.plain(title), "description": markup.plain(description), "section": section, "hide": hide}
        front |= {"image": image} if image else {}
        head = "".join(f"{name}: {records.to_json(value, None)}\n" for name, value in front.items())

        def render_page() -> None:
            body = self.env.get_template(template).render(root=root, base=f"{root}data/{path}/", title=title, **context)
            self.write_file(f"{path}.md", f"---\n{head}---\n{body.rstrip()}\n")

        self.pending.append(render_page)

    def write_template(self, path: str, template: str, **context: Any) -> None:
        """Render a template that is neither Markdown nor HTML, and write it now."""
        self.write_file(path, self.env.get_template(template).render(**context).strip() + "\n")

    def write_chart(self, path: str, chart: Chart) -> None:
        """Write the downloads of a chart on the page `path`: CSV, SVG and PNG in fixed colours, Vega-Lite specification."""
        stem = f"data/{path}/{chart.name}"
        self.write_file(f"{stem}.csv", as_csv(chart.columns, chart.rows))
        self.write_file(f"{stem}.vl.json", records.to_json(chart.spec, None))

        def write_pictures() -> None:
            svg = plain_colours(chart.wide)
            self.write_file(f"{stem}.svg", svg)
            self.write_when_drawn(f"{stem}.png", render.png(svg))

        self.pending.append(write_pictures)

    def write_rows(self, stem: str, rows: Sequence[Row]) -> None:
        """Write rows of the leaderboard as `<stem>.json` and `<stem>.csv`."""
        public = [public_row(row) for row in rows]
        self.write_file(f"{stem}.json", records.to_lines(public))
        self.write_file(f"{stem}.csv", as_csv(list(public[0]), public))


def environment(board: Leaderboard) -> Environment:
    """The Jinja environment: every output is escaped for Markdown and HTML, an undefined name raises."""
    env = Environment(
        loader=FileSystemLoader(HERE / "pages"),
        autoescape=True,
        finalize=markup.escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "pre": markup.pre,
        "code": code,
        "reason": reason,
        "framework_title": board.framework_title,
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
    }
    env.globals |= {
        "anchor": anchor,
        "cell": cell,
        "colour": framework_style.colour,
        "count": formatting.count,
        "dash": formatting.DASH,
        "fact_summary": sentences.fact_summary,
        "decimals": formatting.decimals,
        "distance": formatting.distance,
        "same_arm": same_arm,
        "framework_title": board.framework_title,
        "ident": markup.ident,
        "interval": formatting.interval,
        "iso": formatting.iso,
        "in_catalogue": board.catalog.frameworks.__contains__,
        "latency": latency,
        "is_measured": is_measured,
        "is_shown": is_shown,
        "style_of": framework_style.style_of,
        "megabytes": formatting.megabytes,
        "model_title": board.model_title,
        "number": formatting.number,
        "scenario_title": board.scenario_title,
        "size": formatting.size,
        "slug": markup.slug,
        "small": formatting.small,
        "span": formatting.span,
        "when": formatting.when,
    }
    return env


def code(value: Any) -> Markup:
    """A name for a Markdown code span, in which a backtick would end the span."""
    return Markup(str(value).replace("`", "'"))


def reason(text: str) -> Markup:
    """A reason as HTML; text between backticks becomes `<code>`, a budget in seconds a duration."""
    readable = str(markup.escape(formatting.with_readable_budgets(str(text))))
    return Markup(re.sub(r"&#96;(.+?)&#96;", r"<code>\1</code>", readable))


def anchor(row: Row) -> str:
    """The id of a row on the page of its run and load."""
    return markup.ident(f"row-{row['arm_id']}-{row['scenario']}".lower())


def same_arm(rows: Iterable[Row], arm: Row) -> Row | None:
    """The row of the same arm and run among the rows of another table."""
    return next((row for row in rows if row["arm_id"] == arm["arm_id"] and row["run_id"] == arm["run_id"]), None)


def cell(value: Any) -> str:
    """A value of a chart's data table: floats with six significant digits, as in the chart."""
    return formatting.DASH if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def public_row(row: Row) -> dict[str, Any]:
    """A row with the columns of `leaderboard` alone, `measured_at` in ISO 8601."""
    return {key: formatting.iso(value) if key == "measured_at" else value for key, value in row.items() if key != "run_complete"}


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV with a header; NULL is an empty field."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([row[column] for column in columns] for row in rows)
    return buffer.getvalue()
