"""`/bias/`: what the leaderboard favours and what it cannot see."""

from __future__ import annotations

from site_src.page_writer import PageWriter


def write(writer: PageWriter) -> None:
    writer.write_page(
        "bias",
        "bias.md.j2",
        title="Bias",
        section="Method",
        sidebars="navigation toc",
        description="What this board favours and what it cannot see",
    )
