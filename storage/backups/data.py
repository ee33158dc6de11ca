"""The data of a study that trains on somebody's own, in a backup of it: as they were prepared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from storage.backups.manifest import DATA, MANIFEST, Backup, File, copy_file, is_name
from storage.errors import BadInput
from storage.files import sha256_of
from storage.prepared.own_data import OwnData, find_own, is_of_own_data, keep, read_own, recorded_checksum
from storage.rows.sql_rows import SqlRows
from storage.rows.study_rows import study_id_of
from storage.scratch import publish, scratch_folder
from storage.settings import Home


def copy_data(home: Home, attrs: Mapping[str, Any], folder: Path) -> tuple[dict[str, File], dict[str, str]]:
    """Copy the prepared data of a study into the folder of a backup.

    Args:
        home: where they are.
        attrs: the study's user attributes.
        folder: the backup's.

    Returns:
        The files, and what is left out with the reason: nothing of a study of published data.
    """
    checksum = recorded_checksum(attrs)
    if checksum is None or not is_of_own_data(attrs):
        return {}, {}
    own = find_own(home, checksum)
    if own is None:
        return {}, {DATA: f"are not prepared under {home.root}"}
    target = folder / DATA / own.folder.name
    target.mkdir(parents=True)
    copied = {}
    try:
        for file in sorted(own.folder.iterdir()):
            path = f"{DATA}/{own.folder.name}/{file.name}"
            if is_name(path) and file.is_file():
                copied[path] = copy_file(file.open("rb"), target / file.name)
                if copied[path].sha256 != own.arrays.get(file.name, copied[path].sha256):
                    return _nothing(target, f"are damaged: {file} is not as it was prepared")
    except FileNotFoundError:
        return _nothing(target, "were removed meanwhile")
    missing = next((name for name in own.arrays if f"{DATA}/{own.folder.name}/{name}" not in copied), None)
    return _nothing(target, f"are damaged: {own.folder / missing} is missing") if missing else (copied, {})


def _nothing(target: Path, why: str) -> tuple[dict[str, File], dict[str, str]]:
    for file in target.iterdir():
        file.unlink()
    target.rmdir()
    target.parent.rmdir()
    return {}, {DATA: why}


def require_data_of(backup: Backup, rows: Connection) -> None:
    """Refuse data in a backup that are not those of its study; its files have been compared with its manifest.

    Raises:
        BadInput: they are of another study, or not whole.
    """
    folder = _folder_of(backup)
    if folder is None:
        return
    own = read_own(folder)
    here = {Path(path).name for path in backup.under(DATA)}
    if own is None or own.checksum != recorded_checksum(attributes_of(rows, backup.study)) or own.arrays.keys() - here:
        raise BadInput(f"{folder} holds other data than the study trains on. Take another backup.")


def place_data(backup: Backup, home: Home) -> Path | None:
    """Put a backup's prepared data in place, unless the home has them; return where they are, None where it has none.

    Raises:
        OSError: the home cannot be written.
        BadInput: the backup is being changed.
    """
    folder = _folder_of(backup)
    if folder is None:
        return None
    own = read_own(folder)
    assert own is not None, "verified"
    files = {Path(path).name: backup.files[path] for path in backup.under(DATA)}
    # Not by the name that the manifest says: what is in them decides where they belong. They may have been read here,
    # too, from a place with another name.
    there = find_own(home, own.checksum)
    target = there.folder if there is not None else home.own_dataset(own.label, own.checksum)
    home.make(target.parent)
    if not _is_whole(target, own, files):
        with scratch_folder(target) as scratch:
            for name, known in files.items():
                if copy_file((folder / name).open("rb"), scratch / name) != known:
                    raise BadInput(f"{folder / name} was changed while it was restored. Give the same command again.")
            publish(scratch, target, lambda: _is_whole(target, own, files))
    keep(target)
    return target


def attributes_of(rows: Connection, study: str) -> Mapping[str, Any]:
    """Return the user attributes of the study in the database of a backup."""
    study_id = study_id_of(rows, study)
    return SqlRows(rows, study_id).study_user_attrs() if study_id is not None else {}


def _folder_of(backup: Backup) -> Path | None:
    folders = {Path(path).parent for path in backup.under(DATA)}
    if len(folders) > 1:
        raise BadInput(f"{backup.folder / MANIFEST} names the data of several studies. Take another backup.")
    return next((backup.folder / folder for folder in folders), None)


def _is_whole(target: Path, own: OwnData, files: Mapping[str, File]) -> bool:
    """Whether a folder holds the same data, wherever they were read from."""
    there = read_own(target)
    if there is None or (there.checksum, there.arrays) != (own.checksum, own.arrays):
        return False
    places = {target / name: known for name, known in files.items()}
    return all(
        file.is_file() and (file.suffix != ".npy" or sha256_of(file) == known.sha256) for file, known in places.items()
    )
