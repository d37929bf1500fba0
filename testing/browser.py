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
// The opaque colours of an image as it is shown, filter included, with the pixels of each.
const pixels = image => {
  const canvas = document.createElement("canvas");
  canvas.width = 2 * image.naturalWidth, canvas.height = 2 * image.naturalHeight;
  const context = canvas.getContext("2d");
  context.filter = getComputedStyle(image).filter;
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const values = context.getImageData(0, 0, canvas.width, canvas.height).data, colors = {};
  let drawn = 0;
  for (let i = 0; i < values.length; i += 4) {
    drawn += values[i + 3] > 0;
    if (values[i + 3] === 255) {
      const color = `rgb(${values[i]}, ${values[i + 1]}, ${values[i + 2]})`;
      colors[color] = (colors[color] || 0) + 1;
    }
  }
  return {drawn: drawn / (canvas.width * canvas.height), colors};
};
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
      figures: [...page.querySelectorAll("figure")].map(figure => {
        const image = figure.querySelector("img");
        return {
          title: image.alt,
          caption: figure.querySelector("figcaption").innerText,
          box: [box(image).width, box(image).height],
          ...pixels(image),
        };
      }),
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
