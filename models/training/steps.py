"""The steps of a model on a backend, several in one call, so that Python is out of the step.

`fit` of Keras returns to Python after each step, which costs a small network on a CPU about as much as a third of the
step and on a GPU more than the step. Here a loop in the graph runs Keras's own `train_step`, so the arithmetic is
Keras's. Keras has no such loop: each backend has a class here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt

from models.backend import backend_name, on_accelerator


@dataclass(frozen=True)
class Batches:
    """The pictures of some steps, as arrays of NumPy or of the device.

    Attributes:
        images: `(m, ...)`, of the data's type.
        labels: `(m,)` int32.
        rows: `(steps * batch_size,)` int32, which of the `m` come, in order.
    """

    images: Any
    labels: Any
    rows: npt.NDArray[np.int32]


class StepsPerCall:
    """How many steps one call runs: enough that Python is out of the way, few enough that a worker hears its launcher.

    Args:
        most: steps in a call at most.
    """

    CALL_S = 0.25

    def __init__(self, most: int) -> None:
        self.most = most
        self.steps = 1

    def parts(self, steps: int) -> Iterator[range]:
        """Yield the steps, as many at a time as is right when their turn comes."""
        first = 0
        while first < steps:
            part = range(first, min(steps, first + self.steps))
            yield part
            first = part.stop

    def took(self, steps: int, seconds: float) -> None:
        """Take in how long a call took; it may have been a first one, which traces."""
        wanted = int(steps * self.CALL_S / max(seconds, 1e-6))
        self.steps = max(1, min(wanted, 4 * self.steps, self.most))


class Steps(Protocol):
    """Runs steps of one compiled model.

    Attributes:
        traces: how often a training step was traced.
        fixed_shapes: whether calls with other numbers of pictures would be compiled anew.
    """

    traces: int
    fixed_shapes: bool

    def train(self, batches: Batches, steps: int, batch_size: int) -> None:
        """Change the model by `steps` training steps on `batches`; its metrics go on."""

    def test(
        self, batches: Batches, weights: npt.NDArray[np.float32], steps: int, batch_size: int, *, heard: bool = False
    ) -> Any:
        """Update the model's metrics by `steps` of `batches`, whose pictures have these weights.

        Returns:
            Where it is to be `heard`, the logits `(at least steps * batch_size, classes)`, in order.
        """


def steps_of(model: keras.Model) -> Steps:
    """Return the steps of a compiled model on the backend in use.

    Raises:
        NotImplementedError: the backend is neither TensorFlow nor JAX.
    """
    return TensorFlowSteps(model) if backend_name() == "tensorflow" else JaxSteps(model)


class TensorFlowSteps:
    """Steps as a `tf.while_loop`; without XLA one trace serves all batch sizes."""

    def __init__(self, model: Any) -> None:
        import tensorflow

        self._tf = tensorflow
        self.traces = 0
        self.fixed_shapes = self._compiled = bool(model.jit_compile)
        # XLA wants constant shapes: there each batch size has a function of its own.
        self._functions: dict[tuple[str, int], Callable[..., Any]] = {}
        self._model = model

    def train(self, batches: Batches, steps: int, batch_size: int) -> None:
        self._run("train", batches, np.zeros(0, np.float32), steps, batch_size)

    def test(
        self, batches: Batches, weights: npt.NDArray[np.float32], steps: int, batch_size: int, *, heard: bool = False
    ) -> Any:
        return self._run("heard" if heard else "test", batches, weights, steps, batch_size)

    def _run(self, kind: str, batches: Batches, weights: npt.NDArray[np.float32], steps: int, batch_size: int) -> Any:
        key = kind, batch_size if self._compiled else 0
        if key not in self._functions:
            self._functions[key] = self._function(kind, batch_size if self._compiled else None, batches)
        size = self._tf.constant(batch_size)
        given = (batches.images, batches.labels, weights, batches.rows, self._tf.constant(steps), size)
        return self._functions[key](*given)

    def _function(self, kind: str, batch_size: int | None, batches: Batches) -> Callable[..., Any]:
        tf, model = self._tf, self._model

        def run(images: Any, labels: Any, weights: Any, rows: Any, steps: Any, size: Any) -> Any:
            self.traces += kind == "train"
            size = batch_size or size

            def step(number: Any, *said: Any) -> Any:
                at = tf.slice(rows, [number * size], [size])
                data = tf.gather(images, at), tf.gather(labels, at)
                if kind == "train":
                    model.train_step(data)
                    if model.averages is not None:
                        model.averages.step()
                else:
                    with _listening(model, kind == "heard") as heard:
                        model.test_step((*data, tf.slice(weights, [number * size], [size])))
                    said = tuple(all_.write(number, logits) for all_, logits in zip(said, heard, strict=True))
                return number + 1, *said

            # Of XLA's constant shapes: as many as the rows have room for.
            room = [tf.TensorArray("float32", tf.shape(rows)[0] // size)] if kind == "heard" else []
            found = tf.while_loop(
                lambda number, *_: number < steps, step, [tf.constant(0), *room], parallel_iterations=1
            )
            return tf.reshape(found[1].stack(), [-1, model.output_shape[-1]]) if room else None

        spec, number = tf.TensorSpec, tf.TensorSpec([], tf.int32)
        images = spec([None, *batches.images.shape[1:]], tf.as_dtype(batches.images.dtype))
        given = [images, spec([None], tf.int32), spec([None], tf.float32)]
        compiled = True if self._compiled else None
        signature = [*given, spec([None], tf.int32), number, number]
        function: Callable[..., Any] = tf.function(
            run, input_signature=signature, autograph=False, jit_compile=compiled
        )
        return function


class JaxSteps:
    """Steps as a `jax.lax.fori_loop` over the model's state; XLA compiles one for each batch size.

    On a CPU XLA runs the body of a loop in one thread and without its fast convolutions: there Python is the loop.
    """

    fixed_shapes = True

    def __init__(self, model: Any) -> None:
        import jax

        self.traces = 0
        self._model = model
        self._loops = on_accelerator()
        self._train = jax.jit(self._training, static_argnames="batch_size", donate_argnums=0)
        self._test = jax.jit(self._testing, static_argnames="batch_size")

    def train(self, batches: Batches, steps: int, batch_size: int) -> None:
        model = self._model
        places = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
        given = (batches.images, batches.labels, batches.rows)
        averages = () if model.averages is None else (model.averages.state,)
        self._run(self._train, (*places, model.metrics_variables, *averages), given, steps, batch_size)

    def test(
        self, batches: Batches, weights: npt.NDArray[np.float32], steps: int, batch_size: int, *, heard: bool = False
    ) -> Any:
        import jax.numpy as jnp

        model = self._model
        places = (model.trainable_variables, model.non_trainable_variables, model.metrics_variables)
        said = [jnp.zeros((len(batches.rows), model.output_shape[-1]))] if heard else None
        given = (batches.images, batches.labels, batches.rows, weights)
        return self._run(self._test, places, given, steps, batch_size, said)

    def _run(
        self,
        function: Callable[..., Any],
        places: tuple[list[Any], ...],
        given: tuple[Any, ...],
        steps: int,
        batch_size: int,
        said: list[Any] | None = None,
    ) -> Any:
        state = tuple([variable.value for variable in variables] for variables in places)
        state = state if said is None else (*state, said)
        calls = [(0, steps)] if self._loops else [(number, number + 1) for number in range(steps)]
        for first, end in calls:
            state = function(state, *given, first, end, batch_size=batch_size)
        for variables, values in zip(places, state, strict=said is None):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        return None if said is None else state[-1][0]

    def _training(
        self, state: Any, images: Any, labels: Any, rows: Any, first: Any, end: Any, *, batch_size: int
    ) -> Any:
        self.traces += 1

        def step(number: Any, state: Any) -> Any:
            at = _slice(rows, number, batch_size)
            *own, averages = state if self._model.averages is not None else (*state, None)
            _, places = self._model.train_step(tuple(own), (images[at], labels[at]))
            places = tuple(list(values) for values in places)
            return places if averages is None else (*places, self._averaged(averages, places))

        return self._repeat(step, first, end, state)

    def _averaged(self, averages: Any, places: Any) -> Any:
        variables = [*self._model.trainable_variables, *self._model.non_trainable_variables]
        values = zip(variables, [*places[0], *places[1]], strict=True)
        return self._model.averages.after_step(averages, {id(variable): value for variable, value in values})

    def _testing(
        self, state: Any, images: Any, labels: Any, rows: Any, weights: Any, first: Any, end: Any, *, batch_size: int
    ) -> Any:
        import jax

        def step(number: Any, state: Any) -> Any:
            at = _slice(rows, number, batch_size)
            data = (images[at], labels[at], _slice(weights, number, batch_size))
            *own, said = state if len(state) == 4 else (*state, None)
            with _listening(self._model, said is not None) as heard:
                _, places = self._model.test_step(tuple(own), data)
            places = tuple(list(values) for values in places)
            if said is None:
                return places
            return *places, [jax.lax.dynamic_update_slice(said[0], heard[0], (number * batch_size, 0))]

        return self._repeat(step, first, end, state)

    def _repeat(self, step: Callable[[Any, Any], Any], first: Any, end: Any, state: Any) -> Any:
        import jax

        return jax.lax.fori_loop(first, end, step, state) if self._loops else step(first, state)


@contextmanager
def _listening(model: Any, wanted: bool) -> Iterator[list[Any]]:
    """Yield what will have the logits of the steps that are judged meanwhile, where they are wanted."""
    heard: list[Any] = []
    model.heard = heard.append if wanted else None
    try:
        yield heard
    finally:
        model.heard = None


def _slice(values: Any, number: Any, size: int) -> Any:
    import jax

    return jax.lax.dynamic_slice(values, (number * size,), (size,))
