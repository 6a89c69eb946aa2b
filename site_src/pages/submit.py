"""`/submit/`: how to check a number, correct it, or add to it."""

from __future__ import annotations

from site_src.page_writer import PageWriter


def write(writer: PageWriter) -> None:
    writer.write_page(
        "submit",
        "submit.md.j2",
        title="Submit",
        section="Method",
        sidebars="navigation toc",
        description="Check a number, correct it, add to it",
    )
