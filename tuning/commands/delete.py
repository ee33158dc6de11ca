"""Deleting a study with everything that it made."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from optuna.trial import TrialState

from storage.artifacts import Artifacts
from storage.claims import Claims
from storage.database import Database
from storage.errors import TuningError
from storage.leases import BEAT_S
from storage.opening import open_database, open_to_read
from storage.rows.study_rows import is_copy, named_artifacts
from storage.settings import MARK, Home
from storage.stores.chosen import artifact_files, checkpoint_files
from studies.stored import StudyRecord, find_study
from tuning.words import counted


def delete_study(url: str, name: str, home: Home, *, confirm: Callable[[str], bool]) -> int:
    """Delete a study: its rows, its artifacts, its checkpoints and its logs; its export stays. Return the exit status.

    Args:
        url: of its database.
        name: the study's.
        home: where its files are.
        confirm: asked before anything is changed.

    Raises:
        BadInput: there is no such study, or the database cannot be written.
        TuningError: it is running.
    """
    # What is refused, or not confirmed, is as it was.
    database = open_to_read(url)
    try:
        question = _question(database, name, home)
    finally:
        database.engine.dispose()
    if not confirm(question):
        print("nothing was deleted", file=sys.stderr)
        return 1
    database = open_database(url)
    study = find_study(database, name)
    trials = study.get_trials(deepcopy=False)
    with database.reading() as connection:
        mine = named_artifacts(connection, study._study_id)
        uid = StudyRecord.of(study).uid
        own = bool(uid) and not is_copy(connection, study._study_id, uid)
    # Rows first: a file that nothing names is only space, a row that names a missing file is a broken promise.
    database.delete_study(study._study_id)
    with database.reading() as connection:
        # A study that was restored from a backup under another name shares its files with the first.
        shared = named_artifacts(connection)
    freed = Artifacts(artifact_files(home)).remove(mine - shared)
    if own:
        checkpoint_files(home, name, uid).remove("")
        shutil.rmtree(home.logs(name, uid), ignore_errors=True)
        _release(home.exported(name, uid))
    print(
        f"deleted study {name!r}: {counted(len(trials), 'trial')}, {freed / 1e6:.1f} MB of artifacts", file=sys.stderr
    )
    return 0


def _release(bundle: Path | None) -> None:
    """Let a bundle, which stays, be replaced by that of the next study of its name."""
    if bundle is not None:
        with suppress(OSError):
            (bundle / MARK).unlink()


def _question(database: Database, name: str, home: Home) -> str:
    """Return what is to be confirmed.

    Raises:
        BadInput: there is no such study, or it keeps its files elsewhere.
        TuningError: it is running.
    """
    study = find_study(database, name)
    trials = study.get_trials(deepcopy=False)
    running = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
    if running and _is_alive(database, study._study_id):
        raise TuningError(
            f"study {name!r} is running trial {', '.join(map(str, running))}. Stop it first, with Ctrl-C."
        )
    record = StudyRecord.of(study)
    if record.is_ours:
        record.require_ours(home)
    theirs = "" if record.is_ours else ", which another program made,"
    return f"Delete study {name!r}{theirs} with its {counted(len(trials), 'trial')}?"


def _is_alive(database: Database, study_id: int) -> bool:
    """Return whether a running trial's heart beats, seen over a little more than one beat."""
    claims = Claims(database, study_id, "delete")
    before = {claim.id: beat for claim, beat in claims.running()}
    if not before:
        return False
    time.sleep(1.5 * BEAT_S)
    return any(before.get(claim.id, -1) != beat for claim, beat in claims.running())
