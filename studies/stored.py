"""A study in a database: made with its spec, found again, and refused where it is another one, or another program's.

A database may hold studies that people and other programs made. What is ours is said by `StudyRecord.is_ours` alone.
"""

from __future__ import annotations

import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NotRequired, TypedDict, cast

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from storage import attributes
from storage.claims import Claims, Standing
from storage.database import Database
from storage.errors import BadInput, unknown_name
from storage.leases import FirstCalls
from storage.opening import check_storage, open_to_read
from storage.rows.sql_rows import SqlRows
from storage.rows.study_rows import is_copy, last_begun
from storage.settings import Home
from storage.stores.chosen import require_files
from studies.class_balance import is_imbalanced
from studies.course import Course
from studies.forecast import Launched
from studies.objectives.objective import Objective, objectives_in
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
        test: how many images were split off to test on; not there where the data set brings a test split.
        mean, std: of each channel over the training part, in pixel units (0 to 255).
        class_counts: how many images of each class the training part has; left out by earlier versions.
    """

    checksum: str
    split: str
    train: int
    validation: int
    test: NotRequired[int]
    mean: list[float]
    std: list[float]
    class_counts: NotRequired[list[int]]


class ForeignStudy(BadInput):
    """Another program made the study, so nothing of this service can go on with it."""


@dataclass(frozen=True)
class StudyRecord:
    """What a study records of itself, read once: a snapshot. Every study can be read, of whatever program it is.

    Attributes:
        name: the study's.
        directions: of its objectives.
        uid: tells studies of one name apart; empty where none was recorded.
        files: the URL of where its artifacts and checkpoints are kept; empty for the folders of its home.
        budget: how many trials the study has in all; 0 where none was set.
        budget_epochs: how many epochs they train together; None without a bound.
        course: what follows its search; None where it was begun before anything did.
        spent_s: the seconds that its launchers have spent on it.
        limits: what its workers keep to.
        data: what it trains on; None before its first launch.
        function: what runs its trials where it has no spec, in words; None where nothing of this service does.
        first: configurations that are tried first, after the defaults.
        launched: when its workers were let go the last time; None before.
        first_calls: what the first calls of a training took in the preflights, by the device's name.
        space_document: what is searched, as it is stored; None before the first preflight.
        spec_document: the spec as it is stored; None where another program made the study.
    """

    name: str
    directions: tuple[StudyDirection, ...]
    uid: str
    files: str
    budget: int
    budget_epochs: int | None
    course: Course | None
    spent_s: float
    limits: Limits
    data: StudyData | None
    function: str | None
    first: Sequence[dict[str, Any]]
    launched: Launched | None
    first_calls: dict[str, FirstCalls]
    space_document: list[Any] | None
    spec_document: dict[str, Any] | None

    @classmethod
    def of(cls, study: optuna.Study) -> StudyRecord:
        """Read the record of a study."""
        return cls.read(study._storage, study._study_id, study.study_name)

    @classmethod
    def read(cls, storage: BaseStorage, study_id: int, name: str) -> StudyRecord:
        """Read the record of a study by its id."""
        return cls.from_attributes(name, storage.get_study_directions(study_id), storage.get_study_user_attrs(study_id))

    @classmethod
    def from_attributes(cls, name: str, directions: Sequence[StudyDirection], user: Mapping[str, Any]) -> StudyRecord:
        """Return the record that user attributes of a study hold."""
        recorded = partial(attributes.of_study, user)
        return cls(
            name=name,
            directions=tuple(directions),
            uid=recorded(attributes.UID, str) or "",
            files=recorded(attributes.FILES, str) or "",
            budget=recorded(attributes.BUDGET, int) or 0,
            budget_epochs=recorded(attributes.BUDGET_EPOCHS, int),
            course=Course.stored(course) if (course := recorded(attributes.COURSE, dict)) is not None else None,
            spent_s=recorded(attributes.SPENT, float) or 0.0,
            limits=_limits(recorded(attributes.LIMITS, dict) or {}),
            data=_data(recorded(attributes.DATA, dict)),
            function=recorded(attributes.FUNCTION, str),
            first=[one for one in recorded(attributes.FIRST, list) or [] if isinstance(one, dict)],
            launched=_launched(recorded(attributes.LAUNCHED, dict)),
            first_calls=_first_calls(recorded(attributes.FIRST_CALLS, dict) or {}),
            space_document=recorded(attributes.SPACE, list),
            spec_document=recorded(attributes.SPEC, dict),
        )

    @classmethod
    def unmade(cls, spec: dict[str, Any], data: StudyData) -> StudyRecord:
        """Return the record of a study that is not there yet, or is not looked for.

        Args:
            spec: the spec as it would be stored.
            data: what it would record of its data.
        """
        return cls(
            name="",
            directions=tuple(objective.optunas for objective in objectives_in(spec)),
            uid="",
            files="",
            budget=0,
            budget_epochs=None,
            course=None,
            spent_s=0.0,
            limits=DEFAULT_LIMITS,
            data=data,
            function=None,
            first=(),
            launched=None,
            first_calls={},
            space_document=None,
            spec_document=spec,
        )

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """What it optimises; none where another program made it."""
        found = objectives_in(self.spec_document)
        return found if self.directions == tuple(objective.optunas for objective in found) else ()

    @property
    def objective(self) -> Objective:
        """What it optimises, where there are two the first; of another program's only its direction is known."""
        return self.valued[0]

    @property
    def valued(self) -> tuple[Objective, ...]:
        """Of what its trials have values; of another program's study only the directions are known."""
        return self.objectives or tuple(
            Objective(name="value", direction="min" if direction == StudyDirection.MINIMIZE else "max")
            for direction in self.directions
        )

    @property
    def is_ours(self) -> bool:
        """Whether it is a study of this service: it has a spec, and the directions of what that optimises."""
        return bool(self.objectives)

    def require_ours(self, home: Home | None = None) -> None:
        """Refuse a study of another program, and one that keeps its files elsewhere than the home that is given.

        Raises:
            ForeignStudy: another program made it.
            BadInput: its files are elsewhere.
        """
        if not self.is_ours:
            raise self.foreign("has no spec")
        if home is not None:
            require_files(home, self.name, self.files)

    def foreign(self, unlike_ours: str) -> ForeignStudy:
        """Return the refusal of a study without a spec, which is unlike ours in its directions or as is given."""
        if self.function is not None:
            return ForeignStudy(
                f"study {self.name!r} is of {self.function}, not of a model that is built and kept here. Go on with it"
                " as it was begun; tuning status, trials, watch and dashboard show it."
            )
        meant = objectives_in(self.spec_document)
        if len(self.directions) != (len(meant) or 1):
            unlike_ours = f"has {len(self.directions)} objectives"
        elif self.spec_document is not None:
            unlike_ours = f"does not {_in_words(meant)}" if meant else "says not what it optimises"
        return ForeignStudy(
            f"study {self.name!r} {unlike_ours}: another program made it. Take STUDY=another; tuning status and tuning"
            " trials show this one as it is."
        )

    @property
    def dataset(self) -> str | None:
        """A data set's name, or the absolute path of data of one's own; None where another program made the study."""
        return attributes.typed((self.spec_document or {}).get("dataset"), str)

    @property
    def class_counts(self) -> list[int] | None:
        """How many images of each class the training part has; None where an earlier version made the study."""
        return self.data.get("class_counts") if self.data is not None else None

    @property
    def imbalanced(self) -> bool | None:
        """Whether its classes are of unlike sizes, see `studies.class_balance`; None where that is not recorded."""
        return is_imbalanced(self.class_counts) if self.class_counts is not None else None

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


