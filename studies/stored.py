"""A study in a database: made with its spec, found again, and refused where it is another one."""

from __future__ import annotations

import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from storage import attributes
from storage.claims import Claims, Standing
from storage.database import Database
from storage.errors import BadInput, SpecMismatch, unknown_name
from storage.opening import check_storage, open_database
from storage.rows.study_rows import last_begun
from studies.forecast import Launched
from studies.space import SearchSpace
from studies.spec import Scalar, StudySpec


class Limits(TypedDict):
    """What a study's workers keep to. Not part of the spec: it changes no trial's result, only what a failure costs.

    Attributes:
        checkpoint_interval_s: seconds between two checkpoints of a trial.
        trial_timeout_s: seconds after which a claimed trial counts as hung; None for never.
        trials_per_worker: trials after which a worker is replaced by a fresh process.
        memory_growth_bytes: growth of a worker's memory after which it is, too.
    """

    checkpoint_interval_s: float
    trial_timeout_s: float | None
    trials_per_worker: int
    memory_growth_bytes: int


DEFAULT_LIMITS = Limits(
    checkpoint_interval_s=60.0, trial_timeout_s=None, trials_per_worker=1_000, memory_growth_bytes=4 * 2**30
)


class StudyData(TypedDict):
    """What a study records of its data.

    Attributes:
        checksum: of the data set's official files.
        split: the fingerprint of the split.
        train, validation: how many images each part has.
        mean, std: of each channel over the training part, in pixel units (0 to 255).
    """

    checksum: str
    split: str
    train: int
    validation: int
    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class StudyRecord:
    """What a study records of itself, read once: a snapshot. Every study can be read, of whatever program it is.

    Attributes:
        name: the study's.
        uid: tells studies of one name apart; empty where none was recorded.
        budget: how many trials the study has in all; 0 where none was set.
        budget_epochs: how many epochs they train together; None without a bound.
        limits: what its workers keep to.
        data: what it trains on; None before its first launch.
        first: configurations that are tried first, after the defaults.
        launched: when its workers were let go the last time; None before.
        space_document: what is searched, as it is stored; None before the first preflight.
        spec_document: the spec as it is stored; None where another program made the study.
    """

    name: str
    uid: str
    budget: int
    budget_epochs: int | None
    limits: Limits
    data: StudyData | None
    first: Sequence[dict[str, Any]]
    launched: Launched | None
    space_document: dict[str, Any] | None
    spec_document: dict[str, Any] | None

    @classmethod
    def of(cls, study: optuna.Study) -> StudyRecord:
        """Read the record of a study."""
        return cls.read(study._storage, study._study_id, study.study_name)

    @classmethod
    def read(cls, storage: BaseStorage, study_id: int, name: str) -> StudyRecord:
        """Read the record of a study by its id."""
        attrs = storage.get_study_user_attrs(study_id)
        budget_epochs = attrs.get(attributes.BUDGET_EPOCHS)
        return cls(
            name=name,
            uid=str(attrs.get(attributes.UID) or ""),
            budget=int(attrs.get(attributes.BUDGET) or 0),
            budget_epochs=int(budget_epochs) if budget_epochs is not None else None,
            limits={**DEFAULT_LIMITS, **attrs.get(attributes.LIMITS, {})},
            data=attrs.get(attributes.DATA),
            first=attrs.get(attributes.FIRST, []),
            launched=attrs.get(attributes.LAUNCHED),
            space_document=attrs.get(attributes.SPACE),
            spec_document=attrs.get(attributes.SPEC),
        )

    @cached_property
    def spec(self) -> StudySpec:
        """What is tuned and how.

        Raises:
            SpecMismatch: there is none, or one of another version.
        """
        return StudySpec.stored(self.spec_document)

    @cached_property
    def space(self) -> SearchSpace | None:
        """What is searched; None before the first preflight."""
        return SearchSpace.stored(self.space_document) if self.space_document is not None else None


