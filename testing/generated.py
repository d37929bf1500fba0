"""What tests generate: corpora, whose words tell the label save for noise, and checkpoints."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from sentiment.checkpoint import FIRST_FORMAT, FORMAT, Checkpoint, save
from sentiment.classes import Classes
from sentiment.network import weight_shapes
from sentiment.text.tokenizer import SPECIALS

POSITIVE = ("lovely", "great", "sunny", "yay", ":)", "thanks", "win")
NEGATIVE = ("awful", "sad", "rainy", "ugh", ":(", "sorry", "lost")
NEUTRAL = tuple(f"word{i}" for i in range(200))


def texts_and_labels(rows: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Texts of 3 to 20 words, most of them neutral; one in twenty labels is wrong."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, rows)
    texts = []
    for label in labels:
        told = POSITIVE if label else NEGATIVE
        words = [*random.choice(NEUTRAL, random.integers(1, 17)), *random.choice(told, 2)]
        texts.append(" ".join(random.permutation(words)))
    return texts, np.where(random.random(rows) < 0.05, 1 - labels, labels)


def write_shards(
    directory: Path, rows: int, shards: int, seed: int = 0, parquet: bool = True
) -> pa.Table:
    """Write CSV and, unless told not to, Parquet shards in turn.

    Returns the rows of all of them, in the order of shards.
    """
    directory.mkdir(parents=True, exist_ok=True)
    texts, labels = texts_and_labels(rows, seed)
    table = pa.table({"id": np.arange(rows), "Sentiment": labels, "SentimentText": texts})
    for number in range(shards):
        shard = table.slice(rows * number // shards, rows // shards)
        if parquet and number % 2:
            pq.write_table(shard, directory / f"shard-{number}.parquet")
        else:
            pacsv.write_csv(shard, directory / f"shard-{number}.csv")
    return table


def save_checkpoint(
    directory: Path,
    seed: int = 0,
    hidden: int = 8,
    classes: Classes | None = None,
    sureness: float = 1.0,
) -> Checkpoint:
    """Save a model of random weights that knows the words of the generated texts.

    `sureness`: by how much the last layer is multiplied. A sure model has texts of every class.
    """
    classes = classes or Classes()
    vocabulary = (*SPECIALS, *POSITIVE, *NEGATIVE, *NEUTRAL)
    random = np.random.default_rng(seed)
    shapes = weight_shapes(len(vocabulary), 5, hidden, classes=len(classes))
    # By the square root of what comes in, as training begins: larger weights amplify roundings.
    weights = {
        name: (random.normal(size=shape) / np.sqrt(shape[0])).astype("f4")
        for name, shape in shapes.items()
    }
    weights["dense/kernel"] *= np.float32(sureness)
    checkpoint = Checkpoint(weights, vocabulary, classes=classes)
    save(checkpoint, str(directory))
    return checkpoint


def vouch(directory: Path, **more: str) -> None:
    """Write the manifest that goes with a checkpoint's other files: what a forger can do."""
    answering = ["weights.safetensors", "vocabulary.txt", "stopwords.txt"]
    if (directory / "model.json").exists():
        answering.append("model.json")
    names = [*answering, "training.json"]
    digests = {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in names}
    version = FORMAT if "model.json" in digests else FIRST_FORMAT
    answer = "".join(f"{name} {digests[name]}\n" for name in answering)
    manifest = {
        "format": version,
        "model_hash": hashlib.sha256(f"format {version}\n{answer}".encode()).hexdigest(),
        "files": digests | more,
    }
    content = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    (directory / "checkpoint.json").write_text(content)


def write_job(root: Path) -> None:
    """A model, and a corpus of which 9,950 rows can be scored and 50 cannot, below a directory."""
    save_checkpoint(root / "model", hidden=64)
    write_shards(root / "corpus", rows=9_900, shards=3)
    bad = "".join(f"{i},0,hi\n{i}\n" for i in range(50))
    (root / "corpus" / "short.csv").write_text(f"id,Sentiment,SentimentText\n{bad}")


class CountedFile(pa.PythonFile):
    """A file that counts the bytes read of it."""

    total = 0

    def read(self, nbytes: int | None = None) -> bytes:
        """Read, and count."""
        content = super().read(nbytes)
        self.total += len(content)
        return content
