"""The study that a report is of, read once. No Keras."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property

import optuna
from optuna.trial import FrozenTrial

from storage.connections import shown_url
from storage.database import Database
from storage.errors import BadInput, shown
from storage.settings import Home
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import open_prepared
from studies.objectives.objective import Objective
from studies.phases.confirmation import Confirmed
from studies.phases.known import confirmed
from studies.spec import StudySpec
from studies.stored import StudyRecord
from studies.trials import of_phase


@dataclass(frozen=True)
class Subject:
    """A study as it was when it was read.

    Attributes:
        study: Optuna's own.
        record: what it records.
        trials: all of them, by number.
        home: where its files are.
    """

    study: optuna.Study
    record: StudyRecord
    trials: list[FrozenTrial]
    home: Home

    @classmethod
    def of(cls, study: optuna.Study, home: Home) -> Subject:
        """Read a study.

        Raises:
            ForeignStudy: another program made it.
            SpecMismatch: its spec is another version's.
        """
        record = StudyRecord.of(study)
        record.require_ours()
        record.spec  # noqa: B018 - refused here, if it is to be refused
        return cls(study, record, study.get_trials(deepcopy=False), home)

    @property
    def spec(self) -> StudySpec:
        """What is tuned and how."""
        return self.record.spec

    @property
    def objective(self) -> Objective:
        """What it optimises."""
        return self.record.objective

    @property
    def name(self) -> str:
        """The study's name, as it can be printed in one line."""
        return shown(self.record.name)

    @cached_property
    def searched(self) -> list[FrozenTrial]:
        """The search's trials."""
        return of_phase(self.trials)

    @cached_property
    def confirmed(self) -> list[Confirmed]:
        """What was trained again with other seeds."""
        return confirmed(self.study, self.spec)

    @cached_property
    def dataset(self) -> PreparedDataset | None:
        """What it trains on; None where this machine does not have it prepared."""
        checksum = self.record.data["checksum"] if self.record.data is not None else None
        try:
            found = open_prepared(self.spec.dataset, self.home, images=self.spec.images, checksum=checksum)
        except BadInput:
            return None
        return found if checksum in (None, found.info.checksum) else None

    @property
    def _elsewhere(self) -> str | None:
        """The database, without a password; None where it is the one that is meant anyway."""
        # Optuna puts a cache before it.
        storage = getattr(self.study._storage, "_backend", self.study._storage)
        url = storage.shown_url if isinstance(storage, Database) else None
        return None if url == shown_url(self.home.database_url) else url

    def command(self, target: str, **variables: object) -> str:
        """Return a call of make about this study."""
        given = {"STUDY": self.record.name, **variables, "STORAGE": self._elsewhere}
        said = (f"{name}={shlex.quote(shown(str(value)))}" for name, value in given.items() if value is not None)
        return " ".join(["make", target, *said])
