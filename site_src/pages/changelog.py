"""`/changelog/`: changes of the method, and the number of rows of each version."""

from __future__ import annotations

from site_src.page_writer import PageWriter


def write(writer: PageWriter) -> None:
    versions = writer.board.query(
        "SELECT stats_version, count(*) AS rows, count(DISTINCT run_id) AS runs FROM results GROUP BY stats_version ORDER BY stats_version"
    )
    writer.write_page(
        "changelog",
        "changelog.md.j2",
        title="Changelog",
        section="Method",
        sidebars="navigation toc",
        description="Changes of the method",
        versions=versions,
    )
