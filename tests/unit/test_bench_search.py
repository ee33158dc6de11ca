"""The laboratory measures what it says: against theory, against cases worked out by hand, and when it is stopped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from storage.errors import BadInput
from studies.simulation.curve_tables import CurveTable
from studies.simulation.rehearsal import Rehearsal
from studies.simulation.virtual_clock import Recording, Run, simulate
from studies.spec import Scalar
from tests.benchmarks.search import __main__ as bench
from tests.benchmarks.search import budgeted, contestants, draw, families, measures, summary, thinking
from tests.benchmarks.search.contestants import Entry, find_contestant, version_of
from tests.benchmarks.search.drawing import draw_configurations
from tests.benchmarks.search.play import play, quieten
from tests.benchmarks.search.references import Clairvoyant, Foresight, Promotion, RandomSearch
from tests.benchmarks.search.resampled import SmoothedCurves, ThinnedCurves
from tests.benchmarks.search.results import Key, Result, Results, result_of
from tests.benchmarks.search.tables import Table, find_table, recorded_table, synthetic_names

SPACE: Mapping[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "units": IntDistribution(1, 8),
    "kind": CategoricalDistribution(["a", "b"]),
    "x": FloatDistribution(0.0, 1.0),
}
HORIZON = 10


class Ramp:
    """The final value is the parameter ``x``; half of it is reached at once."""

    horizon = HORIZON

    def curve_of(self, trial: int, params: Mapping[str, Scalar]) -> Recording:
        return Recording(float(params["x"]) * np.linspace(0.5, 1.0, HORIZON))


def a_table(finals: np.ndarray | None = None) -> Table:
    given = np.arange(1, 101) / 100 if finals is None else finals
    return Table("ramp", "synthetic", SPACE, HORIZON, given, lambda seed: Ramp(), "0")


def a_result(*steps: tuple[int, float], seed: int = 0, budget: int = 400, **changed: Any) -> Result:
    made: dict[str, Any] = {
        "epochs": budget,
        "cut": False,
        "trials": 1,
        "clock": 1.0,
        "thinking_s": 0.0,
        "version": "1",
    } | changed
    return Result(key=Key("ramp", "random", 1, seed), budget=budget, steps=steps, **made)


def test_random_search_needs_as_many_trials_as_theory_says() -> None:
    """The first of the top 5% is the geometric distribution's: 20 trials in the mean, the last one seen at its end."""
    epochs = []
    for seed in range(400):
        record = simulate(RandomSearch(SPACE, seed), Ramp(), workers=1, budget=10_000, enough=0.95)
        epochs.append(len(record.trial))
    # The value is above 0.95 only from where the ramp has brought x there: between 1 and 10 epochs into the last trial.
    trials = np.ceil(np.array(epochs) / HORIZON)
    assert abs(trials.mean() - 20) < 4 * math.sqrt(380) / math.sqrt(400)


def test_foresight_needs_one_epoch_for_each_loser() -> None:
    def wins(trial: int, params: Mapping[str, Scalar]) -> bool:
        return float(params["x"]) >= 0.95

    needed = []
    for seed in range(400):
        record = simulate(Foresight(SPACE, seed, wins), Ramp(), workers=1, budget=10_000, enough=0.95)
        needed.append(len(np.unique(record.trial)))
        assert len(record.trial) <= needed[-1] - 1 + HORIZON
    assert abs(np.mean(needed) - 20) < 4


@pytest.mark.parametrize("name", ["synthetic/noise", "studies/recorded/cifar10.npz"])
@pytest.mark.parametrize("workers", [1, 8])
def test_foresight_trains_none_but_winners_of_a_table(name: str, workers: int) -> None:
    table = find_table(name)
    enough = table.threshold(0.01)
    contestant, curves = find_contestant("foresight").factory(table, 3), table.curves(3)
    record = simulate(contestant, table.curves(3), workers=workers, budget=80 * table.horizon, enough=enough)
    assert record.value[-1] >= enough
    drawn = draw_configurations(table.space, np.random.default_rng([4, 3]), record.trial.max() + 1)
    for trial, params in enumerate(drawn):
        wins = (curves.curve_of(trial, params).values >= enough).any()
        assert wins or (record.trial == trial).sum() <= 1


