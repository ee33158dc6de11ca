"""What a process does that decodes pictures: it takes tasks as lines of JSON, and answers each with one.

A chunk of pictures becomes two files, each whole or not there: an array, `<name>.npy`, uint8 of shape
`(kept, height, width, 1 or 3)`, and beside it `<name>.json`, written last, which says what every picture of the chunk
was read from and why some are left out. A chunk that is there already, for the same files as they are now, is taken
over.

Started as `python -m studies.datasets.own.decoders.chunks`; it ends with its input. It imports what decodes, and little
else.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt
import PIL

from storage.errors import in_one_line
from storage.files import sha256_of
from studies.datasets.own.pictures import UnreadablePicture, fitted, has_colour, open_picture, picture_size
from studies.form import Fit

LAYOUT = 1
"""The version of a chunk's files; one of another version is decoded again."""

MOST_BYTES = 1 << 30
"""A larger file is not read: it would not fit into memory beside its pixels."""

_LEAST_READ_BYTES = 1 << 12
_READ_AT_ONCE_BYTES = 1 << 18

_NOT_READ = (-1, -1)


class Options(TypedDict):
    """What decides pixels, besides the files: the size wanted, how a picture is fitted to it, and who decodes it."""

    height: int
    width: int
    fit: Fit
    pillow: str
    layout: int


class Task(TypedDict):
    """Pictures, and what is wanted of them.

    Attributes:
        do: `sizes`, to which `Sizes` answers, or `decode`, to which `Done` does.
        root: the folder that the paths are relative to.
        paths: the pictures'.
        chunk: the path of the chunk's files, without their ending; empty with `sizes`.
        options: of decoding; None with `sizes`.
        careful: say the place of each picture before it is touched, since one of them ended a process.
        given_up: the places of those that did, with the reason to leave them out.
    """

    do: Literal["sizes", "decode"]
    root: str
    paths: list[str]
    chunk: str
    options: Options | None
    careful: bool
    given_up: dict[str, str]


class At(TypedDict):
    """The place of the picture that is next, not an answer yet."""

    at: int


class Sizes(TypedDict):
    """How many pictures have a size: `[height, width, count]` of each; those that cannot be read are left out."""

    sizes: list[list[int]]


class Done(TypedDict):
    """The chunk is there; whether it was before."""

    taken_over: bool


class Failed(TypedDict):
    """The task could not be done: `errno` with its words where the operating system refused, 0 otherwise."""

    errno: int
    words: str


Answer = At | Sizes | Done | Failed


class Entry(TypedDict):
    """What a picture of a chunk was read from.

    Attributes:
        path: relative to the root.
        size_bytes, mtime_ns: of the file that was read; -1 where it could not be.
        sha256: of its bytes, hexadecimal; empty where they were not read to their end.
        reason: why it is left out of the array; None of one that is in it.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    sha256: str
    reason: str | None


class Chunk(TypedDict):
    """The second file of a chunk: what the array is of, how many channels it has, and its file's SHA-256."""

    root: str
    options: Options
    entries: list[Entry]
    channels: int
    sha256: str


def options(size: tuple[int, int], fit: Fit) -> Options:
    """Return the options that these are, with the versions here."""
    return {"height": size[0], "width": size[1], "fit": fit, "pillow": PIL.__version__, "layout": LAYOUT}


def array_file(chunk: str | Path) -> Path:
    """Return the file of a chunk's pixels."""
    return Path(f"{chunk}.npy")


def entries_file(chunk: str | Path) -> Path:
    """Return the file that says what a chunk's pixels are of."""
    return Path(f"{chunk}.json")


def measure(task: Task, say: Callable[[At], None]) -> Sizes:
    """Return the sizes of the pictures that have one."""
    counts = Counter[tuple[int, int]]()
    for path in _each(task, say):
        if path is not None:
            try:
                counts[_size(task["root"], path)] += 1
            except (OSError, UnreadablePicture):
                continue  # decoding will say why
    return {"sizes": [[height, width, count] for (height, width), count in sorted(counts.items())]}


def _size(root: str, path: str) -> tuple[int, int]:
    handle, known = _open(root, path)
    os.close(handle)
    # Of a large file the beginning is enough.
    source = _read(root, path)[0] if known.st_size <= _READ_AT_ONCE_BYTES else Path(root, path)
    return picture_size(source, path)


