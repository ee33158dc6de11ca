"""A training that is interrupted and continued in another process is the one that was not, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.keras

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 6

# Run in a process of its own each: train a small network, from a state if there is one, to a state if asked.
SCRIPT = """
import json, sys
from pathlib import Path
import keras, keras_tuner, numpy as np
from models.classifier import Inputs
from models.cnn import CNN
from models.training.feeding import LabelledImages
from models.training.state import TrainingState

values, stop_at, resume, out = json.loads(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (300, 8, 8, 1), dtype=np.uint8)
labels = (images.mean((1, 2, 3)) > 127).astype(int)
training = LabelledImages(images, labels, np.arange(200))
validation = LabelledImages(images, labels, np.arange(200, 300))


class Stopped(Exception):
    pass


class Keeper:
    def due(self, epochs):
        return epochs == stop_at

    def keep(self, state):
        (out / "state").write_bytes(state.to_bytes())
        raise Stopped


keras.utils.set_random_seed(7)
inputs = Inputs((8, 8, 1), 2, (127.0,), (70.0,), False)
classifier = CNN(inputs, extended=True, epochs=6, train_images=200, patience=3)
hp = keras_tuner.HyperParameters()
hp.values.update(values)
model = classifier.build(hp)
state = TrainingState.from_bytes(resume.read_bytes()) if resume.is_file() else None
try:
    result = classifier.fit(hp, model, training, validation, seed=3, resume=state, keeper=Keeper())
except Stopped:
    sys.exit(0)
np.savez(out / "weights.npz", *[np.asarray(weights) for weights in model.get_weights()])
(out / "result.json").write_text(json.dumps([result.history, result.best_epoch, result.value]))
"""


def train(values: dict[str, Any], out: Path, *, stop_at: int = 0, resume: Path | None = None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(values), str(stop_at), str(resume or ""), str(out)],
        check=True,
        cwd=ROOT,
        env={**os.environ, **threads},
        capture_output=True,
        timeout=120,
    )


def outcome(out: Path) -> tuple[Any, list[np.ndarray]]:
    with np.load(out / "weights.npz") as stored:
        weights = [stored[name] for name in stored.files]
    return json.loads((out / "result.json").read_text()), weights


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_continued_training_gives_the_same_weights_and_curve_bit_for_bit(
    tmp_path: Path, optimizer: str, schedule: str
) -> None:
    values = {
        "batch_size": 32,
        "optimizer": optimizer,
        "schedule": schedule,
        "learning_rate": 0.01,
        "dropout": 0.3,
        "augmentation": 0.5,
        "label_smoothing": 0.1,
        "width": 16,
        "depth": 1,
    }
    train(values, tmp_path / "whole")
    # Interrupted twice: after the first epoch, and after the second more.
    train(values, tmp_path / "first", stop_at=1)
    train(values, tmp_path / "second", stop_at=3, resume=tmp_path / "first" / "state")
    train(values, tmp_path / "last", resume=tmp_path / "second" / "state")
    whole, weights = outcome(tmp_path / "whole")
    continued, others = outcome(tmp_path / "last")
    assert continued == whole
    assert len(whole[0]["val_accuracy"]) > 3, "the interruptions lay inside the training"
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(one, other)
