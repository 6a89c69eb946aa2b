"""`/methodology/`: how the numbers are made, and the record of `invoke verify`."""

from __future__ import annotations

from markupsafe import Markup

from bench.core import paths
from site_src import sentences
from site_src.data import verification
from site_src.page_writer import HERE, PageWriter


def write(writer: PageWriter) -> None:
    corpus = HERE / "pages" / "_corpus.md"
    writer.write_page(
        "methodology",
        "methodology.md.j2",
        title="Methodology",
        section="Method",
        sidebars="navigation toc",
        description="What stands behind a number: pairing, warm-up, percentiles, intervals, the correctness gate",
        scenarios=[{"name": s.name, "title": s.title, "text": sentences.scenario_text(s)} for s in writer.board.catalog.scenarios.values()],
        corpus=Markup(corpus.read_text(encoding="utf-8")) if corpus.exists() else "",
        verifications=verification.read(paths.DATA / "verify"),
    )
