"""What is asked of the backend and its accelerator, where there is none: the other tests see no GPU."""

from __future__ import annotations

import keras
import pytest

from models.backend import backend_name, device_peak_bytes, on_accelerator, set_defaults, set_precision
from storage.errors import BadInput
from tuning.machine.devices import CPU
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
