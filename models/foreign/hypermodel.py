"""A hypermodel that knows nothing of this project, as one that can be tuned."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt

from models.backend import seed_own_generator
from models.classifier import Inputs, UnusableModel
from models.evaluation import METRICS
from models.foreign.feeding import Batches, examples
from models.foreign.form import Form, form_of
from models.foreign.generators import DrawnFrom, drawn_without_consuming, states_outside
from models.foreign.named import NamedHypermodel, require_hypermodel
from models.foreign.outputs import ValidationPredictions, accuracy_name, classifier_of, validates_as_keras
from models.foreign.reporting import Curves, ReportingCallback
from models.foreign.state import capture, restore, why_not_kept
from models.recipe import BATCH_SIZES, ClassWeights, declare_class_weights
from models.training.balance import declared_class_weights
from models.training.feeding import LabelledImages
from models.training.loop import FitResult, NoFiniteValue
from models.training.monitor import VALIDATION_ACCURACY, Monitor
from models.training.state import StateKeeper, TrainingState, value_of

BATCH_SIZE = 32
"""What Keras takes where nobody says."""

OTHER_DATA = (
    "the accuracy that its own training reports is not that on the validation images: the latter is computed after each"
    " epoch, and is a trial's value"
)
OTHER_GENERATORS = (
    "its training draws random numbers from a generator that is no attribute of the model or its layers: a trial that"
    " is frozen or interrupted goes on with others than it would have had"
)
OWN_FIT = "its own fit decides what it trains on in which order, so what is interrupted begins anew"
UNREPORTED = "its own fit calls no callbacks, so nothing is reported before its end"


class ForeignModels:
    """Makes the trials' hypermodels of what a user named; a `models.tunable.Hypermodel`.

    Args:
        found: a function `build(hp)`, a hypermodel of KerasTuner's or the class of one.
        name: its name, for people.
        notes: what is to be said of it, one line each.
        shuffle: whether the order of the data is another one in each epoch.

    Raises:
        UnusableModel: it is none of these.
    """

    first_range_holds = True
    # A softmax or a training step of the user's own may not bear it.
    mixed = False

    def __init__(self, found: Any, name: str, *, notes: Sequence[str] = (), shuffle: bool = True) -> None:
        require_hypermodel(found, name)
        self.found = found
        self.name = name
        self.notes = tuple(notes)
        self.shuffle = shuffle
        self._given: dict[int, tuple[weakref.ref[Any], npt.NDArray[Any]]] = {}

    def __call__(
        self,
        inputs: Inputs,
        *,
        epochs: int,
        patience: int = 3,
        class_weights: ClassWeights | Literal["search"] = "none",
        monitor: Monitor = VALIDATION_ACCURACY,
        **_of_a_recipe: Any,
    ) -> ForeignHypermodel:
        """Return one trial's; of a recipe, which it has none of, and of a space nothing is taken."""
        return ForeignHypermodel(
            self, inputs, epochs=epochs, patience=patience, class_weights=class_weights, monitor=monitor
        )

    def reset_variables(self, model: keras.Model) -> None:
        """Give variables that trainings before have changed the values that the user's code left in them.

        A layer or a generator that a module makes once, such as a base with its weights, is no model's own.
        """
        self._given = {number: known for number, known in self._given.items() if known[0]() is not None}
        for variable in (*model.variables, *states_outside(model)):
            known = self._given.get(id(variable))
            if known is not None:
                variable.assign(known[1])
            else:
                self._given[id(variable)] = weakref.ref(variable), value_of(variable)


