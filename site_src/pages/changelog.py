"""`/changelog/`: changes of the method, and which rows are of which version."""

from __future__ import annotations

from site_src.page_writer import Press


def write(press: Press) -> None:
    versions = press.board.query(
        "SELECT stats_version, count(*) AS rows, count(DISTINCT run_id) AS runs FROM results GROUP BY stats_version ORDER BY stats_version"
    )
    press.page(
        "changelog",
        "changelog.md.j2",
        title="Changelog",
        section="Method",
        sidebars="navigation toc",
        description="Changes of the method",
        versions=versions,
    )
