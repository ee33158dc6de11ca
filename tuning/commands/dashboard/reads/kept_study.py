"""One study as it is sent, kept between requests: trials that are over are read once, of the others what changed."""

from __future__ import annotations

import math
import re
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from optuna.storages import BaseStorage
from sqlalchemy import Connection

from storage.rows.trial_rows import no_garbage, read_rows
from storage.rows.watched_rows import Stamp, StudyRows, read_studies, started, unfinished_stamps
from studies.stored import StudyRecord
from tuning.commands.dashboard.reads.importance import Importances
from tuning.commands.dashboard.reads.kept_trials import KeptTrials
from tuning.commands.dashboard.reads.notes import Notes
from tuning.commands.dashboard.reads.packed import Piece
from tuning.commands.dashboard.reads.shown_study import best, compact, head, plots_of
from tuning.commands.dashboard.reads.shown_trial import shown_trial
from tuning.commands.dashboard.reads.study_note import study_note

# What the dashboard keeps of a trial in the system attributes of its study.
_OF_TRIAL: Final = re.compile(r"dashboard:(?:artifacts:)?(\d+):.*", re.DOTALL)


class NoSuchStudy(LookupError):
    """It is gone, or never was."""


class KeptStudy:
    """A study, used by one thread at a time.

    Args:
        study_id: its id.
        storage: how a command names the database that it is in; None for the one that commands mean by themselves.

    Attributes:
        lock: held by whoever uses it.
        read_since: when it was begun to be read the last time.
        tag: another one whenever anything of it is another.
        trials: its trials.
    """

    def __init__(self, study_id: int, storage: str | None = None) -> None:
        self._storage = storage
        self.lock = threading.Lock()
        self.read_since = -math.inf
        self._study_id = study_id
        self._reset()

    def _reset(self) -> None:
        self.tag = secrets.token_hex(8)
        self.trials = KeptTrials()
        self._row: StudyRows | None = None
        self._notes: Notes | None = None
        self._head = b""
        self._open: dict[int, Stamp] = {}
        self._kept_apart: dict[int, dict[str, Any]] = {}
        self._ends: dict[int, tuple[int, datetime | None]] = {}
        self._importances = Importances(self._study_id)
        self._changed = False

    @property
    def row(self) -> StudyRows:
        """What the study says of itself, once it was read."""
        assert self._row is not None
        return self._row

    def update(self, connection: Connection) -> None:
        """Bring it to the state of the database that a connection sees.

        Raises:
            NoSuchStudy: there is none of its id.
        """
        rows = read_studies(connection, self._study_id)
        if not rows:
            self._reset()
            raise NoSuchStudy(self._study_id)
        record = StudyRecord.from_attributes(rows[0].name, rows[0].directions, rows[0].user)
        notes = Notes.of(record)
        if notes != self._notes or not self._is_the_same(connection):
            self._reset()
        self._notes = notes
        self._read(connection, rows[0], notes)
        if self._changed or rows[0] != self._row:
            self._row = rows[0]
            known, now = self.trials.trials, time.time()
            first = next((known[place] for place in best(self.row, known)), None) if record.is_ours else None
            note = study_note(record, known, first, self._storage, now)
            # Another program's trials may tell anything by what they report.
            plots = plots_of(self.row, known, now) if record.is_ours else {}
            content = compact(head(self.row, self.trials.contents, note, plots)).encode()
            if self._changed or content != self._head:
                self._head, self._changed = content, False
                self.tag = secrets.token_hex(8)

    def _is_the_same(self, connection: Connection) -> bool:
        """Whether the trials that were read are still there: a database may give out their ids again."""
        return all(started(connection, self._study_id, trial_id) == known for trial_id, known in self._ends.items())

    def _read(self, connection: Connection, row: StudyRows, notes: Notes) -> None:
        """Read the trials that have changed. Broken off, it may be done again."""
        last = max(self._ends, default=-1)
        stamps = unfinished_stamps(connection, self._study_id, min(self._open, default=last + 1))
        asked = {trial_id for trial_id, stamp in self._open.items() if stamps.get(trial_id) != stamp}
        apart = _apart(row.system)
        for trial_id in apart.keys() | self._kept_apart.keys():
            if trial_id in self.trials and apart.get(trial_id) != self._kept_apart.get(trial_id):
                asked.add(trial_id)
        ends = list(self._ends.items())
        with no_garbage():
            for rows in read_rows(connection, self._study_id, after=last, also=asked):
                trial = shown_trial(rows, self._study_id, apart.get(rows.trial_id, {}), notes.of_trial)
                self._changed |= self.trials.put(trial)
                if trial.is_open:
                    # No stamp is equal to this one: it began between two statements, where a database allows that.
                    stamps.setdefault(trial.trial_id, ())
                if rows.trial_id > last:
                    ends = [*ends[:1], (rows.trial_id, (rows.number, rows.start))]
        self.trials.settle()
        self._open, self._kept_apart, self._ends = stamps, apart, dict(ends)

    def pieces(self, after: int) -> list[Piece]:
        """Return the study's page with the trials from a place on."""
        chosen = b",".join(self.trials.text(place) for place in best(self.row, self.trials.trials))
        front = self._head[:-1] + b',"best_trials":[' + chosen + b'],"trials":['
        return [Piece(lambda: front), *self.trials.pieces(after), Piece(lambda: b"]}")]

    def read_complete(self, connection: Connection) -> None:
        """Read what the importances of parameters are computed from."""
        self._importances.read(connection, self.trials.trials)

    def importances(self, storage: BaseStorage) -> list[list[dict[str, Any]]]:
        """Return how much each parameter matters, for each objective.

        Args:
            storage: where the study is.

        Raises:
            ValueError: that cannot be computed.
        """
        searched = {name for content in self.trials.contents for name, _ in content.params or ()}
        return self._importances.of(storage, self.row.name, sorted(searched))


def _apart(system: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The system attributes of a study that are about one of its trials, by the trial's id."""
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for key, value in system.items():
        if (of_trial := _OF_TRIAL.fullmatch(key)) is not None:
            found[int(of_trial[1])][key] = value
    return dict(found)
