"""A data set made ready to train on, whichever it is: fetched or found, verified, decoded, kept."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from storage.errors import BadInput
from storage.prepared.own_data import keep
from storage.scratch import scratch_folder, write_error
from storage.settings import Home
from studies.datasets.formats import read_images, read_labels
from studies.datasets.info import DatasetInfo, SplitName
from studies.datasets.own.kept import as_asked, open_own, with_checksum
from studies.datasets.own.preparing import prepare_own
from studies.datasets.own.reference import Source, source_of
from studies.datasets.prepared import (
    SPLITS,
    PreparedDataset,
    SplitArrays,
    problem_with,
    publish,
    write_manifest,
    write_splits,
)
from studies.datasets.registry import DATASETS, OfficialDataset
from studies.datasets.sources import Found, fetch
from studies.spec import Images

Report = Callable[[str], None]


def say(line: str) -> None:
    """Print a line to stderr."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def meant(reference: str) -> OfficialDataset | Source:
    """Return what a data set's name or path means. Nothing is read but the file's kind.

    Raises:
        BadInput: it is neither the name of a data set nor a path of data that can be read.
    """
    return DATASETS[reference] if reference in DATASETS else source_of(reference, names=DATASETS)


def prepare(
    reference: str,
    home: Home,
    *,
    images: Images | None = None,
    checksum: str | None = None,
    data_dir: Path | None = None,
    report: Report = say,
) -> PreparedDataset:
    """Return a data set, fetching, verifying and decoding it unless that is done.

    Any number of processes may call this at once: each does the work, the first to finish is kept.

    Args:
        reference: its name, or the path of data of one's own.
        home: where it is kept.
        images: the form that pictures of one's own are given.
        checksum: of data of one's own, as a study records it: where such are prepared, their source is not looked at.
        data_dir: a folder with the official files; the environment's ``DATA_DIR`` by default.
        report: called with one line about each step that takes time.

    Raises:
        BadInput: there is no such data set, ``data_dir`` holds wrong files, no source has it, or the home cannot be
            written, or there is no room for it; or one's own data are not as they must be.
        TuningError: the disk fails.
    """
    if checksum is not None and reference not in DATASETS and (known := with_checksum(home, checksum)) is not None:
        keep(known.folder)
        return as_asked(known, images or Images())
    found = meant(reference)
    if isinstance(found, Source):
        own = prepare_own(found, images or Images(), home, report=report)
        keep(own.folder)
        return own
    require_no_form(found, images)
    target = home.dataset(found.name)
    if problem_with(target, found.checksum) is not None:
        _decode(found, fetch(found, home, data_dir=data_dir, report=report), home, target, report)
    return PreparedDataset(found, target)


def open_prepared(
    reference: str, home: Home, *, images: Images | None = None, checksum: str | None = None, verify: bool = False
) -> PreparedDataset:
    """Return a data set that has been prepared.

    Args:
        reference: its name, or the path of data of one's own.
        home: where it is kept.
        images: the form that pictures of one's own were given.
        checksum: of data of one's own, as a study records it.
        verify: read every byte and compare checksums, rather than the files' sizes only.

    Raises:
        BadInput: there is no such data set, it has not been prepared, or its files are damaged.
    """
    if reference not in DATASETS:
        return open_own(reference, home, checksum or "", images, verify=verify)
    info = DATASETS[reference]
    folder = home.dataset(info.name)
    if problem := problem_with(folder, info.checksum, verify=verify):
        raise BadInput(f"{info.title} is not prepared: {problem}. Run `tuning data prepare {info.name}`.")
    return PreparedDataset(info, folder)


def require_no_form(info: DatasetInfo, images: Images | None) -> None:
    """Refuse to give the pictures of a published data set another form.

    Raises:
        BadInput: another form was asked for.
    """
    if images is not None and images != Images():
        size = "x".join(map(str, info.shape[:2]))
        raise BadInput(
            f"{info.name} has pictures of {size} pixels as its authors made them: IMAGE_SIZE, FIT and FLIPS are for"
            " pictures of your own. Leave them out."
        )


def _decode(info: OfficialDataset, found: Found, home: Home, target: Path, report: Report) -> None:
    report(f"{info.title}: verified, from {found.where}; decoding to {target}")
    home.make(target.parent)
    splits = {split: _arrays(info, found, split) for split in SPLITS}
    try:
        with scratch_folder(target) as scratch:
            write_manifest(scratch, info, found.where, write_splits(scratch, splits))
            publish(scratch, target, info.checksum)
    except OSError as error:
        needed_bytes = sum(arrays.size_bytes for arrays in splits.values())
        raise write_error(error, target.parent, needed_bytes=needed_bytes) from error


def _arrays(info: OfficialDataset, found: Found, split: SplitName) -> SplitArrays:
    own = [file for file in info.files if file.split == split]
    images = [read_images(info, file, found.contents[file.name]) for file in own if file.content != "labels"]
    labels = [read_labels(info, file, found.contents[file.name]) for file in own if file.content != "images"]
    shape = (sum(map(len, images)), *info.shape)
    return SplitArrays(shape, "uint8", partial(iter, images), np.concatenate(labels))
