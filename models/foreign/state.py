"""The whole state of a training that Keras's `fit` runs, between two epochs: captured and restored."""

from __future__ import annotations

import gc
from typing import Any

import keras

from models.foreign.generators import keras_own
from models.foreign.optimizers import inner_optimizers, optimizers_of
from models.foreign.reporting import Best, Curves
from models.training.state import (
    StateMismatch,
    TrainingState,
    numbered,
    restore_generators,
    restore_variables,
    state_after,
)

HIDDEN_OPTIMIZER = (
    "an optimizer that trains the model is no attribute of it, which nobody can put back, so what is interrupted begins"
    " anew"
)

_KERAS_OWN = "generator"


def why_not_kept(model: keras.Model) -> str | None:
    """Return why a training's state could not be kept whole, for people; None where it can. Asked after a step."""
    known = {id(part) for optimizer in optimizers_of(model).values() for part in inner_optimizers(optimizer)}
    own = {id(variable) for variable in model.trainable_variables}
    for found in gc.get_objects():
        # Not `isinstance`, which asks objects that answer by themselves.
        if not issubclass(type(found), keras.optimizers.Optimizer):
            continue
        trained = {id(variable) for variable in found._trainable_variables}
        if not trained <= own if id(found) in known else trained & own:
            return HIDDEN_OPTIMIZER
    return None


def capture(model: keras.Model, epochs: int, best: Best, history: Curves) -> TrainingState:
    """Return the state of a training after so many epochs, of which `why_not_kept` says nothing."""
    values = {"best": [best.epoch, best.value, best.waited], "optimizers": _trained_by(model)}
    return state_after(epochs, _variables(model) | {_KERAS_OWN: keras_own()}, best.weights, history, values)


def restore(model: keras.Model, state: TrainingState) -> tuple[Best, Curves]:
    """Put a model, built as the captured one was, into a state; return the best epoch and the curves so far.

    Raises:
        StateMismatch: the state is one of another model.
    """
    optimizers, trained = optimizers_of(model), model.trainable_variables
    # Earlier versions did not say which variables an optimizer is of: they knew of none that was not of all.
    trained_by = state.values.get("optimizers", {place: list(range(len(trained))) for place in optimizers})
    if optimizers.keys() != trained_by.keys():
        raise StateMismatch(
            f"the state has the optimizers {', '.join(trained_by)}, the model has {', '.join(optimizers)}"
        )
    for place, optimizer in optimizers.items():
        if trained_by[place] is not None and not optimizer.built:
            optimizer.build([trained[number] for number in trained_by[place]])
    drawn = {_KERAS_OWN: keras_own(make=True)} if numbered(state, _KERAS_OWN) else {}
    restore_variables(_variables(model) | drawn, state)
    restore_generators(state)
    epoch, value, waited = state.values["best"]
    return Best(epoch, value, numbered(state, "best"), waited), state.history


def _trained_by(model: keras.Model) -> dict[str, list[int] | None]:
    """Which variables each optimizer trains, by their numbers; None where it has trained none."""
    numbers = {id(variable): number for number, variable in enumerate(model.trainable_variables)}

    def trained_by(optimizer: Any) -> list[int] | None:
        *_, last = inner_optimizers(optimizer)
        return [numbers[id(variable)] for variable in last._trainable_variables] if last.built else None

    return {place: trained_by(optimizer) for place, optimizer in optimizers_of(model).items()}


def _variables(model: keras.Model) -> dict[str, list[Any]]:
    optimizers = [variable for optimizer in optimizers_of(model).values() for variable in optimizer.variables]
    known = {id(variable) for variable in (*model.metrics_variables, *optimizers)}
    # `variables` has the seeds of dropout and augmentation besides the weights.
    return {"model": [one for one in model.variables if id(one) not in known], "optimizer": optimizers}
