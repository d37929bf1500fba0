"""Download a public corpus of labelled tweets into `data/NAME`.

    python -m pipelines.fetch crowdflower
    python -m pipelines.fetch sentiment140 --output corpora/emoticons

The job is `pipelines.corpora.job`.
"""

from typing import Any

from pipelines.console import command


def load() -> command.Program[Any]:
    """The program and its flags."""
    from pipelines.corpora.config import FetchConfig
    from pipelines.corpora.job import main

    return main, FetchConfig


if __name__ == "__main__":
    command.run(load)
