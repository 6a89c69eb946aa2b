"""One way through the house: nothing imports what lies to its right, and `import bench` needs no framework."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from bench import paths

#: Rooms from left to right. A module may import its own room and those before it.
ROOMS = [
    {
        "errors", "paths", "files", "git", "random", "fingerprint", "onnx_graph", "catalog", "frameworks", "variants", "tuned", "roles", "noise", "probe",
        "machine", "machine_versions", "portable", "words",
    },
    {
        "checkpoint", "published", "unlisted", "weights", "embedder", "sources", "synthetic", "convert", "export", "child",
        "onnx_headers", "build",
        "schedule", "corpus", "inputs", "loads", "plan", "recipes", "releases", "quality_sets",
    },
    {
        "worker", "resources", "machine_record", "page_cache", "process", "lock", "budget", "parity", "reference", "progress", "records",
        "packing", "stats",
    },
    {
        "quality", "experiment", "footprint", "starts", "checks", "verdicts", "run_to_run", "runfolder", "resume", "costs", "seats",
        "watch", "blocks", "memory", "paces", "runner", "space",
    },
    {"compare", "store", "controls", "report"},
    {"campaign", "knobs", "tune", "forecast", "doctor", "floor", "bare"},
]  # fmt: skip
#: A module so named lies in the room of what it is named after.
FAMILIES = ("stats_", "store_", "synthetic_", "corpus_", "recipes_", "plan_")
HEAVY = ("torch", "transformers", "onnxruntime", "openvino", "onnx", "onnxscript")


def room(module: str) -> int:
    name = module.split("_", maxsplit=1)[0] if module.startswith(FAMILIES) else module
    for place, names in enumerate(ROOMS):
        if name in names:
            return place
    raise AssertionError(f"bench/{module}.py is in no room: add it to ROOMS")


MODULES = sorted(path.stem for path in (paths.ROOT / "bench").glob("*.py") if path.stem != "__init__")


def imports(module: str) -> set[str]:
    tree = ast.parse((paths.ROOT / "bench" / f"{module}.py").read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "bench":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bench."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("bench.")}
    return found & set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_nothing_looks_back(module: str) -> None:
    for other in imports(module):
        assert room(other) <= room(module), f"bench/{module}.py imports bench/{other}.py, which lies to its right"


def test_a_worker_knows_neither_catalogue_nor_statistics() -> None:
    for file in [paths.ROOT / "bench" / "worker.py", *(paths.ROOT / "bench" / "workers").glob("*.py")]:
        for forbidden in ("catalog", "stats", "store", "yaml", "runner"):
            assert f"import {forbidden}" not in file.read_text(), f"{file.name} knows {forbidden}"


def test_a_page_computes_no_statistic() -> None:
    for file in (paths.ROOT / "site_src").rglob("*.py"):
        for forbidden in ("bench.stats", "import stats", "scipy", "bench.runner", "numpy"):
            assert forbidden not in file.read_text(), f"{file.name} uses {forbidden}"


def test_the_harness_imports_without_any_framework() -> None:
    blocked = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f'{{name}} is blocked', name=name)
sys.meta_path.insert(0, Block())
import bench.campaign, bench.doctor, bench.floor, site_src.generate
"""
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, cwd=paths.ROOT, check=False)
    assert done.returncode == 0, done.stderr
