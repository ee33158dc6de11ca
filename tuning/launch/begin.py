"""The study that was asked for: made, or found and given its new budget."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from storage import attributes
from storage.claims import Claims, StudyDeleted
from storage.database import Database
from storage.errors import BadInput
from storage.opening import open_database
from storage.rows.study_rows import studies_of
from storage.stores.chosen import artifact_files
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import prepare
from studies.spec import BUDGET_SHARE
from studies.stored import StudyRecord, create_or_load, require_own_uid
from studies.strategies.audit import least_epochs
from studies.study_data import describe, repeated_images, split_of
from tuning.launch.understand import Asked, fewest_epochs


@dataclass(frozen=True)
class Begun:
    """A study that can be worked on.

    Attributes:
        study: Optuna's own.
        record: what it records, the new budget among it.
        created: whether this command made it.
        database: where it is.
        claims: the study's, as the launcher makes them.
        dataset: what it trains on, as it is prepared here.
        repeated: how many validation and test images are training images, too; see `repeated_images`.
    """

    study: optuna.Study
    record: StudyRecord
    created: bool
    database: Database
    claims: Claims
    dataset: PreparedDataset
    repeated: Mapping[str, int]

    def undo(self) -> None:
        """Delete the study if this command made it and nothing was tried: as if it had not been asked for."""
        if self.created and not self.study.get_trials(deepcopy=False):
            self.database.delete_study(self.study._study_id)

    def gone(self) -> StudyDeleted | None:
        """Return what to say where the study is not there any more; None where it is."""
        try:
            self.claims.standing()
        except StudyDeleted as deleted:
            with self.database.reading() as connection:
                others = studies_of(connection, self.record.uid) if self.record.uid else []
            if not others:
                return deleted
            name, former = shlex.quote(others[-1][1]), self.record.name
            return StudyDeleted(
                f"study {former!r} was renamed while it ran. Give the same command with STUDY={name}: it goes on there."
            )
        return None


def begun(asked: Asked) -> Begun:
    """Make the home, the data set and the study, as far as they are not there, and record what holds from now on.

    Raises:
        BadInput: the home cannot be made, or is not where the study keeps its files, or the base cannot be kept in it;
            another launcher has made another study of that name since.
        TuningError: the data set cannot be had, or the database cannot be reached.
    """
    _require_room_for_audit(asked)
    asked.home.make(asked.home.root)
    spec = asked.spec
    asked.model.keep(asked.home)
    dataset = prepare(spec.dataset, asked.home, images=spec.images, checksum=asked.declared.dataset.checksum)
    database = open_database(asked.url, create=True)
    artifact_files(asked.home, make=True)
    study, created = create_or_load(
        database, asked.name, asked.spec, lambda: describe(dataset, asked.spec), asked.first, asked.home
    )
    require_own_uid(database, study)
    before = StudyRecord.of(study)
    claims = Claims(database, study._study_id, owner="launcher", uid=before.uid or None)
    study.set_user_attr(attributes.LIMITS, asked.options.limits)
    trials = asked.trials(before.budget)
    recorded: dict[str, Any] = {attributes.BUDGET_EPOCHS: _budget_epochs(asked, trials, before)}
    if asked.course is not None and asked.course != before.course:
        recorded[attributes.COURSE] = asked.course.document()
    claims.set_budget(trials, recorded)
    repeated = repeated_images(dataset, split_of(dataset, spec))
    return Begun(study, StudyRecord.of(study), created, database, claims, dataset, repeated)


def _require_room_for_audit(asked: Asked) -> None:
    """Refuse to finish more trials in any case than there are epochs for."""
    before, spec = asked.before, asked.spec
    trials = asked.trials(before.budget if before is not None else 0)
    budget = _budget_epochs(asked, trials, before)
    least = least_epochs(spec, trials)
    if spec.audit and budget is not None and budget < least:
        raise BadInput(
            f"--audit {spec.audit:g}: of {trials} trials so many are trained to their end that it takes {least} epochs,"
            f" and the budget is {budget}. Give --budget-epochs {least} or more, or a smaller share."
        )


def _budget_epochs(asked: Asked, trials: int, before: StudyRecord | None) -> int | None:
    """Return how many epochs so many trials train together; None without a bound."""
    if asked.options.budget_epochs is not None:
        return asked.options.budget_epochs
    least = fewest_epochs(trials, asked.spec.epochs)
    if before is not None and before.budget and before.budget_epochs:
        return max(least, math.ceil(before.budget_epochs * trials / before.budget))
    plan = asked.plan
    if len(asked.spec.objectives) > 1:
        return None
    if not asked.strategy.needs_budget and plan.budget_epochs is None:
        return None
    whole = plan.trials * plan.epochs
    share = (plan.budget_epochs or math.ceil(BUDGET_SHARE * whole)) / whole
    return max(least, math.ceil(share * trials * asked.spec.epochs))
