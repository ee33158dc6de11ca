"""The model that is trained: a network with its augmentation, optimizer, loss and metrics, and what is tuned of them.

Values that do not change the graph (learning rate, momentum, weight decay, the schedule's lengths, dropout rates, label
smoothing, the weights of classes, the strength of augmentation, the decay of averages) are variables: one compiled
model serves one training after the other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from models.recipe import Recipe
from models.training.augmentation import RandomAugmentation
from models.training.averaging import AveragedWeights
from models.training.balance import BalancedAccuracy
from models.training.dropout import TunedDropout
from models.training.steps import steps_of


class TrainingModel(keras.Model):
    """Raw pixels to logits `(batch, classes)`, compiled; label smoothing and class weights act while training only.

    Args:
        network: pixels to logits, of stock layers; shares its layers with this model, but for those of dropout.
        optimizer: not yet built.
        augmentation: comes first, or None.
        dtype: of the pixels, or of the numbers that are none.
        averaged: whether weights are averaged.

    Attributes:
        network: the network that this model was made from, which has its weights.
        label_smoothing: the share of a target spread evenly over all classes (arXiv:1512.00567, section 7).
        class_weights: `(classes,)`, what the loss of a picture is multiplied by, by its class.
        averages: of the weights; None where they are not averaged.
        steps: run its steps.
        heard: given the logits of each step that is judged, where somebody listens.
    """

    def __init__(
        self,
        network: keras.Model,
        optimizer: Any,
        augmentation: RandomAugmentation | None,
        dtype: str = "uint8",
        *,
        averaged: bool = False,
    ) -> None:
        pixels = keras.Input(network.input_shape[1:], dtype=dtype, name="pixels")
        augmented = pixels if augmentation is None else augmentation(pixels)
        trained = keras.models.clone_model(network, clone_function=_for_training)
        super().__init__(inputs=pixels, outputs=trained(augmented), name="training")
        self.network = network
        self.label_smoothing = keras.Variable(0.0, trainable=False, dtype="float32", name="label_smoothing")
        classes = network.output_shape[-1]
        self.class_weights = keras.Variable(np.ones(classes), trainable=False, dtype="float32", name="class_weights")
        self.averages = AveragedWeights(network.weights) if averaged else None
        self.heard: Callable[[Any], None] | None = None
        self._augmentation = augmentation
        self._dropouts = [(trained.get_layer(layer.name), layer) for layer in network.layers if _is_dropout(layer)]
        _number_anew(network)
        self._classifier = classifier_of(network)
        self._tuned = optimizer
        # Weighted, because the pictures that fill up the last validation batch have weight 0.
        judged = [keras.metrics.SparseCategoricalAccuracy(name="accuracy"), BalancedAccuracy(classes)]
        self.compile(optimizer=optimizer, weighted_metrics=judged)
        self._build_state(classes)
        self._initial = [_nonzero(variable) for variable in self.optimizer.variables]
        self.steps = steps_of(self)

    def _build_state(self, classes: int) -> None:
        # All variables must be there before the first trace.
        self.optimizer.build(self.trainable_variables)
        self.compute_metrics(None, np.zeros(1, np.int32), np.zeros((1, classes), np.float32), np.ones(1, np.float32))
        self.reset_metrics()

    def take_over(self, network: keras.Model) -> None:
        """Take over the weights and the dropout rates of a network like its own."""
        for variable, other in zip(self.network.weights, network.weights, strict=True):
            variable.assign(other.value)
        rates = [layer.rate for layer in network.layers if _is_dropout(layer)]
        for (layer, stock), rate in zip(self._dropouts, rates, strict=True):
            layer.rate.assign(rate)
            stock.rate = rate

    def begin(
        self, recipe: Recipe, *, steps: int, seed: int, class_weights: npt.NDArray[np.float32] | None = None
    ) -> None:
        """Become a new model, but for its weights and dropout rates.

        Args:
            recipe: what is tuned besides.
            steps: of the whole training; the schedule ends there.
            seed: decides dropout and augmentation.
            class_weights: `(classes,)`, by which pictures weigh; None where all weigh alike.
        """
        for variable, value in zip(self.optimizer.variables, self._initial, strict=True):
            variable.assign(value if value is not None else ops.zeros(variable.shape, dtype=variable.dtype))
        self._tuned.set_values(recipe, steps)
        self.label_smoothing.assign(recipe.label_smoothing)
        alike = np.ones(self.class_weights.shape, np.float32)
        self.class_weights.assign(alike if class_weights is None else class_weights)
        if self._augmentation is not None:
            self._augmentation.strength.assign(recipe.augmentation)
        states = self._random_states()
        for state, stream in zip(states, np.random.SeedSequence(seed).spawn(len(states)), strict=True):
            state.assign([stream.generate_state(1)[0] >> 1, 0])
        if self.averages is not None:
            self.averages.begin(recipe.averaging)
        self.reset_metrics()

    def classifier(self) -> keras.Model:
        """Raw pixels to float32 probabilities `(batch, classes)`, of Keras's own layers, with this model's weights."""
        return self._classifier

    def judged_weights(self) -> AbstractContextManager[None]:
        """Have in place, while this lasts, the weights that are judged and kept: the averages, where there are any."""
        return self.averages.in_place() if self.averages is not None else nullcontext()

    @property
    def weight_count(self) -> int:
        """How many weights the network has."""
        return int(self.network.count_params())

    def _random_states(self) -> list[Any]:
        """The states of dropout and augmentation: what is a variable but neither weight, metric nor optimizer's."""
        values = [self.label_smoothing, self.class_weights]
        known = {id(one) for one in (*self.weights, *self.metrics_variables, *self.optimizer.variables, *values)}
        return [variable for variable in self.variables if id(variable) not in known]

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Update the metrics of a step, and let be heard what was said in it."""
        if self.heard is not None:
            self.heard(y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The mean cross-entropy of the batch in nats; while training by weight, and with what regularizers add."""
        log_probabilities = ops.log_softmax(y_pred, axis=-1)
        classes = y_pred.shape[-1]
        targets = ops.one_hot(y, classes, dtype="float32")
        if training:
            smoothing = ops.convert_to_tensor(self.label_smoothing)
            targets = targets * (1.0 - smoothing) + smoothing / classes
        losses = -ops.sum(targets * log_probabilities, axis=-1)
        if training:
            losses = losses * ops.take(self.class_weights, y, axis=0)
        if sample_weight is not None:
            losses = losses * sample_weight
        loss = ops.mean(losses)
        for penalty in self.losses if training else ():
            loss = loss + ops.cast(penalty, loss.dtype)
        return loss


