"""Download a public corpus of labelled tweets into `data/NAME`.

    python -m pipelines.fetch crowdflower
    python -m pipelines.fetch sentiment140 --output corpora/emoticons

The job is `pipelines.corpora.job`.
"""

from pipelines.console import command
from pipelines.corpora.config import FetchConfig
from pipelines.corpora.job import main

if __name__ == "__main__":
    command.run(main, FetchConfig)
