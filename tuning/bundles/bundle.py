"""An exported model's folder: its files, how it comes to be in one step, and how it is opened. No Keras."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import BadInput, disk_error, no_room
from storage.files import sha256_of, sync_folder, sync_tree
from storage.scratch import scratch_folder
from storage.settings import MARK
from studies.datasets.info import PREPARATIONS, Preparation
from studies.form import FITS, Fit
from tuning.building import CODE, WEIGHTS, Building
from tuning.own_modules import files_of
from tuning.user_classes import UserFile

MODEL = "model.keras"
CARD = "card.json"
MODEL_CARD = "card.md"
METRICS = "metrics.json"
VALIDATION = "validation.json"
CONFUSION_MATRIX = "confusion_matrix.png"
LEARNING_CURVE = "learning_curve.png"

FORMATS = {
    "keras": MODEL,
    "tf_saved_model": "saved_model",
    "onnx": "model.onnx",
    "openvino": "model.xml",
    "litert": "model.tflite",
    "torch": "model.pt2",
}
"""What each of Keras's export formats is called in a bundle."""

# OpenVINO puts the weights beside the model.
_FIGURES = {CARD, MODEL_CARD, METRICS, VALIDATION, CONFUSION_MATRIX, LEARNING_CURVE}
_FILES = {*FORMATS.values(), "model.bin", WEIGHTS, CODE, *_FIGURES, MARK}

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@dataclass(frozen=True)
class Bundle:
    """What is needed to classify pictures with an exported model.

    Attributes:
        folder: where it is.
        class_names: one for each probability, in their order.
        shape: `(height, width, channels)` of a picture, in pixels; any other where it takes none.
        preparation: how a picture is made to look like the data set's.
        fit: how a photo of other proportions gets that shape.
        building: what the model is built of, where it is no file of Keras's own but weights beside a user's file.
    """

    folder: Path
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    preparation: Preparation
    fit: Fit
    building: Building | None = None

    @property
    def model(self) -> Path:
        """The Keras model's file, or its weights."""
        return self.folder / (MODEL if self.building is None else WEIGHTS)

    @property
    def code(self) -> UserFile | None:
        """The class that builds the model, where it is weights; its file was compared with what the card says."""
        return None if self.building is None else UserFile.named(self.building["model"], self.folder / CODE)


def open_bundle(folder: Path, *, pictures: bool = True) -> Bundle:
    """Return a bundle after comparing its model, and the code that builds it, with what its card says.

    Args:
        folder: the bundle's.
        pictures: whether one whose model takes anything else is refused.

    Raises:
        BadInput: there is no bundle, or it is damaged.
    """
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        takes, names, recorded = card["input"], card["class_names"], card["model_sha256"]
        shape: Any = tuple(map(int, takes["shape"]))
        # Cards of earlier versions do not say how: all pictures were cropped.
        preparation, fit = takes["preparation"], takes.get("fit", "crop")
        bundle = Bundle(folder, tuple(names), shape, preparation, fit, card.get("building"))
        found = sha256_of(bundle.model)
        changed = None if bundle.building is None else _changed(bundle.building, folder / CODE)
    except OSError as error:
        raise BadInput(
            f"{folder} holds no exported model: {error.strerror}: {error.filename}. Export one first."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder / CARD} is damaged: {error}. Export the model again.") from error
    if found != recorded or preparation not in PREPARATIONS or fit not in FITS:
        raise BadInput(f"{bundle.model} has SHA-256 {found}, its card says {recorded}. Export the model again.")
    if changed is not None:
        raise BadInput(f"{folder / CODE} {changed}. Nothing of it is run: export the model again.")
    if pictures and (len(shape) != 3 or takes["range"] != [0, 255]):
        raise BadInput(
            f"{bundle.model} takes {'x'.join(map(str, shape))} numbers, not pictures. Load it in Python with"
            " tuning.bundles.loading.load, and give it an array of these."
        )
    return bundle


def _changed(building: Building, folder: Path) -> str | None:
    """Return what is wrong with the code in a bundle; None if it is as it was exported."""
    code = UserFile.named(building["model"], folder)
    # Python would rather import a compiled module than the one that was recorded: nothing else may lie there.
    others = {path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()} - set(files_of(code.path))
    if others:
        return f"holds what no export wrote: {min(others).name}"
    return f"holds {code.name!r}, the card says {building['model']!r}" if code.name != building["model"] else None


@contextmanager
def replacing_bundle(target: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; at the end it is synced and takes the place of `target`, as a whole.

    On any exception `target` is as it was and nothing is left beside it.

    Raises:
        BadInput: `target` holds something else than a bundle, or its folder cannot be written.
        BadInput: there is no room.
    """
    target = target.resolve()
    _require_replaceable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(target) as folder:
            yield folder
            sync_tree(folder)
            _put_in_place(folder, target)
    except OSError as error:
        full = no_room(error, target, "Free some, or give another folder with --out.")
        fact = f"the bundle cannot be written to {target}"
        raise full or disk_error(error, fact, "Give another folder with --out.") from error


def _require_replaceable(target: Path) -> None:
    """A former bundle is replaced; what a user keeps there is not."""
    if not target.exists():
        return
    if not target.is_dir():
        raise BadInput(f"{target} is a file. Give a folder with --out.")
    others = sorted(entry.name for entry in target.iterdir() if entry.name not in _FILES)
    if others:
        raise BadInput(
            f"{target} holds what no export wrote: {', '.join(others[:3])}. It would be lost: move it away, or give"
            " another folder with --out."
        )


def _put_in_place(folder: Path, target: Path) -> None:
    """Afterwards `folder` is gone or holds the former bundle."""
    if not target.exists():
        folder.rename(target)
    elif not _exchanged(folder, target):
        with scratch_folder(target) as aside:
            former = aside / target.name
            target.rename(former)
            try:
                folder.rename(target)
            except BaseException:
                former.rename(target)
                raise
    sync_folder(target.parent)


def _exchanged(first: Path, second: Path) -> bool:
    """Exchange two folders in one step and return True; False where the system or its file system cannot.

    It is Linux's renameat2, which Python does not have: with two renames there is a moment without a bundle.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(second))