def _in_words(objectives: Sequence[Objective]) -> str:
    """Return what a study does with its values: `maximize`, `maximize and minimize`."""
    return " and ".join(objective.optunas.name.lower() for objective in objectives)


def _limits(document: dict[str, Any]) -> Limits:
    known = {name: value for name, value in document.items() if attributes.typed(value, float) is not None}
    return cast(Limits, {**DEFAULT_LIMITS, **{name: known[name] for name in DEFAULT_LIMITS.keys() & known.keys()}})


def _data(document: dict[str, Any] | None) -> StudyData | None:
    kinds: dict[str, type] = {"checksum": str, "split": str, "train": int, "validation": int, "mean": list, "std": list}
    if document is None or not _has(document, kinds):
        return None
    counts = attributes.typed(document.get("class_counts"), list)
    if not counts or any(attributes.typed(count, int) is None for count in counts):
        document = {key: value for key, value in document.items() if key != "class_counts"}
    return cast(StudyData, document)


def _launched(document: dict[str, Any] | None) -> Launched | None:
    if document is None or not _has(document, {"at": float, "epochs": int}):
        return None
    return Launched(
        at=document["at"], epochs=document["epochs"], epoch_s=attributes.typed(document.get("epoch_s"), float)
    )


def _first_calls(document: dict[str, Any]) -> dict[str, FirstCalls]:
    kinds = dict.fromkeys(FirstCalls.__annotations__, float)
    known = {device: one for device, one in document.items() if isinstance(one, dict) and _has(one, kinds)}
    return {device: FirstCalls(**{name: float(one[name]) for name in kinds}) for device, one in known.items()}


def _has(document: Mapping[str, Any], kinds: Mapping[str, type]) -> bool:
    return all(attributes.typed(document.get(key), kind) is not None for key, kind in kinds.items())


