"""Training and scoring on GPUs load TensorFlow without what they do not need."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

SCRIPT = """
import sys
from sentiment.model.tensorflow_loading import FOR_SCORING, FOR_TRAINING, load_tensorflow

unneeded = FOR_SCORING if sys.argv[1] == "scoring" else FOR_TRAINING
load_tensorflow(unneeded)
print(*sorted({"tensorflow", "keras", "matplotlib", "sklearn"} & sys.modules.keys()))
import tensorflow as tf
print(tf.keras.layers.Dense(1, name="there").name)
import keras, matplotlib, sklearn
load_tensorflow(unneeded)
print(keras.layers.Dense(1, name="there").name, matplotlib.__name__, sklearn.__name__)
"""


@pytest.mark.parametrize(
    ("what", "loaded"), [("training", "keras tensorflow"), ("scoring", "tensorflow")]
)
def test_what_is_unneeded_is_not_loaded_and_can_be_afterwards(what, loaded):
    run = [sys.executable, "-c", SCRIPT, what]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == [loaded, "there", "there matplotlib sklearn"], done.stderr
