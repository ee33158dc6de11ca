"""The benchmark of the storage makes the studies that it says, writes as much with each contestant, and counts it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
from optuna.trial import TrialState

from storage.claims import Claims
from storage.opening import open_database
from studies.stored import StudyRecord
from studies.trials import is_frozen
from tests.benchmarks.storage.contestants import ON_SQLITE, Contestant, Step, journal, writer
from tests.benchmarks.storage.studies import REPORTS, SPACE, STUDY, make_study
from tests.benchmarks.storage.task import resume
from tests.benchmarks.storage.writers import measured


def test_the_studies_are_whole_and_always_the_same(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path / name}.db" for name in "ab"]
    read = []
    for url in urls:
        make_study(url, 60, "frozen", budget=70)
        database = open_database(url)
        study = optuna.load_study(study_name=STUDY, storage=database)
        trials = study.get_trials()
        assert Counter(trial.state for trial in trials) == {
            TrialState.WAITING: 56,
            TrialState.PRUNED: 3,
            TrialState.COMPLETE: 1,
        }
        assert all(is_frozen(trial) for trial in trials if trial.state == TrialState.WAITING)
        assert StudyRecord.of(study).is_ours
        standing = Claims(database, study._study_id, "looks").standing()
        assert (standing.frozen, standing.finished, standing.budget) == (56, 4, 70)
        database.engine.dispose()
        read.append([(trial.number, trial.params, trial.intermediate_values, trial.values) for trial in trials])
    assert read[0] == read[1]
    assert all(params.keys() == SPACE.keys() and len(values) == REPORTS for _, params, values, _ in read[0])


@pytest.mark.parametrize("contestant", ON_SQLITE)
def test_each_contestant_writes_the_same_38_values(tmp_path: Path, contestant: Contestant) -> None:
    file = tmp_path / "studies.db"
    make_study(f"sqlite:///{file}", 3, budget=100)
    journal(str(file), contestant)
    writes, done = writer(contestant, f"sqlite:///{file}"), Counter[Step]()

    def do(step: Step, values: int, call: Any) -> Any:
        done[step] += values
        return call()

    writes.trial(do)
    assert done == {"claim": 1, "parameter": 4, "attribute": 8, "report": 20, "artifact": 4, "end": 1}
    assert done.keys() == set(get_args(Step))
    stock = optuna.storages.RDBStorage(f"sqlite:///{file}")
    trial = optuna.load_study(study_name=STUDY, storage=stock).get_trials()[3]
    assert trial.state == TrialState.COMPLETE
    assert len(trial.params) == 4
    assert list(trial.intermediate_values) == list(range(1, 21))
    assert sum(key.startswith("attribute") for key in trial.user_attrs) == 8
    assert sum(key.startswith(("artifacts:", "tuning:artifact:")) for key in trial.system_attrs) == 4
    stock.engine.dispose()
    writes.study._storage._backend.engine.dispose()  # type: ignore[attr-defined]


def test_writers_write_at_once_and_say_how_much(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    make_study(url, 0, budget=10**6)
    written = measured("tuning", url, 2, 1.0)
    assert written.errors == 0
    assert 0 < written.slowest <= 1
    database = open_database(url)
    trials = database.get_all_trials(database.get_study_id_from_name(STUDY))
    assert written.per_s <= 38 * len(trials)
    database.engine.dispose()
    assert resume("tuning", url, 0) == {"done": sum(trial.state == TrialState.COMPLETE for trial in trials)}
