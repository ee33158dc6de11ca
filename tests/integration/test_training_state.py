"""A training that is interrupted and continued in another process is the one that was not, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.keras

ROOT = Path(__file__).resolve().parents[2]
# Each run in a process of its own: train the same small networks one after the other, each from a state if there is
# one, to a state if asked.
SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
from models.importing import importing_keras
with importing_keras():
    import keras_tuner
from models.backend import seed_generators
from models.classifier import Inputs
from models.cnn import CNN
from models.training.compiled import CompiledModels
from models.training.feeding import LabelledImages
from models.training.state import TrainingState

trainings, stop_at, resume, out = json.loads(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (300, 8, 8, 1), dtype=np.uint8)
labels = (images.mean((1, 2, 3)) > 127).astype(int)
training = LabelledImages(images, labels, np.arange(200))
validation = LabelledImages(images, labels, np.arange(200, 300))
inputs, models = Inputs((8, 8, 1), 2, (127.0,), (70.0,), False), CompiledModels()


class Stopped(Exception):
    pass


class Keeper:
    def __init__(self, file):
        self.file = file

    def due(self, epochs):
        return epochs == stop_at

    def keep(self, state):
        self.file.write_bytes(state.to_bytes())
        raise Stopped


for name, values in trainings:
    seed_generators(7)
    defaults = {"averaging": values.pop("averaging", 0.0)}
    classifier = CNN(
        inputs, extended=True, epochs=6, train_images=200, patience=3, models=models, defaults=defaults
    )
    hp = keras_tuner.HyperParameters()
    hp.values.update(values)
    model = classifier.build(hp)
    before = resume / f"{name}.state"
    state = TrainingState.from_bytes(before.read_bytes()) if before.is_file() else None
    keeper = Keeper(out / f"{name}.state")
    try:
        result = classifier.fit(hp, model, training, validation, seed=3, resume=state, keeper=keeper)
    except Stopped:
        continue
    np.savez(out / f"{name}.npz", *[np.asarray(weights) for weights in model.get_weights()])
    (out / f"{name}.json").write_text(json.dumps([result.history, result.best_epoch, result.value]))
"""

VALUES = {
    "batch_size": 32,
    "learning_rate": 0.01,
    "dropout": 0.3,
    "augmentation": 0.5,
    "label_smoothing": 0.1,
    "width": 16,
    "depth": 1,
}
TRAININGS = {
    f"{optimizer}-{schedule}": {**VALUES, "optimizer": optimizer, "schedule": schedule}
    for optimizer in ("sgd", "adam", "adamw")
    for schedule in ("constant", "cosine")
}
TRAININGS["adamw-triangular"] = {**TRAININGS["adamw-cosine"], "schedule": "triangular"}
TRAININGS |= {f"{name}-averaged": {**TRAININGS[name], "averaging": 0.9} for name in ("sgd-constant", "adamw-cosine")}


def train(names: list[str], out: Path, *, stop_at: int = 0, resume: Path | None = None) -> Path:
    out.mkdir()
    trainings = json.dumps([(name, TRAININGS[name]) for name in names])
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    # A fixture of a module comes before the one that hides accelerators.
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, trainings, str(stop_at), str(resume or out), str(out)],
        check=True,
        cwd=ROOT,
        env={**os.environ, **threads, **hidden},
        capture_output=True,
        timeout=240,
    )
    return out


@dataclass(frozen=True)
class Trained:
    """Where the same trainings are: uninterrupted, and after two interruptions."""

    whole: Path
    continued: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    names = list(TRAININGS)
    whole = train(names, folder / "whole")
    # After the first epoch, and after the second more. Backwards: what has a new model in one process has a used one in
    # the next.
    first = train(names[::-1], folder / "first", stop_at=1)
    second = train(names, folder / "second", stop_at=3, resume=first)
    return Trained(whole, train(names[::-1], folder / "last", resume=second))


def outcome(folder: Path, name: str) -> tuple[Any, list[np.ndarray]]:
    with np.load(folder / f"{name}.npz") as stored:
        weights = [stored[key] for key in stored.files]
    return json.loads((folder / f"{name}.json").read_text()), weights


@pytest.mark.parametrize("name", TRAININGS)
def test_a_continued_training_gives_the_same_weights_and_curve_bit_for_bit(trained: Trained, name: str) -> None:
    whole, weights = outcome(trained.whole, name)
    continued, others = outcome(trained.continued, name)
    assert continued == whole
    assert len(whole[0]["val_accuracy"]) > 3, "the interruptions lay inside the training"
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(one, other)
