"""Code in a bundle is the code that was exported, or nothing of it is run. No Keras."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from storage.errors import BadInput
from storage.files import sha256_of
from tuning.building import CODE, WEIGHTS, copy_code
from tuning.bundles.bundle import Bundle, open_bundle, replacing_bundle
from tuning.bundles.loading import load
from tuning.bundles.predict import predict
from tuning.user_classes import UserFile

MINE = "import blocks\nfrom parts.deep import layer\n"


def made(folder: Path) -> UserFile:
    """A user's file that imports a module and a package beside it, among others that it does not."""
    folder.mkdir()
    (folder / "parts").mkdir()
    for name, text in {
        "mine.py": MINE, "blocks.py": "", "parts/__init__.py": "", "parts/deep.py": "layer = 1", "thesis.py": "",
        "weights.npz": "",
    }.items():  # fmt: skip
        (folder / name).write_text(text)
    return UserFile(folder / "mine.py", "Mine")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    user_file, folder = made(tmp_path / "home"), tmp_path / "bundle"
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(b"weights")
    copy_code(user_file.path, folder)
    card: dict[str, Any] = {
        "input": {"shape": [28, 28, 1], "range": [0, 255], "preparation": "digit"}, "class_names": ["0", "1"],
        "model_sha256": sha256_of(folder / WEIGHTS), "building": {"model": user_file.name},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def code_of(bundle: Bundle) -> UserFile:
    assert bundle.code is not None
    return bundle.code


def test_a_copy_has_what_the_file_imports_from_its_folder_and_the_same_name(bundle: Path) -> None:
    there = {path.relative_to(bundle / CODE).as_posix() for path in (bundle / CODE).rglob("*.*")}
    assert there == {"mine.py", "blocks.py", "parts/__init__.py", "parts/deep.py"}
    code = code_of(open_bundle(bundle))
    assert code == UserFile(bundle / CODE / "mine.py", "Mine")
    assert code.name == made(bundle.parent / "again").name
    assert open_bundle(bundle).model == bundle / WEIGHTS


@pytest.mark.parametrize("file", ["mine.py", "blocks.py", "parts/deep.py"])
def test_code_that_was_changed_is_refused(bundle: Path, file: str) -> None:
    with (bundle / CODE / file).open("a") as stream:
        stream.write("\nimport os")
    with pytest.raises(BadInput, match=r"model_code holds 'mine.py:Mine@.*', the card says 'mine.py:Mine@.*Nothing of"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "file", ["blocks.so", "blocks.cpython-311-x86_64-linux-gnu.so", "parts/__pycache__/deep.cpython-311.pyc", "os.py"]
)
def test_what_python_would_import_unchecked_is_refused(bundle: Path, file: str) -> None:
    added = bundle / CODE / file
    added.parent.mkdir(exist_ok=True)
    added.write_bytes(b"")
    with pytest.raises(BadInput, match=f"holds what no export wrote: {added.name}.*Export|export the model again"):
        open_bundle(bundle)


def test_a_link_out_of_the_code_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (bundle / CODE / "extra").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="holds what no export wrote: extra"):
        open_bundle(bundle)


def test_a_card_that_names_a_file_elsewhere_reaches_none(bundle: Path) -> None:
    card = json.loads((bundle / "card.json").read_text())
    outside = UserFile(bundle.parent / "home" / "mine.py", "Mine").name
    card["building"]["model"] = f"../../home/{outside}"
    (bundle / "card.json").write_text(json.dumps(card))
    with pytest.raises(BadInput, match="the card says"):
        open_bundle(bundle)


def test_weights_or_code_that_are_gone_are_told(bundle: Path) -> None:
    (bundle / CODE / "mine.py").unlink()
    with pytest.raises(BadInput, match="holds no exported model"):
        open_bundle(bundle)
    (bundle / WEIGHTS).unlink()
    with pytest.raises(BadInput, match="holds no exported model"):
        open_bundle(bundle)


def test_nothing_is_run_unasked(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"is built by code in it, .*mine\.py, which is run only if you say so.*RUN_CODE=1"
    ):
        predict(bundle, [tmp_path / "never read.png"])
    with pytest.raises(BadInput, match=r"is built by .*mine\.py:Mine. Read that file, then give run_code=True"):
        load(bundle)


def test_a_bundle_with_code_is_replaced_like_any(bundle: Path) -> None:
    with replacing_bundle(bundle) as folder:
        (folder / "card.json").write_text("new")
    assert [entry.name for entry in bundle.iterdir()] == ["card.json"]
