"""Averaged weights: the exponential moving average of what a training goes through, judged and kept in its place.

Keras's optimizers can average (`use_ema`), but only what is trained: the moving statistics of batch normalisation would
stay those of the last weights, whose layers see other values than those of the average. Here all of a network's weights
are averaged alike, statistics included. That is no estimate of what the averaged network sees, but it is the mean of
what the networks in the average saw, follows them at the same pace, and costs no pass over the data. The decay is a
value: another one needs no new trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops


class AveragedWeights:
    """The averages of some variables, over the steps of a training.

    After step t an average moves towards its variable by 1 - min(decay, (1 + t) / (10 + t)): in the beginning it
    forgets faster, or it would long be near the weights as they were drawn.

    Args:
        variables: of the network; those that hold no fractions are left as they are.

    Attributes:
        state: all that the next step depends on: the decay, the number of steps, the averages.
    """

    def __init__(self, variables: Sequence[Any]) -> None:
        self._of = [one for one in variables if keras.backend.is_float_dtype(one.dtype)]
        self._decay = _variable(0.0, "decay")
        self._steps = _variable(0.0, "averaged_steps")
        self._averages = [_variable(ops.copy(one.value), "average") for one in self._of]
        self.state = [self._decay, self._steps, *self._averages]

    def begin(self, decay: float) -> None:
        """Begin anew with the variables as they are.

        Args:
            decay: share of an average that a step leaves in it, from 0 to below 1.
        """
        self._decay.assign(decay)
        self._steps.assign(0.0)
        for average, variable in zip(self._averages, self._of, strict=True):
            average.assign(ops.copy(variable.value))  # one array in two places could not be given to a JAX step

    def step(self) -> None:
        """Take in the variables as a step left them; in a graph or out of it."""
        values = self.after_step([one.value for one in self.state], {id(one): one.value for one in self._of})
        for variable, value in zip(self.state, values, strict=True):
            variable.assign(value)

    def after_step(self, state: Sequence[Any], values: dict[int, Any]) -> list[Any]:
        """Return what `state` is after a step.

        Args:
            state: the values of `self.state`.
            values: of the variables after the step, by the variables' ids; others may be among them.
        """
        decay, steps, *averages = state
        steps = steps + 1.0
        share = 1.0 - ops.minimum(decay, (1.0 + steps) / (10.0 + steps))
        # Written as a difference: what does not change is exactly its average.
        moved = [
            average + share * (ops.cast(values[id(variable)], "float32") - average)
            for average, variable in zip(averages, self._of, strict=True)
        ]
        return [decay, steps, *moved]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the averages in the variables' place while this lasts."""
        raw = [ops.copy(one.value) for one in self._of]
        for average, variable in zip(self._averages, self._of, strict=True):
            variable.assign(average.value)
        try:
            yield
        finally:
            for value, variable in zip(raw, self._of, strict=True):
                variable.assign(value)


def _variable(value: Any, name: str) -> Any:
    return keras.Variable(value, trainable=False, dtype="float32", name=name)
