"""Trials that are finished although the strategy ended them: which, what the others see of it, and what it tells."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.claims import Claim
from storage.errors import BadInput
from storage.settings import Home
from studies.declaration import Overrides, from_catalog, make_spec
from studies.findings.savings import audit, saving
from studies.forecast import expected_epochs
from studies.leaderboard import leaderboard
from studies.objectives.objective import VALIDATION_ACCURACY, Objective
from studies.scheduler import Scheduler
from studies.simulation.rehearsal import Rehearsal
from studies.spec import Sampler, StrategyChoice, StudySpec
from studies.strategies.audit import is_drawn, least_epochs, set_aside
from studies.strategies.chosen import make_strategy
from studies.strategies.strategy import Strategy, Verdict, View
from studies.trials import as_decided, audited_after, incumbent, spent_epochs
from tests.reported import SPEC, curve, make_study
from tests.unit.test_scheduler import FREEZING, SPACE, R, Seen, require_done
from tuning.given import tune_options
from tuning.launch.begin import begun
from tuning.launch.progress import finished_line
from tuning.launch.understand import understood
from tuning.views.report.report import report_of


def with_audit(share: float, **changes: Any) -> StudySpec:
    return SPEC.model_copy(update={"audit": share, "epochs": R, "seed": 0, **changes})


def drawn(share: float, trials: int, seed: int = 0) -> set[int]:
    return {number for number in range(trials) if is_drawn(with_audit(share, seed=seed), number)}


def audited(trials: list[FrozenTrial]) -> dict[int, int]:
    """The audited trials, and the epoch after which each would have ended."""
    return {trial.number: after for trial in trials if (after := audited_after(trial)) is not None}


# --- Which are drawn ---


def test_a_trials_seed_says_whether_it_is_drawn() -> None:
    assert drawn(0.0, 500) == set()
    assert drawn(1.0, 500) == set(range(500))
    assert drawn(0.1, 500) < drawn(0.3, 500)
    assert len(drawn(0.1, 5_000)) == pytest.approx(500, abs=75)
    assert drawn(0.1, 500) != drawn(0.1, 500, seed=1)


def test_epochs_are_set_aside_for_those_that_are_drawn_and_for_the_best() -> None:
    spec = with_audit(0.3)
    count = len(drawn(0.3, 12))
    assert least_epochs(spec, 12) == 12 + (count + 1) * (R - 1)
    assert least_epochs(with_audit(1.0), 12) == 12 * R
    assert least_epochs(with_audit(0.0), 12) == 12 + R - 1
    assert set_aside(spec, [], 12, None) == count * (R - 1)
    assert set_aside(with_audit(0.0), [], 12, None) == 0


# --- What becomes of them ---


@pytest.mark.parametrize("sampler", ["model", "random"])
@pytest.mark.parametrize("strategy", ["successive_halving", "hyperband", "median"])
def test_what_is_pruned_and_drawn_goes_on_and_the_others_fare_as_without(strategy: str, sampler: str) -> None:
    without = Seen(strategy, budget_epochs=None, trials=30, sampler=sampler)
    seen = Seen(strategy, budget_epochs=None, trials=30, sampler=sampler, audit=0.3)
    require_done(seen, 30)
    pruned = {t.number: len(t.intermediate_values) for t in without.trials if t.state == TrialState.PRUNED}
    expected = {number: epochs for number, epochs in pruned.items() if number in drawn(0.3, 30)}
    assert expected
    assert audited(seen.trials) == expected
    assert all(seen.trials[number].state == TrialState.COMPLETE for number in expected)
    decided = [as_decided(trial) for trial in seen.trials]
    for one, other in zip(decided, without.trials, strict=True):
        assert (one.params, one.intermediate_values) == (other.params, other.intermediate_values)
        assert (one.state, one.value) == (other.state, other.value)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("strategy", FREEZING)
def test_what_is_frozen_and_drawn_goes_on_where_it_would_be_ended(strategy: str, workers: int) -> None:
    seen = Seen(strategy, trials=20, budget_epochs=140, workers=workers, audit=0.3)
    require_done(seen, 20)
    assert audited(seen.trials)
    for number in drawn(0.3, 20):
        assert seen.trials[number].state == TrialState.COMPLETE
    for number, after in audited(seen.trials).items():
        assert number in drawn(0.3, 20)
        assert 1 <= after < R
    ended = [t for t in seen.trials if t.state == TrialState.PRUNED]
    assert ended
    assert not {t.number for t in ended} & drawn(0.3, 20)
    best = incumbent([as_decided(trial) for trial in seen.trials], VALIDATION_ACCURACY)
    assert best is not None
    assert best.state == TrialState.COMPLETE, "the best of what the search saw is whole as well"
    # They come last, after all that the search chose itself.
    order = [(trial, epoch) for trial, epoch, _ in seen.told]
    last = max(place for place, (trial, epoch) in enumerate(order) if epoch <= audited(seen.trials).get(trial, R)
               and trial not in audited(seen.trials) and seen.trials[trial].state == TrialState.PRUNED)  # fmt: skip
    assert all(order.index((number, after + 1)) > last for number, after in audited(seen.trials).items())


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("strategy", ["freeze_thaw", "median", "promotion"])
def test_the_budget_of_epochs_counts_them(strategy: str, workers: int) -> None:
    budget = 140
    assert budget >= least_epochs(with_audit(0.3), 20)
    seen = Seen(strategy, trials=20, budget_epochs=budget, workers=workers, audit=0.3)
    # With several workers the best may change while others run, as it may without an audit.
    assert spent_epochs(seen.trials) <= budget + (workers - 1) * R


@pytest.mark.parametrize("strategy", ["freeze_thaw", "median"])
def test_all_may_be_audited_and_the_best_may_be_one_of_them(strategy: str) -> None:
    seen = Seen(strategy, trials=12, budget_epochs=12 * R, audit=1.0)
    require_done(seen, 12)
    assert {trial.state for trial in seen.trials} == {TrialState.COMPLETE}
    assert seen.rehearsal.study.best_trial.value == max(trial.value or 0 for trial in seen.trials)


class PrunesAll(Strategy):
    """Wants nothing of any trial after its second epoch."""

    def decide(self, view: View, trial: FrozenTrial) -> Verdict:
        return "prune" if trial.last_step == 2 else "go on"


def test_an_audited_trial_that_is_put_back_goes_on_as_one() -> None:
    rehearsal = Rehearsal(
        SPACE, R, 0, strategy=StrategyChoice(name="mine.py:PrunesAll"), trials=1, sampler=Sampler(name="random"),
        users=PrunesAll, audit=1.0,
    )  # fmt: skip
    run = rehearsal.next()
    assert run is not None
    assert [rehearsal.reported(0, epoch, epoch / 10) for epoch in (1, 2, 3)] == [True] * 3
    assert rehearsal._claims.put_back(rehearsal._held[0], "interrupted")
    again = rehearsal.next()
    assert again is not None
    assert (again.trial, again.first_epoch) == (0, 4)
    assert all(rehearsal.reported(0, epoch, epoch / 10) for epoch in range(4, R))
    rehearsal.reported(0, R, R / 10)
    (trial,) = rehearsal.study.get_trials()
    assert (trial.state, trial.value, audited_after(trial)) == (TrialState.COMPLETE, R / 10, 2)
    shown = as_decided(trial)
    assert (shown.state, shown.value, shown.last_step) == (TrialState.PRUNED, 0.2, 2)


def test_a_worker_that_dies_before_it_has_recorded_an_audit_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    record, died = Scheduler._audit, list[int]()

    def die_first(scheduler: Scheduler, claim: Claim, epoch: int) -> None:
        if died:
            record(scheduler, claim, epoch)
        died.append(claim.number)

    monkeypatch.setattr(Scheduler, "_audit", die_first)
    seen = Seen("freeze_thaw", trials=20, budget_epochs=140, audit=0.3)
    require_done(seen, 20)
    assert died.count(died[0]) == 2
    assert all(seen.trials[number].state == TrialState.COMPLETE for number in drawn(0.3, 20))


# --- What is told ---


def as_audited(trial: FrozenTrial, after: int, values: dict[int, float]) -> FrozenTrial:
    trial.state, trial.intermediate_values, trial.value = TrialState.COMPLETE, values, max(values.values())
    trial.system_attrs = {**trial.system_attrs, attributes.AUDITED: after}
    return trial


def test_a_fair_sample_says_what_pruning_would_have_cost(database: Any) -> None:
    trials = make_study(database).get_trials()
    assert audit(trials, VALIDATION_ACCURACY) is None
    before = saving(SPEC, trials)
    best = max((t.value or 0, -t.number) for t in trials)
    as_audited(trials[1], 2, curve(1, 8))
    found = audit(trials, VALIDATION_ACCURACY)
    assert found is not None
    assert [(one.number, one.after, one.epochs) for one in found.trials] == [(1, 2, 6)]
    assert found.trials[0].then == curve(1, 8)[2]
    assert found.trials[0].end == curve(1, 8)[8]
    assert found.best == (-best[1], best[0])
    assert found.lost == ()
    assert found.at_most == pytest.approx(0.9), "of one alone hardly anything is known"
    as_audited(trials[2], 1, {1: 0.1, 2: 0.2, 8: 0.99})
    found = audit(trials, VALIDATION_ACCURACY)
    assert found is not None
    assert [one.number for one in found.lost] == [2]
    after = saving(SPEC, trials)
    assert (after.trials, after.spared) == (before.trials - 2, before.spared - 12)


def test_of_what_is_minimised_the_smallest_is_the_best(database: Any) -> None:
    loss = Objective(name="val_loss", direction="min")
    trials = make_study(database).get_trials()
    least = min(min(trial.intermediate_values.values()) for trial in trials)
    as_audited(trials[1], 2, {1: 0.9, 2: 0.8, 8: least / 2})
    found = audit(trials, loss)
    assert found is not None
    assert found.best is not None
    assert (found.best[1], found.trials[0].then, found.lost[0].end) == (least, 0.8, least / 2)
    as_audited(trials[1], 2, {1: 0.9, 2: 0.8, 8: least * 2})
    found = audit(trials, loss)
    assert found is not None
    assert found.lost == ()


def test_the_report_says_it_and_without_an_audit_says_how_to_have_one(database: Any, tmp_path: Path) -> None:
    study = make_study(database)
    assert "AUDIT=0.1 finishes some" in " ".join(saved(study, tmp_path).words)
    pruned = study.get_trials()[1]
    values = {**pruned.intermediate_values, 8: 0.999}
    complete = as_audited(pruned, 2, values)
    study.add_trial(complete)
    section = saved(study, tmp_path)
    said = " ".join(section.words)
    assert "1 trial of those that the strategy ended" in said
    assert "1 of them ended better than the best of the others" in said
    assert section.figures["audited"][0]["after"] == 2
    assert section.tables[0].rows[0][1] == "2"
    row = next(row for row in leaderboard(study) if row["number"] == 24)
    assert row["reason"] == "audited: it would have been pruned after epoch 2"
    assert "(audited, pruned after epoch 2)" in finished_line(study.get_trials()[24], None)


def saved(study: Any, folder: Path) -> Any:
    return next(section for section in report_of(study, Home(folder)).sections if section.name == "saved")


# --- How it is asked for ---


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_from_0_to_1(share: float) -> None:
    with pytest.raises(BadInput, match=re.escape(f"--audit {share:g}: must be a share from 0 to 1")):
        make_spec(from_catalog("mnist"), Overrides(audit=share), plan_name="cpu", model="m:M", strategy="median")


def test_it_is_the_command_lines_or_the_files_and_is_kept(home: Path) -> None:
    asked = understood(tune_options(dataset="mnist_sample", audit=0.25), Home(home))
    assert asked.spec.audit == 0.25
    assert StudySpec.stored(asked.spec.model_dump(mode="json")).audit == 0.25
    assert "audit" not in SPEC.model_dump(mode="json")
    declaration = from_catalog("mnist").model_copy(update={"audit": 0.2})
    assert make_spec(declaration, Overrides(), plan_name="cpu", model="m:M", strategy="median").audit == 0.2


def test_more_than_the_epochs_allow_is_refused_before_anything_is_made(home: Path) -> None:
    asked = understood(tune_options(dataset="mnist_sample", audit=0.5), Home(home))
    with pytest.raises(BadInput, match=r"--audit 0.5: of 6 trials .* takes \d+ epochs, and the budget is 12. Give"):
        begun(asked)
    assert list(home.iterdir()) == []


def test_the_forecast_counts_them() -> None:
    alone, with_half = (
        make_strategy(with_audit(share, strategy=StrategyChoice(name="hyperband"))) for share in (0, 0.5)
    )
    assert expected_epochs(with_half) == pytest.approx((expected_epochs(alone) + R) / 2)
