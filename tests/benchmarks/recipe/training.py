"""One training of one variant, in this process."""

from __future__ import annotations

from typing import Any, Final

import keras
import keras_tuner
from keras import layers

from models.backend import seed_generators
from models.classifier import ImageClassifier, Inputs
from models.cnn import CNN
from models.deep_cnn import DeepCNN
from models.fast_cnn import FastCNN
from models.training.feeding import LabelledImages
from studies.datasets.splits import channel_statistics, stratified_split
from tests.benchmarks.recipe.trainings import Cell
from tests.benchmarks.recipe.variants import VARIANTS, Swap, Variant
from tests.benchmarks.throughput.data import prepared

_HYPERMODELS: Final[dict[str, type[ImageClassifier]]] = {"cnn": CNN, "deep_cnn": DeepCNN, "fast_cnn": FastCNN}


def trained(cell: Cell) -> float:
    """Train a cell and return its validation accuracy after the last epoch."""
    variant, dataset = VARIANTS[cell.variant], prepared(cell.dataset)
    images, labels = dataset.train_images, dataset.train_labels
    split = stratified_split(
        labels, validation_images=cell.validation_images, train_images=cell.train_images, seed=cell.seed
    )
    mean, std = channel_statistics(images, split.train)
    info = dataset.info
    inputs = Inputs(images.shape[1:], len(info.class_names), tuple(mean), tuple(std), info.natural_images)
    classifier = _hypermodel(variant)(
        inputs, extended=True, epochs=cell.epochs, train_images=cell.train_images, defaults=variant.defaults
    )
    hp = keras_tuner.HyperParameters()
    hp.values["width"] = variant.width
    seed_generators(cell.seed)
    model = classifier.build(hp)
    parts = (LabelledImages(images, labels, rows) for rows in (split.train, split.validation))
    result = classifier.fit(hp, model, *parts, seed=cell.seed)
    return result.history["val_accuracy"][-1]


def _hypermodel(variant: Variant) -> type[ImageClassifier]:
    own = _HYPERMODELS[variant.model]
    if not variant.swaps:
        return own

    class Swapped(own):  # type: ignore[misc, valid-type]
        def backbone(self, hp: Any, x: Any) -> Any:
            whole = keras.Model(x, super().backbone(hp, x))  # a chain of layers
            for layer in whole.layers[1:]:
                swapped = _swapped(layer, variant.swaps)
                x = swapped(x)
                if "drawn" not in variant.swaps and type(swapped) is type(layer):
                    swapped.set_weights(layer.get_weights())
            return x

    return Swapped


def _swapped(layer: Any, swaps: tuple[Swap, ...]) -> Any:
    if "relu" in swaps and isinstance(layer, layers.Activation):
        return layers.ReLU()
    if "largest" in swaps and isinstance(layer, layers.GlobalAveragePooling2D):
        return layers.GlobalMaxPooling2D()
    return type(layer).from_config(layer.get_config())
