"""Official files in a folder: plain, compressed, or in an archive as it was downloaded.

Nothing is unpacked to disk. A file is read whole, and returned only if its SHA-256 is the official one.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from storage.errors import BadInput
from studies.datasets.formats import COMPRESSED, DAMAGED, read_content
from studies.datasets.registry import OfficialDataset, OfficialFile, file_with_checksum

Contents = dict[str, bytes]
"""The uncompressed content of each official file, by its name."""


def read_folder(folder: Path, info: OfficialDataset) -> Contents | None:
    """Return the official files that a folder holds, directly or in the data set's usual sub-folders.

    All of them are held in memory at once: 184 MB for the largest data set.

    Returns:
        Every official file, or None if the folder holds none of them.

    Raises:
        BadInput: some file is not the official one, is truncated or cannot be read, or some are missing.
    """
    files, archives = locate(folder, info)
    if not files and not archives:
        return None
    contents = {
        file.name: _checked(info, file, read_content(files[file.name], limit_bytes=file.size_bytes), files[file.name])
        for file in info.files
        if file.name in files
    }
    for archive in archives:
        if missing := [file for file in info.files if file.name not in contents]:
            contents |= _read_archive(archive, info, missing)
    if missing := [file for file in info.files if file.name not in contents]:
        names = ", ".join(file.name for file in missing)
        raise BadInput(
            f"{folder} holds {len(contents)} of the {len(info.files)} files of {info.title}; missing: {names}."
        )
    return contents


def locate(folder: Path, info: OfficialDataset) -> tuple[dict[str, Path], list[Path]]:
    """Return the paths of the official files, by their names, and of the archives that hold them, unopened.

    A sub-folder goes before the folder itself: MNIST and Fashion-MNIST name their files alike.
    """
    places = [*(folder / name for name in info.folders), folder]
    files = {file.name: path for file in info.files if (path := _first(places, _spellings(file.name))) is not None}
    archives = [path for name in info.archives if (path := _first(places, [name])) is not None]
    return files, archives


def _spellings(name: str) -> list[str]:
    return [name, *(name + suffix for suffix in COMPRESSED)]


def _first(places: list[Path], names: list[str]) -> Path | None:
    paths = (place / name for place in places for name in names)
    try:
        return next((path for path in paths if path.is_file()), None)
    except PermissionError as error:
        raise BadInput(f"cannot read {error.filename}: {error.strerror}. Give a folder that can be read.") from error


def _read_archive(archive: Path, info: OfficialDataset, wanted: list[OfficialFile]) -> Contents:
    by_name = {file.name: file for file in wanted}
    contents: Contents = {}
    try:
        # As a stream: members come in any order, and going back in a compressed archive starts it over.
        with tarfile.open(archive, "r|*") as tar:
            for member, name in _files(tar):
                if (file := by_name.get(name)) is not None and name not in contents:
                    contents[name] = _read_member(tar, member, info, file, archive)
    except (tarfile.TarError, *DAMAGED) as error:
        raise BadInput(f"{archive} is truncated or damaged ({error}). Fetch it again.") from error
    except OSError as error:
        raise BadInput(f"cannot read {archive}: {error.strerror or error}.") from error
    if not contents:
        raise BadInput(f"{archive} holds none of the files of {info.title}. Fetch it again.")
    return contents


def _files(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """Yield the regular files with their bare names, passing over members that point out of the archive."""
    for member in tar:
        path = PurePosixPath(member.name)
        if member.isreg() and not path.is_absolute() and ".." not in path.parts:
            yield member, path.name


def _read_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, info: OfficialDataset, file: OfficialFile, archive: Path
) -> bytes:
    stream = tar.extractfile(member)
    if stream is None:
        raise tarfile.ReadError(f"{member.name} is no file")
    with stream:
        return _checked(info, file, stream.read(file.size_bytes + 1), f"{archive}: {member.name}")


def _checked(info: OfficialDataset, file: OfficialFile, content: bytes, where: Path | str) -> bytes:
    digest = hashlib.sha256(content).hexdigest()
    if digest == file.sha256:
        return content
    if len(content) > file.size_bytes:
        found = f"more than {file.size_bytes} bytes"
    else:
        found = f"{len(content)} bytes, SHA-256 {digest}"
    other = file_with_checksum(digest)
    guess = f" It is {other[1].name} of {other[0].title}." if other else ""
    raise BadInput(
        f"{where} is not the official {file.name} of {info.title}: found {found}, "
        f"expected {file.size_bytes} bytes, SHA-256 {file.sha256}.{guess} Remove it or fetch it again."
    )
