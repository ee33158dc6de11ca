"""The whole state of a training between two epochs: captured, carried as bytes, and restored.

Keras's `BackupAndRestore` keeps weights, optimizer and epoch; what it leaves out (early stopping, the plateau, the
seeds of dropout and augmentation) makes a continued training another one. Here everything that the next epoch depends
on is kept, so that a training which is interrupted and continued in another process gives the same weights and the
same curve, bit for bit, on a CPU with the same number of threads. The order of the data needs no state: it is a
function of the seed and the epoch.
"""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt

from models.training.loop import Training
from models.training.model import TrainingModel

# What Keras's callbacks carry from one epoch to the next; they reset it when a training begins.
_EARLY_STOPPING = ("wait", "stopped_epoch", "best", "best_epoch")
_PLATEAU = ("wait", "best", "cooldown_counter")

# Curves that earlier versions did not draw.
_ADDED = ("balanced_accuracy", "val_balanced_accuracy")

_META = "meta"


class StateMismatch(ValueError):
    """A state is not one of this model: another number of variables, or other shapes."""


@dataclass(frozen=True)
class TrainingState:
    """A training after `epochs` epochs.

    Attributes:
        epochs: how many are done: the next one is of this number, from 0.
        arrays: the values of all variables, by place: `model/0`, `optimizer/0`, `best/0`, `averages/0` where
            weights are averaged, and NumPy's random state.
        values: the callbacks' state, Python's random state and the history, as JSON.
    """

    epochs: int
    arrays: Mapping[str, npt.NDArray[Any]]
    values: Mapping[str, Any]

    @property
    def history(self) -> dict[str, list[float]]:
        """The curves so far, one value for each epoch done; not a number where an earlier version noted none."""
        # Of a foreign model there are those that it has.
        added = _ADDED if "early_stopping" in self.values else ()
        unknown = {name: [math.nan] * self.epochs for name in added}
        return unknown | {name: list(curve) for name, curve in self.values["history"].items()}

    def to_bytes(self) -> bytes:
        """Return the state as the bytes of an `.npz` file without pickles."""
        meta = json.dumps({"epochs": self.epochs, "values": self.values}).encode()
        buffer = io.BytesIO()
        np.savez(buffer, **{_META: np.frombuffer(meta, np.uint8)}, **self.arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> TrainingState:
        """Return the state that `to_bytes` wrote.

        Raises:
            StateMismatch: the bytes are none.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                meta = json.loads(stored[_META].tobytes())
                arrays = {name: stored[name] for name in stored.files if name != _META}
            return cls(meta["epochs"], arrays, meta["values"])
        except (ValueError, KeyError, OSError, EOFError) as error:
            raise StateMismatch(f"these bytes are no training state: {error}") from error


def capture(training: Training, epochs: int, history: Mapping[str, list[float]]) -> TrainingState:
    """Return the state of a training at the end of an epoch.

    Args:
        training: what runs.
        epochs: how many epochs are done.
        history: the curves so far.
    """
    stopping = training.early_stopping
    best = [*(stopping.best_weights or [])]
    if best:
        del best[_place_of_class_weights(training.model)]
    values = {
        "early_stopping": {name: _plain(getattr(stopping, name)) for name in _EARLY_STOPPING},
        "plateau": {name: _plain(getattr(training.plateau, name)) for name in _PLATEAU} if training.plateau else None,
    }
    return state_after(epochs, _variables(training.model), best, history, values)


def state_after(
    epochs: int,
    variables: Mapping[str, Sequence[Any]],
    best: Sequence[npt.NDArray[Any]],
    history: Mapping[str, list[float]],
    values: Mapping[str, Any],
) -> TrainingState:
    """Return the state of a training whose variables are known, with that of the generators.

    Args:
        epochs: how many are done.
        variables: all that the next epoch depends on, by place.
        best: the weights of the best epoch.
        history: the curves so far.
        values: what else there is to keep, as JSON.
    """
    arrays = {
        f"{place}/{number}": value_of(variable)
        for place, of_place in variables.items()
        for number, variable in enumerate(of_place)
    }
    arrays |= {f"best/{number}": np.asarray(value) for number, value in enumerate(best)}
    kind, keys, *rest = np.random.get_state()  # the global generator, which layers and libraries may draw from
    arrays["numpy"] = np.asarray(keys)
    generators = {"python": random.getstate(), "numpy": [str(kind), *(_plain(part) for part in rest)]}
    curves = {name: list(curve) for name, curve in history.items()}
    return TrainingState(epochs, arrays, {**values, **generators, "history": curves})


def restore_variables(variables: Mapping[str, Sequence[Any]], state: TrainingState) -> None:
    """Give variables the values that they had in a state, by place.

    Raises:
        StateMismatch: the state is one of another model; nothing is changed.
    """
    for place, of_place in variables.items():
        values = numbered(state, place)
        if len(of_place) != len(values):
            raise StateMismatch(f"the state has {len(values)} variables of the {place}, the model {len(of_place)}")
        for variable, value in zip(of_place, values, strict=True):
            if tuple(variable.shape) != value.shape:
                raise StateMismatch(
                    f"the state has shape {value.shape} where {variable.path} has {tuple(variable.shape)}"
                )
    for place, of_place in variables.items():
        for variable, value in zip(of_place, numbered(state, place), strict=True):
            variable.assign(value)


def restore_generators(state: TrainingState) -> None:
    """Put Python's and NumPy's generators into a state."""
    version, internal, gauss = state.values["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, *rest = state.values["numpy"]
    np.random.set_state((kind, state.arrays["numpy"], *rest))


class Resume(keras.callbacks.Callback):
    """Put a training into a captured state: variables at once, callbacks when `fit` has reset them.

    It comes after early stopping and the plateau.

    Args:
        training: of a model built as the captured one was.
        state: what was captured.

    Raises:
        StateMismatch: the state is one of another model.
    """

    def __init__(self, training: Training, state: TrainingState) -> None:
        super().__init__()
        self._training = training
        self._state = state
        if not training.model.optimizer.built:
            training.model.optimizer.build(training.model.trainable_variables)
        restore_variables(_variables(training.model), state)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        values, stopping, plateau = self._state.values, self._training.early_stopping, self._training.plateau
        for name, value in values["early_stopping"].items():
            setattr(stopping, name, value)
        best = numbered(self._state, "best")
        if best:
            model = self._training.model
            best.insert(_place_of_class_weights(model), value_of(model.class_weights))
        stopping.best_weights = best or None
        if plateau is not None and values["plateau"] is not None:
            for name, value in values["plateau"].items():
                setattr(plateau, name, value)
        restore_generators(self._state)


class StateKeeper(Protocol):
    """Decides when a training's state is captured, and keeps it."""

    def due(self, epochs: int) -> bool:
        """Return whether the state after so many epochs is wanted."""

    def keep(self, state: TrainingState) -> None:
        """Keep a state; what it raises ends the training."""


class Checkpointing(keras.callbacks.Callback):
    """Hand a training's state to its keeper at the end of each epoch in which it is due.

    It comes last of all: a state kept before an epoch is reported would leave the report out for good.

    Args:
        training: what runs.
        keeper: who wants its state.
        history: the curves before this call.
    """

    def __init__(self, training: Training, keeper: StateKeeper, history: Mapping[str, list[float]]) -> None:
        super().__init__()
        self._training = training
        self._keeper = keeper
        self._history = {name: list(curve) for name, curve in history.items()}

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        for name, value in (logs or {}).items():
            self._history.setdefault(name, []).append(float(value))
        # After early stopping nothing is left to continue.
        if not self.model.stop_training and self._keeper.due(epoch + 1):
            self._keeper.keep(capture(self._training, epoch + 1, self._history))


def _variables(model: TrainingModel) -> dict[str, list[Any]]:
    # `variables` has, besides the weights, the seeds of dropout and augmentation; `weights` and `.weights.h5` do not.
    # The metrics are begun anew with each epoch, and the weights of classes follow from the data: earlier versions had
    # none, and their states go on.
    others = [*model.metrics_variables, *model.optimizer.variables, model.class_weights]
    known = {id(variable) for variable in others}
    own = [one for one in model.variables if id(one) not in known]
    places = {"model": own, "optimizer": list(model.optimizer.variables)}
    return places if model.averages is None else places | {"averages": model.averages.state}


def _place_of_class_weights(model: TrainingModel) -> int:
    """Return where Keras's `get_weights` and `set_weights` have them."""
    return [id(variable) for variable in model.weights].index(id(model.class_weights))


def numbered(state: TrainingState, place: str) -> list[npt.NDArray[Any]]:
    """Return a state's arrays of a place, in order."""
    count = sum(name.startswith(f"{place}/") for name in state.arrays)
    return [state.arrays[f"{place}/{number}"] for number in range(count)]


def value_of(variable: Any) -> npt.NDArray[Any]:
    """Return what a variable has now."""
    return np.array(keras.ops.convert_to_numpy(variable.value))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, (np.generic, np.ndarray)) else value
