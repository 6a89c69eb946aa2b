"""The site: data/results.duckdb → Markdown, data files and charts in build/pages → `mkdocs build --strict` → site/.

Everything that the pages show is written to build/pages first, where a person can open it. Two builds from one database give the same
bytes: rows are sorted, floats rounded, and the only date a page knows is that of a measurement.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bench import catalog as catalogs
from bench import paths
from bench.errors import BenchError
from site_src import charts, drawing, form, marks, words
from site_src.board import Board, Row, Standing, Table, open_database

HERE = Path(__file__).resolve().parent
INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
EPOCH = 1_750_000_000  # the date that files of an empty database carry


def build(database: Path = paths.DATABASE, out: Path = paths.SITE, pages: Path = paths.PAGES) -> None:
    """Render the site of `database` into `out`, by way of `pages`; both are replaced whole, and only after everything worked.

    Raises:
        BenchError: the database cannot be read, or MkDocs finds a broken page.
    """
    pages.parent.mkdir(parents=True, exist_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    board = Board(open_database(database), catalogs.load())
    with tempfile.TemporaryDirectory(prefix="pages-", dir=pages.parent) as scratch:
        fresh = Path(scratch) / "pages"
        Writer(board, fresh).write()
        swap(fresh, pages)
    newest = board.runs[0]["measured_at"] // 1_000_000 if board.runs else EPOCH
    board.connection.close()
    with tempfile.TemporaryDirectory(prefix="site-", dir=out.parent) as scratch:
        fresh = Path(scratch) / "site"
        mkdocs(pages, fresh, newest)
        allow_inline_scripts(fresh)
        swap(fresh, out)


def swap(fresh: Path, target: Path) -> None:
    """Put a finished folder in place of the old one."""
    old = fresh.parent / "old"
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def mkdocs(pages: Path, out: Path, epoch: int) -> None:
    """Run `mkdocs build --strict`; SOURCE_DATE_EPOCH keeps the day of the build out of the files."""
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--config-file",
        str(paths.ROOT / "mkdocs.yml"),
        "--site-dir",
        str(out),
    ]
    environment = {**os.environ, "BENCH_PAGES": str(pages.resolve()), "SOURCE_DATE_EPOCH": str(epoch), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        told = " · ".join(lines[-6:]) or "no message"
        raise BenchError(f"mkdocs build: failed ({told}); the pages it read are in {pages}")


def allow_inline_scripts(site: Path) -> None:
    """Name the theme's own inline scripts by hash in each page's policy, so that nothing else can run."""
    for page in sorted(site.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        hashes = sorted({base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in INLINE_SCRIPT.findall(text)})
        page.write_text(text.replace("CSP-SCRIPT-HASHES", " ".join(f"'sha256-{digest}'" for digest in hashes)), encoding="utf-8")


class Writer:
    """Writes the pages of one board into one folder."""

    def __init__(self, board: Board, folder: Path) -> None:
        self.board = board
        self.folder = folder
        self.env = environment(board)

    def write(self) -> None:
        """Every page of the site."""
        shutil.copytree(HERE / "assets", self.folder / "assets")
        self.text("assets/frameworks.css", marks.stylesheet())
        self.overview()
        for model, standings in self.board.standings.items():
            self.model(model, standings)
        for run in self.board.runs:
            self.run(run)
        self.runs()
        self.methodology()

    def text(self, path: str, content: str | bytes) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)

    def page(self, path: str, template: str, *, title: str, description: str, section: str, toc: bool = False, **context: Any) -> None:
        """Render one template to `<path>.md`. In templates `root` leads to the top of the site, `base` to this page's data files."""
        depth = path.count("/") + (0 if path.endswith("index") else 1)
        root = "../" * depth
        hide = "[navigation]" if toc else "[navigation, toc]"
        head = "".join(
            f"{name}: {form.to_json(form.plain(value), None)}\n"
            for name, value in (("title", title), ("description", description), ("section", section))
        )
        body = self.env.get_template(template).render(root=root, base=f"{root}data/{path}/", title=title, **context)
        self.text(f"{path}.md", f"---\n{head}hide: {hide}\n---\n{body.rstrip()}\n")

    def overview(self) -> None:
        cards = []
        for model, standings in self.board.standings.items():
            best = standings[0] if standings else None
            lead = best.served[0] if best and best.served else None
            cards.append(
                {
                    "model": model,
                    "title": self.board.model_title(model),
                    "facts": words.model_facts(self.board.catalog.models.get(model)),
                    "best": best,
                    "verdict": words.verdict(self.board, lead, best.mixed) if best and lead else "",
                    "tasks": words.tasks(self.board, best) if best else [],
                    "failed": lead.failed if lead else (),
                }
            )
        self.page(
            "index",
            "index.md.j2",
            title="Embedding models on CPU",
            section="Overview",
            cards=cards,
            description="Which framework should serve an embedding model on a CPU, measured over six frameworks",
        )

    def model(self, model: str, standings: Sequence[Standing]) -> None:
        path = f"models/{form.slug(model)}"
        title = self.board.model_title(model)
        best = standings[0] if standings else None
        sections = self.sections(path, best) if best else []
        sql = ""
        if best:
            ids = [run["run_id"] for run in best.runs]
            sql = (
                f"SELECT *\nFROM leaderboard\nWHERE run_id IN ({drawing.literals(ids)}) AND weights = {drawing.literal(best.weights)}\n"
                "ORDER BY scenario, precision, rank_lo, requests_per_s DESC"
            )
            current = [
                row
                for standing in standings
                for table in standing.tables
                for row in (*table.rows, *table.failed, *table.floors, *table.controls)
            ]
            self.rows_as_files(f"data/{path}/leaderboard", current)
        self.page(
            path,
            "model.md.j2",
            title=title,
            section="Models",
            description=f"{title} in six frameworks on CPU: throughput, latency, memory and start, with intervals",
            model=model,
            facts=words.model_facts(self.board.catalog.models.get(model)),
            best=best,
            others=standings[1:],
            verdict=words.verdict(self.board, best.served[0], best.mixed) if best and best.served else "",
            sections=sections,
            floors=[row for table in best.served for row in table.floors] if best else [],
            runs=[run for run in self.board.runs if run["model"] == model],
            shown_runs={run["run_id"] for standing in standings for run in standing.runs},
            sql=sql,
        )

    def sections(self, path: str, standing: Standing) -> list[dict[str, Any]]:
        """One section per served scenario and precision: its table, its charts, the tables derived from it."""
        found = []
        for table in standing.served:
            chosen = self.chosen(standing, table)
            # Rows of different runs have no common best.
            wanted = [charts.latency, charts.load_curve, *([] if standing.mixed else [charts.ratios]), charts.ecdf]
            drawn = [chart for draw in wanted if table.rows and (chart := draw(chosen))]
            for chart in drawn:
                self.chart_files(f"data/{path}/{chart.name}", chart)
            found.append(
                {
                    "id": form.ident(f"{table.scenario}-{table.precision}"),
                    "table": table,
                    "charts": drawn,
                    "derived": standing.derived(table),
                    "several": sum(other.scenario == table.scenario for other in standing.served) > 1,
                }
            )
        return found

    def chosen(self, standing: Standing, table: Table) -> charts.Selection:
        """The shown rows of a table, for a chart."""
        arms = [row["arm_id"] for row in table.rows]
        return charts.Selection(self.board, [run["run_id"] for run in standing.runs], arms, table.scenario, table.title)

    def chart_files(self, stem: str, chart: drawing.Chart) -> None:
        """The chart to take away: its data, a picture with plain colours, its specification."""
        picture = drawing.plain_colours(chart.wide)
        self.text(f"{stem}.csv", as_csv(chart.columns, chart.rows))
        self.text(f"{stem}.svg", picture)
        self.text(f"{stem}.png", vl_convert.svg_to_png(picture, scale=2))
        self.text(f"{stem}.vl.json", form.to_json(chart.spec, None))

    def rows_as_files(self, stem: str, rows: Sequence[Row]) -> None:
        self.text(f"{stem}.json", form.to_json([public(row) for row in rows]))
        self.text(f"{stem}.csv", as_csv(list(public(rows[0])), [public(row) for row in rows]))

    def run(self, run: Row) -> None:
        run_id = run["run_id"]
        path = f"runs/{form.slug(run_id)}"
        board = self.board
        ask = partial(board.query, parameters=[run_id])
        rows = ask("SELECT * REPLACE (epoch_us(measured_at) AS measured_at) FROM leaderboard WHERE run_id = ? ORDER BY scenario, arm_id")
        arms = ask("SELECT * FROM arms WHERE run_id = ? ORDER BY role = 'floor', framework, precision, variant, arm_id")
        for arm in arms:
            arm["version"] = form.flatten(form.parse(arm["version_json"]))
            arm["settings"] = form.flatten(form.parse(arm["settings_json"]))
        names = {arm["arm_id"]: f"{board.framework_title(arm['framework'])} · {arm['precision']} · {arm['variant']}" for arm in arms}
        comparisons = ask("SELECT * FROM comparisons WHERE run_id = ? ORDER BY scenario, arm_a, arm_b")
        checks = ask("SELECT * FROM checks WHERE run_id = ? ORDER BY arm_id, name")
        starts = ask(
            "SELECT arm_id, start, spawn_ns / 1e6 AS spawn_ms, load_ns / 1e6 AS load_ms, first_ns / 1e6 AS first_ms,"
            " second_ns / 1e6 AS second_ms"
            " FROM starts WHERE run_id = ? ORDER BY arm_id, start"
        )
        for pair in comparisons:
            pair["name_a"], pair["name_b"] = (names.get(pair[side], pair[side]) for side in ("arm_a", "arm_b"))
        for check in checks:
            check["title"] = names.get(check["arm_id"], check["arm_id"])
        for start in starts:
            start["name"] = names.get(start["arm_id"], start["arm_id"])
        raw = [
            {
                "anchor": anchor(row),
                "name": names.get(row["arm_id"], row["arm_id"]),
                "scenario": row["scenario"],
                "status": row["status"],
                "json": form.to_json(public(row)),
            }
            for row in rows
        ]
        self.text(f"data/{path}/rows.json", form.to_json([public(row) for row in rows]))
        self.text(f"data/{path}/run.json", form.to_json(run["run_json"]))
        self.text(f"data/{path}/machine.json", form.to_json(run["machine_json"]))
        self.page(
            path,
            "run.md.j2",
            title=f"Run {run_id}",
            section="Runs",
            toc=True,
            description=f"Run {run_id}: machine, versions, settings, command and raw rows",
            run=run,
            model_title=board.model_title(run["model"]),
            facts=words.run_facts(run),
            machine=form.flatten(run["machine_json"]),
            tables=board.tables(rows),
            arms=arms,
            starts=starts,
            checks=checks,
            comparisons=comparisons,
            rows=raw,
        )

    def runs(self) -> None:
        counted = self.board.query(
            "SELECT run_id, count(DISTINCT arm_id) AS arms, count(DISTINCT arm_id) FILTER (status <> 'OK') AS not_ok"
            " FROM leaderboard GROUP BY run_id"
        )
        counts = {run["run_id"]: {"arms": 0, "not_ok": 0} for run in self.board.runs} | {row["run_id"]: row for row in counted}
        self.page(
            "runs/index",
            "runs.md.j2",
            title="Runs",
            section="Runs",
            description="Every run in the database",
            runs=self.board.runs,
            counts=counts,
        )

    def methodology(self) -> None:
        corpus = HERE / "pages" / "_corpus.md"
        self.page(
            "methodology",
            "methodology.md.j2",
            title="Methodology",
            section="Methodology",
            toc=True,
            description="What stands behind a number: pairing, warm-up, percentiles, intervals, the correctness gate",
            scenarios=[{"name": s.name, "title": s.title, "text": words.scenario_text(s)} for s in self.board.catalog.scenarios.values()],
            corpus=Markup(corpus.read_text(encoding="utf-8")) if corpus.exists() else "",
        )


