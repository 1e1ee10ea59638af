"""A page in a real browser: what it says on its console, and how wide it is on a phone."""

import functools
import http.server
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PROBE = """<!DOCTYPE html><title>waiting</title>
<iframe src="{page}" width="{width}" height="800" style="border:0"></iframe>
<script>onload = () => {{ const page = document.querySelector("iframe").contentDocument;
  document.title = page.documentElement.scrollWidth + " " + page.querySelectorAll("img, video").length + " " +
    [...page.querySelectorAll("img")].filter(image => !(image.complete && image.naturalWidth)).length; }}</script>"""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A page as the browser saw it."""

    width: int
    """Of its content, in pixels: more than the window's means that it scrolls sideways."""
    pictures: int
    broken: int
    """Pictures that could not be decoded."""
    console: list[str]
    """Messages: errors, and what the page's policy kept from being loaded."""
    requested: list[str]
    """Paths asked of the server that held the page."""


def open_page(page: Path, *, width: int) -> Seen:
    """Serve a page to a browser on this machine, in a frame of `width` pixels; skips the test without a browser."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser among {', '.join(BROWSERS)}: install chromium to see the page in one")
    (page.parent / "probe.html").write_text(PROBE.format(page=page.name, width=width))
    with _served(page.parent) as (port, requested):
        done = subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
             f"--user-data-dir={page.parent / 'profile'}", "--enable-logging=stderr", "--timeout=30000",
             "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--dump-dom",
             f"http://127.0.0.1:{port}/probe.html"],
            capture_output=True, text=True, timeout=600, check=True,
        )  # fmt: skip
    title = re.search(r"<title>(\d+) (\d+) (\d+)</title>", done.stdout)
    assert title, f"the page did not load: {done.stdout[:300]} {done.stderr[-600:]}"
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Seen(width=int(title[1]), pictures=int(title[2]), broken=int(title[3]), console=said, requested=requested)


@contextmanager
def _served(folder: Path) -> Iterator[tuple[int, list[str]]]:
    requested: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            super().do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, requested
        server.shutdown()
