"""Whether an operation of a network is all that its configuration says: what cannot be compared by value is not.

Keras saves a function by its name, so a closure, a partial, a bound method or a callable object looks the same whatever
it holds, and a function of the user's called `relu` like Keras's own.
"""

from __future__ import annotations

import inspect
import operator
import sys
from types import FunctionType, MethodType, ModuleType
from typing import Any

import keras
from keras import layers

_PLAIN = (type(None), bool, int, float, complex, str, bytes, keras.KerasTensor, ModuleType, inspect.Signature)
_CONTAINERS = (list, tuple, set, frozenset)

# They carry code or a network of their own.
_CARRIERS = (layers.Lambda, layers.Wrapper, layers.RNN, keras.Model)


def is_by_value(operation: Any) -> bool:
    """Return whether two operations of the same configuration compute the same: Keras's own, with Keras's own inside.

    Not one that was adapted to data: what it learnt of them is in its graph, not in its configuration.
    """
    if not _is_keras(type(operation).__module__) or isinstance(operation, _CARRIERS) or _is_adapted(operation):
        return False
    internal = set(vars(layers.Layer())) - {"activity_regularizer", "_inbound_nodes"}
    seen: dict[int, Any] = {}
    waiting = [operation]
    while waiting:
        value = waiting.pop()
        if isinstance(value, _PLAIN) or id(value) in seen or keras.ops.is_tensor(value):
            continue
        seen[id(value)] = value
        inside = _inside(value, internal)
        if inside is None:
            return False
        waiting += inside
    return True


def _inside(value: Any, internal: set[str]) -> list[Any] | None:
    """What else must be looked at; None if the value is not Keras's own."""
    if isinstance(value, keras.Variable):
        return [value.regularizer, value.constraint]
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, _CONTAINERS):
        return list(value)
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, (FunctionType, type)):
        return [] if _is_keras_own(value) else None
    if not _is_keras(type(value).__module__):
        return [] if type(value).__module__ == "numpy" else None
    # What every layer has of itself says nothing; what begins with `_self_` is TensorFlow's bookkeeping.
    own = isinstance(value, keras.Operation)
    return [
        attribute
        for name, attribute in getattr(value, "__dict__", {}).items()
        if not (own and name in internal) and not name.startswith("_self_")
    ]


def _is_keras(module: str) -> bool:
    return module.startswith("keras.")


def _is_keras_own(value: Any) -> bool:
    """Whether a function or class can be found under its own name in Keras; a closure cannot."""
    # Not `__module__`, which `functools.wraps` copies.
    module = value.__globals__["__name__"] if isinstance(value, FunctionType) else value.__module__
    if not _is_keras(module):
        return isinstance(value, type) and module in ("builtins", "numpy")
    try:
        return operator.attrgetter(value.__qualname__)(sys.modules[module]) is value
    except (AttributeError, KeyError):
        return False


def _is_adapted(layer: Any) -> bool:
    given = isinstance(layer, layers.Normalization) and layer.input_mean is not None
    return hasattr(layer, "adapt") and not given
