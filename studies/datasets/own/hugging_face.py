"""A folder that Hugging Face's `datasets` has saved (`save_to_disk`): pictures as they were encoded, or numbers.

Nothing is downloaded, and nothing in the folder is run. The library is an extra of this project, imported here alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.errors import BadInput, first_line, shown
from studies.datasets.own.arrays import PART_NAMES, Arrays
from studies.datasets.own.listing import Listing, Part, PictureFile
from studies.datasets.own.numbers.labels import Labels, number_classes
from studies.datasets.own.numbers.values import BLOCK_BYTES, Values, convert
from studies.datasets.own.tables import LABELS, PATHS

_ROWS = 256
_LABELS = (*LABELS, "labels")
_UNKNOWN = -1  # what `datasets` has where a class is not told


def read_saved(folder: Path, scratch: Path) -> Listing | Arrays:
    """Return the examples of a folder written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`.

    Its classes are the column of type `ClassLabel`, or one named as those of a table are. Its examples are the column
    of type `Image`, or the one column of arrays, or all other columns where each is a number.

    Args:
        folder: as it was saved; only read.
        scratch: a folder that is made for pictures that were saved inside the tables, as files; it is the caller's to
            remove.

    Raises:
        BadInput: `datasets` is not installed, the folder is none of its, or its columns cannot be used.
        OSError: `scratch` cannot be written.
    """
    library = _library()
    remarks: list[str] = []
    parts = _parts(folder, library, remarks)
    label = _label_column(folder, parts["train"], library)
    parts, labels = _labelled(folder, parts, label, remarks)
    pictures = [name for name, kind in parts["train"].features.items() if isinstance(kind, library.Image)]
    if not pictures:
        return _arrays(folder, parts, labels, _number_columns(folder, parts["train"], label, remarks), remarks)
    if len(pictures) > 1:
        named = [name for name in pictures if name.lower() in PATHS]
        if len(named) != 1:
            raise BadInput(
                f"{shown(folder)} has {len(pictures)} columns of pictures: {', '.join(pictures)}. Keep one of them."
            )
        pictures = named
    files = {}
    for part, dataset in parts.items():
        undecoded = dataset.select_columns(pictures).cast_column(pictures[0], library.Image(decode=False))
        paths = list(_files(folder, undecoded, pictures[0], scratch / part))
        files[part] = tuple(map(PictureFile, paths, labels.parts[part].tolist()))
    return Listing(scratch, labels.class_names, files, tuple(remarks))


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise BadInput(
            f"hf:FOLDER is read with Hugging Face's package datasets, which cannot be imported ({first_line(error)}). "
            f"Install this project's extra, in its folder: .venv/bin/python -m pip install -e '.[datasets]'"
        ) from error
    datasets.disable_progress_bars()
    return datasets


def _parts(folder: Path, library: Any, remarks: list[str]) -> dict[Part, Any]:
    """The saved parts that have a name of ours."""
    try:
        saved = library.load_from_disk(str(folder))
    except Exception as error:  # of Arrow, of JSON, of the file system: the library lets all through
        raise BadInput(
            f"{shown(folder)} is no folder that datasets has saved ({first_line(error).rstrip('.')}). Write it with "
            "save_to_disk."
        ) from error
    if not isinstance(saved, Mapping):
        return {"train": saved}
    parts: dict[Part, Any] = {}
    for name, dataset in saved.items():
        part = PART_NAMES.get(str(name).lower())
        if part is None:
            remarks.append(f"passed over the split {shown(name)}, which is none of train, validation and test.")
        elif part in parts:
            raise BadInput(f"{shown(folder)} has two splits for {part}: {', '.join(saved)}. Keep one of them.")
        else:
            parts[part] = dataset
    if "train" not in parts:
        raise BadInput(f"{shown(folder)} has the splits {', '.join(saved)}. Name one of them train.")
    for part, dataset in parts.items():
        if set(dataset.features) != set(parts["train"].features):
            raise BadInput(
                f"{shown(folder)}: train has the columns {_columns(parts['train'])}, {part} has {_columns(dataset)}. "
                "Give all the same."
            )
    return parts


def _columns(dataset: Any) -> str:
    return shown(", ".join(dataset.features))


def _label_column(folder: Path, dataset: Any, library: Any) -> str:
    classes: list[str] = [name for name, kind in dataset.features.items() if isinstance(kind, library.ClassLabel)]
    among: list[str] = classes or list(dataset.features)
    named = [name for known in _LABELS for name in among if name.lower() == known]
    if named:
        return named[0]
    if len(classes) == 1:
        return classes[0]
    raise BadInput(
        f"{shown(folder)} has the columns {_columns(dataset)}, and which has the classes is not told. Name that one "
        "label."
    )


def _labelled(folder: Path, parts: dict[Part, Any], label: str, remarks: list[str]) -> tuple[dict[Part, Any], Labels]:
    """The parts that have labels, and these."""
    names = getattr(parts["train"].features[label], "names", None)
    given: dict[Part, npt.NDArray[Any]] = {}
    for part, dataset in parts.items():
        own = np.asarray(dataset.select_columns([label]).with_format("numpy")[:][label])
        if not len(own):
            raise BadInput(f"{shown(folder)}: {part} is empty. Give examples, or leave it out.")
        if names is not None and own.dtype.kind in "if":
            unknown = (own == _UNKNOWN) | ~np.isfinite(own)
            if part != "train" and unknown.all():
                remarks.append(f"passed over the split {part}, whose classes are not told.")
                continue
            if unknown.any():
                raise BadInput(
                    f"{shown(folder)}: {part} does not tell the class of row {int(np.argmax(unknown))} "
                    f"({int(unknown.sum())} in all). Remove these rows."
                )
            own = np.array(names, dtype=object)[own.astype(np.int64)]
        given[part] = own
    used = None
    if names is not None:
        met = set(np.concatenate(list(given.values())).tolist())
        used = [name for name in names if name in met]
        if len(used) < len(names):
            remarks.append(f"{len(names) - len(used)} of {len(names)} classes have no example, and are left out.")
    where = {part: f"{shown(folder)}: column {label!r} of {part}" for part in given}
    return {part: parts[part] for part in given}, number_classes(given, where, used)


def _files(folder: Path, dataset: Any, column: str, place: Path) -> Iterator[str]:
    """The paths of the pictures of a part, those that the table holds written into a folder first."""
    for start in range(0, dataset.num_rows, _ROWS):
        for number, saved in enumerate(dataset[start : start + _ROWS][column], start):
            content, path = (saved["bytes"], saved["path"]) if saved else (None, None)
            if content is None and path:
                # As the library takes it: from where the process is, where it is not absolute.
                yield str(Path(path).absolute())
                continue
            place.mkdir(parents=True, exist_ok=True)
            # One that is missing is an empty file: decoding counts it among those that cannot be read.
            file = place / f"{number:08d}{Path(path or '').suffix}"
            file.write_bytes(content or b"")
            yield f"{place.name}/{file.name}"


def _number_columns(folder: Path, dataset: Any, label: str, remarks: list[str]) -> list[str]:
    """The columns that make an example: the one of arrays, or all of numbers."""
    others = [name for name in dataset.features if name != label]
    first = dataset.with_format("numpy")[:1]
    arrays = [name for name in others if np.ndim(first[name]) > 1]
    if len(arrays) == 1:
        if len(others) > 1:
            remarks.append(f"passed over {', '.join(name for name in others if name not in arrays)}.")
        return arrays
    wrong = [name for name in others if name in arrays or np.asarray(first[name]).dtype.kind not in "biuf"]
    if wrong or not others:
        raise BadInput(
            f"{shown(folder)} has the columns {_columns(dataset)}, none of pictures or alone of arrays, and not all "
            f"others are numbers{': ' + ', '.join(wrong) if wrong else ''}. Keep one of pictures or of arrays, or "
            "numbers alone."
        )
    return others


def _arrays(folder: Path, parts: dict[Part, Any], labels: Labels, columns: list[str], remarks: list[str]) -> Arrays:
    values = {part: _values(f"{shown(folder)}: {part}", dataset, columns) for part, dataset in parts.items()}
    converted = convert(values, shown(folder))
    return Arrays(
        class_names=labels.class_names,
        parts={part: (x, labels.parts[part]) for part, x in converted.parts.items()},
        remarks=(*remarks, *converted.remarks),
        is_pictures=converted.is_pictures,
    )


def _values(name: str, dataset: Any, columns: list[str]) -> Values:
    numbers = dataset.select_columns(columns).with_format("numpy")
    rows = partial(_rows, numbers=numbers, columns=columns)
    first = rows(0, 1)
    shape = first.shape[1:]
    count = max(1, BLOCK_BYTES // max(1, first.nbytes))

    def blocks() -> Iterator[npt.NDArray[Any]]:
        for start in range(0, dataset.num_rows, count):
            block = rows(start, start + count)
            if block.shape[1:] != shape or block.dtype.kind not in "biuf":
                raise BadInput(
                    f"{name}: column {columns[0]!r} does not have numbers of one shape in all rows: the first has "
                    f"{shape}, and some of rows {start} to {start + len(block) - 1} another. Give all one shape."
                )
            yield block.reshape(-1)

    return Values(name, (dataset.num_rows, *shape), first.dtype, blocks)


def _rows(start: int, stop: int, *, numbers: Any, columns: list[str]) -> npt.NDArray[Any]:
    found = numbers[start:stop]
    if len(columns) == 1 and np.ndim(found[columns[0]]) > 1:
        return np.asarray(found[columns[0]])
    return np.column_stack([found[name] for name in columns])
