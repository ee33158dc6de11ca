"""What a study records of its data, and which data it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.errors import BadInput
from studies.datasets.info import OwnDataset
from studies.datasets.prepared import PreparedDataset
from studies.spec import HYPERMODELS, Sampler, StrategyChoice, StudySpec
from studies.study_data import describe

LABELS = np.arange(12) % 3


def prepared(monkeypatch: pytest.MonkeyPatch, images: np.ndarray) -> PreparedDataset:
    monkeypatch.setattr(PreparedDataset, "train_images", property(lambda _: images))
    monkeypatch.setattr(PreparedDataset, "train_labels", property(lambda _: LABELS))
    info = OwnDataset(
        name="own",
        title="own",
        shape=images.shape[1:],
        dtype=images.dtype.name,
        class_names=("a", "b", "c"),
        natural_images=False,
        reference="own.npz",
        content="0" * 64,
        counts={"train": len(images), "test": 3},
    )
    return PreparedDataset(info, Path("nowhere"))


def spec(model: str) -> StudySpec:
    return StudySpec(
        dataset="own.npz",
        model=model,
        space="core",
        seed=0,
        plan_name="cpu",
        epochs=2,
        patience=2,
        train_images=None,
        validation_images=3,
        parameters={},
        sampler=Sampler(),
        strategy=StrategyChoice(name="none"),
    )


@pytest.mark.parametrize(
    ("images", "size"),
    [
        (np.zeros((12, 20), np.float32), "20 numbers (float32)"),
        (np.zeros((12, 8, 8, 3), np.float32), "8x8x3 numbers (float32)"),
        (np.zeros((12, 8, 8, 4), np.uint8), "8x8x4 numbers (uint8)"),
    ],
)
def test_the_project_s_own_models_refuse_what_is_no_picture_and_one_of_ones_own_takes_it(
    monkeypatch: pytest.MonkeyPatch, images: np.ndarray, size: str
) -> None:
    dataset = prepared(monkeypatch, images)
    for name, model in HYPERMODELS.items():
        with pytest.raises(BadInput) as refused:
            describe(dataset, spec(model))
        assert str(refused.value) == (
            f"{name} takes pictures, and own.npz has {size} in each example. Give MODEL=file.py:Class, a model of "
            "your own."
        )
    recorded = describe(dataset, spec("own.py:Own@0123456789abcdef"))
    assert recorded["std"] == [1.0] * images.shape[-1]


def test_the_project_s_own_models_take_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = prepared(monkeypatch, np.zeros((12, 8, 8, 1), np.uint8))
    assert describe(dataset, spec(HYPERMODELS["cnn"]))["mean"] == [0.0]


def test_numbers_too_close_together_to_be_normalised_are_refused_and_a_constant_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    numbers[:, 1] = 5.0
    own = spec("own.py:Own@0123456789abcdef")
    assert describe(prepared(monkeypatch, numbers), own)["std"][1] == 1.0
    numbers[:, 2] *= 1e-9
    with pytest.raises(BadInput, match=r"the numbers at place 2 of the last axis have a standard deviation of .*e-\d+"):
        describe(prepared(monkeypatch, numbers), own)
