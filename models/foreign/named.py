"""What a user named: a function that builds a model, a hypermodel of KerasTuner's, or the class of one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
import keras_tuner

from models.classifier import Inputs, UnusableModel

_SHAPES = ("input_shape", "shape", "img_shape", "image_shape")
_CLASSES = ("classes", "num_classes", "n_classes", "nb_classes")


class NamedHypermodel:
    """A hypermodel as its author wrote it.

    Args:
        found: what the name means.
        name: the name, for people.
        inputs: what the data look like; a class that takes their shape or the number of classes is told.

    Attributes:
        fits: whether it has a `fit` of its own.

    Raises:
        UnusableModel: it is none.
    """

    def __init__(self, found: Any, name: str, inputs: Inputs) -> None:
        require_hypermodel(found, name)
        self._name = name
        self._hypermodel = _instance(found, name, inputs) if isinstance(found, type) else found
        own = getattr(type(self._hypermodel), "fit", None)
        self.fits = own is not None and own is not keras_tuner.HyperModel.fit

    def build(self, hp: Any) -> keras.Model:
        """Return the model of `hp`.

        Raises:
            UnusableModel: it is none of Keras's.
        """
        if isinstance(self._hypermodel, keras_tuner.HyperModel):
            self._hypermodel.declare_hyperparameters(hp)
        build = self._hypermodel.build if hasattr(self._hypermodel, "build") else self._hypermodel
        model = build(hp) if _takes_parameters(build) else build()
        if not isinstance(model, keras.Model):
            raise UnusableModel(f"{self._name} must return a keras.Model. Received: {type(model).__name__}")
        return model

    def fit(self, hp: Any, model: keras.Model, x: Any, y: Any, began: Callable[[], bool], **given: Any) -> Any:
        """Call the hypermodel's own `fit`, with what of `given` it takes; return what it returns.

        Args:
            hp: the hyperparameters.
            model: what `build` returned.
            x: the training data.
            y: their labels.
            began: whether the training has begun.
            given: as `Tuner.search` passes it on.
        """
        fit = self._hypermodel.fit
        parameters = inspect.signature(fit).parameters
        if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
            given = {name: value for name, value in given.items() if name in parameters}
        while True:
            try:
                return fit(hp, model, x, y, **given)
            except TypeError as error:
                # `model.fit(*args, epochs=hp.Int(...), **kwargs)`: what it says itself is not said to it.
                twice = re.search(r"multiple values for keyword argument '(\w+)'", str(error))
                if twice is None or twice[1] not in given or began():
                    raise
                given = {name: value for name, value in given.items() if name != twice[1]}


def require_hypermodel(found: Any, name: str) -> None:
    """Refuse what builds no model.

    Raises:
        UnusableModel: it is neither a function nor a hypermodel of KerasTuner's nor the class of one.
    """
    if isinstance(found, keras_tuner.HyperModel) or (
        isinstance(found, type) and issubclass(found, keras_tuner.HyperModel)
    ):
        return
    if isinstance(found, (type, keras.Model)) or not callable(found):
        what = f"the class {found.__name__}" if isinstance(found, type) else repr(found)
        raise UnusableModel(
            f"{name} must be a function build(hp) that returns a keras.Model, a keras_tuner.HyperModel or a class of"
            f" one, or a class derived from models.classifier.ImageClassifier. Received: {what}"
        )


def _instance(found: type, name: str, inputs: Inputs) -> Any:
    told: Mapping[str, Any] = dict.fromkeys(_SHAPES, inputs.shape) | dict.fromkeys(_CLASSES, inputs.classes)
    parameters = inspect.signature(found).parameters
    more = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    wanted = [one.name for one in parameters.values() if one.default is one.empty and one.kind not in more]
    missing = [one for one in wanted if one not in told]
    if missing:
        raise UnusableModel(
            f"{name} is a class that needs {', '.join(missing)}, which nobody knows here. Make an instance in the file,"
            f" hypermodel = {name}({missing[0]}=...), and name that"
        )
    return found(**{one: told[one] for one in parameters if one in told})


def _takes_parameters(build: Callable[..., Any]) -> bool:
    try:
        return bool(inspect.signature(build).parameters)
    except (TypeError, ValueError):
        return True
