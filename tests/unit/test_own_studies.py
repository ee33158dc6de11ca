"""A study of data of somebody's own goes on with the same data wherever they lie, and with no others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.errors import BadInput, SpecMismatch
from storage.settings import Home
from studies.datasets.preparing import open_prepared, prepare
from studies.declaration import Overrides
from studies.spec import Images
from studies.stored import StudyRecord
from studies.study_data import data_of
from tests.picture_folders import write
from tuning.cli import run
from tuning.launch.begin import Begun, begun
from tuning.launch.declared import Declared
from tuning.launch.understand import TuneOptions, understood


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuning.launch.engines.chosen.find_gpus", list)


def pictures(folder: Path, per_class: int = 5) -> Path:
    for label, name in enumerate("ab"):
        for number in range(per_class):
            write(folder / name / f"{number}.png", seed=100 * label + number)
    return folder


def begin(home: Home, dataset: Path | str | None, study: str | None = None, **overrides: Any) -> Begun:
    reference = str(dataset) if dataset is not None else None
    said = Overrides(images=Images(**overrides)) if overrides else Overrides()
    return begun(understood(TuneOptions(dataset=reference, study=study, workers=1, overrides=said), home))


def refused(call: Callable[[], object], home: Home) -> str:
    """The line of a refusal that changes nothing of a study."""
    file = home.root / "studies.db"
    before = file.read_bytes() if file.exists() else b""
    with pytest.raises(BadInput) as error:
        call()
    assert (file.read_bytes() if file.exists() else b"") == before
    assert "\n" not in str(error.value)
    return str(error.value)


# --- The same data


def test_a_folder_that_was_moved_is_the_same_data_and_the_study_keeps_what_it_records(
    mine: Home, tmp_path: Path
) -> None:
    folder = pictures(tmp_path / "first")
    made = begin(mine, folder)
    moved = folder.rename(tmp_path / "second")
    again = begin(mine, moved, study="first")
    assert (made.created, again.created) == (True, False)
    assert again.record.spec == made.record.spec
    assert again.record.spec.dataset == str(folder)
    assert len(mine.own_datasets()) == 2  # the data once, and the notes
    assert begin(mine, moved).record.name == "second"


@pytest.mark.parametrize("by_name", [True, False])
def test_a_study_whose_folder_is_gone_goes_on_with_what_was_read_of_it(
    mine: Home, tmp_path: Path, by_name: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path / "flowers")
    made = begin(mine, folder)
    shutil.rmtree(folder)
    again = begin(mine, None if by_name else folder, study="flowers" if by_name else None)
    assert not again.created and again.record.spec == made.record.spec
    assert f"flowers: {folder} is not there; going on with what was read of it" in capsys.readouterr().err


def test_what_is_gone_is_refused_where_no_study_has_what_it_was(mine: Home, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "flowers")
    begin(mine, folder)
    elsewhere = tmp_path / "elsewhere" / "flowers"
    assert f"there is no {elsewhere}." in refused(lambda: begin(mine, elsewhere), mine)
    shutil.rmtree(folder)
    for prepared in mine.own_datasets():
        shutil.rmtree(prepared)
    assert refused(lambda: begin(mine, folder), mine) == (
        f"study 'flowers' trains on {folder}, and here is neither that nor what was read of it. Bring its data to this"
        " place, or prepare them from where they are: tuning data prepare PATH"
    )


def test_a_published_data_set_is_known_by_its_study_alone(mine: Home) -> None:
    begin(mine, "mnist_sample")
    assert not begin(mine, None, study="mnist_sample").created
    with pytest.raises(BadInput, match="no data set was given"):
        begin(mine, None, study="another")


def test_who_says_otherwise_of_mirrors_gets_otherwise_of_the_same_pictures(mine: Home, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "flowers")
    flipped: list[bool] = []
    for flips in (True, False, None):
        dataset = prepare(str(folder), mine, images=Images(flips=flips), report=lambda _: None)
        flipped.append(dataset.info.natural_images)
        opened = open_prepared(str(folder), mine, images=Images(flips=flips), checksum=dataset.info.checksum)
        assert opened.info.natural_images == dataset.info.natural_images
    assert flipped == [True, False, False]  # of single letters
    asked = understood(
        TuneOptions(dataset=str(folder), workers=1, overrides=Overrides(images=Images(flips=True))), mine
    )
    assert asked.declared.dataset.natural_images


def test_data_are_called_as_they_are_given_though_others_have_the_same(mine: Home, tmp_path: Path) -> None:
    pictures(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    declared: list[Declared] = [
        understood(TuneOptions(dataset=str(tmp_path / name), workers=1), mine).declared for name in ("first", "second")
    ]
    assert [one.dataset.title for one in declared] == ["first", "second"]
    assert [one.declaration.dataset for one in declared] == [str(tmp_path / "first"), str(tmp_path / "second")]


def test_status_says_what_a_study_trains_on(
    mine: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = pictures(tmp_path / "two words")
    begin(mine, folder)
    capsys.readouterr()
    assert run(["status", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["dataset"] == str(folder)
    assert said["images"] == {"train": 6, "validation": 2, "test": 2}
    assert run(["status"]) == 0
    assert "data     ~/two words: 6 training and 2 validation images" in capsys.readouterr().out


# --- Other data


def test_a_folder_that_has_changed_is_refused_by_the_names_of_its_pictures(mine: Home, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "flowers")
    made = begin(mine, folder)
    write(folder / "a" / "0.png", seed=500)
    (folder / "a" / "1.png").unlink()
    write(folder / "b" / "ne\nw.png", seed=501)
    changed = "since the study was made, of its pictures: 1 new (b/ne\\nw.png), 1 gone (a/1.png), 1 changed (a/0.png)"
    cure = "Take STUDY=another for a new study, or give it what it had."
    assert refused(lambda: begin(mine, folder), mine) == (
        f"{folder} is not what study 'flowers' was made with: {changed}. {cure}"
    )
    moved = folder.rename(tmp_path / "moved")
    assert refused(lambda: begin(mine, moved, study="flowers"), mine) == (
        f"{moved} is not what study 'flowers' was made with, {folder}: {changed}. {cure}"
    )
    another = begin(mine, moved, study="another")
    assert another.created and another.record.data is not None and made.record.data is not None
    assert another.record.data["checksum"] != made.record.data["checksum"]
    # What the first was made with is still there, whatever became of the folder.
    assert open_prepared(str(folder), mine, checksum=made.record.data["checksum"], verify=True).folder.is_dir()


def test_arrays_that_have_changed_are_refused(mine: Home, tmp_path: Path) -> None:
    file = tmp_path / "own.npz"
    for seed in (0, 1):
        images = np.random.default_rng(seed).integers(0, 256, (20, 6, 6, 1), dtype=np.uint8)
        np.savez(file, x=images, y=np.arange(20) % 2)
        if seed == 0:
            begin(mine, file)
    assert "is not what study 'own' was made with: their contents have changed" in refused(
        lambda: begin(mine, file), mine
    )


def test_another_form_of_the_same_pictures_is_another_study(mine: Home, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "flowers")
    begin(mine, folder)
    with pytest.raises(SpecMismatch, match=r"images\.size is not set there, \[12, 12\] here"):
        begin(mine, folder, size=12)
    with pytest.raises(SpecMismatch, match=r"images\.flips is not set there, true here"):
        begin(mine, folder.rename(tmp_path / "moved"), study="flowers", flips=True)


def test_a_folder_with_the_name_of_a_published_data_set_is_no_part_of_its_study(mine: Home, tmp_path: Path) -> None:
    begin(mine, "mnist_sample")
    folder = pictures(tmp_path / "mnist_sample")
    with pytest.raises(SpecMismatch, match=f'dataset is "mnist_sample" there, "{folder}" here'):
        begin(mine, folder)


# --- On another machine: another home, and what is or is not at the same path


@pytest.fixture
def theirs(tmp_path: Path) -> Home:
    return Home(tmp_path / "theirs")


@pytest.fixture
def study(mine: Home, tmp_path: Path) -> StudyRecord:
    return begin(mine, pictures(tmp_path / "flowers")).record


def test_another_machine_prepares_from_the_same_path(study: StudyRecord, theirs: Home) -> None:
    assert study.data is not None
    assert data_of(study, theirs).info.checksum == study.data["checksum"]


def test_another_machine_that_has_the_prepared_form_needs_no_folder(
    study: StudyRecord, theirs: Home, tmp_path: Path
) -> None:
    moved = (tmp_path / "flowers").rename(tmp_path / "moved")
    line = refused(lambda: data_of(study, theirs), theirs)
    assert line == (
        f"study 'flowers' trains on {tmp_path / 'flowers'}, and here is neither that nor what was read of it. Bring"
        " its data to this place, or prepare them from where they are: tuning data prepare PATH"
    )
    assert not theirs.root.exists()
    prepare(str(moved), theirs, report=lambda _: None)
    assert study.data is not None
    assert data_of(study, theirs).info.checksum == study.data["checksum"]


def test_another_machine_is_told_the_form_to_prepare_in(mine: Home, theirs: Home, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "flowers")
    record = begin(mine, folder, size=(8, 12), fit="pad").record
    folder.rename(tmp_path / "moved")
    line = refused(lambda: data_of(record, theirs), theirs)
    assert line.endswith("tuning data prepare --image-size 8x12 --fit pad PATH")


def test_another_machine_with_other_pictures_at_that_path_trains_on_nothing(
    study: StudyRecord, theirs: Home, tmp_path: Path
) -> None:
    write(tmp_path / "flowers" / "a" / "9.png", seed=900)
    assert refused(lambda: data_of(study, theirs), theirs) == (
        f"{tmp_path / 'flowers'} is not what study 'flowers' was made with. Bring its data to this place, or prepare"
        " them from where they are: tuning data prepare PATH"
    )


# --- Names and places


@pytest.mark.parametrize("name", ["50% what? new\nline", "mnist", ".hidden", "--dash", "[x]*", "ü" * 60, "a'b\"c"])
def test_a_study_of_a_folder_of_any_name_is_made_and_found_again(mine: Home, tmp_path: Path, name: str) -> None:
    folder = pictures(tmp_path / name)
    made = begin(mine, folder)
    assert made.record.name == name.replace("\n", "\\n")
    assert not begin(mine, f"{folder}/").created
    (tmp_path / "link").symlink_to(folder)
    assert not begin(mine, tmp_path / "link", study=made.record.name).created


def test_a_folder_with_a_name_too_long_for_a_study_wants_another_for_that(mine: Home, tmp_path: Path) -> None:
    folder = pictures(tmp_path / ("x" * 255))
    assert "--study: a name of 255 bytes" in refused(lambda: begin(mine, folder), mine)
    assert begin(mine, folder, study="x").created


def test_a_path_that_is_not_utf8_is_refused(mine: Home, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "bad\udcff")
    assert refused(lambda: begin(mine, folder), mine) == (
        f"the path {tmp_path}/bad\\udcff is not UTF-8, and a study records it. Rename it, or give a link to it."
    )


@pytest.mark.parametrize("inside", [".", "runs", "a/runs"])
@pytest.mark.parametrize("before", ["", "hf:"])
def test_a_home_in_the_folder_itself_is_refused_since_what_is_made_there_would_be_read(
    tmp_path: Path, inside: str, before: str
) -> None:
    folder = pictures(tmp_path / "flowers")
    home = Home(folder / inside)
    (tmp_path / "link").symlink_to(folder)
    for given in (folder, tmp_path / "link"):
        line = refused(lambda given=given: begin(home, f"{before}{given}"), home)  # type: ignore[misc]
        assert line == (
            f"TUNING_HOME is {home.root}, inside of {given}: what is made there would be read as data. Set TUNING_HOME"
            " to a folder outside."
        )
    assert {file.name for file in folder.iterdir()} == {"a", "b"}
    assert inside != "runs" or not home.root.exists()


@pytest.mark.parametrize("given", ["", "hf:"])
def test_an_empty_path_names_nothing(mine: Home, given: str) -> None:
    with pytest.raises(BadInput, match="names no data"):
        prepare(given, mine)


def test_a_user_who_is_not_there_has_no_folder(mine: Home) -> None:
    assert "there is no " in refused(lambda: prepare("~nobody-of-this-name/flowers", mine), mine)
