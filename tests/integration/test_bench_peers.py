"""The peers that need more than this project's own code search for real, on synthetic curves."""

from __future__ import annotations

import numpy as np
import pytest

from studies.simulation.virtual_clock import Contestant, Record, simulate
from tests.benchmarks.search import peers, syne_tune
from tests.benchmarks.search.contestants import find_contestant
from tests.benchmarks.search.play import play
from tests.benchmarks.search.results import Key
from tests.benchmarks.search.tables import find_table


def a_study(contestant: Contestant, table_name: str, workers: int, budget: int) -> Record:
    return simulate(contestant, find_table(table_name).curves(0), workers=workers, budget=budget)


@pytest.mark.keras
@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("table_name", ["synthetic/crossing", "synthetic/divergence"])
def test_keras_tuner_s_hyperband_trains_in_rounds_and_continues_what_it_promotes(workers: int, table_name: str) -> None:
    table = find_table(table_name)
    contestant = peers.KerasTunerHyperband(table.space, table.horizon, 0, factor=3)
    record = a_study(contestant, table_name, workers, 40 * table.horizon)
    contestant.close()
    assert len(record.trial) == 40 * table.horizon, "it never runs out of brackets"
    per_trial = [record.epoch[record.trial == trial] for trial in np.unique(record.trial)]
    assert all(epochs.tolist() == list(range(1, len(epochs) + 1)) for epochs in per_trial)
    lengths = {len(epochs) for epochs in per_trial}
    # ceil(40 / 3^k): the rounds of its brackets
    assert {2, 5, 14, 40} <= lengths
    if table_name == "synthetic/crossing":
        # What was running when the budget was spent is somewhere between.
        assert sum(len(epochs) not in (2, 5, 14, 40) for epochs in per_trial) <= workers


@pytest.mark.keras
def test_keras_tuner_s_hyperband_repeats_with_its_seed() -> None:
    key = Key("synthetic/noise", "keras_tuner_hyperband", 4, 3)
    assert play(key, 10).steps == play(key, 10).steps


@pytest.mark.parametrize(
    "name", ["syne_tune_asha", "syne_tune_promotion", pytest.param("syne_tune_mobster", marks=pytest.mark.slow)]
)
def test_syne_tune_searches_behind_its_pipe(name: str) -> None:
    reason = find_contestant(name).missing()
    if reason is not None:
        pytest.skip(reason)
    result = play(Key("synthetic/divergence", name, 4, 0), 2)
    assert result.epochs == 2 * find_table("synthetic/divergence").horizon
    assert result.trials > 4
    assert result.steps


def test_what_goes_wrong_in_syne_tune_is_told_with_its_reason() -> None:
    reason = syne_tune.missing("syne-asha")
    if reason is not None:
        pytest.skip(reason)
    table = find_table("synthetic/noise")
    with pytest.raises(RuntimeError, match=r"could not answer 'begin': TypeError.*nonsense"):
        syne_tune.SyneTune(table.space, 40, 0, environment="syne-asha", scheduler="ASHA", options={"nonsense": 1})
