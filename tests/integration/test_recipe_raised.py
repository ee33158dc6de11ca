"""What a long training has at least: a recipe's values are raised, and never lowered."""

from __future__ import annotations

from typing import Any

import keras_tuner
import numpy as np
import pytest

from models.classifier import Inputs
from models.cnn import CNN
from models.recipe import Recipe, raised
from models.training.model import TrainingModel

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 turns variables into arrays in a way that NumPy 2 will not allow for ever.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

PICTURES = Inputs((12, 12, 3), 2, mean=(110.0,) * 3, std=(60.0,) * 3, flips=True)
NUMBERS = Inputs((12, 12, 3), 2, mean=(0.0,) * 3, std=(1.0,) * 3, flips=False, dtype="float32")
AT_LEAST = {"augmentation": 0.5, "label_smoothing": 0.1, "averaging": 0.98}


def built(inputs: Inputs, at_least: dict[str, float] | None, **values: Any) -> TrainingModel:
    hp = keras_tuner.HyperParameters()
    hp.values.update({"batch_size": 32, "optimizer": "adam", "learning_rate": 0.01, "dropout": 0.0, **values})
    return CNN(inputs, extended=True, epochs=2, train_images=96, at_least=at_least).build(hp)


def test_what_is_lower_is_raised_and_what_is_higher_stays() -> None:
    recipe = Recipe(batch_size=32, optimizer="adam", learning_rate=0.01, dropout=0.2, augmentation=0.9)
    found = raised(recipe, AT_LEAST)
    assert (found.augmentation, found.label_smoothing, found.averaging) == (0.9, 0.1, 0.98)
    assert (found.batch_size, found.dropout) == (32, 0.2)
    assert raised(recipe, {}) == recipe


def test_a_name_that_no_recipe_has_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        CNN(PICTURES, extended=False, epochs=2, train_images=96, at_least={"nonsense": 0.5})


def test_a_model_is_trained_with_the_raised_values_also_where_they_are_parameters() -> None:
    model = built(PICTURES, AT_LEAST, augmentation=0.0, label_smoothing=0.0)
    assert model._augmentation is not None
    assert float(np.asarray(model._augmentation.strength)) == pytest.approx(0.5)
    assert float(np.asarray(model.label_smoothing)) == pytest.approx(0.1)
    plain = built(PICTURES, None, augmentation=0.0, label_smoothing=0.0)
    assert plain._augmentation is None
    assert float(np.asarray(plain.label_smoothing)) == 0.0


def test_what_is_no_picture_is_not_augmented() -> None:
    assert built(NUMBERS, AT_LEAST)._augmentation is None
