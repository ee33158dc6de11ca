"""What a model takes and gives: told from its input, its output and its loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from models.classifier import Inputs, UnusableModel

Labels = Literal["integers", "one-hot", "one unit"]

# Whether what a function gives are logits.
_ACTIVATIONS = {"softmax": False, "sigmoid": False, "linear": True, "log_softmax": True}


@dataclass(frozen=True)
class Form:
    """What a model is given, and what it gives.

    Attributes:
        shape: of an example.
        dtype: of its numbers: whole ones where the model takes such, else float32.
        labels: `integers` `(batch,)`; `one-hot` `(batch, classes)`; of two classes also `one unit`, `(batch, 1)`, which
            is 0 or 1.
        logits: whether its outputs are logits rather than probabilities.
    """

    shape: tuple[int, ...]
    dtype: str
    labels: Labels
    logits: bool

    def in_words(self, inputs: Inputs) -> str:
        """Return how data are given, in one line, for the author of the model."""
        numbers = f"{self.dtype} from 0 to 255, as keras.datasets has them," if inputs.are_pictures else self.dtype
        given = {"integers": "integers", "one-hot": "one-hot vectors", "one unit": "0 and 1"}[self.labels]
        return f"given {numbers} of the shape {self.shape}, and the labels as {given}"


def form_of(model: keras.Model, inputs: Inputs) -> Form:
    """Return what a model takes and gives; one that is not built yet is built.

    Args:
        model: compiled or not.
        inputs: what the data look like.

    Raises:
        UnusableModel: it does not take these data, or its output is none for their classes.
    """
    shape, dtype, outputs = _built(model, inputs)
    if len(outputs) != 1:
        raise UnusableModel(
            f"the model must give one vector for each example. Received: the shape {outputs}. End it with"
            " layers.Flatten() or a pooling layer, and layers.Dense(classes)."
        )
    labels = _labels(model, outputs[0], inputs.classes)
    return Form(shape, dtype, labels, _gives_logits(model, labels, shape, dtype))


def _built(model: keras.Model, inputs: Inputs) -> tuple[tuple[int, ...], str, tuple[int, ...]]:
    """The shape and the type of an example, and the shape of an output, without the batch."""
    taken = getattr(model, "inputs", None)
    if taken:
        if len(taken) > 1 or len(model.outputs) > 1:
            raise UnusableModel(
                f"the model must have one input and one output. Received: {len(taken)} and {len(model.outputs)}."
            )
        dtype = keras.backend.standardize_dtype(taken[0].dtype)
        shape = _fitting(tuple(taken[0].shape[1:]), inputs)
        return shape, dtype if "int" in dtype else "float32", tuple(model.outputs[0].shape[1:])
    first: Exception | None = None
    for shape in _shapes(inputs)[:2]:
        try:
            outputs = model(np.zeros((1, *shape), np.float32))
        except Exception as error:  # the user's code raises what it likes
            first = first or error
        else:
            if not hasattr(outputs, "shape"):
                raise UnusableModel(f"the model must give one tensor. Received: {type(outputs).__name__}.")
            return shape, "float32", tuple(outputs.shape[1:])
    assert first is not None
    raise first


def _shapes(inputs: Inputs) -> list[tuple[int, ...]]:
    """The shapes that an example is given in: its own, without a channel that is the only one, and flat."""
    grey = [inputs.shape[:-1]] if len(inputs.shape) > 1 and inputs.shape[-1] == 1 else []
    return [inputs.shape, *grey, (math.prod(inputs.shape),)]


def _fitting(taken: tuple[int | None, ...], inputs: Inputs) -> tuple[int, ...]:
    for shape in _shapes(inputs):
        if len(shape) == len(taken) and all(one in (None, size) for one, size in zip(taken, shape, strict=True)):
            return shape
    raise UnusableModel(f"the model takes {taken}, and an example of the data is {inputs.shape}")


def _labels(model: keras.Model, outputs: int, classes: int) -> Labels:
    given = _only(getattr(model, "loss", None))
    loss = _name_of(given)
    if outputs == 1:
        if classes != 2:
            raise UnusableModel(f"the model gives one number for each example, and the data have {classes} classes")
        return "one unit"
    if outputs != classes:
        raise UnusableModel(f"the model gives {outputs} numbers for each example, and the data have {classes} classes")
    if "sparse" in loss or loss in ("", "categoricalgeneralizedcrossentropy"):
        return "integers"
    # A function of the user's own says by its metrics what it is given, or is given what `keras.datasets` has.
    if _is_kerass(given):
        return "one-hot"
    names = [_name_of(metric) for metric in _metrics_given(model)]
    wants = any(name.startswith(("categorical", "f1", "fbeta", "auc", "precision", "recall")) for name in names)
    return "one-hot" if wants or "categorical" in loss or "onehot" in loss else "integers"


def _only(loss: Any) -> Any:
    """What is given of a loss for each output, where there is one: a model may have it in a list, or by a name."""
    parts = list(loss.values()) if isinstance(loss, dict) else loss
    return parts[0] if isinstance(parts, (list, tuple)) and len(parts) == 1 else loss


def _metrics_given(model: keras.Model) -> list[Any]:
    compiled = getattr(model, "_compile_metrics", None)
    given = [getattr(compiled, name, None) for name in ("_user_metrics", "_user_weighted_metrics")]
    return [metric for metric in keras.tree.flatten(given) if metric is not None]


def _is_kerass(loss: Any) -> bool:
    if isinstance(loss, str):
        return True
    return str(getattr(loss, "__module__", type(loss).__module__)).startswith("keras.")


def _name_of(part: Any) -> str:
    """What a loss or a metric is, in small letters without what parts words."""
    if part is None:
        return ""
    name = part if isinstance(part, str) else getattr(part, "__name__", None) or type(part).__name__
    if name in ("LossFunctionWrapper", "MeanMetricWrapper"):
        name = getattr(part, "name", name)
    return str(name).lower().replace("_", "").replace(" ", "")


def _gives_logits(model: keras.Model, labels: Labels, shape: tuple[int, ...], dtype: str) -> bool:
    loss = _only(getattr(model, "loss", None))
    if getattr(loss, "from_logits", getattr(loss, "_fn_kwargs", {}).get("from_logits", False)):
        return True
    known = _ACTIVATIONS.get(_last_activation(model) or "")
    if known is not None:
        return known
    # A class of its own says nothing of its last layer, a function of another name neither: what it gives is looked at.
    noise = np.random.default_rng(0).integers(0, 256, (8, *shape)).astype(dtype)
    given = np.asarray(keras.ops.convert_to_numpy(model(noise, training=False)), np.float64)
    if labels == "one unit":
        return bool(given.min() < 0.0 or given.max() > 1.0)
    return bool(given.min() < 0.0 or np.abs(given.sum(axis=-1) - 1.0).max() > 1e-2)


def _last_activation(model: keras.Model) -> str | None:
    """The name of the function that gives the outputs; None where the graph does not say."""
    if not getattr(model, "outputs", None):
        return None
    layer = model.outputs[0]._keras_history.operation
    if getattr(layer, "outputs", None) and hasattr(layer, "layers"):
        return _last_activation(layer)
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    function = getattr(layer, "activation", None)
    if function is not None:
        return str(getattr(function, "__name__", function))
    return {"Softmax": "softmax", "Sigmoid": "sigmoid"}.get(type(layer).__name__)
