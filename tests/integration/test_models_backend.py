"""What is asked of the backend and its accelerator, where there is none: the other tests see no GPU."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import pytest

from models.backend import (
    backend_name,
    device_peak_bytes,
    on_accelerator,
    set_defaults,
    set_precision,
    why_not_compiled,
)
from storage.errors import BadInput
from tuning.machine.devices import CPU, Device, place_worker
from tuning.worker.joining import require_accelerator

pytestmark = pytest.mark.keras


def test_without_an_accelerator_nobody_counts_its_memory() -> None:
    assert not on_accelerator()
    assert device_peak_bytes() is None


def test_a_backend_without_steps_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(NotImplementedError, match="KERAS_BACKEND=torch: models train on tensorflow or jax"):
        backend_name()


def test_what_a_keras_json_says_is_set_back() -> None:
    keras.config.set_floatx("float16")
    keras.config.set_epsilon(0.1)
    keras.config.set_image_data_format("channels_first")
    set_defaults()
    assert (keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format()) == (
        "float32", 1e-7, "channels_last",
    )  # fmt: skip


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="mixed_bfloat16"):
        set_precision("int4")


def test_a_worker_that_was_given_a_gpu_which_its_framework_does_not_see_refuses_with_the_cure() -> None:
    require_accelerator(CPU)
    with pytest.raises(BadInput, match=r"sees no accelerator in a process that was given NVIDIA H200: .* Or set"):
        require_accelerator("NVIDIA H200")


@pytest.fixture
def accelerated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.backend.on_accelerator", lambda: True)
    monkeypatch.setattr("models.backend.backend_name", lambda: "tensorflow")


def compiled(*between: keras.Layer, jit_compile: bool | str = "auto") -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), *between, keras.layers.Dense(2)])
    model.compile(loss="mse", jit_compile=jit_compile)
    return model


class Unfit(keras.layers.Layer):
    """A layer that XLA cannot compile, by its own account."""

    def __init__(self) -> None:
        super().__init__()
        self.supports_jit = False


def test_it_is_told_why_a_model_on_a_gpu_is_not_compiled(accelerated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not_compiled(compiled(jit_compile=True)) is None
    assert why_not_compiled(compiled(Unfit())) == "XLA cannot compile its Unfit"
    assert why_not_compiled(compiled(jit_compile=False)) == "it was compiled with jit_compile=False"
    monkeypatch.setenv("TF_DETERMINISTIC_OPS", "1")
    assert why_not_compiled(compiled(jit_compile=False)) == (
        "TF_DETERMINISTIC_OPS is set, with which Keras compiles nothing; unset it"
    )


def test_on_the_cores_no_model_need_be_compiled() -> None:
    assert why_not_compiled(compiled(jit_compile=False)) is None


@pytest.mark.skipif(backend_name() != "tensorflow", reason="JAX compiles always")
def test_the_environment_of_a_gpu_worker_leaves_xla_to_keras() -> None:
    place = place_worker(Device("gpu", "-1", "NVIDIA H200", 1, (9, 0)), 1, {})
    ask = (
        "import keras; from keras.src.trainers.trainer import model_supports_jit as supports;"
        "print(supports(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])))"
    )
    environment = {**os.environ, **place.environment}
    answer = subprocess.run(
        [sys.executable, "-P", "-c", ask], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["True"]
