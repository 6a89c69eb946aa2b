"""Folders of the project. `build/` and `site/` can be deleted at any time and made again; `data/` cannot."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
ROOT = PACKAGE.parent
CATALOG = PACKAGE / "catalog"
SCHEMA = PACKAGE / "schema.sql"
NATIVE = ROOT / "native"
BUILD = Path(os.environ.get("BENCH_BUILD", ROOT / "build"))
DATA = Path(os.environ.get("BENCH_DATA", ROOT / "data"))
SITE = Path(os.environ.get("BENCH_SITE", ROOT / "site"))

ARTEFACTS = BUILD / "artefacts"
PLANS = BUILD / "plans"
WEIGHTS = BUILD / "weights"
BINARIES = BUILD / "native"
SCRATCH = BUILD / "scratch"
PAGES = BUILD / "pages"
RUNS = DATA / "runs"
DATABASE = DATA / "results.duckdb"