def test_the_clairvoyant_starts_with_the_soonest_winner_of_all_it_knows() -> None:
    drawn = draw_configurations(SPACE, np.random.default_rng([5, 7]), 50)
    asked = Clairvoyant(SPACE, 7, lambda params: abs(float(params["x"]) - 0.5), 50)
    first, second = asked.next(), asked.next()
    assert first is not None and second is not None
    assert (first.trial, second.trial) == (0, 1)
    assert first.params == min(drawn, key=lambda params: abs(float(params["x"]) - 0.5))
    assert second.params not in drawn


@pytest.mark.parametrize("name", ["synthetic/noise", "studies/recorded/cifar10.npz"])
@pytest.mark.parametrize("workers", [1, 8])
def test_the_clairvoyant_gets_there_in_its_first_trial(name: str, workers: int) -> None:
    table = find_table(name)
    contestant, enough = find_contestant("clairvoyant").factory(table, 3), table.threshold(0.01)
    record = simulate(contestant, table.curves(3), workers=workers, budget=80 * table.horizon, enough=enough)
    assert record.value[-1] >= enough
    # With others beside it one of them may be lucky before.
    assert workers > 1 or set(record.trial.tolist()) == {0}
    assert (record.trial == 0).sum() <= table.horizon


def test_promotion_continues_one_in_three_from_each_rung_and_the_best_ones() -> None:
    record = simulate(Promotion(SPACE, HORIZON, 1), Ramp(), workers=1, budget=600)
    trained = np.array([record.epoch[record.trial == trial].max() for trial in np.unique(record.trial)])
    assert set(trained.tolist()) <= {1, 3, 9, 10}
    counts = [(trained >= milestone).sum() for milestone in (1, 3, 9)]
    # The best third of what was seen by then: a few that were promoted early would not be now.
    assert counts[0] / 4 < counts[1] < counts[0] / 2
    assert counts[1] / 4 < counts[2] < counts[1] / 2
    final = {trial: record.value[record.trial == trial][0] for trial in np.unique(record.trial)}
    best = sorted(final, key=final.__getitem__)[-3:]
    assert all(record.epoch[record.trial == trial].max() == 10 for trial in best)


def test_promotion_finds_the_best_sooner_than_random_search_where_curves_do_not_cross() -> None:
    def needed(contestant: Any) -> int:
        return len(simulate(contestant, Ramp(), workers=4, budget=5000, enough=0.99).trial)

    asha = [needed(Promotion(SPACE, HORIZON, seed)) for seed in range(20)]
    random = [needed(RandomSearch(SPACE, seed)) for seed in range(20)]
    assert np.median(asha) < np.median(random) / 2


@given(st.integers(0, 2**32 - 1))
def test_a_configuration_lies_in_its_space(seed: int) -> None:
    for params in draw_configurations(SPACE, np.random.default_rng(seed), 5):
        assert set(params) == set(SPACE)
        for name, value in params.items():
            assert SPACE[name]._contains(SPACE[name].to_internal_repr(value))


def test_every_whole_number_is_drawn_as_often_and_logarithms_evenly() -> None:
    drawn = draw_configurations(SPACE, np.random.default_rng(0), 8000)
    assert np.abs(np.bincount([int(params["units"]) for params in drawn])[1:] - 1000).max() < 150
    assert abs(np.mean([float(params["rate"]) < 0.01 for params in drawn]) - 0.5) < 0.02


def test_the_threshold_is_the_value_that_so_many_random_configurations_reach() -> None:
    assert a_table().threshold(0.01) == 1.0
    assert a_table().threshold(0.05) == 0.96
    assert a_table(np.array([0.1, 0.3, -np.inf])).threshold(0.01) == 0.3


def test_a_peak_at_any_epoch_counts_even_where_the_trial_ends_lower() -> None:
    class Peaks:
        horizon = 3

        def curve_of(self, trial: int, params: Mapping[str, Scalar]) -> Recording:
            return Recording(np.array([0.1, 0.99, 0.5]))

    record = simulate(RandomSearch(SPACE, 0), Peaks(), workers=1, budget=9)
    result = result_of(Key("t", "c", 1, 0), "1", 9, record, 0.0)
    assert result.epochs_to(0.98) == 2
    assert result.best_at(9) == 0.99
    assert result.steps == ((1, 0.1), (2, 0.99))


def test_costs_are_in_full_trainings_and_infinite_where_nothing_was_seen() -> None:
    results = [a_result((5, 0.5), (20, 0.97)), a_result((1, 0.2), seed=1), a_result(seed=2)]
    np.testing.assert_array_equal(measures.costs(results, a_table(), 0.05), [2.0, np.inf, np.inf])


