"""Names as text of pages: escaping for Markdown and HTML, folders of URLs, ids."""

from __future__ import annotations

import hashlib
import html
import re
from typing import Any

from markupsafe import Markup

#: Characters with a meaning in Markdown or HTML, as character references.
INERT = {ord(char): f"&#{ord(char)};" for char in "\\`*_{}[]|~#!:<>&\"'"}


def escape(value: Any) -> Markup:
    """Any value as text without markup, safe in Markdown prose, in an HTML block and in a quoted attribute."""
    if hasattr(value, "__html__"):
        return Markup(value.__html__())
    text = "" if value is None else re.sub(r"[\x00-\x1f\x7f\u0085\u2028\u2029]+", " ", str(value))
    return Markup(text.translate(INERT))


def pre(value: Any) -> Markup:
    """Text for a `<pre>`. Line ends become character references, because a blank line would end the HTML block."""
    return Markup(html.escape(str(value)).replace("\n", "&#10;"))


def plain(value: Any) -> str:
    """A name for a page title. The theme prints titles unescaped, so special characters become look-alikes."""
    text = " ".join(str(value).split()).replace("&", "＆")
    return text.replace("<", "‹").replace(">", "›").replace('"', "”")


def slug(name: str) -> str:
    """A name as a folder of a URL. A name that loses characters gets six digits of its hash, so that no two share a folder."""
    short = re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip("-.")[:60]
    return short if short == name else f"{short or 'x'}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def ident(name: str) -> str:
    """A name as an id inside a page, without dots, which Markdown reads as a class in an attribute list."""
    return slug(name).replace(".", "-")