def classifier_of(network: keras.Model) -> keras.Model:
    """Return raw pixels to float32 probabilities `(batch, classes)` of a network of logits, whose layers it shares."""
    probabilities = layers.Softmax(dtype="float32", name="probabilities")(network.output)
    return keras.Model(network.input, probabilities, name="classifier")


def _is_dropout(layer: Any) -> bool:
    return type(layer) is layers.Dropout and layer.rate > 0.0


def _for_training(layer: Any) -> Any:
    """Return what takes a layer's place in training: itself, but for dropout."""
    if not _is_dropout(layer):
        return layer
    return TunedDropout(layer.rate, noise_shape=layer.noise_shape, dtype=layer.dtype_policy, name=layer.name)


def _nonzero(variable: Any) -> npt.NDArray[Any] | None:
    value = np.array(ops.convert_to_numpy(variable))
    return value if value.any() else None


def unnumbered(operation: Any) -> str | None:
    """Return a layer's name without the number that Keras gave it; None if Keras did not name it."""
    name = re.sub(r"_\d+$", "", operation.name)
    return name if name.replace("_", "") == type(operation).__name__.lower() else None


def _number_anew(network: keras.Model) -> None:
    """Name layers as in a new process: Keras numbers them on from network to network."""
    counts: Counter[str] = Counter()
    for layer in network.layers:
        name = unnumbered(layer)
        if name is not None:
            layer.name = f"{name}_{counts[name]}" if counts[name] else name
            counts[name] += 1
