"""Data-parallel training in TensorFlow: the model, the optimizer's state, and one training step.

Every worker holds the whole model and computes the gradient for its rows of the batch. One
all-reduce sums the gradients, and every worker then makes the same RMSProp update. The loss is
divided by the rows of the whole batch, so the sum is the gradient of the mean loss.

A step reads and updates only those rows of the embedding that the batch uses. They are gathered
into a small matrix, which takes the place of the weight. So the work grows with the batch, not with
the vocabulary. For the other rows, RMSProp would only let their mean squares decay. The missed
decays are applied when the row is next used.

Sizes: n rows of this worker, `length` tokens in the batch's longest text, u distinct ids in the
whole batch, V words and bigrams, E numbers per embedding, K classes.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import safetensors.numpy
import tensorflow as tf

from sentiment.model.batch import WorkerBatch
from sentiment.model.keras_model import SentimentLSTM
from sentiment.model.tensorflow_internals import CommunicationOptions, tensorflow_variable

DECAY_PER_STEP = 0.9
"""Of RMSProp's mean squares (Tieleman and Hinton 2012)."""

EPSILON = 1e-7
"""Added to the mean squares under the root, as in Keras."""


class Trainer:
    """The model, the optimizer's state, and a step that updates both."""

    def __init__(
        self,
        model: SentimentLSTM,
        strategy: tf.distribute.Strategy,
        random_state: int,
        options: CommunicationOptions | None = None,
    ) -> None:
        """Traces the training step.

        Args:
            model: created outside the strategy's scope, with the same weights on every worker.
            strategy: sums over the workers. Each worker is one replica.
            random_state: seeds dropout.
            options: how the workers sum.
        """
        self.model, self._random_state = model, random_state
        self._options = options
        # On a GPU Keras uses cuDNN: one kernel for all tokens.
        self._cpu_lstm = not tf.config.list_logical_devices("GPU")
        self._embedding, *self._later_weights = (
            tensorflow_variable(variable) for variable in model.trainable_variables
        )
        self._mean_squares = [
            tf.Variable(tf.zeros_like(weight)) for weight in (self._embedding, *self._later_weights)
        ]
        # The step that last updated each row of the embedding: int64[V].
        self._updated = tf.Variable(tf.zeros(self._embedding.shape[:1], tf.int64))

        int32_vector = tf.TensorSpec([None], tf.int32)
        places = tf.TensorSpec([None] * 3, tf.int32)
        batch_rows = tf.TensorSpec([], tf.int32)
        seed = tf.TensorSpec([2], tf.int64)
        number = tf.TensorSpec([], tf.int64)
        learning_rate = tf.TensorSpec([], tf.float32)
        float32_vector = tf.TensorSpec([None], tf.float32)

        def replicated(function: Callable[..., tf.Tensor], *signature: tf.TensorSpec) -> Any:
            # No `if` or `for` depends on a tensor: without autograph tracing takes half as long and
            # leaves no files.
            return tf.function(
                lambda *inputs: strategy.run(function, inputs),
                input_signature=signature,
                autograph=False,
            )

        targets = tf.TensorSpec([None, None], tf.float32)

        texts = (int32_vector, places, int32_vector)
        gradient_inputs = (*texts, targets, batch_rows, seed)
        step = replicated(self._step, *gradient_inputs, number, learning_rate)
        # A concrete function does not check its inputs' types and shapes again at every step.
        self.step_function = step.get_concrete_function()
        self.gradient_function = replicated(self._gradients, *gradient_inputs)
        self.update_function = replicated(
            self._update, int32_vector, float32_vector, number, learning_rate
        )
        self.sum_function = replicated(self._sum, float32_vector)
        self.logit_function = replicated(self._logits, *texts)

    def step(self, batch: WorkerBatch, number: int, draw: int, learning_rate: float) -> tf.Tensor:
        """Take one training step on this worker's rows of the batch.

        Args:
            batch: the rows of this worker.
            number: of the step, from 1.
            draw: numbers the dropout masks; different for every step and worker.
            learning_rate: of RMSProp.

        Returns:
            float32[]: the mean loss of the whole batch, in nats.
        """
        seed = np.array([self._random_state, draw], np.int64)
        texts = (batch.unique_ids, batch.places, batch.lengths)
        return self.step_function(
            *texts,
            batch.targets,
            np.int32(batch.batch_rows),
            seed,
            np.int64(number),
            np.float32(learning_rate),
        )

    def logits(self, batches: Sequence[WorkerBatch], rank: int, workers: int) -> np.ndarray:
        """The logit of each class for every text.

        Args:
            batches: this worker's rows of some batches. Every worker gives its rows of the same
                batches.
            rank: this worker's number, from 0.
            workers: number of workers.

        Returns:
            float32[texts, K]: all rows of all batches, in order; the same on every worker.
        """
        classes = self.model.dense.units
        of_batches = []
        for batch in batches:
            logits = np.zeros((batch.batch_rows, classes), np.float32)
            logits[rank::workers] = self.logit_function(
                batch.unique_ids, batch.places, batch.lengths
            )
            of_batches.append(logits)
        # Each worker has zeros for the rows of the others.
        total = self.sum_function(np.concatenate(of_batches).ravel())
        return np.asarray(total).reshape(-1, classes)

    def graph(self) -> bytes:
        """The graph of a step, as a serialized GraphDef."""
        return bytes(self.step_function.graph.as_graph_def().SerializeToString())

    def _gradients(
        self,
        unique_ids: tf.Tensor,
        places: tf.Tensor,
        lengths: tf.Tensor,
        targets: tf.Tensor,
        batch_rows: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """This worker's share of the loss, then of the gradient of every weight.

        Args:
            unique_ids: int32[u], as in `WorkerBatch`.
            places: int32[1 or 2, n, length].
            lengths: int32[n].
            targets: float32[n, K], as in `WorkerBatch`.
            batch_rows: int32[].
            seed: int64[2], of dropout.

        Returns:
            float32[1 + u * E + numbers of the later weights].
        """
        rows = self._embedding_rows(unique_ids)
        with tf.GradientTape() as tape:
            tape.watch(rows)
            logits = self.model.logits(_embedded(rows, places), lengths, seed, self._cpu_lstm)
            # The gradient of TensorFlow's own cross-entropy is right only for targets that sum to
            # 1, which class weights change.
            losses = -targets * tf.nn.log_softmax(logits)
            loss = tf.reduce_sum(losses) / tf.cast(batch_rows, tf.float32)
        d_rows, *d_later_weights = tape.gradient(loss, [rows, *self._later_weights])
        d_rows = _with_zeros_for_padding(tf.convert_to_tensor(d_rows))
        return tf.concat([tf.reshape(v, [-1]) for v in (loss, d_rows, *d_later_weights)], axis=0)

    def _sum(self, values: tf.Tensor) -> tf.Tensor:
        """The sum over workers of float32[numbers]."""
        context = tf.distribute.get_replica_context()
        # The all-reduce takes the device from its input, which must be a tensor of this replica.
        replica_values = tf.identity(values)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, replica_values, self._options)

    def _update(
        self,
        unique_ids: tf.Tensor,
        gradients: tf.Tensor,
        number: tf.Tensor,
        learning_rate: tf.Tensor,
    ) -> None:
        """RMSProp: w -= learning_rate * g / sqrt(v + EPSILON), v a decaying mean of g squared.

        Args:
            unique_ids: int32[u], as in `WorkerBatch`.
            gradients: float32[u * E + numbers of the later weights], summed over the workers.
            number: int64[], of the step.
            learning_rate: float32[].
        """
        embedding_size = self._embedding.shape[1]
        later_sizes = [weight.shape.num_elements() for weight in self._later_weights]
        sizes = [tf.size(unique_ids) * embedding_size, *later_sizes]
        d_rows, *d_later_weights = tf.split(gradients, tf.stack(sizes))
        d_rows = tf.reshape(d_rows, [-1, embedding_size])

        steps = tf.cast(number - tf.gather(self._updated, unique_ids), tf.float32)
        squares = tf.gather(self._mean_squares[0], unique_ids) * (DECAY_PER_STEP**steps)[:, None]
        squares += (1 - DECAY_PER_STEP) * d_rows**2
        change = learning_rate * d_rows * tf.math.rsqrt(squares + EPSILON)
        rows = tf.gather(self._embedding, unique_ids) - change
        numbers = tf.fill(tf.shape(unique_ids), number)
        self._mean_squares[0].scatter_update(tf.IndexedSlices(squares, unique_ids))
        self._embedding.scatter_update(tf.IndexedSlices(rows, unique_ids))
        self._updated.scatter_update(tf.IndexedSlices(numbers, unique_ids))

        for weight, mean, gradient in zip(
            self._later_weights, self._mean_squares[1:], d_later_weights, strict=True
        ):
            gradient = tf.reshape(gradient, weight.shape)
            mean.assign(DECAY_PER_STEP * mean + (1 - DECAY_PER_STEP) * gradient**2)
            weight.assign_sub(learning_rate * gradient * tf.math.rsqrt(mean + EPSILON))

    def _step(
        self,
        unique_ids: tf.Tensor,
        places: tf.Tensor,
        lengths: tf.Tensor,
        targets: tf.Tensor,
        batch_rows: tf.Tensor,
        seed: tf.Tensor,
        number: tf.Tensor,
        learning_rate: tf.Tensor,
    ) -> tf.Tensor:
        """The mean loss, float32[]. Arguments as for `_gradients` and `_update`."""
        share = self._gradients(unique_ids, places, lengths, targets, batch_rows, seed)
        total = self._sum(share)
        self._update(unique_ids, total[1:], number, learning_rate)
        return total[0]

    def _logits(self, unique_ids: tf.Tensor, places: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """float32[n, K]. Arguments as for `_gradients`."""
        return self.model.logits(_embedded(self._embedding_rows(unique_ids), places), lengths)

    def _embedding_rows(self, unique_ids: tf.Tensor) -> tf.Tensor:
        """float32[u, E]: the embedding of each id, zeros for padding."""
        return _with_zeros_for_padding(tf.gather(self._embedding, unique_ids))

    def state(self) -> dict[str, np.ndarray]:
        """Everything that the next step depends on, except the data.

        Float32 arrays `model/NAME` and `squares/NAME` for each weight, and `updated`: int64[V].
        """
        weights = self.model.export()
        squares = zip(weights, self._mean_squares, strict=True)
        return {
            **{f"model/{name}": value for name, value in weights.items()},
            **{f"squares/{name}": variable.numpy() for name, variable in squares},
            "updated": self._updated.numpy(),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Continue from what `state` returned."""
        names = list(self.model.export())
        self.model.restore({name: state[f"model/{name}"] for name in names})
        for name, variable in zip(names, self._mean_squares, strict=True):
            variable.assign(state[f"squares/{name}"])
        self._updated.assign(state["updated"])

    def hash(self) -> str:
        """SHA-256 of the state, in hex. Workers that took the same steps have the same hash."""
        return hashlib.sha256(safetensors.numpy.save(self.state())).hexdigest()


def _embedded(rows: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """float32[n, length, E]: the embedding of each word, plus that of the bigram it ends.

    Args:
        rows: float32[u, E], from `Trainer._embedding_rows`.
        places: int32[1 or 2, n, length], as in `WorkerBatch`.
    """
    return tf.reduce_sum(tf.gather(rows, places), axis=0)


def _with_zeros_for_padding(rows: tf.Tensor) -> tf.Tensor:
    """float32[u, E] with zeros in the first row, the padding's, which is never trained.

    Applied to the rows and, separately, to their gradient, both outside the gradient tape. Inside
    the tape, the gradient of the slice would cost more than both.
    """
    return tf.concat([tf.zeros_like(rows[:1]), rows[1:]], axis=0)
