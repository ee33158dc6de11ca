"""One compiled model serves two trials only where nothing but values tells them apart."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import pytest
from keras import layers, ops

from models.classifier import ImageClassifier, Inputs
from models.cnn import CNN
from models.deep_cnn import DeepCNN
from models.recipe import Recipe
from models.resnet import ResNet
from models.training.compiled import signature_of

pytestmark = pytest.mark.keras

RECIPE = Recipe(batch_size=32, optimizer="sgd", learning_rate=0.1, dropout=0.2)
SCALE = [1.0]


def scaled(x: Any, by: float = 1.0) -> Any:
    return x * by


def by_global(x: Any) -> Any:
    return x * SCALE[0]


@functools.wraps(keras.activations.relu)
def in_disguise(x: Any, *_: Any, **__: Any) -> Any:
    return x * 2.0


def relu(x: Any) -> Any:
    """Called as one of Keras's own."""
    return x * 2.0


class Scaled:
    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, x: Any, **_: Any) -> Any:
        return x * self.by

    def method(self, x: Any) -> Any:
        return x * self.by


def closure(by: float) -> Callable[[Any], Any]:
    def inner(x: Any) -> Any:
        return x * by

    return inner


def with_default(by: float) -> Callable[[Any], Any]:
    def inner(x: Any, factor: float = by) -> Any:
        return x * factor

    return inner


FUNCTIONS: dict[str, Callable[[float], Any]] = {
    "closure": closure,
    "default": with_default,
    "lambda": lambda by: lambda x: x * by,
    "partial": lambda by: functools.partial(scaled, by=by),
    "partial of Keras's own": lambda by: functools.partial(keras.activations.relu, negative_slope=by),
    "bound method": lambda by: Scaled(by).method,
    "object": Scaled,
    "global": lambda _: by_global,
    "wrapped": lambda _: in_disguise,
    "named as Keras's own": lambda _: relu,
}


class Sum:
    """A regularizer."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, x: Any) -> Any:
        return ops.sum(self.function(x))


def ones_by(function: Any) -> Any:
    def initializer(shape: Any, dtype: Any = None) -> Any:
        return function(ops.ones(shape, dtype))

    return initializer


PLACES: dict[str, Callable[[Any, Any], Any]] = {
    "activation": lambda x, f: layers.Dense(3, activation=f)(x),
    "Activation": lambda x, f: layers.Activation(f)(x),
    "initializer": lambda x, f: layers.Dense(3, kernel_initializer=ones_by(f))(x),
    "regularizer": lambda x, f: layers.Dense(3, kernel_regularizer=Sum(f))(x),
    "activity": lambda x, f: layers.Dense(3, activity_regularizer=Sum(f))(x),
    "constraint": lambda x, f: layers.Dense(3, kernel_constraint=f)(x),
    "inner layer": lambda x, f: layers.MultiHeadAttention(1, 2, kernel_regularizer=Sum(f))(x, x),
}


def network(make: Callable[[Any], Any]) -> keras.Model:
    pixels = keras.Input((4, 4))
    return keras.Model(pixels, make(pixels), name="network")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_function_that_is_not_keras_own_is_not_shared(kind: str, place: str) -> None:
    function = FUNCTIONS[kind](0.5)
    assert signature_of(network(lambda x: PLACES[place](x, function)), RECIPE) is None


class Regularized(layers.Layer):
    def call(self, x: Any) -> Any:
        return x


def given_later(x: Any) -> Any:
    dense = layers.Dense(3)
    y = dense(x)
    dense.kernel.regularizer = Sum(scaled)
    return y


def called_otherwise(x: Any) -> Any:
    dense = layers.Dense(4)
    vars(dense)["call"] = closure(2.0)
    return dense(x)


@pytest.mark.parametrize(
    "make",
    [
        given_later,
        called_otherwise,
        lambda x: Regularized()(x),
        lambda x: layers.Lambda(ops.relu)(x),
        lambda x: layers.TimeDistributed(layers.Dense(2))(x),
        lambda x: layers.Normalization()(x),
        lambda x: ops.vectorized_map(closure(2.0), x),
    ],
)
def test_what_hides_code_is_not_shared(make: Callable[[Any], Any]) -> None:
    assert signature_of(network(make), RECIPE) is None


ORDINARY: dict[str, Callable[[Any], Any]] = {
    "by name": lambda x: layers.Dense(3, activation="gelu", kernel_regularizer="l2", kernel_constraint="max_norm")(x),
    "keras functions": lambda x: layers.Activation(keras.activations.silu)(x),
    "operations": lambda x: ops.relu(x * 2.0) + x,
    "objects": lambda x: layers.Dense(3, kernel_initializer=keras.initializers.HeNormal())(x),
    "augmented": lambda x: layers.RandomTranslation(0.1, 0.1)(layers.Reshape((4, 4, 1))(x)),
    "attention": lambda x: layers.MultiHeadAttention(1, 2, dropout=0.1)(x, x),
    "normalized": lambda x: layers.BatchNormalization()(layers.LayerNormalization()(x)),
    "convolutions": lambda x: layers.SeparableConv1D(3, 2)(layers.DepthwiseConv1D(2)(x)),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_an_ordinary_network_has_one_signature_however_often_it_is_built(kind: str) -> None:
    one, other = (signature_of(network(ORDINARY[kind]), RECIPE) for _ in range(2))
    assert one == other is not None


def test_ordinary_networks_that_differ_have_different_signatures() -> None:
    every = [signature_of(network(make), RECIPE) for make in ORDINARY.values()]
    assert len(set(every)) == len(every)
    one, other = (network(ORDINARY["by name"]) for _ in range(2))
    other.layers[1].kernel.trainable = False
    assert signature_of(one, RECIPE) != signature_of(other, RECIPE)
    two, four = network(lambda x: ops.relu(x * 2.0)), network(lambda x: ops.relu(x * 4.0))
    assert signature_of(two, RECIPE) != signature_of(four, RECIPE)


@pytest.mark.parametrize("kind", [CNN, DeepCNN, ResNet])
def test_the_projects_own_models_are_shared(kind: type[ImageClassifier]) -> None:
    import keras_tuner

    inputs = Inputs((8, 8, 1), 2, mean=(110.0,), std=(60.0,), flips=False)
    classifier = kind(inputs, extended=False, epochs=1, train_images=96)
    hp = keras_tuner.HyperParameters()
    one, other = (signature_of(classifier.untrained(hp), kind.defaults) for _ in range(2))
    assert one == other is not None
