"""A later phase of a study on this machine: its trials are enqueued, and workers train them to their end."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

import optuna
from rich.console import Console

from storage.attributes import Phase
from storage.claims import Claims, Planned, Standing
from storage.database import Database
from storage.errors import BadInput
from storage.opening import open_database, open_to_read
from storage.settings import Home
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import prepare
from studies.stored import StudyRecord, find_study
from tuning.launch.engines.chosen import no_more_than, require_reachable, require_to_ship, serve, to_send
from tuning.launch.engines.cluster import Cluster
from tuning.launch.progress import Progress
from tuning.launch.watching import Watching
from tuning.launch.workforce import Workforce
from tuning.machine.compile_probe import prepare_compile_caches
from tuning.messages import WorkerOptions
from tuning.user_classes import UserFile, parse_model
from tuning.words import counted, duration


@dataclass(frozen=True)
class PhaseOptions:
    """What the command of a later phase was given; None leaves the choice to the machine."""

    study: str | None = None
    storage: str | None = None
    model: str | None = None
    objective: str | None = None
    workers: int | None = None
    timeout_s: float | None = None
    progress: bool = True
    cluster: str | None = None
    ship: bool = False


@dataclass(frozen=True)
class Opened:
    """A study whose search is, or was.

    Attributes:
        options: as given.
        home: where everything is kept.
        url: where the study is.
        database: the same, opened.
        study: Optuna's own.
        record: what it records.
        user_file: the file with the hypermodel, if it is a user's.
        objective_file: the file with the function that it optimises, likewise.
        console: takes what is said.
        noted: called now and then: so long it has taken.
        cluster: what its workers are on; None for this machine.
    """

    options: PhaseOptions
    home: Home
    url: str
    database: Database
    study: optuna.Study
    record: StudyRecord
    user_file: UserFile | None
    objective_file: UserFile | None
    console: Console
    noted: Callable[[], None] = lambda: None
    cluster: Cluster | None = None

    @property
    def report(self) -> Callable[[str], None]:
        """Takes one line for the user."""
        return partial(self.console.print, highlight=False, markup=False, soft_wrap=True)

    @cached_property
    def data(self) -> PreparedDataset:
        """What the study trains on; prepared first where this machine does not have it."""
        assert self.record.data is not None, "seen to when it was opened"
        spec = self.record.spec
        return prepare(spec.dataset, self.home, images=spec.images, checksum=self.record.data["checksum"])

    @property
    def arguments(self) -> str:
        """How a command that follows names the study: variables of make, without a password."""
        storage = self.database.shown_url if self.options.storage is not None else None
        files = self.home.files or None
        return self._said(STUDY=self.record.name, STORAGE=storage, FILES=files, MODEL=self.options.model)

    @property
    def phase_arguments(self) -> str:
        """The same of one that trains."""
        trains = {"OBJECTIVE": self.options.objective, "CLUSTER": self.options.cluster}
        trains["SHIP"] = "1" if self.options.ship else None
        return " ".join(filter(None, (self.arguments, self._said(**trains))))

    @staticmethod
    def _said(**variables: str | None) -> str:
        return " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items() if value is not None)

    def claims(self, phase: Phase) -> Claims:
        """Return the claims of a phase, as the launcher makes them."""
        return Claims(self.database, self.study._study_id, "launcher", uid=self.record.uid or None, phase=phase)


@contextmanager
def opened(options: PhaseOptions, home: Home, console: Console) -> Iterator[Opened]:
    """Yield the study that is meant, and with it the cluster that it is trained on. What is refused is as it was.

    Raises:
        BadInput: there is none, another program made it, it records no data, or its model is a user's file; or there
            is no such cluster.
    """
    url = options.storage or home.database_url
    require_to_ship(options.ship, options.cluster)
    if options.cluster is not None:
        require_reachable(options.cluster, url, home)
    reading = open_to_read(url)
    try:
        record = StudyRecord.of(find_study(reading, options.study))
    finally:
        reading.engine.dispose()
    record.require_ours(home)
    if len(record.objectives) > 1:
        raise BadInput(
            f"study {record.name!r} has {len(record.objectives)} objectives and no single winner. Choose a trial of its"
            " front (tuning trials) and export that: make export TRIAL=..."
        )
    if record.data is None:
        raise BadInput(f"study {record.name!r} records no data. Tune it first: make tune DATASET=...")
    user_file = parse_model(options.model)[1] if options.model is not None else None
    objective_file = UserFile.parse("objective", options.objective) if options.objective is not None else None
    _require_file(record, "model", record.spec.model, user_file)
    _require_file(record, "objective", record.spec.objective.name, objective_file)
    shipped = to_send(options.ship, (user_file, objective_file))
    cluster = Cluster.connected(options.cluster) if options.cluster is not None else None
    try:
        database = open_database(url)
        study = optuna.load_study(study_name=record.name, storage=database)
        found = Opened(
            options, home, url, database, study, record, user_file, objective_file, console, cluster=cluster
        )  # fmt: skip
        if cluster is not None:
            serve(cluster, home, record.spec, found.data, shipped)
        yield found
    finally:
        if cluster is not None:
            cluster.close()


def _require_file(record: StudyRecord, kind: str, name: str, given: UserFile | None) -> None:
    """Refuse to go on without the file that a study was made with."""
    if ".py:" in name and (given is None or given.name != name):
        raise BadInput(
            f"study {record.name!r} was made with the {kind} {name}. Give --{kind} {name.partition('@')[0]} (make:"
            f" {kind.upper()}=), the same file, unchanged."
        )


def run_phase(opened: Opened, phase: Phase, planned: Sequence[Planned]) -> int:
    """Enqueue trials of a phase, but for those that are there, and train what waits; return the exit status.

    Raises:
        BadInput: the study cannot be trained here.
        TuningError: it cannot go on.
    """
    report, claims = opened.report, opened.claims(phase)
    claims.enqueue(planned)
    standing = claims.standing()
    if standing.done:
        return 0
    opened.data  # noqa: B018 - once, before several workers want it
    most = standing.budget - standing.finished
    placements = no_more_than(most, opened.options.workers, opened.cluster)
    if opened.cluster is None:
        prepare_compile_caches(opened.home, placements, os.environ, report)
    workforce = Workforce.of_study(
        claims,
        placements,
        lambda place: WorkerOptions.at(
            place, opened.record.name, opened.user_file, None, phase, objective_file=opened.objective_file
        ),
        home=opened.home,
        url=opened.url,
        record=opened.record,
        report=report,
        engine=opened.cluster,
    )
    progress = Progress(
        opened.study,
        opened.record.spec.epochs,
        opened.console,
        live=opened.options.progress,
        balanced=bool(opened.record.imbalanced),
        phase=phase,
        nodes=opened.cluster is not None,
    )
    try:
        return PhaseLauncher(opened, claims, workforce, progress).run_on(opened.database)
    except KeyError:  # Optuna's word for what is not there
        claims.standing()
        raise


class PhaseLauncher(Watching):
    """Trains what waits in a later phase of a study.

    Args:
        opened: the study.
        claims: the phase's.
        workforce: its workers on this machine.
        progress: shows what happens meanwhile.
    """

    def __init__(self, opened: Opened, claims: Claims, workforce: Workforce, progress: Progress) -> None:
        super().__init__(claims, workforce, None, progress, opened.report, opened.options.timeout_s, noted=opened.noted)

    def _begin(self) -> None:
        standing = self._claims.standing()
        trials = counted(standing.budget - standing.finished, "trial")
        self._report(f"{self._claims.phase}: {trials} on {counted(len(self._workforce.slots), 'worker')}")
        # What is searched was walked before the search, and nothing else is built.
        self._workforce.start(preflight=False)
        self._workforce.go()

    def _conclude(self, elapsed_s: float) -> None:
        standing = self._claims.standing()
        failed = f", {standing.failed} failed" if standing.failed else ""
        self._report(
            f"{standing.finished} of {counted(standing.budget, 'trial')} finished{failed}, in {duration(elapsed_s)}"
        )
        if not standing.done:
            why = "interrupted" if self.interrupted else "time is up"
            self._report(f"{why}: {_left(standing)} back in the queue; the same command goes on")


def _left(standing: Standing) -> str:
    return f"{counted(standing.waiting, 'trial')} {'is' if standing.waiting == 1 else 'are'}"
