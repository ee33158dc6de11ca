"""What a worker asks of anything that can be tuned: an `ImageClassifier`, or a hypermodel that knows nothing of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import keras

from models.classifier import Inputs
from models.recipe import ClassWeights
from models.training.compiled import CompiledModels
from models.training.feeding import LabelledImages
from models.training.loop import FitResult
from models.training.monitor import VALIDATION_ACCURACY, Monitor
from models.training.state import StateKeeper, TrainingState


class Tunable(Protocol):
    """What builds and trains the model of one trial; made anew for each.

    `hp` is KerasTuner's `HyperParameters`, or answers like it.
    """

    def build(self, hp: Any) -> Any:
        """Return the compiled `keras.Model` of `hp`. Its weights follow `seed_generators`, called before."""

    def untrained(self, hp: Any) -> keras.Model:
        """Return a model of the shape of the one that `build` returns, to count its weights."""

    def untrained_classifier(self, hp: Any) -> keras.Model:
        """Return what `classifier` returns of the model of `hp`, not trained: to load the weights of a trial into."""

    def fit(
        self,
        hp: Any,
        model: Any,
        training: LabelledImages,
        validation: LabelledImages,
        *,
        seed: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        resume: TrainingState | None = None,
        keeper: StateKeeper | None = None,
    ) -> FitResult:
        """Train what `build` built, and leave the weights of the best epoch in it.

        Args:
            hp: the hyperparameters that the model was built with.
            model: changed in place.
            training: what it learns from.
            validation: what judges each epoch.
            seed: decides the order of the data.
            callbacks: come after all others. They find `val_accuracy` and what it is judged by in an epoch's logs.
            resume: the state to go on from, of the same training.
            keeper: who wants the training's state at the end of epochs.

        Raises:
            NonFiniteLoss: the loss is no longer a finite number, or what it is judged by never was one.
            UnknownMonitor: the history does not have what it is judged by.
        """

    def classifier(self, model: Any) -> keras.Model:
        """Return raw data to float32 probabilities `(batch, classes)`, with the weights of a model that was trained."""

    def weight_count(self, model: Any) -> int:
        """Return how many weights a model that `build` returned has."""

    def traces(self, model: Any) -> int:
        """Return how often a training step of a model has been traced."""

    def phases(self, hp: Any) -> Sequence[tuple[float, Tunable]]:
        """Return the kinds of its epochs, where one costs more than another: their share, and what trains them alone.

        Where all are alike, that is itself.
        """

    def notes(self) -> list[str]:
        """Return what the author of the model should know, one line each: how it is given data; then, of its fit."""

    def runs_whole(self) -> str | None:
        """Return why a training that is interrupted begins anew, for people; None where it goes on from its state."""


class Hypermodel(Protocol):
    """Makes what a study's trials train; a subclass of `ImageClassifier` is one.

    Attributes:
        first_range_holds: whether a name may be declared again with another range, of which nothing is taken, as
            KerasTuner has it; else that is refused.
        mixed: whether what it makes may compute in half precision.
    """

    first_range_holds: bool
    mixed: bool

    def __call__(
        self,
        inputs: Inputs,
        *,
        extended: bool,
        epochs: int,
        train_images: int,
        patience: int = 3,
        models: CompiledModels | None = None,
        class_weights: ClassWeights | Literal["search"] = "none",
        defaults: Mapping[str, Any] | None = None,
        at_least: Mapping[str, float] | None = None,
        monitor: Monitor = VALIDATION_ACCURACY,
    ) -> Tunable:
        """Return what builds and trains one trial's model; the arguments are those of `ImageClassifier`."""
