"""A folder with a folder of pictures for each class, listed.

    FOLDER/<class>/...                  the parts are split off later, or
    FOLDER/train/<class>/...            FOLDER/test/<class>/... and FOLDER/val/<class>/... may be there
                                        (also `valid` or `validation`; capitals do not matter)

Classes, their order, and the order of the files are those of `keras.utils.image_dataset_from_directory`: classes are
the sorted names of the folders, files are sorted by their folder and then by their name, by code points. What differs:

- A file is a picture by its first bytes, or claims to be one by its ending; Keras takes five endings. Other files are
  passed over. Whether a picture can be read, decoding finds out.
- Hidden files and folders are passed over at every depth.
- Links to folders are followed, wherever they lead; a folder is listed once in a class, so a loop ends.
- A class without pictures is refused, where Keras counts it: a label that none has.

Pipes, sockets and devices are never opened.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from storage.errors import BadInput, shown

Part = Literal["train", "validation", "test"]

# What a file claims to be by its ending: what is read, and pictures that are not, whose loss must not go unnoticed.
_READ = "png apng jpg jpeg jpe jfif webp bmp dib gif tif tiff"
_NOT_READ = "arw avif cr2 dng exr hdr heic heif ico j2k jp2 jxl nef pbm pgm pnm ppm psd raw svg tga"
_ENDINGS = frozenset(f".{ending}" for ending in f"{_READ} {_NOT_READ}".split())

_PARTS: dict[str, Part] = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}

_HEAD_BYTES = 18
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class PictureFile:
    """One picture of a listing.

    Attributes:
        path: relative to the listing's root, or absolute, with `/` between its parts; of a name that is not UTF-8,
            what is not has surrogates.
        label: of its class, from 0.
    """

    path: str
    label: int


@dataclass(frozen=True)
class Listing:
    """Pictures with their labels; none has been read.

    Attributes:
        root: the folder that the paths are relative to.
        class_names: one for each label.
        parts: `train`, and `validation` and `test` where they are given, each in its order.
        remarks: what is worth telling, a line each.
        anew: lists the same once more, so that a change meanwhile is noticed; None where that cannot be told.
    """

    root: Path
    class_names: tuple[str, ...]
    parts: Mapping[Part, tuple[PictureFile, ...]]
    remarks: tuple[str, ...] = ()
    anew: Callable[[], Listing] | None = field(default=None, compare=False, repr=False)


def list_folder(root: Path) -> Listing:
    """Return the pictures of a folder of class folders, see above.

    Raises:
        BadInput: it is not there or may not be read, has no classes or one only, pictures in no class folder, classes
            of other names in another part, or a class with fewer pictures than its parts.
    """
    passed = _Passed()
    top = _entries(root, "", passed)
    folders = _parts_among(root, [entry.name for entry in top if entry.is_folder])
    if folders is None:
        classes, files = _list_classes(root, "", top, passed)
        parts: dict[Part, tuple[PictureFile, ...]] = {"train": files}
    else:
        _refuse_loose_pictures(root, "", top, passed)
        passed.beside += [entry.name for entry in top if entry.is_folder and entry.name not in folders.values()]
        found = {
            part: _list_classes(root, name, _entries(root, name, passed), passed) for part, name in folders.items()
        }
        classes = found["train"][0]
        for part, (other, _) in found.items():
            _require_same_classes(classes, other, root / folders["train"], root / folders[part])
        parts = {part: files for part, (_, files) in found.items()}
    if len(classes) < 2:
        raise _one_class(root, folders["train"] if folders else "", classes[0])
    require_pictures(classes, parts)
    return Listing(root, classes, parts, passed.remarks(), lambda: list_folder(root))


def require_pictures(class_names: Sequence[str], parts: Mapping[Part, Iterable[PictureFile]]) -> None:
    """Refuse classes with too few pictures: each must be in every part, also in those that are split off `train`.

    Raises:
        BadInput: a class has too few; the message names it.
    """
    split_off = 2 - (len(parts) - 1)
    for part, files in parts.items():
        counts = Counter(file.label for file in files)
        least = 1 + split_off if part == "train" else 1
        few = [(counts[label], name) for label, name in enumerate(class_names) if counts[label] < least]
        if few:
            count, name = few[0]
            has = f"class {name!r} has {count or 'no'} picture{'s' * (count != 1)} in {part}"
            each = _and(["train", *(other for other in ("validation", "test") if other not in parts)])
            needs = f"needs {least}" + f": one for each of {each}" * (least > 1)
            more = f"; so it is with {len(few) - 1} more" if len(few) > 1 else ""
            raise BadInput(f"{has} and {needs}{more}. Add pictures, or take the class out.")


def require_same(before: Listing, now: Listing) -> None:
    """Refuse a listing that has changed while it was read.

    Raises:
        BadInput: files came or went.
    """
    if (now.class_names, now.parts) == (before.class_names, before.parts):
        return
    was = {(part, file.path) for part, files in before.parts.items() for file in files}
    are = {(part, file.path) for part, files in now.parts.items() for file in files}
    counts = ((len(are - was), "more"), (len(was - are), "fewer"))
    said = [f"{count:,} file{'s' * (count != 1)} {word}" for count, word in counts if count]
    raise changed(before.root, " and ".join(said) or "other classes")


def changed(root: Path, how: str) -> BadInput:
    """Return the error for a folder that is being written to."""
    return BadInput(f"{shown(root)} changed while it was read: {how}. Give the same command again when it is still.")


class _Entry(NamedTuple):
    name: str
    is_folder: bool


@dataclass
class _Passed:
    """What was passed over, counted."""

    hidden: int = 0
    broken: int = 0
    special: int = 0
    again: int = 0
    others: Counter[str] = field(default_factory=Counter)
    beside: list[str] = field(default_factory=list)

    def count_other(self, name: str) -> None:
        """Count a file that is no picture, by its ending."""
        self.others[os.path.splitext(name)[1].lower() or name] += 1

    def remarks(self) -> tuple[str, ...]:
        """Return a line for each kind."""
        others = sum(self.others.values())
        kinds = ", ".join(f"{count} {shown(kind)}" for kind, count in self.others.most_common(_MOST_NAMED))
        said = (
            (self.hidden, "hidden file or folder", "hidden files or folders", ""),
            (self.broken, "link that leads nowhere", "links that lead nowhere", ""),
            (self.special, "pipe, socket or device", "pipes, sockets or devices", ""),
            (self.again, "link to a folder that is listed already", "links to folders that are listed already", ""),
            (others, "file that is no picture", "files that are no pictures", f" ({kinds})"),
            (len(self.beside), "folder beside train", "folders beside train", f" ({_named(self.beside)})"),
        )
        return tuple(
            f"{count:,} {one if count == 1 else many} passed over{detail}" for count, one, many, detail in said if count
        )


def _entries(root: Path, folder: str, passed: _Passed) -> list[_Entry]:
    """What a folder has that may matter, sorted by name: folders and regular files, links to such among them."""
    found = []
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    passed.hidden += 1
                elif (is_folder := _is_folder(entry, passed)) is not None:
                    found.append(_Entry(entry.name, is_folder))
    except OSError as error:
        raise _not_listed(root, folder, error) from error
    return sorted(found)


def _is_folder(entry: os.DirEntry[str], passed: _Passed) -> bool | None:
    """Whether it is a folder; None of what is neither that nor a regular file."""
    try:
        if entry.is_dir() or entry.is_file():
            return entry.is_dir()
        os.stat(entry.path)
    except OSError:
        passed.broken += 1
    else:
        passed.special += 1
    return None


def _not_listed(root: Path, folder: str, error: OSError) -> BadInput:
    then = "of which everything can be read" if folder else "that holds a folder of pictures for each class"
    return BadInput(f"{shown(root / folder)} cannot be listed: {error.strerror}. Give a folder {then}.")


def _parts_among(root: Path, names: Sequence[str]) -> dict[Part, str] | None:
    """The folder of each part, `train` first; None where the folders are classes."""
    parts = [(_PARTS[name.lower()], name) for name in names if name.lower() in _PARTS]
    given = dict(reversed(parts))
    if "train" not in given:
        if parts and len(parts) == len(names):
            raise BadInput(f"{shown(root)} holds {_named(names)}, but no folder train. Add it, with the same classes.")
        return None
    if len(given) == 1 and len(names) > 1:
        return None  # `train` beside `car` and `plane`
    for part, name in given.items():
        if twice := [other for its, other in parts if its == part and other != name]:
            raise BadInput(f"{shown(root)} has two folders for {part}: {name} and {twice[0]}. Keep one of them.")
    return {part: given[part] for part in ("train", "validation", "test") if part in given}


def _list_classes(
    root: Path, folder: str, top: Sequence[_Entry], passed: _Passed
) -> tuple[tuple[str, ...], tuple[PictureFile, ...]]:
    """The classes of a part, and its files."""
    _refuse_loose_pictures(root, folder, top, passed)
    classes = tuple(entry.name for entry in top if entry.is_folder)
    if not classes:
        raise BadInput(
            f"{shown(root / folder)} holds no folders. Give a folder that holds a folder of pictures for each class."
        )
    for name in classes:
        if any("\udc80" <= letter <= "\udcff" for letter in name):
            # It is printed and written into files of text.
            raise BadInput(f"the class folder {shown(root / folder / name)} has a name that is not UTF-8. Rename it.")
    files = [
        PictureFile(path, label)
        for label, name in enumerate(classes)
        for path in _walk(root, os.path.join(folder, name), passed)
    ]
    return classes, tuple(files)


def _walk(root: Path, top: str, passed: _Passed) -> Iterable[str]:
    """The pictures of one class, in the order of Keras."""
    listed: dict[str, list[str]] = {}
    seen = {_identity(root, str(above)) for above in (root / top).resolve().parents}
    folders, links = [top], list[str]()
    while folders or links:
        # A folder goes before the links to it.
        folder = folders.pop() if folders else links.pop(0)
        if (identity := _identity(root, folder)) in seen:
            passed.again += 1
            continue
        seen.add(identity)
        listed[folder] = []
        for entry in _entries(root, folder, passed):
            path = os.path.join(folder, entry.name)
            if entry.is_folder:
                (links if os.path.islink(os.path.join(root, path)) else folders).append(path)
            elif _claims_to_be_picture(root, path):
                listed[folder].append(path)
            else:
                passed.count_other(entry.name)
    for folder in sorted(listed):
        yield from listed[folder]


def _identity(root: Path, folder: str) -> tuple[int, int]:
    try:
        known = os.stat(os.path.join(root, folder))
    except OSError as error:
        raise _not_listed(root, folder, error) from error
    return known.st_dev, known.st_ino


def _refuse_loose_pictures(root: Path, folder: str, top: Sequence[_Entry], passed: _Passed) -> None:
    loose = list[str]()
    for entry in top:
        if not entry.is_folder and _claims_to_be_picture(root, os.path.join(folder, entry.name)):
            loose.append(entry.name)
        elif not entry.is_folder:
            passed.count_other(entry.name)
    if loose:
        count = f"{len(loose):,} picture{'s' * (len(loose) != 1)}"
        # Of competitions the test part has no classes: those keep them to themselves.
        part = _PARTS.get(folder.lower())
        then = (
            f", or take {folder} away: {part} pictures are then split off train" if part not in (None, "train") else ""
        )
        raise BadInput(
            f"{shown(root / folder)} holds {count} in no class folder, {loose[0]!r} first. "
            f"Put each into a folder named for its class{then}."
        )


def _claims_to_be_picture(root: Path, path: str) -> bool:
    """Whether a regular file has a picture's ending or first bytes; who reads it finds out whether that may be."""
    if os.path.splitext(path)[1].lower() in _ENDINGS:
        return True
    try:
        # A pipe that took its place is not waited for.
        handle = os.open(os.path.join(root, path), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        return is_picture(os.read(handle, _HEAD_BYTES))
    except OSError:
        return True
    finally:
        os.close(handle)


def is_picture(head: bytes) -> bool:
    """Return whether a file's first bytes are those of a format that is read."""
    if head.startswith(b"BM"):  # two letters that a text may begin with: the size of the header behind them decides
        return int.from_bytes(head[14:18], "little") in (12, 16, 40, 52, 56, 64, 108, 124)
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    return head.startswith(
        (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    )


def _require_same_classes(classes: Sequence[str], other: Sequence[str], train: Path, folder: Path) -> None:
    lacks, has = sorted(set(classes) - set(other)), sorted(set(other) - set(classes))
    if lacks or has:
        said = [f"lacks {_named(lacks)}"] * bool(lacks) + [f"has {_named(has)} besides"] * bool(has)
        raise BadInput(
            f"the classes of {shown(folder)} are not those of {shown(train)}: it {' and '.join(said)}. "
            "Give both the same class folders."
        )


def _one_class(root: Path, folder: str, name: str) -> BadInput:
    inner = [entry for entry in _entries(root, os.path.join(folder, name), _Passed()) if entry.is_folder]
    then = "Give a folder with two class folders at least."
    if len(inner) > 1:
        then = f"If the classes are in it, give {shown(root / folder / name)}."
    return BadInput(f"{shown(root / folder)} holds one class only, {name!r}. {then}")


def _named(names: Sequence[str]) -> str:
    first = ", ".join(shown(name) for name in names[:_MOST_NAMED])
    return first + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