def find_study(database: Database, name: str | None) -> optuna.Study:
    """Return the study called `name`, of whatever program; without a name, the one whose trial began last.

    Without a name, another program's is meant only where this service has none.

    Raises:
        BadInput: there is no such study, or none at all.
    """

    def attempt() -> dict[str, tuple[float, int]]:
        with database.reading() as connection:
            return last_begun(connection)

    begun: dict[str, tuple[float, int]] = database.repeated(attempt)
    if not begun:
        raise BadInput("there is no study here yet. Start one with: make tune DATASET=mnist")
    if name is not None and name not in begun:
        raise unknown_name("study", name, begun)
    if name is None:
        # What a clock that was wrong has put into the future says nothing of what was last.
        now = time.time()
        latest_first = sorted(begun, key=lambda known: (begun[known][0] <= now, begun[known]), reverse=True)
        own = (known for known in latest_first if _is_ours(database, begun[known][1], known))
        name = next(own, latest_first[0])
    return optuna.load_study(study_name=name, storage=database)


def _is_ours(database: Database, study_id: int, name: str) -> bool:
    try:
        return StudyRecord.read(database, study_id, name).is_ours
    except KeyError:  # deleted since
        return False


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
    database = open_to_read(url)
    try:
        study_id = database.get_study_id_from_name(name)
        record = _begun(database, study_id, name)
        if record is None:
            return None
        return StoredStudy(record, Claims(database, study_id, owner="", uid=record.uid or None).standing())
    except KeyError:
        return None
    finally:
        database.engine.dispose()


def _begun(database: Database, study_id: int, name: str) -> StudyRecord | None:
    """Return what a study records; None for an empty one: its making was cut short, and it is made anew.

    Raises:
        ForeignStudy: another program made it.
    """
    record = StudyRecord.read(database, study_id, name)
    if record.is_ours:
        return record
    if database.get_all_trials(study_id):
        raise record.foreign("has trials but no spec")
    if database.get_study_user_attrs(study_id):
        raise record.foreign("has attributes but no spec")
    return None


def create_or_load(
    database: Database,
    name: str,
    spec: StudySpec,
    describe: Callable[[], StudyData],
    first: Sequence[Mapping[str, Scalar]] = (),
    home: Home | None = None,
) -> tuple[optuna.Study, bool]:
    """Return the study of that name and whether this call made it.

    Args:
        database: where it is, or will be.
        name: the study's.
        spec: what a new study records, and an old one must have.
        describe: called for what a new study records of its data.
        first: configurations that a new study tries right after the defaults.
        home: where a new study keeps its files, and an old one must; not looked at where there is none.

    Raises:
        SpecMismatch: it exists with another spec.
        BadInput: it exists and keeps its files elsewhere.
        ForeignStudy: another program made it.
    """
    data = None
    try:
        study_id = database.get_study_id_from_name(name)
    except KeyError:
        data = describe()  # first: data that are refused leave no study behind
        study_id = _create(database, name, spec)
    before = _begun(database, study_id, name)
    study = optuna.load_study(study_name=name, storage=database)
    if before is None:
        if study.directions != [objective.optunas for objective in spec.objectives]:
            raise StudyRecord.of(study).foreign(f"does not {_in_words(spec.objectives)}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # What the dashboard writes at its axes.
            study.set_metric_names([objective.words for objective in spec.objectives])
        recorded = {
            attributes.DATA: data or describe(),
            attributes.FINGERPRINT: spec.fingerprint,
            attributes.UID: uuid.uuid4().hex,
            attributes.FIRST: [dict(one) for one in first],
            attributes.SPEC: spec.model_dump(mode="json"),
        }
        if home is not None and home.files:
            recorded[attributes.FILES] = home.files
        if database.repeated(lambda: _record(database, study_id, recorded)):
            return study, True
        before = StudyRecord.read(database, study_id, name)
    spec.require_same(before.spec, name)
    before.require_ours(home)
    return study, False


def require_own_uid(database: Database, study: optuna.Study) -> None:
    """Give a study that Optuna copied a uid of its own: it shares no files with the one that it was copied from."""
    study_id, uid = study._study_id, StudyRecord.of(study).uid

    def attempt() -> None:
        with database.transaction() as connection:
            if uid and is_copy(connection, study_id, uid):
                SqlRows(connection, study_id).set_study_user_attr(attributes.UID, uuid.uuid4().hex)

    database.repeated(attempt)


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


def _create(database: Database, name: str, spec: StudySpec) -> int:
    try:
        return database.create_new_study([objective.optunas for objective in spec.objectives], name)
    except optuna.exceptions.DuplicatedStudyError:
        # Made by another launcher since, or by this one when the answer was lost.
        return database.get_study_id_from_name(name)
