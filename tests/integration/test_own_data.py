"""Data of one's own through the command line: from a folder, an npz or a table to a prediction."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage import attributes
from storage.claims import Claims
from storage.opening import open_database
from storage.settings import Home
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import prepare
from tests.integration.command_line import CommandLine
from tests.pages.page import ROOT, Page

DATA = Page.read("studies/datasets/README.md")
DIGITS = ROOT.parent / "shared" / "data" / "image_folder" / "hwd1000_digits"
SHORT = ("--trials", "1", "--epochs", "1", "--workers", "1", "--search-only")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PreparedDataset]:
    home = Home(tmp_path_factory.mktemp("samples"))
    return {name: prepare(name, home, report=lambda _: None) for name in ("mnist_sample", "cifar10_sample")}


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "home")


def write_folder(folder: Path, dataset: PreparedDataset, per_class: int, ending: str) -> list[Path]:
    """Write the first pictures of each class as files, a folder for each class."""
    files = []
    for label, name in enumerate(dataset.info.class_names):
        for row in np.flatnonzero(dataset.train_labels == label)[:per_class]:
            file = folder / name / f"{row:05d}.{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.squeeze(dataset.train_images[row])).save(file, quality=95)
            files.append(file)
    return files


@pytest.mark.slow
@pytest.mark.keras
def test_the_walk_from_a_folder_to_a_prediction_goes_as_printed(
    samples: dict[str, PreparedDataset], tmp_path: Path
) -> None:
    folder = tmp_path / "digits"
    write_folder(folder, samples["mnist_sample"], 40, "png")
    commands, shown = DATA.blocks("console")[0], DATA.blocks("text")[0]
    printed = [line.removeprefix("$ ") for line in commands.splitlines()]
    said = ""
    environment = {**os.environ, "TUNING_HOME": str(tmp_path / "home")}
    for line in printed:
        words = [str(folder).join(word.split("./digits")) for word in shlex.split(line)]
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    assert done.stdout.count("%  ") == 5  # the probabilities of five classes
    for line in shown.splitlines():
        if line and not line.startswith(("$", "...", "study ")):
            assert line in said, line
    metrics = json.loads((tmp_path / "home" / "exports" / "digits" / "metrics.json").read_text())
    assert sum(of["support"] for of in metrics["test"]["per_class"]) == 60
    assert metrics["test"]["accuracy"] > 0.6


@pytest.mark.slow
@pytest.mark.keras
def test_photographs_with_a_broken_a_cmyk_and_a_turned_one_among_them(
    samples: dict[str, PreparedDataset], command: CommandLine, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    files = write_folder(folder / "train", samples["cifar10_sample"], 30, "jpg")
    test = write_folder(folder / "test", samples["cifar10_sample"], 10, "jpg")
    files[0].write_bytes(files[0].read_bytes()[:300])
    with Image.open(files[1]) as image:
        image.convert("CMYK").save(files[1])
    turned = Image.Exif()
    turned[0x0112] = 6
    with Image.open(files[2]) as image:
        image.load()
        image.rotate(90).save(files[2], exif=turned)
    finished = command.run("tune", "--dataset", str(folder), *SHORT)
    assert f"airplane/{files[0].name}" in finished.stderr
    assert "100 kept for the test" not in finished.stderr  # they were given
    # All were given twice; some of the others are validated on, and three are not the same pixel for pixel.
    twice = re.search(r"warning: (\d+) test pictures are training pictures, too", finished.stderr)
    assert twice is not None and 50 < int(twice[1]) < 97
    dataset = prepare(str(folder), Home(command.home), report=lambda _: None)
    assert dataset.info.shape == (32, 32, 3)
    assert (dataset.info.images("train"), dataset.info.images("test")) == (299, 100)
    again = command.run("tune", "--dataset", str(folder), "--epochs", "1")
    assert "nothing to do: 1 of 1 trials are finished" in again.stderr
    files[3].unlink()
    changed = command.run("tune", "--dataset", str(folder), "--epochs", "1", status=2)
    assert f"1 gone (train/airplane/{files[3].name})" in changed.stderr
    # What it was made with is kept: the study can still be exported.
    command.run("export", "--study", "photos", "--format", "keras")
    (said,) = command.json("predict", "--study", "photos", "--json", str(test[0]))
    assert len(said["classes"]) == 5


@pytest.mark.slow
@pytest.mark.keras
def test_arrays_and_both_forms_of_a_table_are_the_same_data_and_are_tuned_on(
    samples: dict[str, PreparedDataset], command: CommandLine, tmp_path: Path
) -> None:
    digits = samples["mnist_sample"]
    images, labels = np.asarray(digits.train_images[::8]), digits.train_labels[::8]
    arrays, pixels, paths = (tmp_path / name for name in ("arrays.npz", "pixels.csv", "paths.csv"))
    np.savez(arrays, x_train=images, y_train=labels)
    write_table(
        pixels,
        ["label", *(f"pixel{number}" for number in range(784))],
        [[label, *image.ravel()] for image, label in zip(images, labels, strict=True)],
    )
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(tmp_path / f"{number}.png")
    write_table(paths, ["path", "label"], [[f"{number}.png", label] for number, label in enumerate(labels)])
    for file in (arrays, pixels, paths):
        command.run("data", "prepare", str(file))
        dataset = prepare(str(file), Home(command.home), report=lambda _: None)
        assert np.array_equal(dataset.train_images, images)
        assert np.array_equal(dataset.train_labels, labels)
        assert dataset.info.class_names == tuple("0123456789")
    finished = command.run("tune", "--dataset", str(paths), *SHORT)
    assert "paths: 180 training and 32 validation images, 38 kept for the test" in finished.stderr
    (trial,) = command.study("paths").trials
    assert trial.value is not None


def write_table(file: Path, head: list[str], lines: list[list[object]]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([head, *lines])


def small_folder(folder: Path) -> Path:
    for label, name in enumerate("ab"):
        for number in range(20):
            pixels = np.random.default_rng(number).integers(0, 100, (12, 12), dtype=np.uint8) + 150 * label
            file = folder / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    return folder


@pytest.mark.slow
@pytest.mark.keras
def test_a_study_goes_on_is_exported_and_predicts_where_its_folder_is_not(command: CommandLine, tmp_path: Path) -> None:
    folder = small_folder(tmp_path / "two words")
    command.run("tune", "--dataset", str(folder), *SHORT)
    backup = command.run("backup", "--out", str(tmp_path / "copy"))
    # Its worst mistakes are among them where it made any.
    assert re.search(r"1 trials, [45] artifacts, 0 checkpoints, the data, ", backup.stderr)
    picture = (folder / "a" / "0.png").rename(tmp_path / "picture.png")
    shutil.rmtree(folder)
    shutil.rmtree(command.home)
    elsewhere = CommandLine(tmp_path / "elsewhere")
    elsewhere.run("restore", str(tmp_path / "copy"))
    again = elsewhere.run("tune", "--study", "two words", "--trials", "2")
    assert f"two words: {folder} is not there; going on with what was read of it" in again.stderr
    assert "2 of 2 trials finished" in again.stderr
    elsewhere.run("export", "--dataset", str(folder), "--format", "keras")
    (said,) = elsewhere.json("predict", "--study", "two words", "--json", str(picture))
    assert {one["label"] for one in said["classes"]} == {"a", "b"}


@pytest.mark.slow
@pytest.mark.keras
def test_a_worker_of_another_home_has_the_data_of_the_study_or_says_how_to_have_them(
    command: CommandLine, tmp_path: Path
) -> None:
    folder = small_folder(tmp_path / "flowers")
    command.run("tune", "--dataset", str(folder), *SHORT)
    joins = ("worker", "--study", "flowers", "--storage", command.url)

    def another_trial(total: int) -> None:
        database = open_database(command.url)
        claims = Claims(database, database.get_study_id_from_name("flowers"), owner="test")
        claims.set_budget(total, {attributes.BUDGET_EPOCHS: total})
        database.engine.dispose()

    another_trial(2)
    same_path = CommandLine(tmp_path / "same_path")
    same_path.run(*joins)
    assert len(Home(same_path.home).own_datasets()) == 2  # the data, and what says from where
    another_trial(3)
    folder.rename(tmp_path / "moved")
    other = CommandLine(tmp_path / "other")
    refused = other.run(*joins, status=2)
    assert refused.stderr.splitlines()[-1] == (
        f"error: study 'flowers' trains on {folder}, and here is neither that nor what was read of it. Bring its data"
        " to this place, or prepare them from where they are: tuning data prepare PATH"
    )
    other.run("data", "prepare", str(tmp_path / "moved"))
    other.run(*joins)
    assert [trial.state.name for trial in command.study("flowers").trials] == ["COMPLETE"] * 3


@pytest.mark.long
@pytest.mark.keras
@pytest.mark.skipif(not DIGITS.is_dir(), reason=f"there is no {DIGITS}")
def test_a_thousand_drawings_are_read_right(command: CommandLine) -> None:
    command.run("tune", "--dataset", str(DIGITS))
    command.run("export", "--dataset", str(DIGITS), "--format", "keras")
    metrics = json.loads((command.home / "exports" / DIGITS.name / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] >= 0.95
