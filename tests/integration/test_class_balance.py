"""Classes of unlike sizes: how well each is told is measured and shown, and they can be made to weigh alike."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import keras_tuner
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from models.backend import seed_generators
from models.classifier import ImageClassifier, Inputs
from models.cnn import CNN
from models.evaluation import evaluate
from models.recipe import Recipe
from models.training.balance import BalancedAccuracy, balanced_weights
from models.training.compiled import CompiledModels
from models.training.feeding import LabelledImages
from models.training.loop import FitResult
from models.training.model import TrainingModel
from models.training.state import TrainingState, capture
from storage import attributes
from storage.settings import Home
from studies.datasets.preparing import prepare
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
    images = random.integers(0, 200, (count, 8, 8, 1)) + 20 * labels[:, None, None, None]
    return LabelledImages(images.astype(np.uint8), labels, np.arange(count))


TRAINING, VALIDATION = unlike(200), unlike(53, seed=1)
COUNTS = tuple(np.bincount(TRAINING.labels, minlength=CLASSES).tolist())


def classifier_of(
    class_weights: Any = "none",
    models: CompiledModels | None = None,
    *,
    kind: type[ImageClassifier] = CNN,
    epochs: int = 3,
    extended: bool = True,
    counts: tuple[int, ...] | None = COUNTS,
) -> ImageClassifier:
    inputs = Inputs((8, 8, 1), CLASSES, (110.0,), (60.0,), flips=False, class_counts=counts)
    return kind(
        inputs, extended=extended, epochs=epochs, train_images=200, patience=9, models=models,
        class_weights=class_weights,
    )  # fmt: skip


def built(classifier: ImageClassifier, **values: Any) -> tuple[keras_tuner.HyperParameters, TrainingModel]:
    hp = keras_tuner.HyperParameters()
    hp.values.update({**VALUES, **values})
    seed_generators(1)
    return hp, classifier.build(hp)


def train(classifier: ImageClassifier, resume: TrainingState | None = None, **values: Any) -> Trained:
    hp, model = built(classifier, **values)
    result = classifier.fit(hp, model, TRAINING, VALIDATION, seed=1, resume=resume)
    weights = [np.array(weight) for weight in model.network.get_weights()]
    return Trained(result, model, classifier.classifier(model), weights)


@dataclass(frozen=True)
class Trained:
    """What a training left; the models are another's once the next one is built."""

    result: FitResult
    model: TrainingModel
    classifier: Any
    weights: list[npt.NDArray[Any]]

    def is_bit_for_bit(self, other: Trained) -> bool:
        pairs = zip(self.weights, other.weights, strict=True)
        return self.result == other.result and all((one == two).all() for one, two in pairs)


def test_a_training_tells_the_balanced_accuracy_of_the_weights_that_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    # The last batch is filled up.
    monkeypatch.setattr("models.training.loop.VALIDATION_BATCH_SIZE", 10)
    trained, data = train(classifier_of()), VALIDATION
    result = trained.result
    found = evaluate(trained.classifier, data.images, data.labels, classes=CLASSES)
    told = result.history["val_balanced_accuracy"]
    assert len(told) == len(result.history["balanced_accuracy"]) == len(result.history["val_accuracy"])
    assert told[result.best_epoch] == pytest.approx(found.balanced_accuracy)
    assert told[result.best_epoch] < result.value - 0.05, "the small classes are told less well"
    predicted = trained.classifier.predict(data.images, verbose=0).argmax(axis=-1)
    assert found.balanced_accuracy == pytest.approx(balanced(data.labels, predicted))


def test_a_state_that_an_earlier_version_kept_goes_on_with_the_curve_from_where_it_is_known() -> None:
    classifier = classifier_of(epochs=4)
    whole = train(classifier)
    state = state_after_two_epochs(classifier, told=lambda name: "balanced" not in name)
    rest = train(classifier, state).result
    curve = rest.history["val_balanced_accuracy"]
    assert [math.isnan(value) for value in curve] == [True, True, False, False]
    assert {len(values) for values in rest.history.values()} == {4}
    assert rest.best_epoch == whole.result.best_epoch