class ForeignHypermodel:
    """Builds, trains and hands over one trial's model as its author wrote it; a `models.tunable.Tunable`.

    The loss, the metrics and the optimizer are the model's own; one that is not compiled gets cross-entropy, the
    accuracy and Adam. Batch size and epochs are the study's, unless the hypermodel has a `fit` of its own.

    Args:
        maker: what was named.
        inputs: what the data look like.
        epochs: how long a training is at most.
        patience: epochs without a better value after which a training at a constant rate ends.
        class_weights: as in `ImageClassifier`.
        monitor: likewise.

    Raises:
        UnusableModel: what was named is no hypermodel, or classes are to weigh alike in a `fit` of its own.
    """

    def __init__(
        self,
        maker: ForeignModels,
        inputs: Inputs,
        *,
        epochs: int,
        patience: int,
        class_weights: ClassWeights | Literal["search"],
        monitor: Monitor,
    ) -> None:
        self._maker = maker
        self._named = NamedHypermodel(maker.found, maker.name, inputs)
        if self._named.fits and class_weights != "none":
            raise UnusableModel(f"{maker.name} has a fit of its own, where CLASS_WEIGHTS={class_weights} is not heard")
        self._inputs = inputs
        self._epochs = epochs
        self._patience = patience
        self._class_weights = class_weights
        self._monitor = monitor
        self._form: Form | None = None
        self._reported = True
        self._other_data = False
        self._other_generators = False
        self._not_kept: str | None = None

    def build(self, hp: Any) -> keras.Model:
        """The model as its author's code returns it, built and compiled.

        Raises:
            UnusableModel: it does not fit the data, or is none.
        """
        # Models hold themselves in cycles, and Keras numbers names on.
        keras.backend.clear_session()
        gc.collect()
        seed_own_generator(drawn_without_consuming())
        model = self.untrained(hp)
        if not getattr(model, "compiled", True):
            _compile(model, self._known(model))
        self._maker.reset_variables(model)
        return model

    def untrained(self, hp: Any) -> keras.Model:
        """The same, compiled only if its author's code does it."""
        model = self._named.build(hp)
        self._form = form_of(model, self._inputs)
        if not self._named.fits and "batch_size" not in hp.values:
            hp.Choice("batch_size", list(BATCH_SIZES), default=BATCH_SIZE)
        declare_class_weights(hp, self._class_weights)
        return model

    def untrained_classifier(self, hp: Any) -> keras.Model:
        """What `classifier` returns of the model of `hp`, with weights as they are drawn: to load those of a trial."""
        return self.classifier(self.untrained(hp))

    def classifier(self, model: keras.Model) -> keras.Model:
        """Raw data to float32 probabilities `(batch, classes)`; shares the weights of the model.

        The model is trained no more: its optimizer would be taken for a part of it and kept with its weights.
        """
        for name, part in list(vars(model).items()):
            if isinstance(part, keras.optimizers.Optimizer):
                setattr(model, name, None)
        return classifier_of(model, self._known(model), self._inputs)

    def weight_count(self, model: keras.Model) -> int:
        """How many weights a model has."""
        return int(model.count_params())

    def traces(self, model: keras.Model) -> int:
        """Whether Keras's own training step has been traced: a model serves one training."""
        return 0 if model.train_function is None else 1

    def phases(self, hp: Any) -> list[tuple[float, Any]]:
        """One: nothing is known of others."""
        return [(1.0, self)]

    def runs_whole(self) -> str | None:
        """Why a training that is interrupted begins anew."""
        if not self._named.fits:
            return self._not_kept
        return OWN_FIT if self._reported else f"{OWN_FIT}; {UNREPORTED}"

    def notes(self) -> list[str]:
        """What the author should know: once a model was built, how the data are given; then, how it was validated."""
        form = [] if self._form is None else [self._form.in_words(self._inputs)]
        found = {OTHER_DATA: self._other_data, OTHER_GENERATORS: self._other_generators}
        return [*self._maker.notes, *form, *(note for note, holds in found.items() if holds)]

    def _known(self, model: keras.Model) -> Form:
        if self._form is None:
            self._form = form_of(model, self._inputs)
        return self._form

    def fit(
        self,
        hp: Any,
        model: keras.Model,
        training: LabelledImages,
        validation: LabelledImages,
        *,
        seed: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        resume: TrainingState | None = None,
        keeper: StateKeeper | None = None,
    ) -> FitResult:
        """Train what `build` built and leave the weights of the best epoch in it, see `models.tunable.Tunable`."""
        form = self._known(model)
        predictions = ValidationPredictions(model, form, self._inputs, validation)

        def keep(epochs: int, history: Curves) -> None:
            if keeper is not None and not self._named.fits and keeper.due(epochs):
                self._not_kept = self._not_kept or why_not_kept(model)
                if self._not_kept is None:
                    keeper.keep(capture(model, epochs, reporting.best, history))

        reporting = ReportingCallback(
            model,
            lambda: accuracy_name(model, form),
            predictions,
            monitor=self._monitor,
            trusted=not self._named.fits and validates_as_keras(model),
            patience=None if self._named.fits or _has_schedule(model) else self._patience,
            epochs=self._epochs,
            callbacks=callbacks,
            keep=keep,
        )
        if self._named.fits:
            self._fit_as_written(hp, model, training, validation, reporting)
        else:
            if resume is not None:
                reporting.begin_at(*restore(model, resume))
            self._fit(hp, model, training, validation, reporting, seed)
        self._other_data = reporting.other_data
        return _result(model, reporting, predictions, self._monitor)

    def _fit(
        self,
        hp: Any,
        model: keras.Model,
        training: LabelledImages,
        validation: LabelledImages,
        reporting: ReportingCallback,
        seed: int,
    ) -> None:
        form, classes = self._known(model), self._inputs.classes
        batch_size = int(hp.values.get("batch_size") or BATCH_SIZE)
        batches = Batches(training, form, classes, batch_size, seed if self._maker.shuffle else None)

        stepped, drawn_from = False, DrawnFrom(model)

        def begin(epoch: int, logs: Any) -> None:
            batches.epoch = epoch

        def step(batch: int, logs: Any) -> None:
            nonlocal stepped
            if not stepped:
                stepped = True
                self._not_kept = why_not_kept(model)
                self._other_generators = drawn_from.others()

        model.fit(
            batches,
            validation_data=Batches(validation, form, classes, batch_size, None),
            epochs=self._epochs,
            initial_epoch=reporting.epochs,
            shuffle=False,
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_train_batch_end=step), reporting],
            class_weight=self._weights(hp),
        )

    def _weights(self, hp: Any) -> dict[int, float] | None:
        weights = declared_class_weights(hp, self._class_weights, self._inputs.class_counts)
        return None if weights is None else dict(enumerate(weights.tolist()))

    def _fit_as_written(
        self,
        hp: Any,
        model: keras.Model,
        training: LabelledImages,
        validation: LabelledImages,
        reporting: ReportingCallback,
    ) -> None:
        form, classes = self._known(model), self._inputs.classes
        x, y = examples(training, np.arange(len(training)), form, classes)
        returned = self._named.fit(
            hp,
            model,
            x,
            y,
            lambda: reporting.epochs > 0,
            validation_data=examples(validation, np.arange(len(validation)), form, classes),
            epochs=self._epochs,
            callbacks=[reporting],
            verbose=0,
            **({} if self._maker.shuffle else {"shuffle": False}),
        )
        _require_result(returned, self._maker.name)
        if reporting.epochs == 0:
            self._reported = False
            # What is reported ends with this, whatever the strategy thinks of it.
            model.stop_training = True
            reporting.on_epoch_end(0, {})


