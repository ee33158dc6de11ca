"""Trained models to begin with: what the command line means, where their files are, and when they are freed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from storage import attributes
from storage.database import Database
from storage.errors import BadInput
from storage.files import sha256_of
from storage.leftovers import DATA_MIN_AGE_S, find_leftovers, free
from storage.prepared.bases import find_base, is_base, keep_base, recorded_as
from storage.settings import Home
from tests.studies_made import age, varied
from tuning.cli import run
from tuning.machine.bases import PUBLISHED, BaseFile, base_meant, recorded_file

database = varied

MOBILE = "keras.applications:MobileNetV2"


def meant(text: str, home: Home, weights: Path | None = None, keras_home: Path | None = None) -> BaseFile | None:
    return base_meant(text, weights, home, {"KERAS_HOME": str(keras_home or home.root / "nothing")})


def refused(text: str, home: Home, weights: Path | None = None) -> str:
    with pytest.raises(BadInput) as raised:
        meant(text, home, weights)
    said = str(raised.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("model", "base"),
    [
        (MOBILE, True),
        (f"{MOBILE}@0123456789abcdef", True),
        ("some/where/mine.keras", True),
        ("mine.keras@0123456789abcdef", True),
        ("mi@ne.keras", True),
        ("cnn", False),
        ("keras_tuner:HyperResNet", False),
        ("my.keras.py:Net@0123456789abcdef", False),
        ("mine.keras.py:Net", False),
    ],
)
def test_a_base_is_told_by_its_name(model: str, base: bool) -> None:
    assert is_base(model) == base


def test_weights_are_those_that_are_given_or_those_in_kerass_cache(mine: Home, tmp_path: Path) -> None:
    cached = tmp_path / "keras" / "models" / PUBLISHED["MobileNetV2"]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"published")
    given = tmp_path / "mine.weights.h5"
    given.write_bytes(b"own")
    by_name, by_file = (meant(MOBILE, mine, weights, tmp_path / "keras") for weights in (None, given))
    assert by_name is not None and by_file is not None
    assert (by_name.path, by_name.published) == (cached, True)
    assert (by_file.path, by_file.published) == (given, False)
    assert by_name.name == f"{MOBILE}@{sha256_of(cached)[:16]}" != by_file.name


def test_what_cannot_be_had_is_refused_at_once_with_its_place_and_the_cure(mine: Home, tmp_path: Path) -> None:
    place = mine.root / "nothing" / "models" / PUBLISHED["MobileNetV2"]
    assert refused(MOBILE, mine) == (
        f"the weights of MobileNetV2 are not at {place}, and nothing is downloaded. Where there is a network, python -c"
        ' "import keras; keras.applications.MobileNetV2(include_top=False)" fetches them: copy the file there, or give'
        " it with --base-weights (make: BASE_WEIGHTS=)."
    )
    missing = tmp_path / "no.weights.h5"
    assert f"there is no file {missing}. Give one with the weights of MobileNetV2" in refused(MOBILE, mine, missing)
    unknown = refused("keras.applications:MobileNetv2", mine)
    assert unknown.startswith("unknown model of keras.applications 'MobileNetv2'. Did you mean 'MobileNetV2'?")
    assert "there is no file" in refused(str(tmp_path / "no.keras"), mine)
    saved = tmp_path / "a.keras"
    saved.write_bytes(b"")
    assert "has its weights in it" in refused(str(saved), mine, missing)
    assert "not for cnn" in refused("cnn", mine, missing)


def test_weights_given_for_a_study_that_is_there_are_those_that_it_was_begun_with(mine: Home, tmp_path: Path) -> None:
    file, other = tmp_path / "own.weights.h5", tmp_path / "other.weights.h5"
    file.write_bytes(b"own")
    other.write_bytes(b"other")
    begun = meant(MOBILE, mine, file)
    assert begun is not None
    assert meant(begun.name, mine, file) == begun
    said = refused(begun.name, mine, other)
    assert f"begins with {sha256_of(other)[:16]}, and the study begins with {begun.name}. Give the file" in said
    assert "there is no file" in refused(begun.name, mine, tmp_path / "no.weights.h5")
    assert "has its weights in it" in refused("mine.keras@0123456789abcdef", mine, file)


def test_what_a_database_names_is_a_model_of_keras_or_refused(mine: Home, tmp_path: Path) -> None:
    file = tmp_path / "a.h5"
    file.write_bytes(b"weights")
    keep_base(mine, file, sha256_of(file))
    name = recorded_as("keras.applications:Nobodys", sha256_of(file))
    with pytest.raises(BadInput, match=r"unknown model of keras\.applications 'Nobodys'"):
        recorded_file(name, mine, {})


def test_a_file_that_changes_while_it_is_copied_is_not_kept(mine: Home, tmp_path: Path) -> None:
    file = tmp_path / "a.keras"
    file.write_bytes(b"a model, trunc")
    checksum = hashlib.sha256(b"a model, truncated no more").hexdigest()
    with pytest.raises(BadInput, match=r"a\.keras was changed while it was copied\. Start again"):
        keep_base(mine, file, checksum)
    assert [*mine.base(checksum).iterdir()] == []


def test_the_command_refuses_it_before_anything_is_made(mine: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tune", "--dataset", "mnist_sample", "--model", MOBILE]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the weights of MobileNetV2 are not at ")
    assert said.count("\n") == 1
    assert not list(mine.root.rglob("*.db"))


def test_a_study_s_base_is_found_in_the_home_or_in_the_cache_by_what_is_in_it(mine: Home, tmp_path: Path) -> None:
    file = tmp_path / "mine.keras"
    file.write_bytes(b"a model")
    base = meant(str(file), mine)
    assert base is not None
    with pytest.raises(BadInput, match=r"mine\.keras@\w{16}, and no file here has a SHA-256 that begins with \w{16}"):
        recorded_file(base.name, mine, {})
    base.keep(mine)
    base.keep(mine)
    file.unlink()
    kept = meant(base.name, mine)
    assert kept == BaseFile(base.name, mine.base(base.checksum) / "mine.keras", base.checksum)
    kept.path.write_bytes(b"another")
    assert find_base(mine, base.checksum[:16]) is None

    cached = tmp_path / "models" / PUBLISHED["VGG16"]
    cached.parent.mkdir()
    cached.write_bytes(b"published")
    name = recorded_as("keras.applications:VGG16", sha256_of(cached))
    found = recorded_file(name, mine, {"KERAS_HOME": str(tmp_path)})
    assert (found.path, found.published) == (cached, True)
    cached.write_bytes(b"another version")
    with pytest.raises(BadInput, match="no file here has"):
        recorded_file(name, mine, {"KERAS_HOME": str(tmp_path)})


def test_what_a_killed_process_left_beside_a_base_is_no_base(mine: Home, tmp_path: Path) -> None:
    file = tmp_path / "a.keras"
    file.write_bytes(b"a model")
    checksum = sha256_of(file)
    mine.make(mine.base(checksum)).joinpath(".a-0123abcd.keras").write_bytes(b"a mo")
    assert find_base(mine, checksum[:16]) is None
    assert keep_base(mine, file, checksum) == find_base(mine, checksum[:16])


def test_gc_frees_bases_that_no_study_begins_with_and_features_after_a_month(
    database: Database, mine: Home, tmp_path: Path
) -> None:
    places = []
    for content in (b"recorded", b"not"):
        file = tmp_path / f"{content.decode()}.keras"
        file.write_bytes(content)
        places.append(keep_base(mine, file, sha256_of(file)))
    recorded, other = places
    study_id = database.get_study_id_from_name("mnist")
    name = recorded_as("recorded.keras", recorded.parent.name)
    database.set_study_user_attr(study_id, attributes.SPEC, {"model": name})
    features = mine.make(mine.features) / "0.npy"
    features.write_bytes(bytes(8))

    def left() -> set[Path]:
        kinds = ("bases", "features")
        return {Path(one.place) for one in find_leftovers(mine, [database]).free if one.kind in kinds}

    assert left() == set()
    for one in (recorded, other, recorded.parent, other.parent, features):
        age(one, 1.1 * DATA_MIN_AGE_S)
    assert left() == {other.parent, features}
    os.utime(features)
    assert left() == {other.parent}
    free(find_leftovers(mine, [database]).free)
    assert recorded.exists() and not other.parent.exists()
