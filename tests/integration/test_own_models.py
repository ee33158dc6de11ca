"""What a user's own model brings with it is told before the first trial, and what it made can be used at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.command_line import CommandLine

pytestmark = pytest.mark.keras

# Two trials of about a second.
SMALL = ("--dataset", "mnist_sample", "--train-images", "256", "--epochs", "1", "--trials", "2", "--workers", "1")

HEAD = """
import keras
from keras import layers

from models.classifier import ImageClassifier
from models.recipe import Recipe


class Mine(ImageClassifier):
    defaults = Recipe(batch_size=64, optimizer="adamw", learning_rate=3e-3, dropout=0.2)
"""

PREPROCESSED = (
    HEAD
    + """
    def backbone(self, hp, x):
        base = keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(4, 3, strides=2)])
        base.trainable = False
        x = base(keras.applications.mobilenet_v2.preprocess_input(x), training=False)
        return layers.Dense(hp.Int("units", 8, 16, step=8))(layers.GlobalAveragePooling2D()(x))
"""
)


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "home")


def own(folder: Path, text: str) -> str:
    file = folder / "mine.py"
    file.write_text(text)
    return f"{file}:Mine"


def warnings(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("warning: ")]


def test_pixels_prepared_as_an_application_wants_them_are_told_in_one_line(
    command: CommandLine, tmp_path: Path
) -> None:
    done = command.run("tune", *SMALL, "--model", own(tmp_path, PREPROCESSED))
    (warning,) = warnings(done.stderr)
    assert warning.startswith("warning: 'true_divide' shrinks what is normalised already")
    assert "an application's preprocess_input" in warning
