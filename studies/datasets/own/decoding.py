"""The pictures of a listing decoded by one process for each core, into files that a stopped one is continued from."""

from __future__ import annotations

import hashlib
import json
import math
import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from storage.errors import BadInput, shown
from storage.processes.cores import usable_cores
from studies.datasets.own.decoders.chunks import (
    Chunk,
    Done,
    Options,
    Sizes,
    Task,
    array_file,
    entries_file,
    options,
)
from studies.datasets.own.decoders.crew import crew
from studies.datasets.own.listing import Listing, Part, PictureFile, changed, require_pictures, require_same
from studies.datasets.own.pictures import LARGEST_UNSCALED
from studies.form import Fit

SIDES = (32, 48, 64)
"""The sides that are chosen from, in pixels, where no size is asked for."""

MOST_UNREADABLE = 0.01
"""With a larger share of pictures that cannot be read, none is taken."""

_CHUNK_PICTURES = 128
_CHUNK_BYTES = 16 << 20
_MEASURED_AT_ONCE = 512
_MOST_LISTED = 10
_MOST_NAMED = 3


class Source(NamedTuple):
    """What a picture was read from.

    Attributes:
        path: relative to the listing's root.
        size_bytes, mtime_ns: of the file that was read; -1 where it could not be.
        sha256: of its bytes, hexadecimal; empty where they were not read to their end.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class DecodedPart:
    """The pictures of a part, but for their pixels.

    Attributes:
        labels: int64 of shape `(n,)`, of the pictures that are kept.
        digests: of each, the SHA-256 of the file's bytes.
        sources: every file of the part, also those that are left out.
    """

    labels: npt.NDArray[np.int64]
    digests: tuple[str, ...]
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Decoded:
    """Pictures of one shape, in files.

    Attributes:
        shape: `(height, width, channels)`; 3 channels if any picture has colour, else 1.
        parts: those of the listing.
        skipped: the pictures that are left out, each with its path and the reason.
    """

    shape: tuple[int, int, int]
    parts: Mapping[Part, DecodedPart]
    skipped: tuple[tuple[str, str], ...]
    _chunks: Mapping[Part, tuple[Path, ...]] = field(repr=False)

    def blocks(self, part: Part) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield the pixels of a part in its order, a few megabytes at once: uint8 `(k, height, width, channels)`."""
        for chunk in self._chunks[part]:
            block = cast("npt.NDArray[np.uint8]", np.load(array_file(chunk), allow_pickle=False))
            if len(block):
                yield block if block.shape[3] == self.shape[2] else np.repeat(block, self.shape[2], axis=3)


