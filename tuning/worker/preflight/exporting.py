"""Whether what a trial saves gives its model again, in a fresh process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from models.backend import on_accelerator
from models.classifier import Inputs
from storage.errors import first_sentence
from tuning.building import WEIGHTS, Building, copy_code
from tuning.tasks import TOLERATED_PROBABILITY, CompareTask, Failed, Judge
from tuning.worker.endings import failure_of

# What a saved model says is compared on so many images.
COMPARED_IMAGES = 8

# The fresh process computes on the CPU: the device is the workers'.
ON_CPU = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}

MEND = (
    "Put layers in place of what is not Keras's own (of a Lambda, say), or have the file build the same model each time"
    " from its parameters alone, with nothing of its folder but modules that it imports."
)


class NotExportable(Exception):
    """Neither Keras's own file nor weights with the user's file give the model again.

    Attributes:
        whole: why the file does not.
        built: why the weights do not.
    """

    def __init__(self, whole: str, built: str) -> None:
        super().__init__(f"{whole}; {built}")
        self.whole = whole
        self.built = built


def why_not_whole(classifier: keras.Model, judge: Judge, file: Path, inputs: Inputs, building: Building) -> str | None:
    """Return why a trial's model is no file that Keras loads by itself; None if it is.

    Args:
        classifier: raw pixels to probabilities, as a trial saves it.
        judge: not yet asked.
        file: the user's, which makes such a model.
        inputs: what it is told of its data.
        building: what it makes this one of.

    Raises:
        NotExportable: the file and the weights do not give it either.
    """
    images = _compared_images(inputs)
    probabilities = np.asarray(classifier.predict_on_batch(images))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "said.npz", images=images, probabilities=probabilities)
        try:
            classifier.save(folder / "model.keras")
        except Exception as error:  # Keras raises what it likes
            whole: str | None = f"Keras cannot save the model as one file ({_reason(error)})"
        else:
            answer = _answer(judge, folder / "model.keras", None)
            whole = answer and f"Keras cannot load the saved model where your file is unknown ({answer})"
        if whole is None:
            return None
        try:
            classifier.save_weights(folder / WEIGHTS)
            copy_code(file, folder)
        except Exception as error:  # likewise
            raise NotExportable(whole, f"its weights cannot be saved ({_reason(error)})") from error
        with Judge(ON_CPU) as another:
            built = _answer(another, folder / WEIGHTS, building)
        if built is not None:
            raise NotExportable(whole, f"a copy of your file does not build it again for its weights ({built})")
        return whole


def _compared_images(inputs: Inputs) -> npt.NDArray[Any]:
    """Noise of full contrast, and each time of half as much: of what saturates a softmax, no difference is seen."""
    random, shape = np.random.default_rng(0), (COMPARED_IMAGES, *inputs.shape)
    mean, contrast = np.asarray(inputs.mean), 0.5 ** np.arange(COMPARED_IMAGES).reshape(-1, *(1 for _ in inputs.shape))
    pixels = inputs.dtype == "uint8"
    noise = random.integers(0, 256, shape) - mean if pixels else random.normal(size=shape) * inputs.std
    images = mean + contrast * noise
    return (np.rint(images) if pixels else images).astype(inputs.dtype)


def _answer(judge: Judge, model: Path, building: Building | None) -> str | None:
    """Return what is wrong with a saved model; None if it says what the model said."""
    task = CompareTask(do="compare", model=str(model), building=building, said=str(model.parent / "said.npz"))
    answer = next(judge.ask(task), Failed(error="no answer"))
    exact = keras.config.dtype_policy().name == "float32" and not on_accelerator()
    if "error" in answer:
        return first_sentence(str(answer["error"]))
    if "difference" in answer and answer["difference"] <= TOLERATED_PROBABILITY["float32" if exact else "mixed"]:
        return None
    return f"loaded, it says other probabilities than before it was saved, {answer}"


def _reason(error: Exception) -> str:
    return first_sentence(failure_of(error)[1])
