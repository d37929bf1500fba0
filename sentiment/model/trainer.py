"""Token ids and labels -> weights: a step of data-parallel training. Loads TensorFlow.

Every worker holds the whole model and computes the gradient of its part of the batch; one
all-reduce sums them, and every worker then makes the same RMSProp update. The loss is divided by
the rows of the whole batch, so nothing else is averaged.

Of the embedding a step touches only the rows of the batch's tokens. They are gathered into a small
matrix that takes part as if it were a weight, so what is summed and updated grows with the batch,
not with the vocabulary. All that RMSProp would do to the other rows is to let their mean squares
decay: that is made up for, by the number of steps passed, when a row comes again.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import safetensors.numpy
import tensorflow as tf

from sentiment.model.batch import WorkerBatch
from sentiment.model.keras_model import SentimentLSTM

DECAY = 0.9
"""Of RMSProp's mean squares, a step (Tieleman and Hinton 2012)."""

EPSILON = 1e-7
"""Added to the mean squares under the root, as Keras does."""


class Trainer:
    """The model, the optimizer's state, and a step on both."""

    def __init__(
        self,
        model: SentimentLSTM,
        strategy: tf.distribute.Strategy,
        random_state: int,
        options: tf.distribute.experimental.CommunicationOptions | None = None,
    ) -> None:
        """Args:
        model: made outside the strategy's scope, alike on every worker.
        strategy: what sums over the workers, each of which is one replica.
        random_state: seeds dropout.
        options: how to sum.
        """
        self.model, self._random_state = model, random_state
        self._options = options
        # On a GPU Keras's is cuDNN's, one kernel for all tokens.
        self._own_lstm = not tf.config.list_logical_devices("GPU")
        self._rows, *self._dense = (variable.value for variable in model.trainable_variables)
        self._squares = [tf.Variable(tf.zeros_like(w)) for w in (self._rows, *self._dense)]
        self._updated = tf.Variable(tf.zeros(self._rows.shape[:1], tf.int64))
        ints, matrices = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None] * 3, tf.int32)
        count, number = tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.int64)
        rate = tf.TensorSpec([], tf.float32)
        seed, flat = tf.TensorSpec([2], tf.int64), tf.TensorSpec([None], tf.float32)

        def replicated(function: Callable[..., tf.Tensor], *signature: tf.TensorSpec) -> Any:
            return tf.function(
                lambda *inputs: strategy.run(function, inputs), input_signature=signature
            )

        part = (ints, matrices, ints)
        step = replicated(self._step, *part, ints, count, seed, number, rate)
        # Traced once, so that a step does not ask again whether its inputs still fit.
        self.step_function = step.get_concrete_function()
        self.gradient_function = replicated(self._gradients, *part, ints, count, seed)
        self.update_function = replicated(self._update, ints, flat, number, rate)
        self.sum_function = replicated(self._sum, flat)
        self.margin_function = replicated(self._margins, *part)

    def step(self, part: WorkerBatch, number: int, draw: int, rate: float) -> tf.Tensor:
        """Take a step on this worker's part of the batch; the global batch's mean loss (nats).

        Args:
            part: rows of this worker.
            number: of the step, from 1.
            draw: numbers the dropout masks: another one for every step and worker.
            rate: the learning rate.
        """
        seed = np.array([self._random_state, draw], np.int64)
        inputs = (part.tokens, part.places, part.lengths, part.labels, np.int32(part.batch_rows))
        return self.step_function(*inputs, seed, np.int64(number), np.float32(rate))

    def margins(self, parts: Sequence[WorkerBatch], rank: int, of: int) -> np.ndarray:
        """float32: by how much the logit of the positive class is larger, for every row.

        Every worker gives its parts of the same batches, and gets the rows of all, in order.
        """
        found = []
        for part in parts:
            whole = np.zeros(part.batch_rows, np.float32)
            whole[rank::of] = self.margin_function(part.tokens, part.places, part.lengths)
            found.append(whole)
        return np.asarray(self.sum_function(np.concatenate(found)))

    def graph(self) -> bytes:
        """The graph of a step, as a serialized GraphDef."""
        return bytes(self.step_function.graph.as_graph_def().SerializeToString())

    def _gradients(
        self,
        tokens: tf.Tensor,
        places: tf.Tensor,
        lengths: tf.Tensor,
        labels: tf.Tensor,
        batch_rows: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Flat float32: this part's share of the loss, then of the gradient of every weight."""
        rows = self._looked_up(tokens)
        with tf.GradientTape() as tape:
            tape.watch(rows)
            logits = self.model.logits(_embedded(rows, places), lengths, seed, self._own_lstm)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_sum(losses) / tf.cast(batch_rows, tf.float32)
        of_rows, *of_dense = tape.gradient(loss, [rows, *self._dense])
        of_rows = _padding_zeroed(tf.convert_to_tensor(of_rows))
        return tf.concat([tf.reshape(v, [-1]) for v in (loss, of_rows, *of_dense)], axis=0)

    def _sum(self, values: tf.Tensor) -> tf.Tensor:
        """The sum over workers."""
        context = tf.distribute.get_replica_context()
        # An operation of the replica's, so that the strategy knows where it is.
        own = tf.identity(values)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, own, self._options)

    def _update(
        self, tokens: tf.Tensor, gradients: tf.Tensor, number: tf.Tensor, rate: tf.Tensor
    ) -> None:
        """RMSProp: w -= rate * g / sqrt(v + EPSILON), v a decaying mean of the squares of g."""
        size = self._rows.shape[1]
        sizes = [tf.size(tokens) * size, *(weight.shape.num_elements() for weight in self._dense)]
        of_rows, *of_dense = tf.split(gradients, tf.stack(sizes))
        of_rows = tf.reshape(of_rows, [-1, size])

        passed = tf.cast(number - tf.gather(self._updated, tokens), tf.float32)
        squares = tf.gather(self._squares[0], tokens) * (DECAY**passed)[:, None]
        squares += (1 - DECAY) * of_rows**2
        change = rate * of_rows * tf.math.rsqrt(squares + EPSILON)
        rows = tf.gather(self._rows, tokens) - change
        self._squares[0].scatter_update(tf.IndexedSlices(squares, tokens))
        self._rows.scatter_update(tf.IndexedSlices(rows, tokens))
        self._updated.scatter_update(tf.IndexedSlices(tf.fill(tf.shape(tokens), number), tokens))

        for weight, mean, gradient in zip(self._dense, self._squares[1:], of_dense, strict=True):
            gradient = tf.reshape(gradient, weight.shape)
            mean.assign(DECAY * mean + (1 - DECAY) * gradient**2)
            weight.assign_sub(rate * gradient * tf.math.rsqrt(mean + EPSILON))

    def _step(self, tokens: tf.Tensor, *inputs: tf.Tensor) -> tf.Tensor:
        """The mean loss; the inputs are those of the gradients, then the step's number and rate."""
        *others, number, rate = inputs
        total = self._sum(self._gradients(tokens, *others))
        self._update(tokens, total[1:], number, rate)
        return total[0]

    def _margins(self, tokens: tf.Tensor, places: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        logits = self.model.logits(_embedded(self._looked_up(tokens), places), lengths)
        return logits[:, 1] - logits[:, 0]

    def _looked_up(self, tokens: tf.Tensor) -> tf.Tensor:
        """float32 (u, E), of the batch's ids: the embedding's rows, zeros for padding."""
        return _padding_zeroed(tf.gather(self._rows, tokens))

    def state(self) -> dict[str, np.ndarray]:
        """Everything that the next step depends on besides the data."""
        model = self.model.export()
        squares = zip(model, self._squares, strict=True)
        return {
            **{f"model/{name}": value for name, value in model.items()},
            **{f"squares/{name}": variable.numpy() for name, variable in squares},
            "updated": self._updated.numpy(),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a `state`."""
        names = list(self.model.export())
        self.model.restore({name: state[f"model/{name}"] for name in names})
        for name, variable in zip(names, self._squares, strict=True):
            variable.assign(state[f"squares/{name}"])
        self._updated.assign(state["updated"])

    def hash(self) -> str:
        """Identifies the state: workers that went the same way have the same."""
        return hashlib.sha256(safetensors.numpy.save(self.state())).hexdigest()


def _embedded(rows: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """float32 (n, longest, E): each word's row, and of a bigram that it ends, added up.

    Args:
        rows: float32 (u, E), as `Trainer._looked_up` gives them.
        places: as in `WorkerBatch`.
    """
    return tf.reduce_sum(tf.gather(rows, places), axis=0)


def _padding_zeroed(rows: tf.Tensor) -> tf.Tensor:
    """The same with zeros for the first row, padding's, which never learns.

    For rows and for their gradient, outside of the tape: through it, what undoes the slice costs
    more than both.
    """
    return tf.concat([tf.zeros_like(rows[:1]), rows[1:]], axis=0)
