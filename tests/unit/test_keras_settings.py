"""A study does not depend on what a user has set for Keras elsewhere."""

from __future__ import annotations

import pytest

from storage.errors import BadInput
from tuning.keras_settings import require_backend, settle_keras


def test_only_the_environment_chooses_the_backend_and_nothing_caps_a_training() -> None:
    environ = {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "x", "KERAS_NNX_ENABLED": "true", "HOME": "/me"}
    settle_keras(environ)
    assert environ == {"HOME": "/me", "KERAS_BACKEND": "tensorflow", "KERAS_NNX_ENABLED": "false"}
    for given, used in (("", "tensorflow"), ("jax", "jax"), ("torch", "torch")):
        environ["KERAS_BACKEND"] = given
        settle_keras(environ)
        assert environ["KERAS_BACKEND"] == used


def test_a_backend_without_training_is_refused_by_name() -> None:
    require_backend({"KERAS_BACKEND": "jax"})
    with pytest.raises(BadInput, match=r"KERAS_BACKEND=torch: models train on tensorflow or jax. Set one of these"):
        require_backend({"KERAS_BACKEND": "torch"})
