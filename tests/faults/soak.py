"""The long trial of a whole study: `python -m tests.faults.soak`, or `make soak`.

A study is tuned through the command line while, by a seeded plan, one thing after the other is killed or stopped for
longer than its lease. The soak starts a killed launcher again, as a user or a supervisor would, and touches nothing
else. At the end it counts what was promised: the budget to the trial, none twice, no finished result lost, no process
and no temporary file left, and little trained twice. The exit status is 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.artifacts import ArtifactDamaged, Artifacts
from storage.database import Database
from storage.leases import LEASE_S
from storage.opening import open_database
from storage.settings import Home
from storage.stores.local import LocalFiles
from studies.trials import of_phase
from tests.benchmarks.report import Report, Table, add_result_option, keep
from tests.faults.breaking import Faults, alive

ROOT = Path(__file__).resolve().parents[2]
MODEL = f"{Path(__file__).resolve().parent / 'slow_models.py'}:Slow"
STUDY = "soak"
POLL_S = 1.0
ROLES = ("model", "history", "learning_curve")

Kind = Literal["worker killed", "worker paused", "launcher killed", "all killed"]
KINDS: dict[Kind, float] = {"worker killed": 0.55, "worker paused": 0.15, "launcher killed": 0.15, "all killed": 0.15}


@dataclass(frozen=True)
class Form:
    """How long and how hard.

    Attributes:
        trials, workers, epochs: the study's.
        confirm: how many configurations are confirmed, with how many seeds each.
        refit_epochs: for how many epochs the winner is trained.
        epoch_s: how long an epoch pauses; the training itself takes next to nothing.
        gap_s: the least and the most time from one fault to the next.
        most_faults: after so many in a phase, it is left alone.
        lease_s: the lease of the processes, past which a paused one stays stopped for another `oversleep_s`.
        checkpoint_interval_s: a limit of the study.
        longest_s: when to give up.
        constants: what is changed in the processes, see `Faults`.
    """

    trials: int
    workers: int
    epochs: int
    epoch_s: float
    gap_s: tuple[float, float]
    lease_s: float
    oversleep_s: float
    checkpoint_interval_s: float
    longest_s: float
    confirm: tuple[int, int] = (2, 2)
    refit_epochs: int = 20
    most_faults: float = math.inf
    constants: Mapping[str, Any] = field(default_factory=dict)

    @property
    def all_trials(self) -> int:
        """The trials of all phases."""
        return self.trials + math.prod(self.confirm) + 1


# Everything as it is by default; a trial of about a minute.
LONG = Form(
    trials=60, workers=3, epochs=10, epoch_s=5.0, gap_s=(20.0, 40.0), lease_s=LEASE_S, oversleep_s=10.0,
    checkpoint_interval_s=60.0, longest_s=3600.0 * 2,
)  # fmt: skip
SHORT = Form(
    trials=5, workers=2, epochs=5, epoch_s=0.6, gap_s=(4.0, 7.0), lease_s=4.0, oversleep_s=2.0,
    checkpoint_interval_s=1.0, longest_s=400.0, refit_epochs=16, most_faults=3,
    constants={
        "storage.leases:BEAT_S": 0.5, "storage.leases:LEASE_S": 4.0, "tuning.launch.watching:WATCH_S": 0.5,
        "tuning.launch.workforce:RESTART_S": 0.1, "tuning.launch.workforce:MAX_DEATHS": 20,
    },
)  # fmt: skip


@dataclass
class Outcome:
    """What a soak found.

    Attributes:
        seconds: how long the study took.
        faults: how often each kind happened.
        faults_in: how often any did in each phase.
        workers_hit: how many worker processes were killed, stopped or orphaned.
        trials: how many trials there are in each state.
        duplicates: trials run to the end with the parameters of another.
        lost: what is missing of COMPLETE trials, in words.
        processes_left: command lines of processes that outlived the study.
        files_left: temporary files in the home.
        epochs_trained: how many epochs ran to their end, in all processes together.
        epochs_twice: how many of them had been trained before.
        epochs_twice_allowed: how many the kills account for.
        given_up: how often trials were given up, by the class of the reason.
        launcher_ends: what a launcher said last that ended by itself before the study was done.
        broken: the promises that were not kept, in words.
    """

    seconds: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    faults_in: dict[str, int] = field(default_factory=dict)
    workers_hit: int = 0
    trials: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    lost: list[str] = field(default_factory=list)
    processes_left: list[str] = field(default_factory=list)
    files_left: list[str] = field(default_factory=list)
    epochs_trained: int = 0
    epochs_twice: int = 0
    epochs_twice_allowed: int = 0
    given_up: dict[str, int] = field(default_factory=dict)
    launcher_ends: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


class Soak:
    """One study under fire.

    Args:
        form: how long and how hard.
        folder: an empty folder for everything.
        seed: of the plan of faults.
    """

    def __init__(self, form: Form, folder: Path, seed: int) -> None:
        self._form = form
        self._home = Home((folder / "home").resolve())
        self._home.root.mkdir(parents=True)
        self._folder = folder
        self._epochs = folder / "epochs"
        self._epochs.touch()
        self._launcher_log = folder / "launcher.log"
        self._random = random.Random(seed)
        self._environment = {
            **os.environ,
            **Faults(folder / "faults", constants=form.constants).environment,
            "TUNING_HOME": str(self._home.root),
            "SLOW_EPOCH_S": str(form.epoch_s),
            "SLOW_EPOCH_LOG": str(self._epochs.resolve()),
        }
        self._launcher: subprocess.Popen[bytes] | None = None
        self._stopped: dict[psutil.Process, float] = {}
        self._database: Database | None = None
        # Every value that was ever seen COMPLETE.
        self._seen: dict[int, float | None] = {}
        self._faults: Counter[Kind] = Counter()
        self._faults_in: Counter[str] = Counter()
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Tune until the study is done, breaking things meanwhile; then count."""
        began = time.monotonic()
        self._write_spec()
        try:
            self._tune(began + self._form.longest_s)
        finally:
            self._end_all()
        self.outcome.seconds = round(time.monotonic() - began, 1)
        self._count()
        self._judge()
        return self.outcome

    def _write_spec(self) -> None:
        (self._folder / "soak.toml").write_text(
            f'dataset = "mnist_sample"\n[plan.cpu]\ntrials = {self._form.trials}\nepochs = {self._form.epochs}\n'
            f"patience = {self._form.epochs}\ntrain_images = 512\nvalidation_images = 200\n"
            # By default trials freeze; with as many epochs as all of them have, each is thawed until it is whole.
            f"budget_epochs = {self._form.trials * self._form.epochs}\n"
            f"confirm = {list(self._form.confirm)}\nrefit_epochs = {self._form.refit_epochs}\n"
        )

    def _start_launcher(self) -> None:
        interval = f"{self._form.checkpoint_interval_s:g}s"
        arguments = ["tune", "--spec", str(self._folder / "soak.toml"), "--study", STUDY, "--model", MODEL]
        arguments += ["--workers", str(self._form.workers), "--checkpoint-interval", interval, "--no-progress"]
        with self._launcher_log.open("ab") as log:
            self._launcher = subprocess.Popen(
                [sys.executable, "-m", "tuning", *arguments], stdout=log, stderr=log, env=self._environment, cwd=ROOT
            )

    def _tune(self, deadline: float) -> None:
        self._start_launcher()
        next_fault = time.monotonic() + self._gap_s()
        plan = self._plan()
        while time.monotonic() < deadline:
            time.sleep(POLL_S)
            self._wake()
            self._look()
            assert self._launcher is not None
            status = self._launcher.poll()
            if status == 0:
                return
            if status is not None:
                self._note_end(status)
                self._start_launcher()
            if time.monotonic() >= next_fault:
                # With nothing to hit, what was killed is starting again: it gets half a gap for itself.
                share = 1.0 if self._break_one(plan) else 0.5
                next_fault = time.monotonic() + share * self._gap_s()
        self.outcome.broken.append(f"the study was not done after {self._form.longest_s:g} s")

    def _plan(self) -> Iterator[Kind]:
        """Yield what is to happen: each kind once, in any order, then by chance."""
        kinds = list(KINDS)
        yield from self._random.sample(kinds, len(kinds))
        while True:
            yield from self._random.choices(kinds, list(KINDS.values()))

    def _gap_s(self) -> float:
        return self._random.uniform(*self._form.gap_s)

    def _note_end(self, status: int) -> None:
        said = self._launcher_log.read_text().strip().splitlines()
        self.outcome.launcher_ends.append(f"status {status}: {said[-1] if said else ''}")

    # --- What is broken ---

    def _break_one(self, plan: Iterator[Kind]) -> bool:
        """Let the next fault of the plan happen; False if there is nothing to hit."""
        workers, with_trials = self._workers(), self._pids_with_trials()
        awake = [worker for worker in workers if worker not in self._stopped]
        phase = with_trials.get(next((worker.pid for worker in awake if worker.pid in with_trials), 0))
        if phase is None or self._faults_in[phase] >= self._form.most_faults:
            return False
        kind = next(plan)
        # Idle ones, too: the last trial of a study must not draw all the fire.
        victim = awake[self._random.randrange(len(awake))]
        match kind:
            case "worker killed":
                self._hit(victim, signal.SIGKILL)
            case "worker paused":
                self._hit(victim, signal.SIGSTOP)
                self._stopped[victim] = time.monotonic() + self._form.lease_s + self._form.oversleep_s
            case "launcher killed":
                self._kill_launcher()
                self.outcome.workers_hit += len(workers)
                self._start_launcher()
            case "all killed":
                self._kill_launcher()
                for worker in workers:
                    self._hit(worker, signal.SIGKILL)
                self._start_launcher()
        self._faults[kind] += 1
        self._faults_in[phase] += 1
        print(
            f"{time.strftime('%H:%M:%S')} {phase}: {kind}, {len(self._seen)} trials complete",
            file=sys.stderr,
            flush=True,
        )
        return True

    def _hit(self, worker: psutil.Process, number: signal.Signals) -> None:
        with suppress(psutil.NoSuchProcess):
            worker.send_signal(number)
            self.outcome.workers_hit += 1

    def _kill_launcher(self) -> None:
        assert self._launcher is not None
        self._launcher.kill()
        self._launcher.wait()

    def _wake(self) -> None:
        for worker, until in list(self._stopped.items()):
            if time.monotonic() >= until:
                with suppress(psutil.NoSuchProcess):
                    worker.send_signal(signal.SIGCONT)
                del self._stopped[worker]

    def _processes(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                if process.environ().get("TUNING_HOME") == str(self._home.root) and alive(process):
                    yield process
            except psutil.Error:  # gone since, or somebody else's
                continue

    def _workers(self) -> list[psutil.Process]:
        return sorted((one for one in self._processes() if "worker" in one.cmdline()), key=lambda one: one.pid)

    def _end_all(self) -> None:
        """Wait for what ends by itself, then end the rest, which is a broken promise."""
        for worker in self._stopped:
            with suppress(psutil.NoSuchProcess):
                worker.send_signal(signal.SIGCONT)
        until = time.monotonic() + 60.0
        while list(self._processes()) and time.monotonic() < until:
            time.sleep(0.5)
        for process in self._processes():
            self.outcome.processes_left.append(" ".join(process.cmdline()))
            process.kill()

    # --- What is counted ---

    def _trials(self) -> list[FrozenTrial]:
        if self._database is None:
            if not (self._home.root / "studies.db").exists():
                return []
            try:
                self._database = open_database(self._home.database_url)
            except Exception:  # it is just being made
                return []
        try:
            return self._database.get_all_trials(self._database.get_study_id_from_name(STUDY))
        except KeyError:
            return []

    def _pids_with_trials(self) -> dict[int, attributes.Phase]:
        """Return the processes that hold trials, with the phases of these."""
        running = [trial for trial in self._trials() if trial.state == TrialState.RUNNING]
        owners = [(t.user_attrs.get(attributes.WORKER, ""), attributes.phase_in(t.system_attrs)) for t in running]
        return {int(owner.split(":")[1]): phase for owner, phase in owners if owner.count(":") == 2}

    def _look(self) -> None:
        for trial in self._trials():
            if trial.state == TrialState.COMPLETE:
                self._seen.setdefault(trial.number, trial.value)

    def _count(self) -> None:
        outcome, trials = self.outcome, self._trials()
        outcome.faults = {kind: self._faults[kind] for kind in KINDS}
        outcome.faults_in = {phase: self._faults_in[phase] for phase in attributes.PHASES}
        outcome.trials = dict(Counter(trial.state.name for trial in trials))
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        ran = Counter(json.dumps(trial.params, sort_keys=True) for trial in of_phase(complete))
        outcome.duplicates = sum(ran.values()) - len(ran)
        outcome.lost = [words for trial in complete for words in self._missing(trial)]
        values = {trial.number: trial.value for trial in complete}
        outcome.lost += [
            f"trial {number} was COMPLETE with {value}, is {values.get(number)} now"
            for number, value in self._seen.items()
            if values.get(number) != value
        ]
        # The data sets' own folders have locks and marks.
        made = (self._home.artifacts, self._home.root / "checkpoints", self._home.root / "exports")
        outcome.files_left = sorted(
            str(file.relative_to(self._home.root))
            for folder in made
            for file in folder.rglob(".*")
        )  # fmt: skip
        lines = self._epochs.read_text().splitlines()
        outcome.epochs_trained = len(lines)
        outcome.epochs_twice = len(lines) - len({tuple(line.split()[:2]) for line in lines})
        in_interval = math.ceil(self._form.checkpoint_interval_s / self._form.epoch_s)
        outcome.epochs_twice_allowed = outcome.workers_hit * (1 + in_interval)
        given_up = [one["class"] for trial in trials for one in trial.user_attrs.get(attributes.GIVEN_UP, [])]
        outcome.given_up = dict(Counter(given_up))
        assert self._database is not None
        self._database.engine.dispose()

    def _missing(self, trial: FrozenTrial) -> Iterator[str]:
        refit = attributes.phase_in(trial.system_attrs) == "refit"
        epochs = self._form.refit_epochs if refit else self._form.epochs
        if list(trial.intermediate_values) != list(range(1, epochs + 1)):
            yield f"trial {trial.number} reported the epochs {list(trial.intermediate_values)}"
        artifacts = Artifacts(LocalFiles(self._home.artifacts))
        for role in ROLES:
            try:
                artifacts.verified(trial, role)
            except ArtifactDamaged as error:
                yield str(error)
        with suppress(ArtifactDamaged):
            curve = json.loads(artifacts.verified(trial, "history").read_text())["val_accuracy"]
            if curve != list(trial.intermediate_values.values()):
                yield f"trial {trial.number} reported {trial.intermediate_values}, its history is {curve}"

    def _judge(self) -> None:
        outcome, broken = self.outcome, self.outcome.broken
        complete = outcome.trials.get("COMPLETE", 0)
        if complete != self._form.all_trials:
            broken.append(f"{complete} trials finished instead of {self._form.all_trials}")
        open_ones = {name: count for name, count in outcome.trials.items() if name in ("RUNNING", "WAITING", "PRUNED")}
        if open_ones:
            broken.append(f"trials were left: {open_ones}")
        if outcome.duplicates:
            broken.append(f"{outcome.duplicates} trials ran to the end with the parameters of another")
        if outcome.lost:
            broken.append(f"{len(outcome.lost)} results are not whole: {outcome.lost[0]}")
        if outcome.processes_left:
            broken.append(f"{len(outcome.processes_left)} processes were left: {outcome.processes_left[0]}")
        if outcome.files_left:
            broken.append(f"{len(outcome.files_left)} temporary files were left: {outcome.files_left[0]}")
        if outcome.epochs_twice > outcome.epochs_twice_allowed:
            broken.append(f"{outcome.epochs_twice} epochs were trained twice, at most {outcome.epochs_twice_allowed}")
        if outcome.launcher_ends:
            broken.append(f"the launcher gave up {len(outcome.launcher_ends)} times: {outcome.launcher_ends[0]}")
        broken += [
            f"nothing was broken in the phase {phase}" for phase, count in outcome.faults_in.items() if not count
        ]


def report(form: Form, outcome: Outcome) -> Report:
    """Return the outcome for people."""
    counts = outcome.trials
    rows: list[tuple[str, object, object]] = [
        *((f"survived: {kind}", count, "") for kind, count in outcome.faults.items()),
        *((f"in the phase {phase}", count, "") for phase, count in outcome.faults_in.items()),
        ("workers killed, paused or orphaned", outcome.workers_hit, ""),
        ("trials finished", counts.get("COMPLETE", 0), form.all_trials),
        ("trials given up for good", counts.get("FAIL", 0), ""),
        ("trials run twice", outcome.duplicates, 0),
        ("results lost", len(outcome.lost), 0),
        ("processes left", len(outcome.processes_left), 0),
        ("temporary files left", len(outcome.files_left), 0),
        ("launcher gave up", len(outcome.launcher_ends), 0),
        ("epochs trained", outcome.epochs_trained, ""),
        ("of them trained before", outcome.epochs_twice, f"at most {outcome.epochs_twice_allowed}"),
        ("seconds", f"{outcome.seconds:.0f}", ""),
    ]
    cells = [[str(cell) for cell in row] for row in rows]
    verdict = [f"BROKEN: {words}" for words in outcome.broken] or ["every promise was kept"]
    figures = {
        "minutes": outcome.seconds / 60,
        "workers hit": outcome.workers_hit,
        "trials finished": counts.get("COMPLETE", 0),
        "trials promised": form.all_trials,
        "results lost": len(outcome.lost),
    }
    return Report([Table("", [["", "found", "promised"], *cells])], verdict, figures)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak; return the exit status."""
    parser = make_parser()
    given = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    form = SHORT if given.short else LONG
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        outcome = Soak(form, folder, given.seed).run()
    print(json.dumps(asdict(outcome), indent=1))
    found = report(form, outcome)
    print(found, file=sys.stderr)
    keep(found, "soak-short" if given.short else "soak", parser, given)
    return 1 if outcome.broken else 0


def make_parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--short", action="store_true", help="about a minute, with short leases, instead of the whole")
    parser.add_argument("--folder", type=Path, help="an empty folder for everything; a temporary one by default")
    parser.add_argument("--seed", type=int, default=0, help="of the plan of faults")
    add_result_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