def decode(
    listing: Listing,
    folder: Path,
    *,
    image_size: tuple[int, int] | None,
    fit: Fit,
    report: Callable[[str], None],
    workers: int | None = None,
) -> Decoded:
    """Decode every picture of a listing; what was decoded in the same folder before is taken over.

    Args:
        listing: the pictures. The files themselves are only read.
        folder: where chunks are written, made if need be; the caller removes it when it has what it wants.
        image_size: `(height, width)` in pixels. By default, if all pictures have one size with no side longer than
            `LARGEST_UNSCALED`, that size; else a square, its side the largest of `SIDES` that is not above the median
            of the shorter sides. The header of every picture is read for it.
        fit: how a picture of another shape is fitted.
        report: called with one line at the beginning, at the end, and about what is left out. Where stderr is a
            terminal, a bar is shown there instead of the first two.
        workers: how many processes decode; by default one for each core.

    Raises:
        BadInput: more than `MOST_UNREADABLE` of the pictures cannot be read, what is left of a class is too few, or
            files came, went or changed meanwhile.
        TuningError: the processes fail.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(len(files) for files in listing.parts.values())
    count = max(1, min(workers or usable_cores(), math.ceil(total / _CHUNK_PICTURES)))
    bar = sys.stderr.isatty()
    if not bar:
        report(f"{total:,} pictures: decoding in {count} process{'es' * (count > 1)}")
    with crew(count) as ask:
        size = image_size or _default_size(ask, listing, total)
        wanted = options(size, fit)
        chunks = _chunks(listing, folder, wanted)
        tasks = [_decoding(listing, chunk, paths, wanted) for its in chunks.values() for chunk, paths in its]
        taken_over = 0
        with _progress("decoding", total) as advance:
            for task, answer in ask(tasks):
                taken_over += cast("Done", answer)["taken_over"]
                advance(len(task["paths"]))
    decoded = _collect(listing, {part: [chunk for chunk, _ in its] for part, its in chunks.items()}, size)
    _require_unchanged(listing, decoded)
    _require_readable(listing, decoded, total, report)
    if not bar:
        kept, height, width = total - len(decoded.skipped), *size
        again = f"; {taken_over} of {len(tasks)} parts were there" if taken_over else ""
        report(f"{kept:,} pictures decoded to {height}x{width}, {'grey' if decoded.shape[2] == 1 else 'colour'}{again}")
    return decoded


_Ask = Callable[[Sequence[Task]], Iterator[tuple[Task, object]]]


def _default_size(ask: _Ask, listing: Listing, total: int) -> tuple[int, int]:
    paths = [file.path for files in listing.parts.values() for file in files]
    tasks: list[Task] = [
        {
            "do": "sizes",
            "root": str(listing.root),
            "paths": paths[start : start + _MEASURED_AT_ONCE],
            "chunk": "",
            "options": None,
            "careful": False,
            "given_up": {},
        }
        for start in range(0, total, _MEASURED_AT_ONCE)
    ]
    sizes = Counter[tuple[int, int]]()
    with _progress("sizes", total) as advance:
        for task, answer in ask(tasks):
            for height, width, count in cast("Sizes", answer)["sizes"]:
                sizes[height, width] += count
            advance(len(task["paths"]))
    return default_size(sizes)


def default_size(sizes: Mapping[tuple[int, int], int]) -> tuple[int, int]:
    """Return the size that pictures get where none is asked for, see `decode`.

    Args:
        sizes: how many pictures have each `(height, width)`, either way round where a side is longer than
            `LARGEST_UNSCALED`.
    """
    if len(sizes) == 1:
        (size,) = sizes
        if max(size) <= LARGEST_UNSCALED:
            return size
    shorter = sorted(min(size) for size in sizes for _ in range(sizes[size]))
    median = statistics.median(shorter) if shorter else 0
    side = max((side for side in SIDES if side <= median), default=SIDES[0])
    return side, side


def _chunks(listing: Listing, folder: Path, wanted: Options) -> dict[Part, list[tuple[Path, list[str]]]]:
    """The chunks of each part: the path of its files, and those of its pictures."""
    most = max(1, min(_CHUNK_PICTURES, _CHUNK_BYTES // (wanted["height"] * wanted["width"] * 3)))
    # Of other options, another name: those stay.
    mark = hashlib.sha256(json.dumps([str(listing.root), wanted], sort_keys=True).encode()).hexdigest()[:12]
    return {
        part: [
            (
                folder / f"{mark}-{part}-{number:06d}",
                [file.path for file in files[number * most : (number + 1) * most]],
            )
            for number in range(math.ceil(len(files) / most))
        ]
        for part, files in listing.parts.items()
    }


def _decoding(listing: Listing, chunk: Path, paths: list[str], wanted: Options) -> Task:
    return {
        "do": "decode",
        "root": str(listing.root),
        "paths": paths,
        "chunk": str(chunk),
        "options": wanted,
        "careful": False,
        "given_up": {},
    }


def _collect(listing: Listing, chunks: Mapping[Part, Sequence[Path]], size: tuple[int, int]) -> Decoded:
    parts, skipped, channels = dict[Part, DecodedPart](), list[tuple[str, str]](), 1
    for part, files in listing.parts.items():
        labels, digests, sources = list[int](), list[str](), list[Source]()
        for chunk in chunks[part]:
            about: Chunk = json.loads(entries_file(chunk).read_bytes())
            channels = max(channels, about["channels"])
            for entry in about["entries"]:
                file = files[len(sources)]
                sources.append(Source(file.path, entry["size_bytes"], entry["mtime_ns"], entry["sha256"]))
                if entry["reason"] is None:
                    labels.append(file.label)
                    digests.append(entry["sha256"])
                else:
                    skipped.append((file.path, entry["reason"]))
        parts[part] = DecodedPart(np.array(labels, dtype=np.int64), tuple(digests), tuple(sources))
    return Decoded((*size, channels), parts, tuple(skipped), {part: tuple(its) for part, its in chunks.items()})


def _require_unchanged(listing: Listing, decoded: Decoded) -> None:
    if listing.anew is not None:
        require_same(listing, listing.anew())
    # What is cut off may have been in the middle of being copied.
    left_out = {path for path, _ in decoded.skipped}
    sources = [source for part in decoded.parts.values() for source in part.sources if source.path in left_out]
    count = sum(_has_changed(listing.root, source) for source in sources)
    if count:
        raise changed(listing.root, f"{count:,} file{'s' * (count != 1)} {'have' if count > 1 else 'has'} new bytes")


def _has_changed(root: Path, source: Source) -> bool:
    if not source.sha256:
        return False
    try:
        known = os.stat(root / source.path)
    except OSError:
        return True
    return (known.st_size, known.st_mtime_ns) != (source.size_bytes, source.mtime_ns)


def _require_readable(listing: Listing, decoded: Decoded, total: int, report: Callable[[str], None]) -> None:
    """Say which pictures are left out; refuse it if they are too many, or too few are left of a class."""
    said = [f"{shown(path)} ({shown(reason)})" for path, reason in decoded.skipped]
    if len(said) > total * MOST_UNREADABLE:
        more = f" and {len(said) - _MOST_NAMED:,} more" if len(said) > _MOST_NAMED else ""
        raise BadInput(
            f"{len(said):,} of {total:,} pictures in {shown(listing.root)} cannot be read, more than"
            f" {MOST_UNREADABLE:.0%}: {', '.join(said[:_MOST_NAMED])}{more}. Mend or remove them."
        )
    for line in said[:_MOST_LISTED]:
        report(f"left out: {line}")
    if len(said) > _MOST_LISTED:
        report(f"left out: {len(said) - _MOST_LISTED:,} more that cannot be read")
    left_out = {path for path, _ in decoded.skipped}
    kept = {part: [file for file in files if file.path not in left_out] for part, files in listing.parts.items()}
    require_pictures(listing.class_names, cast("Mapping[Part, Sequence[PictureFile]]", kept))


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr while the block runs, if that is a terminal; what is yielded moves it on."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda pictures: bar.advance(task, pictures)
