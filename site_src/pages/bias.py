"""`/bias/`: what this board favours and what it cannot see."""

from __future__ import annotations

from site_src.page_writer import Press


def write(press: Press) -> None:
    press.page(
        "bias",
        "bias.md.j2",
        title="Bias",
        section="Method",
        sidebars="navigation toc",
        description="What this board favours and what it cannot see",
    )
