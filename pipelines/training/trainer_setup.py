"""A worker's Trainer: TensorFlow's settings, the link to the other workers, initial weights."""

from typing import TYPE_CHECKING

from pipelines.training.initial_weights import InitialWeights
from pipelines.training.settings import Settings
from sentiment import storage
from sentiment.model.tensorflow_loading import FOR_TRAINING, load_tensorflow

if TYPE_CHECKING:  # Loads TensorFlow, which only the workers need.
    from sentiment.model.keras_model import SentimentLSTM
    from sentiment.model.trainer import Trainer


def make_trainer(settings: Settings, threads: int) -> "Trainer":
    """This worker's trainer; TensorFlow computes with `threads` threads.

    The other workers are those of the environment variable TF_CONFIG. Call it once in a process,
    before anything else uses TensorFlow: otherwise the workers do not find each other.
    """
    load_tensorflow(FOR_TRAINING)
    import tensorflow as tf

    from sentiment.model.tensorflow_internals import communication_options, make_deterministic

    if not settings.use_gpu:
        # Ray leaves a node's GPUs visible to workers that did not ask for one.
        tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    make_deterministic()
    options = communication_options(settings.use_gpu)
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)

    from sentiment.model.keras_model import SentimentLSTM
    from sentiment.model.trainer import Trainer

    model = SentimentLSTM(
        len(settings.vocabulary),
        settings.embedding_size,
        settings.hidden_size,
        settings.dropout_keep_prob,
        settings.random_state,
        settings.bidirectional,
        len(settings.corpus.classes),
    )
    _set_initial_weights(model, settings)
    return Trainer(model, strategy, settings.random_state, options)


def _set_initial_weights(model: "SentimentLSTM", settings: Settings) -> None:
    (embeddings,) = model.embedding.get_weights()  # float32[vocabulary, E]
    words = len(settings.corpus.vocabulary)
    # A bigram begins as the sum of its words: its own vector is added to theirs.
    embeddings[words:] = 0
    model.embedding.set_weights([embeddings])
    if settings.initial:
        InitialWeights.from_bytes(storage.read(settings.initial)).set_in(model)
