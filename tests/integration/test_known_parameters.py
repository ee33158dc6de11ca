"""A range for a parameter that nobody declares is refused; one that the study leaves unused is not."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal

import pytest
from keras import layers

from models.classifier import ImageClassifier
from models.recipe import Recipe
from storage.errors import BadInput
from tests.integration.blank_pictures import classifiers_of
from tuning.worker.preflight.walk import require_known_parameters

pytestmark = pytest.mark.keras

SPACES: Final[tuple[Literal["core", "extended"], ...]] = ("core", "extended")


class Own(ImageClassifier):
    """Has a `momentum` of its own, which the extended space has as well, and more behind it."""

    defaults: ClassVar[Recipe] = Recipe(batch_size=32, optimizer="adamw", learning_rate=0.1, dropout=0.2)

    def backbone(self, hp: Any, x: Any) -> Any:
        x = layers.Flatten()(x)
        for _ in range({"low": 1, "high": 2}[hp.Choice("momentum", ["low", "high"])]):
            x = layers.Dense(4)(x)
        return layers.Dense(self.tuned_int(hp, "width", 2, 8, default=4))(x)


class Pooled(Own):
    """Cannot be built with most of what it declares."""

    def backbone(self, hp: Any, x: Any) -> Any:
        for _ in range(hp.Int("pools", 1, 9, default=9)):
            x = layers.MaxPooling2D(2)(x)
        return layers.Dense(hp.Int("units", 2, 4))(layers.Flatten()(x))


@pytest.mark.parametrize("name", ["dropout", "momentum", "weight_decay", "width", "schedule"])
def test_a_core_study_may_have_ranges_of_the_extended_space_whatever_the_model_calls_its_own(name: str) -> None:
    require_known_parameters(classifiers_of(Own, name))


def test_a_misspelt_name_is_refused_in_both_spaces() -> None:
    for space in SPACES:
        with pytest.raises(BadInput, match=r"unknown parameter 'widht'.*Did you mean 'width'.*Mend \[parameters\]"):
            require_known_parameters(classifiers_of(Own, "dropout", "widht", space=space))


def test_what_cannot_be_built_outside_of_the_ranges_is_no_reason_to_refuse_them() -> None:
    require_known_parameters(classifiers_of(Pooled, "pools", "units"))
    with pytest.raises(BadInput, match="unknown parameter 'unit'"):
        require_known_parameters(classifiers_of(Pooled, "pools", "unit"))