def _compile(model: keras.Model, form: Form) -> None:
    losses: dict[str, Callable[..., Any]] = {
        "integers": keras.losses.SparseCategoricalCrossentropy,
        "one-hot": keras.losses.CategoricalCrossentropy,
        "one unit": keras.losses.BinaryCrossentropy,
    }
    model.compile("adam", losses[form.labels](from_logits=form.logits), metrics=["accuracy"])


def _has_schedule(model: keras.Model) -> bool:
    rate = getattr(model.optimizer, "_learning_rate", None)
    return isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)


def _require_result(returned: Any, name: str) -> None:
    """Refuse what KerasTuner refuses: a `fit` without a result is a mistake of its author's."""
    parts = returned if isinstance(returned, list) and returned else [returned]
    if not all(isinstance(part, (keras.callbacks.History, dict, int, float, np.number)) for part in parts):
        raise UnusableModel(
            f"the fit of {name} must return a History, a number or a dict, as KerasTuner has it. Received:"
            f" {type(returned).__name__}"
        )


def _result(
    model: keras.Model, reporting: ReportingCallback, predictions: ValidationPredictions, monitor: Monitor
) -> FitResult:
    best, epochs = reporting.best, reporting.epochs
    if best.epoch is None or best.value is None:
        raise NoFiniteValue(monitor.name, epochs)
    model.set_weights(best.weights)
    said = predictions()
    history = {name: list(curve) for name, curve in reporting.history.items()}
    for name in ("val_loss", "val_balanced_accuracy"):
        curve = history.setdefault(name, [math.nan] * epochs)
        if math.isnan(curve[best.epoch]):
            curve[best.epoch] = METRICS[name](*said)
    return FitResult(history=history, best_epoch=best.epoch, value=best.value)
