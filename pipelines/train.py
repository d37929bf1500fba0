"""Train the LSTM on labelled texts, data-parallel on Ray Train workers.

    python -m pipelines.train --data_dir data/crowdflower --num_workers 2
    ray job submit -- python -m pipelines.train --data_dir s3://bucket/tweets --use_gpu

The job is `pipelines.training.job`.
"""

from pipelines.console import command
from pipelines.training.config import TrainConfig
from pipelines.training.job import main

if __name__ == "__main__":
    command.run(main, TrainConfig)
