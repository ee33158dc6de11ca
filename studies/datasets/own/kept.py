"""Prepared data of somebody's own: which a home holds, and which sources they were read from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from storage.errors import BadInput, shown
from storage.files import replacing
from storage.settings import Home
from studies.datasets.info import OwnDataset, SplitName
from studies.datasets.own.reference import Source
from studies.datasets.prepared import PreparedDataset, manifest_of, problem_with
from studies.form import Fit
from studies.spec import Images

SOURCES = "sources.json"
"""The file of a prepared folder that names the pictures that were read, with their checksums."""

_MOST_NAMED = 3


def digests_name(split: SplitName) -> str:
    """Return the name of the file with a digest of each image of a split, uint64 of shape ``(n,)``."""
    return f"{split}_digests.npy"


def digests_of(dataset: PreparedDataset, split: SplitName) -> npt.NDArray[np.uint64]:
    """Return a digest of each image of a split, ``(n,)``: two that are equal, pixel for pixel, have the same."""
    try:
        digests: npt.NDArray[np.uint64] = np.load(dataset.folder / digests_name(split), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"{dataset.folder} is damaged: {error}. Delete it and give the data again.") from error
    return digests


def as_asked(dataset: PreparedDataset, images: Images, source: Source | None = None) -> PreparedDataset:
    """Return prepared data as they are called, and may be mirrored, by who asks for them.

    The same pictures may have been prepared from another place before, and for somebody who says otherwise of mirrors.

    Args:
        dataset: what is prepared.
        images: the form that was asked for.
        source: where they are; by default where they were.
    """
    info = dataset.info
    assert isinstance(info, OwnDataset)
    info = replace(info, natural_images=may_be_mirrored(info.shape, info.class_names, images))
    if source is not None:
        info = replace(info, name=source.label, title=source.label, reference=str(source))
    return PreparedDataset(info, dataset.folder)


def may_be_mirrored(shape: Sequence[int], class_names: Sequence[str], images: Images) -> bool:
    """Return whether a mirrored picture keeps its class: where nobody says, if it is in colour and no digit or letter.

    Args:
        shape: of a picture, `(height, width, channels)`, or of an array that is none.
        class_names: one per label.
        images: what is said of their form.
    """
    if images.flips is not None:
        return images.flips
    return len(shape) == 3 and shape[2] == 3 and not all(len(name) == 1 or name.isdigit() for name in class_names)


def open_own(
    reference: str, home: Home, checksum: str, images: Images | None = None, *, verify: bool = False
) -> PreparedDataset:
    """Return prepared data of somebody's own, which have the checksum that a study records.

    Raises:
        BadInput: they are not prepared, or damaged.
    """
    found = with_checksum(home, checksum, verify=verify) if checksum else None
    if found is None:
        raise BadInput(
            f"{reference} is not prepared under {home.root} as the study has it. Give it again: make tune or make"
            f" data-prepare with DATASET={reference}"
        )
    return found if images is None else as_asked(found, images)


def own_prepared(home: Home) -> list[PreparedDataset]:
    """Return all data of somebody's own that are prepared, by the names of their folders; looks at sizes only."""
    found = map(_opened, home.own_datasets())
    return [dataset for dataset in found if dataset is not None]


def difference(before: PreparedDataset | None, now: PreparedDataset) -> str:
    """Return how data differ from those that a study was made with, in words; empty where these are not here."""
    if before is None:
        return ""
    then, since = _sources_of(before), _sources_of(now)
    changed = [name for name in then.keys() & since.keys() if then[name] != since[name]]
    parts = [
        _counted(sorted(since.keys() - then.keys()), "new"),
        _counted(sorted(then.keys() - since.keys()), "gone"),
        _counted(sorted(changed), "changed"),
    ]
    said = ", ".join(filter(None, parts))
    return f"since the study was made, of its pictures: {said}" if said else "their contents have changed"


def with_checksum(home: Home, checksum: str, *, verify: bool = False) -> PreparedDataset | None:
    """Return the prepared data of that checksum; None where they are not here, or damaged."""
    found = (_opened(folder, verify=verify) for folder in home.own_datasets(checksum))
    return next((dataset for dataset in found if dataset is not None and dataset.info.checksum == checksum), None)


def remembered(home: Home, key: str, stamp: str | None) -> PreparedDataset | None:
    """Return what a source was read into when its files had this stamp; None where it was not, or is not here."""
    try:
        before = json.loads(home.read_before(key).read_text(encoding="utf-8"))
        return with_checksum(home, before["checksum"]) if stamp is not None and stamp == before["stamp"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(home: Home, key: str, stamp: str | None, dataset: PreparedDataset) -> None:
    """Remember what a source was read into.

    Raises:
        OSError: the home cannot be written.
    """
    assert isinstance(dataset.info, OwnDataset)
    file = home.read_before(key)
    file.parent.mkdir(exist_ok=True)
    said = {"source": dataset.info.reference, "stamp": stamp, "checksum": dataset.info.checksum}
    with replacing(file) as beside:
        beside.write_text(json.dumps(said), encoding="utf-8")


def described(info: OwnDataset) -> dict[str, Any]:
    """Return what a manifest says of data of somebody's own, beside what it says of all."""
    return {
        "reference": info.reference,
        "shape": list(info.shape),
        "dtype": info.dtype,
        "natural_images": info.natural_images,
        "fit": info.fit,
        "given_validation": info.given_validation,
        "counts": dict(info.counts),
    }


def _opened(folder: Path, *, verify: bool = False) -> PreparedDataset | None:
    manifest = manifest_of(folder)
    if manifest is None or not isinstance(own := manifest.get("own"), dict):
        return None
    try:
        info = OwnDataset(
            name=manifest["name"],
            title=manifest["name"],
            shape=tuple(own["shape"]),
            dtype=own["dtype"],
            class_names=tuple(manifest["classes"]),
            natural_images=own["natural_images"],
            fit=cast(Fit, own["fit"]),
            reference=own["reference"],
            content=manifest["checksum"],
            counts=cast("dict[SplitName, int]", own["counts"]),
            given_validation=own["given_validation"],
        )
    except (KeyError, TypeError):
        return None
    return None if problem_with(folder, info.checksum, verify=verify) else PreparedDataset(info, folder)


def _sources_of(dataset: PreparedDataset) -> dict[str, str]:
    """The checksum of each picture's file, by its path."""
    try:
        found = json.loads((dataset.folder / SOURCES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {path: digest for files in found.values() for path, digest in files}


def _counted(names: Sequence[str], how: str) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _MOST_NAMED else ""
    return f"{len(names):,} {how} ({', '.join(map(shown, names[:_MOST_NAMED]))}{more})"
