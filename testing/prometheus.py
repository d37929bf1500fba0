"""What a node's Prometheus endpoint shows of our own metrics."""

import re
import urllib.request
from dataclasses import dataclass

PREFIX = "ray_sentiment_"


@dataclass(frozen=True)
class Series:
    """One line of the endpoint."""

    name: str
    labels: dict[str, str]
    value: float


def series(port: int) -> list[Series]:
    """The lines of our own."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
        lines = page.read().decode().splitlines()
    found = []
    for line in lines:
        if line.startswith(PREFIX):
            name, _, rest = line.partition("{")
            labels, _, value = rest.rpartition("} ")
            pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)
            found.append(Series(name, dict(pairs), float(value)))
    return found