def find_study(database: Database, name: str | None) -> optuna.Study:
    """Return the study called `name`; without one, the study whose trial began last.

    Raises:
        BadInput: there is no such study, or none at all.
    """

    def attempt() -> dict[str, tuple[float, int]]:
        with database.reading() as session:
            return last_begun(session)

    begun: dict[str, tuple[float, int]] = database.repeated(attempt)
    if not begun:
        raise BadInput("there is no study here yet. Start one with: make tune DATASET=mnist")
    if name is None:
        # What a clock that was wrong has put into the future says nothing of what was last.
        now = time.time()
        name = max(begun, key=lambda known: (begun[known][0] <= now, begun[known]))
    if name not in begun:
        raise unknown_name("study", name, begun)
    return optuna.load_study(study_name=name, storage=database)


@dataclass(frozen=True)
class StoredStudy:
    """A study as it is found in a database: what it records, and where it stands."""

    record: StudyRecord
    standing: Standing


def stored_study(url: str, name: str) -> StoredStudy | None:
    """Return a study as it stands in a database, or None if there is none with a spec yet. Changes nothing.

    Raises:
        BadInput: the storage cannot be opened or made, or the study is not one of this service.
    """
    if not check_storage(url):
        return None
    database = open_database(url)
    try:
        study_id = database.get_study_id_from_name(name)
        if _spec_of(database, study_id, name) is None:
            return None
        record = StudyRecord.read(database, study_id, name)
        return StoredStudy(record, Claims(database, study_id, owner="", uid=record.uid or None).standing())
    except KeyError:
        return None
    finally:
        database.engine.dispose()


def _spec_of(database: Database, study_id: int, name: str) -> StudySpec | None:
    document = database.get_study_user_attrs(study_id).get(attributes.SPEC)
    if document is not None:
        return StudySpec.stored(document)
    if database.get_all_trials(study_id):
        raise SpecMismatch(
            f"study {name!r} has trials but no spec: another program made it. Take STUDY=another for a new study."
        )
    # Its making was cut short before its attributes: it is made anew.
    return None


def create_or_load(
    database: Database,
    name: str,
    spec: StudySpec,
    describe: Callable[[], StudyData],
    first: Sequence[Mapping[str, Scalar]] = (),
) -> tuple[optuna.Study, bool]:
    """Return the study of that name and whether this call made it.

    Args:
        database: where it is, or will be.
        name: the study's.
        spec: what a new study records, and an old one must have.
        describe: called for what a new study records of its data.
        first: configurations that a new study tries right after the defaults.

    Raises:
        SpecMismatch: it exists with another spec.
    """
    try:
        study_id = database.get_study_id_from_name(name)
    except KeyError:
        study_id = _create(database, name)
    stored = _spec_of(database, study_id, name)
    study = optuna.load_study(study_name=name, storage=database)
    if stored is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(["validation accuracy"])  # what the dashboard writes at its axes
        recorded = {
            attributes.DATA: describe(),
            attributes.FINGERPRINT: spec.fingerprint,
            attributes.UID: uuid.uuid4().hex,
            attributes.FIRST: [dict(one) for one in first],
            attributes.SPEC: spec.model_dump(mode="json"),
        }
        if database.repeated(lambda: _record(database, study_id, recorded)):
            return study, True
        stored = StudySpec.stored(database.get_study_user_attrs(study_id)[attributes.SPEC])
    spec.require_same(stored, name)
    return study, False


def _record(database: Database, study_id: int, recorded: Mapping[str, Any]) -> bool:
    """Record what makes a new study, all at once; return False where another launcher has made it since."""
    with database.rows(study_id, write=True) as rows:
        rows.lock()
        found = rows.study_user_attrs()
        if attributes.SPEC in found:
            # Repeated after a lost answer, it finds its own.
            return bool(found[attributes.UID] == recorded[attributes.UID])
        for key, value in recorded.items():
            rows.set_study_user_attr(key, value)
        return True


def _create(database: Database, name: str) -> int:
    try:
        return database.create_new_study([StudyDirection.MAXIMIZE], name)
    except optuna.exceptions.DuplicatedStudyError:
        # Made by another launcher since, or by this one when the answer was lost.
        return database.get_study_id_from_name(name)
