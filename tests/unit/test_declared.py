"""Which study is meant: the catalog's, a file's, or one that suits data of somebody's own, as it was begun or anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage.errors import BadInput, SpecMismatch
from storage.settings import Home
from studies.declaration import CATALOG, Overrides
from studies.spec import Images
from tests.picture_folders import write
from tuning.launch.begin import begun
from tuning.launch.understand import Asked, TuneOptions, understood

Tune = Callable[..., Asked]


@pytest.fixture
def tune(tmp_path: Path) -> Tune:
    """Begin a study as `tune` does, but for its workers."""

    def ask(dataset: Path | str | None, **given: object) -> Asked:
        options = TuneOptions(dataset=str(dataset) if dataset is not None else None, **given)  # type: ignore[arg-type]
        asked = understood(options, Home(tmp_path / "home"))
        begun(asked).database.engine.dispose()
        return asked

    return ask


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for label, name in enumerate(("cat", "dog")):
        for number in range(20):
            write(tmp_path / "pets" / name / f"{number}.png", seed=number + 20 * label)
    return tmp_path / "pets"


def test_a_study_of_data_of_ones_own_says_what_suits_them(tune: Tune, pets: Path) -> None:
    asked = tune(pets)
    assert (asked.name, asked.spec.dataset, asked.spec.model) == ("pets", str(pets), "models.deep_cnn:DeepCNN")
    assert (asked.spec.test_images, asked.spec.validation_images) == (6, 5)
    assert asked.spec.defaults == {"augmentation": 0.5}
    assert asked.declared.reasons


def test_the_same_command_goes_on_and_needs_nothing_that_was_said_before(tune: Tune, pets: Path) -> None:
    first = tune(pets, overrides=Overrides(images=Images(size=(8, 8)), epochs=3), trials=4)
    again = tune(pets)
    assert again.spec == first.spec
    assert again.spec.images == Images(size=(8, 8))
    with pytest.raises(SpecMismatch, match="epochs is 3 there, 5 here"):
        tune(pets, overrides=Overrides(epochs=5))
    with pytest.raises(SpecMismatch, match="images"):
        tune(pets, overrides=Overrides(images=Images(size=(16, 16))))


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Whose one file a test may change."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    shutil.copy(CATALOG / "mnist_sample.toml", folder)
    monkeypatch.setattr("studies.declaration.CATALOG", folder)
    return folder


def test_a_study_of_the_catalog_goes_on_as_it_was_begun_whatever_stands_there_today(tune: Tune, catalog: Path) -> None:
    first = tune("mnist_sample", overrides=Overrides(epochs=3))
    file = catalog / "mnist_sample.toml"
    text = file.read_text(encoding="utf-8").replace("trials = 6", "trials = 9").replace("patience = 3", "patience = 2")
    file.write_text(
        text.replace('space = "core"', 'space = "extended"\ndefaults = { augmentation = 0.3 }').replace("cnn", "resnet")
    )
    again = tune("mnist_sample")
    assert again.spec == first.spec
    assert again.trials(before=6) == 6
    assert tune("mnist_sample", overrides=Overrides(space="core", model="cnn")).spec == first.spec
    anew = tune("mnist_sample", study="another")
    assert (anew.spec.model, anew.spec.defaults) == ("models.resnet:ResNet", {"augmentation": 0.3})
    assert anew.trials(before=0) == 9


@pytest.mark.parametrize(
    ("said", "differs"),
    [
        (Overrides(epochs=5), "epochs is 6 there, 5 here"),
        (Overrides(space="extended"), 'space is "core" there, "extended" here'),
        (Overrides(model="resnet"), 'model is "models.cnn:CNN" there, "models.resnet:ResNet" here'),
        (Overrides(seed=3), "seed is 0 there, 3 here"),
        (Overrides(strategy="median"), 'strategy.name is "freeze_thaw" there, "median" here'),
    ],
)
def test_only_what_the_command_line_says_may_differ_and_is_refused(tune: Tune, said: Overrides, differs: str) -> None:
    tune("mnist_sample")
    with pytest.raises(SpecMismatch, match=differs):
        tune("mnist_sample", overrides=said)


def test_a_file_says_what_is_meant_also_of_a_study_that_is_there(tune: Tune, tmp_path: Path) -> None:
    tune("mnist_sample")
    file = tmp_path / "mine.toml"
    file.write_text((CATALOG / "mnist_sample.toml").read_text(encoding="utf-8") + "min_epochs = 2\n")
    with pytest.raises(SpecMismatch, match=r"strategy\.min_epochs is 1 there, 2 here"):
        tune(None, spec_file=file)


def test_a_study_of_other_data_is_none_that_goes_on(tune: Tune) -> None:
    tune("mnist_sample", study="mine")
    with pytest.raises(SpecMismatch, match='dataset is "mnist_sample" there, "cifar10_sample" here'):
        tune("cifar10_sample", study="mine")


def test_a_study_whose_making_was_cut_short_before_its_budget_has_the_catalogs(
    tune: Tune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr("storage.claims.Claims.set_budget", cut_short)
        with pytest.raises(KeyboardInterrupt):
            tune("mnist_sample")
    assert tune("mnist_sample").trials(before=0) == 6


def test_a_study_with_a_model_of_ones_own_asks_for_its_file(tune: Tune, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("class Mine: ...\n")
    first = tune("mnist_sample", overrides=Overrides(model=f"{file}:Mine"))
    with pytest.raises(BadInput, match=r"begun with the model mine.py:Mine@.* Give MODEL=file.py:Class"):
        tune("mnist_sample")
    assert tune("mnist_sample", overrides=Overrides(model=f"{file}:Mine")).spec == first.spec


def test_pictures_that_came_or_went_are_named_and_nothing_changes(tune: Tune, pets: Path) -> None:
    tune(pets)
    (pets / "cat" / "0.png").rename(pets / "cat" / "new.png")
    with pytest.raises(BadInput, match=r"1 new \(cat/new.png\), 1 gone \(cat/0.png\). Take STUDY=another"):
        tune(pets)
    assert tune(pets, study="another").spec.dataset == str(pets)


def test_a_file_may_declare_a_study_of_ones_own_data(tune: Tune, pets: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        f'dataset = "{pets}"\nmodel = "cnn"\ndefaults = {{ label_smoothing = 0.1 }}\n[images]\nsize = 8\nfit = "pad"\n'
        "[plan.cpu]\ntrials = 3\nepochs = 2\ntest_images = 8\n"
    )
    asked = tune(None, spec_file=file, study="mine")
    assert asked.spec.images == Images(size=(8, 8), fit="pad")
    assert asked.declared.dataset.shape == (8, 8, 3)
    assert (asked.spec.test_images, asked.spec.validation_images) == (8, 5)
    assert asked.spec.defaults == {"label_smoothing": 0.1}


def test_the_form_of_published_pictures_is_their_authors(tune: Tune, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="mnist_sample has pictures of 28x28 pixels as its authors made them"):
        tune("mnist_sample", overrides=Overrides(images=Images(size=(64, 64))))
    file = tmp_path / "mine.toml"
    file.write_text('dataset = "mnist_sample"\n[plan.cpu]\ntrials = 3\nepochs = 2\ntest_images = 8\n')
    with pytest.raises(BadInput, match="500 test images of its own"):
        tune(None, spec_file=file)


def test_numbers_that_are_no_pictures_are_refused_to_the_projects_own_models(tune: Tune, tmp_path: Path) -> None:
    file = tmp_path / "table.npz"
    np.savez(file, x_train=np.random.default_rng(0).normal(size=(60, 4)).astype("f4"), y_train=np.arange(60) % 3)
    with pytest.raises(BadInput, match=r"cnn takes pictures, and .* has 4 numbers"):
        tune(file)


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "a\u2028b", os.fsdecode(b"caf\xe9")])
def test_a_name_that_would_not_stay_in_its_line_is_refused(tune: Tune, pets: Path, name: str) -> None:
    with pytest.raises(BadInput, match="has what is no letter") as refused:
        tune(pets, study=name)
    assert str(refused.value).isprintable()


def test_a_folder_whose_name_would_not_names_its_study_as_it_can_be_written(tune: Tune, pets: Path) -> None:
    assert tune(pets.rename(pets.parent / "two\nlines")).name == r"two\nlines"


@pytest.mark.parametrize("name", ["Katze 1", "ねこ\u3000いぬ", "a%b?c", "'quoted' $HOME"])
def test_other_names_are_taken_as_they_are(tune: Tune, pets: Path, name: str) -> None:
    assert tune(pets.rename(pets.parent / name)).name == name