def state_after_two_epochs(
    classifier: ImageClassifier, told: Callable[[str], bool] = lambda _: True, **values: Any
) -> TrainingState:
    hp, model = built(classifier, **values)
    run = classifier.training(hp, model, TRAINING, VALIDATION, seed=1)
    run.epochs = 2
    history = {name: curve for name, curve in run.run().history.items() if told(name)}
    return TrainingState.from_bytes(capture(run, 2, history).to_bytes())


# --- The weights


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30).filter(any))
def test_with_balanced_weights_each_class_that_is_there_weighs_alike_and_a_picture_one_on_average(
    counts: list[int],
) -> None:
    weights = balanced_weights(counts).astype(float)
    together = [count * weight for count, weight in zip(counts, weights, strict=True) if count]
    assert together == pytest.approx([sum(counts) / len(together)] * len(together), rel=1e-5)
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_a_picture_weighs_as_its_class_while_training_and_only_then(smoothing: float) -> None:
    _, model = built(classifier_of("balanced"), label_smoothing=smoothing)
    rng = np.random.default_rng(0)
    labels, logits = TRAINING.labels[:40].astype(np.int32), rng.normal(size=(40, CLASSES)).astype(np.float32)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = np.eye(CLASSES)[labels]
    present = [count for count in COUNTS if count]
    weights = np.array([sum(COUNTS) / (len(present) * COUNTS[label]) for label in labels])
    assert len(set(weights)) > 1
    smooth = targets * (1 - smoothing) + smoothing / CLASSES
    losses = {
        True: weights * -(smooth * log_probabilities).sum(axis=1),
        False: -(targets * log_probabilities).sum(axis=1),
    }
    for training, expected in losses.items():
        found = float(model.compute_loss(None, labels, logits, training=training))
        assert found == pytest.approx(float(expected.mean()), rel=1e-5)


def test_one_compiled_model_serves_trainings_with_and_without_weights_and_none_can_tell() -> None:
    models = CompiledModels()
    without = train(classifier_of("none", models))
    weighed = train(classifier_of("balanced", models))
    again = train(classifier_of("none", models))
    assert without.model is weighed.model is again.model
    assert again.model.steps.traces == 1
    assert again.is_bit_for_bit(without)
    assert train(classifier_of("none", counts=None)).is_bit_for_bit(without)
    assert train(classifier_of("balanced")).is_bit_for_bit(weighed)
    assert weighed.result.history["loss"] != without.result.history["loss"]


def test_weights_make_small_classes_be_told_better_and_validation_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.loop.VALIDATION_BATCH_SIZE", 10)
    of = {weights: train(classifier_of(weights, epochs=6), dropout=0.0) for weights in ("none", "balanced")}
    many = unlike(3000, seed=2)
    told = {weights: evaluate(one.classifier, many.images, many.labels, classes=CLASSES) for weights, one in of.items()}
    assert told["balanced"].balanced_accuracy > told["none"].balanced_accuracy + 0.05
    weighed = of["balanced"].result
    found = evaluate(of["balanced"].classifier, VALIDATION.images, VALIDATION.labels, classes=CLASSES)
    assert weighed.value == pytest.approx(found.accuracy)
    assert weighed.history["val_loss"][weighed.best_epoch] == pytest.approx(found.loss, rel=1e-4)


def test_a_training_with_weights_goes_on_from_its_state_bit_for_bit() -> None:
    classifier = classifier_of("balanced", epochs=4)
    whole = train(classifier)
    state = state_after_two_epochs(classifier)
    assert train(classifier, state).is_bit_for_bit(whole)


