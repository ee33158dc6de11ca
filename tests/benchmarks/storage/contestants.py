"""The storages side by side: how each is opened, and how each writes the 38 values of a trial."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Literal, Protocol

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from storage.claims import Claim, Claims, Start, owner_name
from storage.opening import open_database
from tests.benchmarks.storage.studies import REPORTS, SPACE, STUDY, artifact_records

Contestant = Literal["tuning", "optuna", "optuna, WAL"]
ON_SQLITE: Final[Sequence[Contestant]] = ("tuning", "optuna", "optuna, WAL")
ON_POSTGRESQL: Final[Sequence[Contestant]] = ("tuning", "optuna")

Step = Literal["claim", "parameter", "attribute", "report", "artifact", "end"]
Do = Callable[[Step, int, Callable[[], Any]], Any]
"""Makes a call, given what it is and how many values it writes; returns what that does."""


class Writer(Protocol):
    """Who writes trials."""

    study: optuna.Study

    def trial(self, do: Do) -> None:
        """Write a whole trial: 1 claim, 4 parameters, 8 attributes, 20 reports, 4 artifact records, 1 end."""


def journal(file: str, contestant: Contestant) -> None:
    """Give a SQLite file that nobody has open the journal that a contestant has."""
    with sqlite3.connect(file) as connection:
        connection.execute(f"PRAGMA journal_mode = {'DELETE' if contestant == 'optuna' else 'WAL'}")
    connection.close()


def writer(contestant: Contestant, url: str) -> Writer:
    """Open a made study."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return Ours(url) if contestant == "tuning" else Stock(url)


_PARAMETERS: Final = {"batch_size": 1.0, "optimizer": 2.0, "learning_rate": 0.01, "dropout": 0.3}
_ATTRIBUTES: Final = {f"attribute {number}": number for number in range(8)}
_AT_FIRST: Final = 5


def _drawn() -> list[tuple[str, float, BaseDistribution]]:
    return [(name, value, SPACE[name]) for name, value in _PARAMETERS.items()]


def _records() -> list[dict[str, str]]:
    return [dict(artifact_records(f"{role:032x}", f"role {role}")) for role in range(2)]


class Stock:
    """Optuna's own storage, used as its `Trial` does."""

    def __init__(self, url: str) -> None:
        self.study = optuna.load_study(study_name=STUDY, storage=RDBStorage(url))

    def trial(self, do: Do) -> None:
        storage = self.study._storage
        trial_id = do("claim", 1, lambda: storage.create_new_trial(self.study._study_id))
        write_each(storage, trial_id, do)


def write_each(storage: optuna.storages.BaseStorage, trial_id: int, do: Do) -> None:
    """Write the values of a trial that is there, each in a call of its own."""
    for one in _drawn():
        do("parameter", 1, partial(storage.set_trial_param, trial_id, *one))
    for key, number in _ATTRIBUTES.items():
        do("attribute", 1, partial(storage.set_trial_user_attr, trial_id, key, number))
    write_reports(storage, trial_id, do)
    for record in _records():
        for key, text in record.items():
            do("artifact", 1, partial(storage.set_trial_system_attr, trial_id, key, text))
    write_end(storage, trial_id, do)


def write_reports(storage: optuna.storages.BaseStorage, trial_id: int, do: Do) -> None:
    """Write what a trial reports, each in a call of its own."""
    for epoch in range(1, REPORTS + 1):
        do("report", 1, partial(storage.set_trial_intermediate_value, trial_id, epoch, 0.5))


def write_end(storage: optuna.storages.BaseStorage, trial_id: int, do: Do) -> None:
    """Write that a trial is over."""
    do("end", 1, lambda: storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5]))


class Ours:
    """The service's storage, used as its worker does."""

    def __init__(self, url: str) -> None:
        self._database = open_database(url)
        self.study = optuna.load_study(study_name=STUDY, storage=self._database)
        self._claims = Claims(self._database, self.study._study_id, owner_name())

    def trial(self, do: Do) -> None:
        claim: Claim = do("claim", 1, lambda: self._claims.next(Start()))
        assert claim is not None
        storage: Any = self.study._storage
        # Optuna's cache learns of a trial by reading it, which is measured by itself.
        storage._trial_id_to_study_id_and_number[claim.trial_id] = (self.study._study_id, claim.number)
        storage.get_study_name_from_id(self.study._study_id)
        self._together(
            claim, "parameter", do, [partial(storage.set_trial_param, claim.trial_id, *one) for one in _drawn()]
        )
        attributes = [partial(storage.set_trial_user_attr, claim.trial_id, *one) for one in _ATTRIBUTES.items()]
        # What is known when it begins, and what when it is trained.
        for part in (attributes[:_AT_FIRST], attributes[_AT_FIRST:]):
            self._together(claim, "attribute", do, part)
        write_reports(storage, claim.trial_id, do)
        for record in _records():
            writes = [partial(storage.set_trial_system_attr, claim.trial_id, *one) for one in record.items()]
            self._together(claim, "artifact", do, writes)
        write_end(storage, claim.trial_id, do)
        self._database.unfence(claim.trial_id)

    def _together(self, claim: Claim, step: Step, do: Do, calls: Sequence[Callable[[], Any]]) -> None:
        def call() -> None:
            with self._claims.together(claim):
                for one in calls:
                    one()

        do(step, len(calls), call)
