"""Generating the site: data/results.duckdb → Markdown, data files and charts in build/pages → `mkdocs build --strict` → site/.

All content of the pages is in build/pages first, where a person can open it. Two builds from one database give the same bytes: rows are
sorted, floats rounded, and the only dates are those of measurements.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

from bench import catalog
from bench.core import paths
from bench.core.errors import BenchError
from bench.store.connection import open_for_reading
from site_src import social_card
from site_src.charts import framework_style, render
from site_src.data.leaderboard import Leaderboard
from site_src.page_writer import HERE, PageWriter
from site_src.pages import (
    bias,
    changelog,
    cold_start,
    compare,
    coverage,
    data,
    feed,
    frameworks,
    history,
    index,
    knobs,
    llms,
    machines,
    methodology,
    model,
    run,
    runs,
    slo,
    submit,
    swap,
)

INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
SLATE = re.compile(r"\[data-md-color-scheme=slate\](?:\[[^]]*\])?\s*\{([^}]*)\}")
#: Every kind of page. Those of one framework and of one load of a run are written with the page above them.
PAGES = (
    index, model, frameworks, compare, cold_start, coverage, slo, knobs, history, swap,
    run, runs, machines, data, methodology, bias, submit, changelog, llms, feed,
)  # fmt: skip
#: The modification time of files, in seconds since 1970, where there is no measurement to take it from.
EPOCH_S = 1_750_000_000


def build(database: Path = paths.DATABASE, out: Path = paths.SITE, pages: Path = paths.PAGES) -> None:
    """Build the site.

    Args:
        database: the results; a file that does not exist is taken as an empty database.
        out: the folder of the site; replaced as a whole, and only if nothing failed.
        pages: the folder of Markdown and data files that MkDocs reads; replaced likewise.

    Raises:
        BenchError: the database cannot be read, or MkDocs rejects a page.
    """
    board = Leaderboard(open_for_reading(database), catalog.load())
    pages.parent.mkdir(parents=True, exist_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pages-", dir=pages.parent) as scratch:
        fresh = Path(scratch) / "pages"
        write(board, fresh)
        put_in_place(fresh, pages)
    newest_s = board.runs[0]["measured_at"] // 1_000_000 if board.runs else EPOCH_S
    board.connection.close()
    with tempfile.TemporaryDirectory(prefix="site-", dir=out.parent) as scratch:
        fresh = Path(scratch) / "site"
        mkdocs(pages, fresh, newest_s)
        allow_inline_scripts(fresh)
        put_in_place(fresh, out)


def write(board: Leaderboard, folder: Path) -> None:
    """Write every page of the site, as Markdown and data files."""
    with render.worker_processes():
        writer = PageWriter(board, folder)
        write_assets(writer)
        for page in PAGES:
            page.write(writer)
        social_card.write(writer)
        writer.flush()


def write_assets(writer: PageWriter) -> None:
    """Write scripts and styles."""
    writer.write_when_drawn("assets/vega.js", render.vega())
    shutil.copytree(HERE / "assets", writer.folder / "assets")
    writer.write_file("assets/frameworks.css", framework_style.stylesheet())
    writer.write_file("assets/dark-without-scripts.css", dark_without_scripts())


def dark_without_scripts() -> str:
    """A stylesheet with the dark scheme for readers without JavaScript.

    A script sets the scheme `slate` on dark pages; without one a page keeps `default`. So every rule for `slate`, of the theme, of our own
    style and of the frameworks' colours, is repeated for `default`; the page links this sheet for readers who prefer dark.
    """
    theme = resources.files("material") / "templates" / "assets" / "stylesheets"
    palettes = sorted((file for file in theme.iterdir() if re.fullmatch(r"palette\..*\.css", file.name)), key=lambda file: file.name)
    sheets = [file.read_text(encoding="utf-8") for file in (*palettes, HERE / "assets" / "board.css")]
    blocks = [block for sheet in (*sheets, framework_style.stylesheet()) for block in SLATE.findall(sheet)]
    return "\n".join(f"body[data-md-color-scheme=default] {{ color-scheme: dark; {block} }}" for block in blocks) + "\n"


def put_in_place(fresh: Path, target: Path) -> None:
    """Replace the folder `target` by the finished folder `fresh`."""
    old = fresh.parent / "old"
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def mkdocs(pages: Path, out: Path, epoch_s: int) -> None:
    """Run `mkdocs build --strict`.

    Args:
        epoch_s: the time that MkDocs writes into files in place of the time of the build, in seconds since 1970.

    Raises:
        BenchError: MkDocs failed, with its last lines.
    """
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--config-file", str(paths.ROOT / "mkdocs.yml")]
    environment = {**os.environ, "BENCH_PAGES": str(pages.resolve()), "SOURCE_DATE_EPOCH": str(epoch_s), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run([*command, "--site-dir", str(out.resolve())], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        message = " · ".join(lines[-6:]) or "no message"
        raise BenchError(f"mkdocs build: failed ({message}); the pages it read are in {pages}")


def allow_inline_scripts(site: Path) -> None:
    """Put the hashes of the theme's inline scripts into each page's content security policy, so that no other script can run."""
    for page in sorted(site.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        hashes = sorted({base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in INLINE_SCRIPT.findall(text)})
        page.write_text(text.replace("CSP-SCRIPT-HASHES", " ".join(f"'sha256-{digest}'" for digest in hashes)), encoding="utf-8")
