"""A real browser, headless Chromium, for tests of pages: how they look and what they ask for."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium on the PATH: apt-get install --no-install-recommends chromium",
)

_MEASURE = """
onload = () => {
  const frames = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, style = getComputedStyle(page.body);
    const box = element => element.getBoundingClientRect();
    frames[frame.id] = {
      title: page.title,
      text: page.body.innerText,
      scripts: page.scripts.length,
      hacked: frame.contentWindow.hacked === true,
      width: page.documentElement.clientWidth,
      scroll_width: page.documentElement.scrollWidth,
      ink: style.color,
      paper: style.backgroundColor,
      figures: [...page.querySelectorAll("figure")].map(figure => ({
        title: figure.querySelector("svg > title").textContent,
        role: figure.querySelector("svg").getAttribute("role"),
        caption: figure.querySelector("figcaption").innerText,
        box: [box(figure.querySelector("svg")).width, box(figure.querySelector("svg")).height],
        drawn: [...figure.querySelectorAll("path, use, text")].filter(
          element => box(element).width + box(element).height > 0).length,
        colors: [...new Set([...figure.querySelectorAll("path, use, text")].flatMap(
          element => [getComputedStyle(element).fill, getComputedStyle(element).stroke]))],
      })),
    };
  }
  const measured = document.createElement("pre");
  measured.textContent = JSON.stringify(frames);
  document.body.replaceChildren(measured);
};
"""


@dataclass(frozen=True)
class Looked:
    """What Chromium made of pages."""

    frames: dict[str, dict[str, Any]]
    """By the page's name, what `_MEASURE` measures."""
    console: list[str]
    """Lines that the pages, or Chromium about them, wrote to the console."""
    requests: list[str]
    """URLs that the pages asked a network for. None is answered."""


def look(directory: Path, pages: Mapping[str, tuple[bytes, int]], dark: bool = False) -> Looked:
    """Show pages, each in a frame as wide as said, in CSS pixels: one start of Chromium for all."""
    frames = "".join(
        f'<iframe id="{name}" style="width: {width}px; height: 800px; border: 0" '
        f'srcdoc="{html.escape(page.decode())}"></iframe>'
        for name, (page, width) in pages.items()
    )
    path, log = directory / "frames.html", directory / "network.json"
    path.write_text(f"<!doctype html><meta charset=utf-8><body>{frames}<script>{_MEASURE}</script>")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    # It has errands of its own, and shall not run them.
    command += ["--no-first-run", "--disable-component-update", "--disable-background-networking"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={directory / 'user'}"]
    command += ["--enable-logging=stderr", f"--log-net-log={log}", "--dump-dom"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    measured = re.search(r"<pre>(.*)</pre>", done.stdout, re.DOTALL)
    assert measured, f"{done.stdout[:2000]}\n{done.stderr[-2000:]}"
    events = (event.get("params", {}) for event in json.loads(log.read_text())["events"])
    return Looked(
        json.loads(html.unescape(measured[1])),
        [line for line in done.stderr.splitlines() if ":CONSOLE" in line],
        [
            event["url"]
            for event in events
            # Its own have an initiator that is "not an origin".
            if event.get("initiator", "not an origin") != "not an origin"
            and not event["url"].startswith(("file:", "data:"))
        ],
    )
