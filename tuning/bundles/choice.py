"""Which trial of a study is exported, and into which folder. No Keras."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.artifacts import Artifacts
from storage.errors import BadInput, TuningError
from storage.settings import Home, database_of, owner_of
from studies.leaderboard import complete_trials, value_of
from studies.objectives.objective import Objective
from studies.phases.known import refitted
from studies.stored import StudyRecord

# So many trials without a model are named.
MOST_NAMED = 3


def chosen(
    study: optuna.Study, record: StudyRecord, artifacts: Artifacts, number: int | None
) -> tuple[FrozenTrial, str | None]:
    """Return the trial whose model is exported, and what is to be said of that.

    That is the COMPLETE trial of a number, else the winner that was refitted last, else the search's best that has a
    model.

    Optuna and its dashboard let anybody add a trial, or say of one how it ended: such a one has no model.

    Raises:
        BadInput: the trial of that number is not COMPLETE, or there is none.
        TuningError: no COMPLETE trial has a model.
    """
    if number is not None:
        return _of_number(study, record, number), None
    complete = complete_trials(study)
    refit = next((trial for trial in refitted(study) if artifacts.find(trial, "model") is not None), None)
    if refit is not None:
        return refit, _worse_than(complete[0], refit, record.objective) if complete else None
    place = next((n for n, trial in enumerate(complete) if artifacts.find(trial, "model") is not None), None)
    if place is None:
        raise _nothing_to_export(record, study.get_trials(deepcopy=False), complete)
    if place == 0:
        return complete[0], None
    fact = "passed over, since another program added or ended it without a model"
    return complete[place], f"{fact}: {_in_words(complete[:place])}"


def _worse_than(best: FrozenTrial, refit: FrozenTrial, objective: Objective) -> str | None:
    own, searched, figure = value_of(refit), value_of(best), objective.figure
    if own is None or searched is None or not objective.is_better(searched, own):
        return None
    return (
        f"the refitted trial {refit.number} has a {objective.words} of {figure(own)}, and the search's best had"
        f" {figure(searched)}: --trial {best.number} exports that"
    )


def _of_number(study: optuna.Study, record: StudyRecord, number: int) -> FrozenTrial:
    trials = study.get_trials(deepcopy=False)
    trial = next((trial for trial in trials if trial.number == number), None)
    if trial is None:
        raise BadInput(f"study {record.name!r} has no trial {number}: it has {len(trials)}, from 0. Give one of these.")
    if trial.state != TrialState.COMPLETE:
        raise BadInput(
            f"trial {number} is {trial.state.name}, and only a COMPLETE one has a model. Give such a --trial."
        )
    return trial


def own_folder(study: optuna.Study, record: StudyRecord, home: Home, database: str) -> tuple[Path, str | None]:
    """Return the folder of a study's bundle, and what is to be said where the folder of its name is another study's.

    That is replaced only if it is known to be nobody's any more: of a study of the same database that is not there.

    Args:
        study: Optuna's own.
        record: what it records.
        home: where bundles are.
        database: where the study is, as `Database.place` says it.
    """
    by_name = home.export(record.name)
    owner, elsewhere = owner_of(by_name), database_of(by_name)
    if not record.uid or owner in (None, record.uid):
        return by_name, None
    if database and elsewhere == database and owner not in _uids(study):
        return by_name, f"{by_name} held the bundle of a study of that name that was deleted: it is replaced"
    where = f" in {elsewhere}" if elsewhere not in (None, database) else ""
    return home.export(record.name, record.uid), (
        f"{by_name} holds the bundle of another study of that name{where}: this one is beside it. Remove that folder"
        " if that study is gone"
    )


def _uids(study: optuna.Study) -> set[str | None]:
    return {attributes.of_study(one.user_attrs, attributes.UID, str) for one in study._storage.get_all_studies()}


def _nothing_to_export(record: StudyRecord, trials: list[FrozenTrial], complete: list[FrozenTrial]) -> TuningError:
    over = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    more = f"raise TRIALS and tune on, for example to TRIALS={record.budget + 10}"
    then = "give its command again" if over < record.budget else more
    if complete:
        return TuningError(
            f"study {record.name!r} has no COMPLETE trial with a model: another program added or ended"
            f" {_in_words(complete)}. Wait for one, or {then}."
        )
    count = Counter(trial.state.name for trial in trials)
    states = ", ".join(f"{number} {state}" for state, number in count.items()) or "no trials at all"
    return TuningError(
        f"study {record.name!r} has no COMPLETE trial to export: it has {states}. Wait for one, or {then}."
    )


def _in_words(trials: Sequence[FrozenTrial]) -> str:
    shown = ", ".join(f"trial {trial.number} ({value_of(trial):.4g})" for trial in trials[:MOST_NAMED])
    return shown + (f" and {len(trials) - MOST_NAMED} more" if len(trials) > MOST_NAMED else "")