def environment(board: Board) -> Environment:
    """Jinja with every output escaped for Markdown and HTML alike, and a missing name an error."""
    env = Environment(
        loader=FileSystemLoader(HERE / "pages"),
        autoescape=True,
        finalize=form.escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "pre": form.pre,
        "code": lambda value: Markup(str(value).replace("`", "'")),
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
    }
    env.globals |= {
        "anchor": anchor,
        "cell": cell,
        "colour": marks.colour,
        "count": form.count,
        "dash": form.DASH,
        "decimals": form.decimals,
        "distance": form.distance,
        "find": find,
        "framework_title": board.framework_title,
        "interval": form.interval,
        "mark": marks.mark,
        "megabytes": form.megabytes,
        "model_title": board.model_title,
        "number": form.number,
        "scenario_title": board.scenario_title,
        "ident": form.ident,
        "slug": form.slug,
        "small": form.small,
        "span": form.span,
        "when": form.when,
    }
    return env


def anchor(row: Row) -> str:
    """Where a row stands on its run page."""
    return form.ident(f"row-{row['arm_id']}-{row['scenario']}".lower())


def find(rows: Iterable[Row], like: Row) -> Row | None:
    """The row of the same arm in another table."""
    return next((row for row in rows if row["arm_id"] == like["arm_id"] and row["run_id"] == like["run_id"]), None)


def cell(value: Any) -> str:
    """A value of a data table: floats to six digits, as the charts draw them."""
    return form.DASH if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def public(row: Row) -> dict[str, Any]:
    """A row under its public names, the time in ISO 8601."""
    return {key: form.iso(value) if key == "measured_at" else value for key, value in row.items() if key != "run_complete"}


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(columns)
    table.writerows([row[column] for column in columns] for row in rows)
    return out.getvalue()


__all__ = ["Table", "Writer", "build"]