def test_regret_goes_from_the_median_random_configuration_to_the_best() -> None:
    results = [a_result((1, 0.1), (100, 0.755), (200, 2.0))]
    regret = measures.regrets(results, a_table(), [0.05, 1, 10, 20, 80])
    np.testing.assert_allclose(regret[0], [1.0, 1.0, 0.245 / 0.495, 0.0, np.nan])


def test_the_regret_of_a_study_that_was_cut_is_not_known_afterwards() -> None:
    cut = a_result((100, 1.0), epochs=100, cut=True)
    assert np.isnan(measures.regrets([cut], a_table(), [20])).all()
    assert measures.regrets([cut], a_table(), [10]) == 0


def test_ratios_are_of_medians_with_the_budget_for_what_was_not_seen() -> None:
    ours = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([4.0, 4.0, 4.0])}
    theirs = {"a": np.array([4.0, 4.0, 9.0]), "b": np.array([np.inf, np.inf, 1.0]), "c": np.array([1.0])}
    assert measures.ratios(ours, theirs, budget=40) == {"a": 2.0, "b": 10.0}
    assert measures.geometric_mean(ours, budget=40) == pytest.approx(math.sqrt(8))
    estimate = measures.ratio_with_interval(ours, theirs, 40, np.random.default_rng(0))
    assert estimate.value == pytest.approx(math.sqrt(20))
    assert estimate.low < estimate.value < estimate.high


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        # 20 tables whose logarithmic ratio is spread around log 3
        truth = np.exp(random.normal(math.log(3), 0.5, 20))
        ours = {str(index): random.lognormal(0, 0.3, 10) for index in range(20)}
        theirs = {str(index): truth[index] * random.lognormal(0, 0.3, 10) for index in range(20)}
        estimate = measures.ratio_with_interval(ours, theirs, 1e9, random)
        covered += estimate.low <= 3 <= estimate.high
    assert 46 <= covered <= 60


def test_a_median_among_infinities_is_infinite_and_its_interval_no_nan() -> None:
    estimate = measures.median_with_interval(np.array([1.0, np.inf, np.inf]), np.random.default_rng(0))
    assert estimate.value == math.inf
    assert estimate.low == 1.0
    assert estimate.high == math.inf


steps_made = st.lists(st.tuples(st.integers(1, 10**6), st.floats(-1e9, 1e9)), max_size=4).map(tuple)


@given(st.lists(steps_made, max_size=4), st.integers(0, 200))
def test_a_torn_last_line_is_ignored_and_what_follows_is_kept(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[tuple[int, float], ...]], torn: int
) -> None:
    folder = tmp_path_factory.mktemp("results")
    results = Results(folder)
    written = [a_result(*made, seed=seed) for seed, made in enumerate(steps)]
    for result in [*written, a_result((1, 0.5), seed=98)]:
        results.add(result)
    (file,) = folder.rglob("*.jsonl")
    whole = file.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    file.write_bytes(whole[: -len(last)] + last[: min(torn, len(last) - 2)])
    assert list(results.read("ramp", "random").values()) == written
    results.add(a_result((2, 0.7), seed=99))
    assert list(results.read("ramp", "random").values()) == [*written, a_result((2, 0.7), seed=99)]


