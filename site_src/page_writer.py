"""Writes pages and data files into one folder. It knows how a page is made, and no page in particular."""

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

from site_src import formatting
from site_src.charts import chart as drawing
from site_src.charts import framework_style
from site_src.charts import render as pictures
from site_src.data.leaderboard import Board, Row, latency, measured, shown

HERE = Path(__file__).resolve().parent
#: A page has no more charts than this.
MOST_CHARTS = 7


class Press:
    """One folder of pages made from one board.

    Pictures take most of a build's time and are drawn elsewhere: what needs one is owed until `settle`.
    """

    def __init__(self, board: Board, folder: Path) -> None:
        self.board = board
        self.folder = folder
        self.env = environment(board)
        self.owed: deque[Callable[[], None]] = deque()

    def text(self, path: str, content: str | bytes) -> None:
        """Write one file."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    def later(self, path: str, picture: Future[bytes]) -> None:
        """Owe one file that is being drawn."""
        self.owed.append(lambda: self.text(path, picture.result()))

    def settle(self) -> None:
        """Write all that is owed."""
        while self.owed:
            self.owed.popleft()()

    def page(
        self, path: str, template: str, *, title: str, description: str, section: str, sidebars: str = "", image: str = "", **context: Any
    ) -> None:
        """Owe `<path>.md`, rendered from one template.

        In templates `root` leads to the top of the site and `base` to this page's data files. `section` is the tab that is lit;
        `sidebars` may name "navigation" and "toc", which are hidden otherwise.
        """
        depth = path.count("/") + (0 if path.rsplit("/", 1)[-1] == "index" else 1)
        root = "../" * depth
        hide = [name for name in ("navigation", "toc") if name not in sidebars]
        front = {"title": formatting.plain(title), "description": formatting.plain(description), "section": section, "hide": hide}
        front |= {"image": image} if image else {}
        head = "".join(f"{name}: {formatting.to_json(value, None)}\n" for name, value in front.items())

        def render() -> None:
            body = self.env.get_template(template).render(root=root, base=f"{root}data/{path}/", title=title, **context)
            self.text(f"{path}.md", f"---\n{head}---\n{body.rstrip()}\n")

        self.owed.append(render)

    def plain_text(self, path: str, template: str, **context: Any) -> None:
        """Render a template that is neither Markdown nor HTML."""
        self.text(path, self.env.get_template(template).render(**context).strip() + "\n")

    def chart(self, path: str, chart: drawing.Chart) -> None:
        """The chart of the page `path` to take away: its data, a picture with plain colours, its specification."""
        stem = f"data/{path}/{chart.name}"
        self.text(f"{stem}.csv", as_csv(chart.columns, chart.rows))
        self.text(f"{stem}.vl.json", formatting.to_json(chart.spec, None))

        def pictures_of_it() -> None:
            picture = drawing.plain_colours(chart.wide)
            self.text(f"{stem}.svg", picture)
            self.later(f"{stem}.png", pictures.png(picture))

        self.owed.append(pictures_of_it)

    def rows(self, stem: str, rows: Sequence[Row]) -> None:
        """Rows of the leaderboard as JSON and CSV."""
        self.text(f"{stem}.json", formatting.to_lines([public(row) for row in rows]))
        self.text(f"{stem}.csv", as_csv(list(public(rows[0])), [public(row) for row in rows]))


def environment(board: Board) -> Environment:
    """Jinja with every output escaped for Markdown and HTML alike, and a missing name an error."""
    env = Environment(
        loader=FileSystemLoader(HERE / "pages"),
        autoescape=True,
        finalize=formatting.escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "pre": formatting.pre,
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
        "decimals": formatting.decimals,
        "distance": formatting.distance,
        "find": find,
        "framework_title": board.framework_title,
        "ident": formatting.ident,
        "interval": formatting.interval,
        "iso": formatting.iso,
        "in_catalogue": board.catalog.frameworks.__contains__,
        "latency": latency,
        "is_measured": measured,
        "is_shown": shown,
        "mark": framework_style.mark,
        "megabytes": formatting.megabytes,
        "model_title": board.model_title,
        "number": formatting.number,
        "scenario_title": board.scenario_title,
        "size": formatting.size,
        "slug": formatting.slug,
        "small": formatting.small,
        "span": formatting.span,
        "when": formatting.when,
    }
    return env


def code(value: Any) -> Markup:
    """A name inside a Markdown code span."""
    return Markup(str(value).replace("`", "'"))


def reason(text: str) -> Markup:
    """A reason, with commands that it writes in backticks as code."""
    return Markup(re.sub(r"&#96;(.+?)&#96;", r"<code>\1</code>", str(formatting.escape(text))))


def anchor(row: Row) -> str:
    """Where a row stands on its run page."""
    return formatting.ident(f"row-{row['arm_id']}-{row['scenario']}".lower())


def find(rows: Iterable[Row], like: Row) -> Row | None:
    """The row of the same arm in another table."""
    return next((row for row in rows if row["arm_id"] == like["arm_id"] and row["run_id"] == like["run_id"]), None)


def cell(value: Any) -> str:
    """A value of a data table: floats to six digits, as the charts draw them."""
    return formatting.DASH if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def public(row: Row) -> dict[str, Any]:
    """A row under its public names, the time in ISO 8601."""
    return {key: formatting.iso(value) if key == "measured_at" else value for key, value in row.items() if key != "run_complete"}


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(columns)
    table.writerows([row[column] for column in columns] for row in rows)
    return out.getvalue()