def make_chunk(task: Task, say: Callable[[At], None]) -> Done:
    """Decode the pictures and write the chunk, unless it is there.

    Raises:
        OSError: it cannot be written.
    """
    assert task["options"] is not None
    if _is_there(task):
        return {"taken_over": True}
    wanted = task["options"]
    pixels = np.empty((len(task["paths"]), wanted["height"], wanted["width"], 3), dtype=np.uint8)
    entries, kept, colour = list[Entry](), 0, False
    for place, path in enumerate(_each(task, say)):
        entry = _unread(task, place)
        if path is not None and (decoded := _decode(task["root"], entry, wanted)) is not None:
            pixels[kept] = decoded
            kept, colour = kept + 1, colour or decoded.shape[2] == 3
        entries.append(entry)
    channels = 3 if colour else 1
    array = io.BytesIO()
    np.lib.format.write_array(array, pixels[:kept, :, :, :channels], allow_pickle=False)
    about: Chunk = {
        "root": task["root"],
        "options": wanted,
        "entries": entries,
        "channels": channels,
        "sha256": hashlib.sha256(array.getbuffer()).hexdigest(),
    }
    _write(array_file(task["chunk"]), array.getbuffer())
    _write(entries_file(task["chunk"]), json.dumps(about).encode("ascii"))
    return {"taken_over": False}


def _each(task: Task, say: Callable[[At], None]) -> Iterator[str | None]:
    """The paths in their order; None in the place of those that were given up."""
    for place, path in enumerate(task["paths"]):
        if str(place) in task["given_up"]:
            yield None
            continue
        if task["careful"]:
            say({"at": place})
        yield path


def _unread(task: Task, place: int) -> Entry:
    path, reason = task["paths"][place], task["given_up"].get(str(place))
    size_bytes, mtime_ns = _NOT_READ if reason is None else _now(task["root"], path)
    return {"path": path, "size_bytes": size_bytes, "mtime_ns": mtime_ns, "sha256": "", "reason": reason}


def _decode(root: str, entry: Entry, wanted: Options) -> npt.NDArray[np.uint8] | None:
    """Read a picture once, hash and decode what was read: `(height, width, 1 or 3)`; None with the reason noted."""
    try:
        content, known = _read(root, entry["path"])
    except OSError as error:
        entry["reason"] = error.strerror or str(error)
        return None
    entry["size_bytes"], entry["mtime_ns"] = known.st_size, known.st_mtime_ns
    entry["sha256"] = hashlib.sha256(content).hexdigest()
    try:
        image = open_picture(content, entry["path"])
    except UnreadablePicture as error:
        entry["reason"] = error.reason
        return None
    result = fitted(image, (wanted["height"], wanted["width"]), wanted["fit"])
    # Where the small picture has no colour, the whole one may: then every picture of its data set has three channels.
    if not has_colour(result) and not has_colour(image):
        result = result.getchannel(0)
    return np.asarray(result, dtype=np.uint8).reshape(wanted["height"], wanted["width"], -1)


def _read(root: str, path: str) -> tuple[bytes, os.stat_result]:
    handle, known = _open(root, path)
    try:
        if known.st_size > MOST_BYTES:
            raise OSError(0, f"too large: a file of {known.st_size / 1e9:.1f} GB")
        # Not a file object, whose making takes longer than reading a small picture.
        parts, left = list[bytes](), MOST_BYTES
        while part := os.read(handle, min(left, max(known.st_size, _LEAST_READ_BYTES) + 1)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts), known
    finally:
        os.close(handle)


def _open(root: str, path: str) -> tuple[int, os.stat_result]:
    # A pipe that took the place of the file since it was listed is not waited for.
    handle = os.open(os.path.join(root, path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    known = os.fstat(handle)
    if stat.S_ISREG(known.st_mode):
        return handle, known
    os.close(handle)
    raise OSError(0, "no regular file")


def _is_there(task: Task) -> bool:
    """Whether the chunk is there, whole, of the same options and of the files as they are now."""
    try:
        about: Chunk = json.loads(entries_file(task["chunk"]).read_bytes())
        if about["root"] != task["root"] or about["options"] != task["options"]:
            return False
        if [entry["path"] for entry in about["entries"]] != task["paths"]:
            return False
        if any(
            (entry["size_bytes"], entry["mtime_ns"]) != _now(task["root"], entry["path"]) for entry in about["entries"]
        ):
            return False
        return sha256_of(array_file(task["chunk"])) == about["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _now(root: str, path: str) -> tuple[int, int]:
    try:
        known = os.stat(os.path.join(root, path))
    except OSError:
        return _NOT_READ
    return known.st_size, known.st_mtime_ns


def _write(file: Path, content: bytes | memoryview) -> None:
    """Write a file that is whole or not there. It is not synced: after a power cut its checksum tells."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def _answer(task: Task, say: Callable[[At], None]) -> Answer:
    try:
        return measure(task, say) if task["do"] == "sizes" else make_chunk(task, say)
    except OSError as error:
        return {"errno": error.errno or 0, "words": error.strerror or in_one_line(error)}
    except Exception as error:  # said in one line where the command was given
        return {"errno": 0, "words": in_one_line(error)}


def main() -> None:
    """Answer tasks until there are no more."""

    def say(answer: Answer) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    for line in sys.stdin:
        say(_answer(json.loads(line), say))


if __name__ == "__main__":
    main()
