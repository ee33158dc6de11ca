"""Classes of unlike sizes: how well each is told is measured, and shown."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.backend import seed_generators
from models.classifier import Inputs
from models.cnn import CNN
from models.evaluation import evaluate
from models.training.balance import BalancedAccuracy
from models.training.compiled import CompiledModels
from models.training.feeding import LabelledImages
from models.training.loop import FitResult
from models.training.model import TrainingModel
from models.training.state import TrainingState, capture
from storage import attributes
from storage.settings import Home
from studies.datasets.prepared import prepare
from tests.integration.command_line import CommandLine

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 turns variables into arrays in a way that NumPy 2 will not allow for ever.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

CLASSES = 4
VALUES: dict[str, Any] = {
    "width": 16, "depth": 1, "batch_size": 20, "optimizer": "adam", "learning_rate": 0.01, "dropout": 0.2,
    "schedule": "constant",
}  # fmt: skip


def recalls(labels: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> dict[int, float]:
    """The recall of each class that is there."""
    return {label: float(np.mean(predicted[labels == label] == label)) for label in np.unique(labels).tolist()}


def balanced(labels: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> float:
    return float(np.mean(list(recalls(labels, predicted).values())))


# --- The figure

pictures = st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1), st.sampled_from([0.0, 1.0, 1.07]))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(pictures, min_size=1, max_size=9), min_size=1, max_size=4))
def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_are_there(
    batches: list[list[tuple[int, int, float]]],
) -> None:
    metric = BalancedAccuracy(CLASSES)
    for batch in batches:
        labels, predicted, weights = (np.array(column) for column in zip(*batch, strict=True))
        logits = np.eye(CLASSES, dtype=np.float32)[predicted]
        metric.update_state(labels.astype(np.int32), logits, sample_weight=weights.astype(np.float32))
    counted = np.array([[label, says] for batch in batches for label, says, weight in batch if weight], int)
    expected = balanced(counted[:, 0], counted[:, 1]) if len(counted) else 0.0
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0.0


def unlike(count: int, seed: int = 0) -> LabelledImages:
    """Pictures of which three in four are of class 0, and none of the last class."""
    random = np.random.default_rng(seed)
    labels = random.choice(CLASSES, count, p=[0.75, 0.2, 0.05, 0.0])
    images = random.integers(0, 200, (count, 8, 8, 1)) + 12 * labels[:, None, None, None]
    return LabelledImages(images.astype(np.uint8), labels, np.arange(count))


def train(
    models: CompiledModels | None = None, *, kind: type[CNN] = CNN, epochs: int = 3, seed: int = 1, **options: Any
) -> tuple[CNN, TrainingModel, FitResult]:
    training, validation = unlike(200), unlike(53, seed=1)
    inputs = Inputs((8, 8, 1), CLASSES, mean=(110.0,), std=(60.0,), flips=False)
    classifier = kind(inputs, extended=True, epochs=epochs, train_images=200, patience=9, models=models)
    hp = keras_tuner.HyperParameters()
    hp.values.update({**VALUES, **options})
    seed_generators(seed)
    model = classifier.build(hp)
    return classifier, model, classifier.fit(hp, model, training, validation, seed=seed)


def test_a_training_tells_the_balanced_accuracy_of_the_weights_that_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    # The last batch is filled up.
    monkeypatch.setattr("models.training.loop.VALIDATION_BATCH_SIZE", 10)
    classifier, model, result = train()
    data = unlike(53, seed=1)
    found = evaluate(classifier.classifier(model), data.images, data.labels, classes=CLASSES)
    told = result.history["val_balanced_accuracy"]
    assert len(told) == len(result.history["balanced_accuracy"]) == len(result.history["val_accuracy"])
    assert told[result.best_epoch] == pytest.approx(found.balanced_accuracy)
    assert told[result.best_epoch] < result.value - 0.05, "the small classes are told less well"
    predicted = classifier.classifier(model).predict(data.images, verbose=0).argmax(axis=-1)
    assert found.balanced_accuracy == pytest.approx(balanced(data.labels, predicted))


def test_a_state_that_an_earlier_version_kept_goes_on_with_the_curve_from_where_it_is_known() -> None:
    classifier, model, result = train(epochs=4)
    hp = keras_tuner.HyperParameters()
    hp.values.update(VALUES)
    seed_generators(1)
    model = classifier.build(hp)
    run = classifier.training(hp, model, unlike(200), unlike(53, seed=1), seed=1)
    run.epochs = 2
    first = run.run()
    state = capture(run, 2, {name: curve for name, curve in first.history.items() if "balanced" not in name})
    state = TrainingState.from_bytes(state.to_bytes())
    rest = classifier.fit(hp, model, unlike(200), unlike(53, seed=1), seed=1, resume=state)
    curve = rest.history["val_balanced_accuracy"]
    assert [math.isnan(value) for value in curve] == [True, True, False, False]
    assert {len(values) for values in rest.history.values()} == {4}
    assert rest.best_epoch == result.best_epoch


# --- Through the command line


def imbalanced_home(home: Home) -> Home:
    """Make a home whose `mnist_sample` has eight 0s for each picture of another digit."""
    folder = prepare("mnist_sample", home, report=lambda _: None).folder
    for split in ("train", "test"):
        images, labels = (np.load(folder / f"{split}_{content}.npy") for content in ("images", "labels"))
        rng = np.random.default_rng(0)
        shares = np.where(labels == 0, 8.0, 1.0)
        rows = rng.choice(len(labels), len(labels), p=shares / shares.sum())
        for content, values in (("images", images), ("labels", labels)):
            np.save(folder / f"{split}_{content}.npy", values[rows])
    return home


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    return CommandLine(imbalanced_home(Home(tmp_path / "home")).root)


SMALL = ("--dataset", "mnist_sample", "--train-images", "400", "--epochs", "2", "--trials", "1", "--workers", "1")


def test_a_study_of_imbalanced_data_says_so_and_shows_the_balanced_accuracy_everywhere(command: CommandLine) -> None:
    said = command.run("tune", *SMALL).stderr
    assert "\nclasses   imbalanced: '0' has " in said
    (trial,) = command.study("mnist_sample").trials
    figure = trial.user_attrs[attributes.VALIDATION_BALANCED_ACCURACY]
    assert 0 < figure < 1
    assert f"trial   0 complete {trial.value:.4f}, balanced {figure:.4f} (best so far)" in said
    assert f"best: trial 0, validation accuracy {trial.value:.4f} (balanced {figure:.4f})" in said
    (row,) = command.json("trials", "--format", "json")
    status = command.json("status", "--json")
    assert row["balanced_accuracy"] == status["best"]["balanced_accuracy"] == figure
    assert status["imbalanced"] is True
    assert f"{figure:.2%} balanced" in command.run("status").stdout
    exported = command.run("export", "--format", "keras").stderr
    metrics = json.loads((command.home / "exports" / "mnist_sample" / "metrics.json").read_text())
    assert metrics["validation"]["balanced_accuracy"] == pytest.approx(figure, abs=1e-5)
    recall = [of["recall"] for of in metrics["test"]["per_class"] if of["support"]]
    assert metrics["test"]["balanced_accuracy"] == pytest.approx(np.mean(recall))
    assert f"balanced {metrics['test']['balanced_accuracy']:.2%}" in exported
    card = json.loads((command.home / "exports" / "mnist_sample" / "card.json").read_text())
    assert card["validation"] == metrics["validation"]
    assert card["test"]["balanced_accuracy"] == metrics["test"]["balanced_accuracy"]
