"""A headless Chromium for tests, and a web server for a folder. In CI a missing browser is a failure, elsewhere a named skip."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def programs() -> tuple[str, str]:
    """Chromium and its driver; where one is missing the test fails in CI and is skipped elsewhere."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    missing = "no Chromium" if not browser else "no chromedriver"
    if os.environ.get("CI"):
        pytest.fail(f"{missing} on this machine: apt-get install chromium chromium-driver")
    pytest.skip(f"{missing} on this machine: apt-get install chromium chromium-driver")


@contextmanager
def open_browser(width: int = 1280, height: int = 900, dark: bool = False, javascript: bool = True) -> Iterator[Any]:
    """A Chromium window (selenium's WebDriver) with its own profile, closed at the end.

    `width` and `height` are CSS pixels; at 500 and less it behaves like a phone. `get_log("browser")` holds the console,
    `get_log("performance")` the network.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium, driver = programs()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        window = webdriver.Chrome(options=options, service=Service(driver))
        try:
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width <= 500}
            window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            # No transitions: what a test measures or photographs is what stays.
            window.execute_cdp_cmd(
                "Emulation.setEmulatedMedia", {"features": [scheme, {"name": "prefers-reduced-motion", "value": "reduce"}]}
            )
            if not javascript:
                window.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
            yield window
        finally:
            window.quit()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Requests of a test are no news."""


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port of 127.0.0.1 and give its address, without a slash at the end."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


#: The accessibility checker, for tests only: fetched once from the npm registry by its ordinary client, held to this sum.
AXE, AXE_SHA256 = "axe-core@4.14.1", "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"


def axe() -> str:
    """The script of axe-core; where npm or the registry is missing the test fails in CI and is skipped elsewhere."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "embedding-model-benchmarking"
    kept = cache / f"{AXE.replace('@', '-')}.min.js"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            npm = shutil.which("npm")
            command = [npm or "npm", "pack", AXE, "--silent", "--ignore-scripts", "--pack-destination", scratch]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120) if npm else None
            packed = next(Path(scratch).glob("*.tgz"), None)
            if done is None or packed is None:
                missing = "npm is missing: install Node" if npm is None else f"npm could not fetch {AXE}"
                pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
            with tarfile.open(packed) as archive:
                script = archive.extractfile("package/axe.min.js")
                assert script
                unfinished = Path(scratch) / "axe.min.js"
                unfinished.write_bytes(script.read())
            unfinished.rename(kept)
    text = kept.read_bytes()
    assert hashlib.sha256(text).hexdigest() == AXE_SHA256, f"{kept} is not {AXE}: delete it"
    return text.decode()


def console_errors(window: Any) -> list[str]:
    """What the console complains about since the last call."""
    return [entry["message"] for entry in window.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
