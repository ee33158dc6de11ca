"""Trials of the later phases: claimed, kept and retried as all are, and nothing of them is seen by the search."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from storage import attributes
from storage.attributes import Phase
from storage.claims import Claim, Claims, Planned, StudyDeleted
from storage.connections import shown_url
from storage.database import Database
from storage.errors import BadInput
from storage.rows.giving_up import MAX_RETRIES
from storage.rows.memory_rows import Memory
from storage.settings import Home
from studies.leaderboard import best_parameters, best_trial, leaderboard
from studies.objectives.objective import VALIDATION_ACCURACY
from studies.phases.training import confirmation_training, refit_training, training_of
from studies.scheduler import Scheduler
from studies.simulation.rehearsal import Rehearsal
from studies.simulation.virtual_clock import Recording, simulate
from studies.spec import STRATEGIES, Sampler, StrategyChoice, StudySpec
from studies.status import status
from studies.stored import StudyRecord
from studies.strategies.samplers import SearchedStudy
from studies.strategies.strategy import Strategy
from studies.trials import incumbent, spent_epochs
from tests.databases import Kept, claimed, finish, new_study, trials
from tuning.launch.phases.phase import Opened, PhaseOptions, opened

R = 4
SPACE = {"learning_rate": FloatDistribution(1e-4, 1.0, log=True), "optimizer": CategoricalDistribution(["sgd", "adam"])}
PARAMS = {"learning_rate": 0.01, "optimizer": "adam"}


def planned(*seeds: int) -> list[Planned]:
    return [Planned(PARAMS, {"seed": seed, "of": 0}) for seed in seeds]


def in_phase(ledger: Kept, search: Claims, phase: Phase, owner: str = "another") -> Claims:
    return Claims(ledger, search._study_id, owner, phase=phase)


# --- Claims ---


def test_what_is_enqueued_is_taken_up_once_each_beyond_the_budget_and_no_more_is_created(ledger: Kept) -> None:
    search = new_study(ledger, budget=1)
    finish(ledger, claimed(search))
    confirm = in_phase(ledger, search, "confirm")
    assert confirm.standing().done, "nothing is asked for yet"
    assert confirm.enqueue(planned(5, 6)) == 2
    assert confirm.standing().waiting == 2
    first, second = claimed(confirm), claimed(confirm)
    assert [(claim.number, claim.phase) for claim in (first, second)] == [(1, "confirm"), (2, "confirm")]
    assert confirm.next() is None
    assert not confirm.standing().done
    finish(ledger, first)
    finish(ledger, second)
    assert confirm.standing().done
    assert [trial.system_attrs[attributes.TRAINING]["seed"] for trial in trials(ledger)[1:]] == [5, 6]
    assert all(trial.system_attrs[attributes.FIXED_PARAMETERS] == PARAMS for trial in trials(ledger)[1:])


def test_in_a_study_that_was_deleted_nothing_is_enqueued(ledger: Kept) -> None:
    confirm = in_phase(ledger, new_study(ledger), "confirm")
    ledger.delete_study(confirm._study_id)
    with pytest.raises(StudyDeleted):
        confirm.enqueue(planned(5))


def test_the_phases_count_and_claim_nothing_of_each_other(ledger: Kept) -> None:
    search = new_study(ledger, budget=2)
    confirm, refit = in_phase(ledger, search, "confirm"), in_phase(ledger, search, "refit")
    confirm.enqueue(planned(5))
    refit.enqueue(planned(5))
    assert search.standing().started == 0
    assert [claimed(search).number, claimed(search).number] == [2, 3]
    assert search.next() is None
    assert claimed(refit).number == 1
    assert refit.next() is None
    assert (search.standing().running, confirm.standing().running, refit.standing().running) == (2, 0, 1)
    assert (confirm.standing().waiting, refit.standing().waiting) == (1, 0)
    # Whose worker fell silent is everybody's affair.
    assert {claim.phase for claim, _ in search.running()} == {"search", "refit"}


def test_what_is_there_is_not_enqueued_again_but_what_failed_is(ledger: Kept) -> None:
    search = new_study(ledger)
    confirm = in_phase(ledger, search, "confirm")
    assert confirm.enqueue(planned(5, 6)) == 2
    assert confirm.enqueue(planned(5, 6, 7)) == 1
    finish(ledger, claimed(confirm))
    finish(ledger, claimed(confirm), TrialState.FAIL)
    assert confirm.enqueue(planned(5, 6, 7)) == 1
    assert len(trials(ledger)) == 4
    assert in_phase(ledger, search, "refit").enqueue(planned(5)) == 1, "another phase is another matter"


def test_a_confirmation_that_is_interrupted_waits_as_itself_and_one_that_errs_is_tried_again(ledger: Kept) -> None:
    confirm = in_phase(ledger, new_study(ledger), "confirm")
    confirm.enqueue(planned(5))
    first = claimed(confirm)
    confirm.progressed(first, 3)
    assert confirm.put_back(first, "interrupted")
    for _ in range(MAX_RETRIES["error"] + 1):
        again = claimed(confirm)
        assert (again.number, again.phase) == (first.number, "confirm")
        confirm.put_back(again, "boom", "error")
    assert confirm.next() is None
    assert confirm.standing().failed == 1


@pytest.mark.parametrize("recorded", [None, "search", "nonsense", 3])
def test_a_trial_that_says_nothing_sensible_of_its_phase_is_one_of_the_search(ledger: Kept, recorded: Any) -> None:
    search = new_study(ledger, budget=1)
    claim = claimed(search)
    if recorded is not None:
        ledger.set_trial_system_attr(claim.trial_id, attributes.PHASE, recorded)
    assert search.standing().running == 1
    search.put_back(claim, "interrupted")
    assert claimed(search).number == claim.number


# --- The search sees nothing of them ---


class Steady:
    """Curves that rise to what the learning rate gives."""

    horizon = R

    def curve_of(self, trial: int, params: Any) -> Recording:
        best = 0.9 - 0.1 * abs(math.log10(float(params["learning_rate"])) + 2)
        return Recording(best * (1 - np.exp(-np.arange(1, R + 1.0))))


def rehearsed(ledger: Kept, strategy: str, sampler: str = "model") -> Rehearsal:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rehearsal = Rehearsal(
        SPACE, R, 0, strategy=StrategyChoice(name=strategy), trials=6, budget_epochs=14,
        sampler=Sampler(name=sampler, startup_trials=3), storage=ledger,
    )  # fmt: skip
    simulate(rehearsal, Steady(), workers=1, budget=10_000)
    return rehearsal


def spec_of(rehearsal: Rehearsal) -> StudySpec:
    return rehearsal._scheduler._spec


def confirmed(rehearsal: Rehearsal) -> list[FrozenTrial]:
    """Train two trials of another phase to values that nothing of the search has."""
    storage = rehearsal.study._storage
    claims = Claims(rehearsal._claims._ledger, rehearsal.study._study_id, "another", phase="confirm")
    scheduler = Scheduler(rehearsal.study, spec_of(rehearsal), Strategy(spec_of(rehearsal)), claims)
    plan = [Planned(PARAMS, confirmation_training(spec_of(rehearsal), 0, index).document()) for index in range(2)]
    claims.enqueue(plan)
    while (claim := scheduler.next()) is not None:
        trial = scheduler.trial(claim)
        assert {name: trial._suggest(name, one) for name, one in SPACE.items()} == PARAMS
        for epoch in range(1, R + 1):
            assert scheduler.epoch_ended(claim, epoch, 0.99, last=epoch == R) == "go on"
        storage.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, [0.99])
    return rehearsal.study.get_trials(deepcopy=False)[-2:]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_search_is_where_it_was_whatever_later_phases_trained(strategy: str) -> None:
    rehearsal = rehearsed(Memory(), strategy)
    before = rehearsal._scheduler._view()
    best, said = best_trial(rehearsal.study), status(rehearsal.study, "sqlite://", Home(Path("/none")))
    assert best is not None
    added = confirmed(rehearsal)
    after = rehearsal._scheduler._view()
    assert [trial.state for trial in added] == [TrialState.COMPLETE] * 2
    assert (before.trials_left, before.epochs_left) == (after.trials_left, after.epochs_left)
    assert spent_epochs(before.trials) == spent_epochs(after.trials)
    assert incumbent(after.trials, VALIDATION_ACCURACY) == incumbent(before.trials, VALIDATION_ACCURACY)
    assert len(after.trials) == len(before.trials) + 2, "they have their numbers"
    assert best_trial(rehearsal.study) == best
    assert best_parameters(rehearsal.study, 1) != [PARAMS]
    assert SearchedStudy.of(rehearsal.study).trials == list(before.trials)
    now = status(rehearsal.study, "sqlite://", Home(Path("/none")))
    assert now["phases"]["confirm"]["complete"] == 2
    assert {**now, "phases": 0} == {**said, "phases": 0}
    rows = leaderboard(rehearsal.study)
    assert [row["phase"] for row in rows] == ["search"] * len(before.trials) + ["confirm"] * 2
    assert rows[0]["number"] == best.number


@pytest.mark.parametrize(
    ("strategy", "sampler"),
    [*((strategy, "model") for strategy in STRATEGIES), ("median", "tpe"), ("none", "cmaes")],
)
def test_a_study_that_was_confirmed_is_extended_and_its_confirmation_stays(strategy: str, sampler: str) -> None:
    rehearsal = rehearsed(Memory(), strategy, sampler)
    added = confirmed(rehearsal)
    rehearsal._claims.set_budget(9, {attributes.BUDGET_EPOCHS: 24})
    record = simulate(rehearsal, Steady(), workers=2, budget=10_000)
    assert set(record.trial.tolist()) >= {8, 9, 10}
    assert not {6, 7} & set(record.trial.tolist())
    assert rehearsal._claims.standing().done
    assert rehearsal.study.get_trials(deepcopy=False)[6:8] == added


# --- What they train with ---


def spec(**more: Any) -> StudySpec:
    given: dict[str, Any] = {
        "dataset": "mnist", "model": "models.cnn:CNN", "space": "core", "parameters": {}, "seed": 3, "plan_name": "cpu",
        "epochs": 8, "train_images": None, "validation_images": 5000, "patience": 5, "sampler": Sampler(),
        "strategy": StrategyChoice(),
    }  # fmt: skip
    return StudySpec(**{**given, **more})


def test_what_a_trial_trains_with_is_read_back_from_what_is_recorded_with_it(ledger: Kept) -> None:
    search = new_study(ledger)
    of_search = claimed(search)
    confirm, refit = in_phase(ledger, search, "confirm"), in_phase(ledger, search, "refit")
    again = confirmation_training(spec(), 0, 1)
    longer = refit_training(spec(), 0, epochs=40, at_least={"augmentation": 0.5})
    confirm.enqueue([Planned(PARAMS, again.document())])
    refit.enqueue([Planned(PARAMS, longer.document())])
    plain, second, third = trials(ledger)
    assert plain.number == of_search.number
    found = training_of(spec(), plain)
    assert (found.epochs, found.patience, found.of, found.at_least) == (8, 5, None, {})
    assert training_of(spec(), second) == again
    assert (again.epochs, again.patience, again.of) == (8, 5, 0)
    assert training_of(spec(), third) == longer
    assert len({training_of(spec(), trial).seed for trial in (plain, second, third)}) == 3


def test_patience_grows_with_the_epochs_and_never_shrinks() -> None:
    assert refit_training(spec(), 0, epochs=20, at_least={}).patience == 13
    assert refit_training(spec(), 0, epochs=2, at_least={}).patience == 5


def test_what_is_recorded_of_another_kind_counts_as_not_recorded(ledger: Kept) -> None:
    claim = claimed(new_study(ledger))
    nonsense = {"seed": "x", "epochs": None, "patience": 1.5, "at_least": {"augmentation": "much"}}
    ledger.set_trial_system_attr(claim.trial_id, attributes.TRAINING, nonsense)
    (trial,) = trials(ledger)
    plain = replace(training_of(spec(), trial), seed=0)
    assert (plain.epochs, plain.patience, plain.at_least) == (8, 5, {})


def test_a_claim_says_its_phase_to_the_program_that_takes_over(database: Database) -> None:
    confirm = in_phase(database, new_study(database), "confirm")
    confirm.enqueue(planned(5))
    held = claimed(confirm)
    assert confirm.running() == [(held, 0)]
    assert isinstance(held, Claim)


def test_the_next_command_names_the_database_without_its_password(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_study(database)
    record = StudyRecord.read(database, 1, "mnist")
    given = "postgresql+psycopg://me:secret@db/tuning"
    monkeypatch.setattr(Database, "shown_url", shown_url(given))
    study = optuna.load_study(study_name="mnist", storage=database)
    options = PhaseOptions(storage=given, objective="costs.py:cost")
    opened = Opened(options, Home(Path()), given, database, study, record, None, None, Console())
    assert opened.arguments == "STUDY=mnist STORAGE='postgresql+psycopg://me:***@db/tuning'"
    assert opened.phase_arguments == f"{opened.arguments} OBJECTIVE=costs.py:cost"
    on_nodes = replace(opened, home=Home(Path(), "s3://b/t"), options=replace(options, cluster="auto"))
    assert on_nodes.arguments == f"{opened.arguments} FILES=s3://b/t"
    assert on_nodes.phase_arguments == f"{on_nodes.arguments} OBJECTIVE=costs.py:cost CLUSTER=auto"
    sent = replace(on_nodes, options=replace(on_nodes.options, ship=True))
    assert sent.phase_arguments == f"{on_nodes.phase_arguments} SHIP=1"


def test_files_are_sent_to_a_cluster_alone(home: Path) -> None:
    with (
        pytest.raises(BadInput, match=r"--ship: sends your files to the nodes of a cluster, and this machine has"),
        opened(PhaseOptions(study="mnist", ship=True), Home(home), Console()),
    ):
        pass
