"""The benchmark of claims: its workers make a trial's calls, its virtual clock lets them wait for each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from storage.opening import open_database
from studies.stored import find_study
from tests.benchmarks.claims.__main__ import main
from tests.benchmarks.claims.crowd import Crowd, Server
from tests.benchmarks.claims.figures import bound, others, wanted
from tests.benchmarks.claims.simulated import Alone, Machines, play
from tests.benchmarks.claims.stations import Cores, Disk, Lock, Process, VirtualClock
from tests.benchmarks.claims.timed import Call, Transaction
from tests.benchmarks.claims.worker import BEAT, STEPS, Pace, Worked, Worker
from tests.benchmarks.report import Kept
from tests.benchmarks.storage.studies import REPORTS, STUDY, make_study

ONE_CORE = Machines(1, apart=False)
APART = Machines(1, apart=True)


def calls_of(write: Transaction, outside_s: float = 0.0) -> Sequence[Call]:
    """Each kind of call, with one such transaction."""
    wall_s = outside_s + write.cpu_s + write.away_s
    return [Call(step, wall_s, outside_s + write.cpu_s, [write]) for step in {*STEPS, BEAT}]


def alone(calls: Sequence[Call], *, one_writer: bool = True) -> Alone:
    return Alone.of(calls, calls, 1.0, one_writer=one_writer)


def test_a_worker_makes_the_calls_of_a_trial_and_each_is_timed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    make_study(url, 3, "running", budget=100)
    worker = Worker(url, tmp_path, Pace(beats=True, trials=2))
    worked = worker.work(0.0)
    worker.close()
    made = Counter(call.step for call in worked.calls)
    whole = Counter(STEPS)
    assert all(made[step] >= number for step, number in whole.items())
    assert made[BEAT] == made["report"] < 2 * REPORTS + 1
    assert {call.step: len(call.writes) for call in worked.calls} == {
        "claim": 1, "draw": 1, "begin": 1, "report": 1, BEAT: 1, "tell": 1, "files": 6, "end": 1,
    }  # fmt: skip
    assert all(call.cpu_s > 0 and call.outside_cpu_s <= call.cpu_s for call in worked.calls)
    database = open_database(url)
    trials = find_study(database, STUDY).get_trials()
    assert [trial.state.name for trial in trials[:5]] == [*["RUNNING"] * 3, "COMPLETE", "COMPLETE"]
    assert len(trials[4].intermediate_values) == REPORTS
    database.engine.dispose()


def test_processes_take_turns_on_the_cores_and_wait_for_the_lock_and_the_disk() -> None:
    clock, ended = VirtualClock(), dict[str, float]()
    cores, lock, disk = Cores(clock, 1), Lock(clock, polled=False), Disk(clock, 0.5)

    def computing(name: str) -> Process:
        yield cores.use(1.0)
        ended[name] = clock.now

    def holding(name: str) -> Process:
        yield from lock.acquire()
        yield clock.sleep(1.0)
        lock.release()
        ended[name] = clock.now

    def flushing(name: str, after_s: float) -> Process:
        yield clock.sleep(after_s)
        yield disk.flush()
        ended[name] = clock.now

    for process in (computing("a"), computing("b"), holding("c"), holding("d")):
        clock.start(process)
    for name, after_s in (("e", 0.0), ("f", 0.1), ("g", 0.2)):
        clock.start(flushing(name, after_s))
    clock.run(10.0)
    assert ended["a"] == pytest.approx(2.0, abs=0.01)
    assert ended["b"] == pytest.approx(2.0, abs=0.01)
    assert (ended["c"], ended["d"]) == (1.0, 2.0)
    assert (ended["e"], ended["f"], ended["g"]) == (0.5, 1.0, 1.0)  # those that came meanwhile go together
    assert cores.busy_s == pytest.approx(2.0)
    assert lock.held_s == 2.0


def test_simulated_workers_are_bound_by_what_they_share() -> None:
    writing = alone(calls_of(Transaction(cpu_s=0.001, away_s=0.009)))
    played = play(writing, 1, APART, seconds=10.0)
    assert sum(map(len, played.waited.values())) == pytest.approx(1_000, rel=0.02)
    assert play(writing, 64, APART, seconds=10.0).lock > 0.9
    several = alone(calls_of(Transaction(cpu_s=0.001, away_s=0.0), 0.009), one_writer=False)
    here, apart = (play(several, 8, where, seconds=10.0) for where in (ONE_CORE, APART))
    assert here.cores == pytest.approx(1.0, abs=0.01)
    assert here.per_s("report") == pytest.approx(100 * REPORTS / len(STEPS), rel=0.05)
    assert apart.per_s("report") == pytest.approx(8 * 100 * REPORTS / len(STEPS), rel=0.05)


def test_the_share_of_a_simulated_worker_is_what_it_waits_between_its_epochs() -> None:
    played = play(alone(calls_of(Transaction(cpu_s=0.01))), 1, APART, seconds=400.0, epoch_s=1.0)
    trial_s = len(STEPS) * 0.01
    assert played.share == pytest.approx(trial_s / (trial_s + REPORTS), rel=0.1)
    assert played.per_s("report") == pytest.approx(1 / 1.013, rel=0.05)


def test_what_bounds_workers_is_named_by_what_is_full() -> None:
    def crowd(cpu_s: float, away_s: float, calls: int) -> Crowd:
        made = [Call("report", cpu_s + away_s, cpu_s, [Transaction(0.0, cpu_s, away_s)]) for _ in range(calls)]
        return Crowd([Worked(made, 1.0, cpu_s * calls)] * 4, Server(), 0.0)

    slow, fast = crowd(0.001, 0.002, 80), crowd(0.001, 0.0, 240)
    assert bound(slow, fast, 2, one_writer=True) == "the one writer, which waits for the disk"
    assert bound(slow, slow, 2, one_writer=False) == "none of it is full"
    assert bound(crowd(0.001, 0.0, 480), fast, 2, one_writer=False) == "the cores"
    assert others(Crowd(slow.workers, Server(cpu_s=0.3), 0.0, busy_s=1.62), 2) == pytest.approx(0.5)
    assert wanted(1_000, 30.0, 5.0) == pytest.approx({"claim": 1.667, "report": 33.33, BEAT: 200.0}, rel=0.001)


def test_the_smoke_form_measures_plays_and_keeps_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "claims.json"
    assert main(["--smoke", "--databases", "sqlite", "--result", str(result)]) == 0
    kept = Kept.read(result)
    assert kept.command == "make bench-claims SMOKE=1 DATABASES=sqlite"
    busy, bounds, _shares, on_paper, _alone = kept.report.tables
    assert [row[:2] for row in busy.rows[1:]] == [["sqlite", "2"], ["sqlite", "4"]]
    assert busy.rows[2][2] == "-"  # past the real ones
    assert [row[1] for row in bounds.rows[1:]] == ["2"]
    assert on_paper.title.startswith("8 GPUs on paper")
    assert kept.report.figures["reports/s, 2 on sqlite"] > 0
    assert 0 < kept.report.figures["share, 8 on sqlite, epochs of 2 s, apart"] < 1
    assert "Workers without pause" in capsys.readouterr().out
