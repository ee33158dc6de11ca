"""Where the files of a home's studies are kept: in its folders, or where `TUNING_FILES` says."""

from __future__ import annotations

from storage.errors import BadInput, StorageUnavailable, disk_error
from storage.settings import Home
from storage.stores.file_store import FileStore
from storage.stores.local import LocalFiles
from storage.stores.remote import RemoteFiles


def artifact_files(home: Home, *, make: bool = False) -> FileStore:
    """Return where artifacts are kept.

    Args:
        home: whose.
        make: have the folder there.

    Raises:
        BadInput: it cannot be made.
    """
    if not home.is_remote:
        return LocalFiles(home.make(home.artifacts) if make else home.artifacts)
    return _remote(home, home.artifacts.name, make=make)


def checkpoint_files(home: Home, study: str, uid: str, *, make: bool = False) -> FileStore:
    """Return where a study's checkpoints are kept, also where it was called otherwise when it was made.

    Args:
        home: whose.
        study: its name.
        uid: the study's own.
        make: have the folder there.

    Raises:
        BadInput: it cannot be made.
        StorageUnavailable: it cannot be reached.
    """
    if not home.is_remote:
        folder = home.checkpoints(study, uid)
        return LocalFiles(home.make(folder) if make else folder)
    every = all_checkpoint_files(home)
    try:
        name = home.checkpoints_name(study, uid, every.folders)
    except OSError as error:
        then = "Mend that and give the same command again."
        raise disk_error(error, f"{every.shown()} cannot be read", then, StorageUnavailable) from error
    return _remote(home, f"{home.all_checkpoints.name}/{name}", make=make)


def all_checkpoint_files(home: Home) -> FileStore:
    """Return where the checkpoints of all studies are kept, a folder for each."""
    return _remote(home, home.all_checkpoints.name) if home.is_remote else LocalFiles(home.all_checkpoints)


def dataset_files(home: Home, name: str) -> FileStore:
    """Return where prepared data are kept for machines that do not have them, by the name of their folder."""
    return _remote(home, f"datasets/{name}") if home.is_remote else LocalFiles(home.shared_dataset(name))


def _remote(home: Home, name: str, *, make: bool = False) -> FileStore:
    files = RemoteFiles(home.files, home.copies).folder(name)
    if make:
        try:
            files.make()
        except OSError as error:
            raise BadInput(
                f"{files.shown()} cannot be written: {error.strerror or error}. Mend that, or give another FILES;"
                " credentials come from the environment, as its own tools read them."
            ) from error
    return files


def require_files(home: Home, study: str, recorded: str) -> None:
    """Refuse a study whose files are kept elsewhere.

    Args:
        home: whose files would be read and written.
        study: the study's name.
        recorded: where it keeps them, empty for the home's own folders.

    Raises:
        BadInput: it is not where `TUNING_FILES` says.
    """
    if recorded == home.files:
        return
    kept = f"at {recorded}" if recorded else "under TUNING_HOME"
    then = f"Give FILES={recorded}" if recorded else "Leave FILES out"
    given = f"FILES is {home.files}" if home.files else "FILES is not set"
    raise BadInput(f"study {study!r} keeps its files {kept}, and {given}. {then}, or take another study.")