def test_the_best_weights_of_a_state_are_put_back_and_a_state_is_as_before_there_were_class_weights() -> None:
    classifier = classifier_of("balanced", epochs=3)
    state = state_after_two_epochs(classifier)
    shapes = {place: [state.arrays[f"{place}/{number}"].shape for number in range(2)] for place in ("model", "best")}
    assert shapes["model"][0] == shapes["best"][0] == (), "label smoothing comes first"
    assert (CLASSES,) not in (shapes["model"][1], shapes["best"][1]), "and class weights would be next"
    state.values["early_stopping"]["best"] = 2.0  # nothing to come is better
    kept = train(classifier, state)
    assert kept.result.value == 2.0
    best = [state.arrays[name] for name in state.arrays if name.startswith("best/")]
    for weight in kept.weights:
        assert any(weight.shape == one.shape and (weight == one).all() for one in best)


class Mine(ImageClassifier):
    """A user's model."""

    defaults: ClassVar[Recipe] = Recipe(batch_size=64, optimizer="adam", learning_rate=3e-3, dropout=0.2)

    def backbone(self, hp: Any, x: Any) -> Any:
        return layers.Dense(hp.Int("units", 4, 8), activation="relu")(layers.Flatten()(x))


@pytest.mark.parametrize("extended", [True, False])
@pytest.mark.parametrize("kind", [CNN, Mine])
def test_the_weights_can_be_searched_with_any_model_in_any_space(kind: type[ImageClassifier], extended: bool) -> None:
    classifier = classifier_of("search", CompiledModels(), kind=kind, extended=extended)
    hp = keras_tuner.HyperParameters()
    classifier.untrained(hp)
    (declared,) = [one for one in hp.space if one.name == "class_weights"]
    assert (list(declared.values), declared.default) == (["none", "balanced"], "none")
    without = train(classifier, class_weights="none")
    assert without.is_bit_for_bit(train(classifier_of("none", kind=kind, extended=extended)))
    weighed = train(classifier, class_weights="balanced")
    assert weighed.is_bit_for_bit(train(classifier_of("balanced", kind=kind, extended=extended)))
    assert not weighed.is_bit_for_bit(without)


def test_where_nobody_asks_for_weights_no_parameter_is_declared() -> None:
    for asked in ("none", "balanced"):
        hp, _ = built(classifier_of(asked))
        assert "class_weights" not in hp.values


@pytest.mark.parametrize("counts", [None, (), (3, 4)])
def test_weights_without_the_counts_of_the_classes_are_refused(counts: tuple[int, ...] | None) -> None:
    with pytest.raises(ValueError, match=r"needs `inputs.class_counts`, one for each of 4 classes. Received"):
        classifier_of("balanced", counts=counts)


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


STUDY = """
dataset = "mnist_sample"
class_weights = "search"
first = [{ class_weights = "balanced" }]
[plan.cpu]
trials = 2
epochs = 2
train_images = 400
validation_images = 400
[strategy]
name = "none"
"""


def test_a_study_of_imbalanced_data_says_so_and_shows_the_balanced_accuracy_everywhere(command: CommandLine) -> None:
    file = command.home / "study.toml"
    file.write_text(STUDY)
    said = command.run("tune", "--spec", str(file), "--workers", "1").stderr
    assert "\nclasses   imbalanced: '0' has " in said
    assert "\n  class_weights  one of none, balanced, first none\n" in said
    study = command.study("mnist_sample")
    assert [trial.params["class_weights"] for trial in study.trials] == ["none", "balanced"]
    for trial in study.trials:
        figure = trial.user_attrs[attributes.VALIDATION_BALANCED_ACCURACY]
        assert 0 < figure < 1
        assert f"trial   {trial.number} complete {trial.value:.4f}, balanced {figure:.4f}" in said
    best = study.best_trial
    figure = best.user_attrs[attributes.VALIDATION_BALANCED_ACCURACY]
    assert f"best: trial {best.number}, validation accuracy {best.value:.4f} (balanced {figure:.4f})" in said
    row = command.json("trials", "--format", "json")[0]
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
