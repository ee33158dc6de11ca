"""The views of `backup` and `restore`."""

from __future__ import annotations

import sys
from pathlib import Path

from storage.backups.backup import back_up
from storage.backups.manifest import ARTIFACTS, CHECKPOINTS, DATA, Backup, read_backup
from storage.backups.restore import restore
from storage.database import Database
from storage.settings import Home
from studies.stored import find_study

SHOWN_LEFT_OUT = 5


def back_up_study(database: Database, study: str | None, home: Home, folder: Path) -> int:
    """Copy a study into a new folder; without a name, the one tuned last. Return the exit status.

    It is 1 if artifacts or data of one's own were missing or damaged already: the backup is good, but holds less than
    the rows promise.

    Raises:
        BadInput: there is no such study, or the folder cannot be used.
        TuningError: there is no room.
    """
    name = find_study(database, study).study_name
    backup = back_up(database, name, folder, home)
    print(f"backed up study {name!r}: {_in_words(backup)}, in {folder}", file=sys.stderr)
    artifacts = sorted(backup.left_out.keys() - {DATA})
    if DATA in backup.left_out:
        print(
            f"left out: the study's data {backup.left_out[DATA]}. Prepare them with make data-prepare DATASET=..., and"
            " back it up once more.",
            file=sys.stderr,
        )
    for artifact in artifacts[:SHOWN_LEFT_OUT]:
        print(f"left out: artifact {artifact} {backup.left_out[artifact]}", file=sys.stderr)
    if len(artifacts) > SHOWN_LEFT_OUT:
        print(f"left out: {len(artifacts) - SHOWN_LEFT_OUT} more artifacts", file=sys.stderr)
    return 1 if backup.left_out else 0


def restore_study(folder: Path, url: str | None, home: Home, study: str | None) -> None:
    """Bring a study back from a backup, under its own name or another.

    Raises:
        BadInput: there is no whole backup, or the study exists already.
        TuningError: there is no room.
    """
    backup = read_backup(folder)
    name = restore(backup, url or home.database_url, home, name=study)
    print(f"restored study {name!r} of {backup.created}: {_in_words(backup)}", file=sys.stderr)


def _in_words(backup: Backup) -> str:
    artifacts, checkpoints = len(backup.under(ARTIFACTS)), len(backup.under(CHECKPOINTS))
    data = " the data," if backup.under(DATA) else ""
    return (
        f"{sum(backup.trials.values())} trials, {artifacts} artifacts, {checkpoints} checkpoints,{data}"
        f" {backup.size_bytes / 1e6:.1f} MB"
    )
