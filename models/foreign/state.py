"""The whole state of a training that Keras's `fit` runs, between two epochs: captured and put back."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from models.foreign.hearing import Best, Curves
from models.training.state import StateMismatch, TrainingState


def capture(model: keras.Model, epochs: int, best: Best, history: Curves) -> TrainingState:
    """Return the state of a training after so many epochs."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for place, variables in _variables(model).items():
        arrays |= {f"{place}/{number}": _value(variable) for number, variable in enumerate(variables)}
    arrays |= {f"best/{number}": np.asarray(value) for number, value in enumerate(best.weights)}
    kind, keys, *rest = np.random.get_state()  # the global generator, which layers may draw from
    arrays["numpy"] = np.asarray(keys)
    values = {
        "best": [best.epoch, best.value, best.waited],
        "python": random.getstate(),
        "numpy": [str(kind), *(part.item() if isinstance(part, np.generic) else part for part in rest)],
        "history": {name: list(curve) for name, curve in history.items()},
    }
    return TrainingState(epochs, arrays, values)


def put_back(model: keras.Model, state: TrainingState) -> tuple[Best, Curves]:
    """Put a model, built as the captured one was, into a state; return the best epoch and the curves so far.

    Raises:
        StateMismatch: the state is one of another model.
    """
    for optimizer in _optimizers(model):
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
    for place, variables in _variables(model).items():
        _assign(variables, _numbered(state, place))
    version, internal, gauss = state.values["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, *rest = state.values["numpy"]
    np.random.set_state((kind, state.arrays["numpy"], *rest))
    epoch, value, waited = state.values["best"]
    return Best(epoch, value, _numbered(state, "best"), waited), state.history


def _optimizers(model: keras.Model) -> list[Any]:
    """The optimizer of a model, and those that a class of its own has besides."""
    others = [part for part in vars(model).values() if isinstance(part, keras.optimizers.Optimizer)]
    found = {id(one): one for one in (model.optimizer, *others) if one is not None}
    return list(found.values())


def _variables(model: keras.Model) -> dict[str, list[Any]]:
    optimizers = [variable for optimizer in _optimizers(model) for variable in optimizer.variables]
    known = {id(variable) for variable in (*model.metrics_variables, *optimizers)}
    # `variables` has the seeds of dropout and augmentation besides the weights.
    return {"model": [one for one in model.variables if id(one) not in known], "optimizer": optimizers}


def _assign(variables: list[Any], values: list[npt.NDArray[Any]]) -> None:
    found, wanted = [value.shape for value in values], [tuple(variable.shape) for variable in variables]
    if found != wanted:
        raise StateMismatch(f"the state has {len(found)} variables, the model has {len(wanted)}, or of other shapes")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _numbered(state: TrainingState, place: str) -> list[npt.NDArray[Any]]:
    count = sum(name.startswith(f"{place}/") for name in state.arrays)
    return [state.arrays[f"{place}/{number}"] for number in range(count)]


def _value(variable: Any) -> npt.NDArray[Any]:
    return np.array(keras.ops.convert_to_numpy(variable.value))