def test_the_last_line_of_a_study_counts(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.add(a_result((1, 0.1)))
    results.add(a_result((1, 0.2)))
    assert results.read("ramp", "random") == {Key("ramp", "random", 1, 0): a_result((1, 0.2))}
    assert results.read("ramp", "asha") == {}


def test_a_longer_study_answers_for_a_shorter_one_and_a_cut_one_only_where_that_is_enough() -> None:
    longer = a_result((10, 0.5), (300, 0.9))
    assert longer.covers(200, cut=False)
    assert not longer.covers(500, cut=False)
    assert longer.within(200).steps == ((10, 0.5),)
    assert a_result(epochs=100).covers(500, cut=False), "it had nothing more to do"
    cut = a_result((100, 1.0), epochs=100, cut=True)
    assert cut.covers(500, cut=True)
    assert not cut.covers(500, cut=False)


@pytest.mark.parametrize("name", synthetic_names())
def test_a_family_s_winners_are_where_it_says(name: str) -> None:
    table = find_table(name)
    family = families.FAMILIES[name.removeprefix("synthetic/")]
    assert len(table.finals) == families.RANDOM_CONFIGURATIONS
    assert table.median < table.threshold(0.05) < table.threshold(0.01) <= table.best
    drawn = [*draw_configurations(families.SPACE, np.random.default_rng(9), 1500)]
    values = family.curves([*drawn], np.random.default_rng(0))
    winners = values[:, -1] >= table.threshold(0.05)
    ranks = np.mean(np.nan_to_num(values[:, 2], nan=-1.0) < values[winners, 2][:, None], axis=1)
    misled = {"synthetic/crossing": 0.9, "synthetic/late_bloomers": 0.5, "synthetic/plateaus": 0.95}
    assert np.median(ranks) < misled.get(name, 1.0), "after three epochs, most winners do not look like it"
    assert np.isnan(values).any() == (name == "synthetic/divergence")
    assert not (np.isnan(values[:, :-1]) & np.isfinite(values[:, 1:])).any()


def test_a_family_s_noise_follows_from_the_study_and_the_trial() -> None:
    table = find_table("synthetic/noise")
    (params,) = draw_configurations(table.space, np.random.default_rng(0), 1)
    first, again, other = (table.curves(seed).curve_of(3, params).values for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_a_recorded_table_is_searched_by_its_nearest_rows(tmp_path: Path) -> None:
    rows = np.linspace(0, 1, 60)[:, None]
    CurveTable(("x",), rows, rows * np.linspace(0.5, 1, 12), higher_is_better=False).save(tmp_path / "t.npz")
    table = recorded_table(tmp_path / "t.npz")
    assert table.horizon == 12
    assert table.threshold(0.01) == table.best == 0.0
    record = simulate(RandomSearch(table.space, 0), table.curves(0), workers=3, budget=60 * 12)
    assert sorted(record.value[record.epoch == 12].tolist()) == pytest.approx(sorted((-rows[:, 0]).tolist()))


@pytest.mark.parametrize("contestant", ["freeze_thaw", "asha"])
def test_who_pauses_trials_starts_each_row_of_a_recorded_table_once(contestant: str, tmp_path: Path) -> None:
    quieten()
    rows = np.linspace(0, 1, 9)[:, None]
    # The best one in the end looks like the worst for long.
    curves = np.hstack([rows * np.linspace(0.5, 1, 11), 1 - rows])
    CurveTable(("x",), rows, curves, True).save(tmp_path / "t.npz")
    table = recorded_table(tmp_path / "t.npz")
    result = play(Key(str(tmp_path / "t.npz"), contestant, 4, 0), 20)
    assert result.trials == table.rows == 9
    assert result.epochs_to(table.threshold(0.01)) <= 9 * 12


def test_the_seconds_of_a_recorded_table_drive_the_clock(tmp_path: Path) -> None:
    rows, seconds = np.array([[1.0], [2.0]]), np.array([[2.0, 2.0], [5.0, 5.0]])
    CurveTable(("x",), rows, np.ones((2, 2)), True, seconds).save(tmp_path / "t.npz")
    table = recorded_table(tmp_path / "t.npz")
    record = simulate(RandomSearch(table.space, 0), table.curves(0), workers=2, budget=4)
    assert sorted(record.time.tolist()[:3]) == [2, 4, 5]


@pytest.mark.parametrize("contestant", ["random", "tpe_median", "tpe_hyperband", "tpe_halving", "asha"])
def test_a_study_repeats_with_its_seed(contestant: str) -> None:
    quieten()
    key = Key("synthetic/divergence", contestant, 3, 5)
    first, second = play(key, 4), play(key, 4)
    assert first.steps == second.steps
    assert first.epochs == 4 * families.HORIZON
    assert first.version == version_of(find_contestant(contestant), find_table(key.table))


def test_a_study_until_seen_ends_at_its_threshold() -> None:
    table = find_table("synthetic/noise")
    key = Key("synthetic/noise", "asha", 8, 0)
    cut, whole = play(key, 30, until_seen=True), play(key, 30)
    assert cut.cut
    assert cut.epochs == cut.epochs_to(table.threshold(0.01)) == whole.epochs_to(table.threshold(0.01))


class Idle:
    def next(self) -> Run | None:
        return None

    def reported(self, trial: int, epoch: int, value: float) -> bool:
        raise AssertionError("it started nothing")


def test_a_contestant_of_our_own_is_known_by_its_name_and_closed_after_its_study(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = []

    class Closing(Idle):
        def close(self) -> None:
            closed.append(True)

    monkeypatch.setitem(contestants.OWN, "ours", Entry(lambda table, seed: Closing(), "1"))
    assert play(Key("synthetic/noise", "ours", 2, 0), 2).epochs == 0
    assert closed == [True]


ARGUMENTS = ("--tables", "synthetic/noise", "--contestants", "asha", "random", "--workers", "2", "--budget", "3")


def run_bench(*arguments: str) -> int:
    return bench.main([*ARGUMENTS, "--seeds", "2", "--jobs", "1", *arguments])


def test_the_command_simulates_what_is_missing_and_prints_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    assert run_bench() == 0
    printed, told = capsys.readouterr()
    assert "0 studies are known, 4 to simulate" in told
    assert run_bench("--draw", str(tmp_path / "regret.png")) == 0
    again, told = capsys.readouterr()
    assert "4 studies are known, 0 to simulate" in told
    assert again == printed
    assert "W = 2" in printed
    assert "times what asha needs" in printed
    assert (tmp_path / "regret.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tables", "synthetic/nois"), "Did you mean 'synthetic/noise'"),
        (("--tables", "none.npz"), "no file none.npz"),
        (("--contestants", "ashes"), "Did you mean 'asha'"),
        (("--workers", "0"), "--workers is 0"),
        (("--against", "tpe_median"), "--against tpe_median is not among the contestants"),
        (("--until-seen", "--draw", "a.png"), "--draw shows regret"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_simulated(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")
    assert run_bench(*arguments) == BadInput.exit_status
    assert message in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_results_of_another_version_are_simulated_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    plan = bench.Plan(("synthetic/noise",), ("random",), (1,), seeds=1, budget_r=2, jobs=1, until_seen=False)
    results = Results(tmp_path)
    results.add(play(plan.studies()[0], 2))
    bench.simulate_missing(plan, results)
    assert "1 studies are known" in capsys.readouterr().err
    monkeypatch.setattr(contestants, "LABORATORY", "another")
    assert bench._known(plan, results) == {}


def test_the_table_shows_groups_apart_and_together() -> None:
    table = a_table()
    tables = {"ramp": table, "other": Table("other", "LCBench", SPACE, HORIZON, table.finals, table.curves, "0")}
    results = [
        Result(Key(name, contestant, 8, seed), "1", 400, 400, False, 3, ((at, 1.0),), 1.0, 0.0)
        for name, factor in (("ramp", 1), ("other", 4))
        for contestant, at in (("ours", 10 * factor), ("theirs", 30 * factor))
        for seed in range(3)
    ]
    report = summary.report(results, tables, ["ours", "theirs"], [8], budget=40)
    rows = [line.split() for line in str(report).splitlines() if line.startswith(("ours ", "theirs "))]
    assert rows[0][1:4] == ["4.00", "1.00", "2.00"], "LCBench, synthetic, all"
    assert rows[2][1:3] == ["3.00", "[3.00,"], "the ratio"
    assert report.figures["theirs / ours, LCBench, W = 8"] == pytest.approx(3.0)
    assert draw.quartiles(results, tables, "ours", 8, np.array([0.5, 40.0])).tolist() == [[1, 0], [1, 0], [1, 0]]


class Slow(RandomSearch):
    """Takes a second to find a trial, and two after an epoch."""

    def __init__(self, seed: int) -> None:
        super().__init__(SPACE, seed)
        self.now = 0.0

    def next(self) -> Run | None:
        self.now += 1
        return super().next()

    def reported(self, trial: int, epoch: int, value: float) -> bool:
        self.now += 2
        return epoch < 4


def test_a_handover_is_from_the_end_of_an_epoch_until_the_worker_has_other_work() -> None:
    slow = Slow(0)
    watched = thinking.Watched(slow, lambda: slow.now, trials=20, handovers=6)
    record = simulate(watched, Ramp(), workers=2, budget=10_000)
    assert watched.waits == [3.0] * 6
    assert watched.thought == 2 * watched.epochs + 6
    assert watched.epochs == 6 * 4
    assert record.trial.max() == 20 + 6  # number 20 is the first that is waited for, and the watch begins with it


def test_how_long_the_search_thinks_is_printed_beside_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--trials", "12", "--handovers", "3", "--contestants", "freeze_thaw", "tpe_median")
    assert thinking.main(arguments) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("12 trials of synthetic/crossing were started, 8 workers")
    assert [line.split()[0] for line in printed[2:]] == ["freeze_thaw", "tpe_median"]
    assert all(float(line.split()[1]) > 0 for line in printed[2:])


def test_what_cannot_be_watched_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(contestants.OWN, "idle", Entry(lambda table, seed: Idle(), "1"))
    assert thinking.main(["--handovers", "0"]) == BadInput.exit_status
    assert thinking.main(["--contestants", "idle"]) == BadInput.exit_status
    told = capsys.readouterr().err
    assert "--handovers is 0" in told
    assert "idle had nothing to do after 1000 trials" in told


# --- Studies as a plan has them


def test_thinned_curves_end_where_the_whole_ones_do() -> None:
    whole = find_table("synthetic/crossing")
    params = draw_configurations(whole.space, np.random.default_rng(0), 1)[0]
    given, short = whole.curves(0).curve_of(0, params), ThinnedCurves(whole.curves(0), 4).curve_of(0, params)
    places = [round(whole.horizon * part / 4) - 1 for part in (1, 2, 3, 4)]
    assert short.values.tolist() == given.values[places].tolist()


def a_recorded_table(tmp_path: Path, curves: np.ndarray) -> Path:
    path = tmp_path / "recorded.npz"
    rows = np.linspace(0.0, 1.0, len(curves))[:, None]
    CurveTable(("momentum",), rows, curves, True).save(path)
    return path


def test_a_smoothed_table_answers_with_the_rows_nearby_as_often_as_it_is_asked(tmp_path: Path) -> None:
    curves = np.repeat(np.linspace(0.0, 1.0, 50)[:, None], 3, axis=1)
    source = SmoothedCurves(CurveTable.load(a_recorded_table(tmp_path, curves)), seed=0)
    for place in (0.3, 0.5, 0.7):
        found = [source.curve_of(trial, {"momentum": place}).values for trial in range(60)]
        assert np.all(np.abs(np.array(found) - place) < 0.1)


def test_what_a_smoothed_table_answers_repeats_with_the_seed_and_differs_from_trial_to_trial(tmp_path: Path) -> None:
    table = CurveTable.load(a_recorded_table(tmp_path, np.random.default_rng(0).random((20, 3))))

    def answers(seed: int) -> list[list[float]]:
        source = SmoothedCurves(table, seed)
        return [source.curve_of(trial, {"momentum": 0.5}).values.tolist() for trial in range(5)]

    assert answers(0) == answers(0) != answers(1)
    assert len({tuple(values) for values in answers(0)}) > 1


def test_budgeted_studies_are_compared_part_by_part(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    curves = np.random.default_rng(0).random((20, 6))
    tables = ["synthetic/noise", "synthetic/crossing", str(a_recorded_table(tmp_path, curves))]
    few = ["--trials", "6", "--epochs", "4", "--seeds", "2", "--jobs", "1"]
    assert budgeted.main(["--tables", *tables, "--contestants", "freeze_thaw", "random", *few]) == 0
    printed = capsys.readouterr().out
    assert "8 epochs, 6 trials of at most 4" in printed
    rows = [line.split() for line in printed.splitlines()[2:] if line.strip()]
    assert [row[:2] for row in rows if row[1] in ("freeze_thaw", "random")] == [
        [group, name] for group in ("synthetic", tables[2]) for name in ("freeze_thaw", "random")
    ]
    for row in rows:
        if row[1] in ("freeze_thaw", "random"):
            regrets = [float(cell) for cell in row[2:6]]
            assert regrets == sorted(regrets, reverse=True)
            assert all(0 <= one <= 1 for one in regrets)


def test_what_has_no_budgeted_study_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curves = np.array([[0.1, 0.2], [0.3, np.nan]])
    assert budgeted.main(["--tables", str(a_recorded_table(tmp_path, curves))]) == 2
    assert "end early" in capsys.readouterr().err
    assert budgeted.main(["--trials", "0"]) == 2
    assert "--trials is 0" in capsys.readouterr().err


def test_our_own_contestant_is_told_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    class Seen(Rehearsal):
        def __init__(self, *given: Any, **named: Any) -> None:
            made.append(named)
            super().__init__(*given, **named)

    monkeypatch.setattr(contestants, "Rehearsal", Seen)
    budgeted.regret(budgeted.Study("synthetic/noise", "freeze_thaw", 0, trials=3, epochs=4, budget=4, workers=1))
    assert [(one["trials"], one["budget_epochs"]) for one in made] == [(3, 4)]
