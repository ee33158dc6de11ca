"""``make bench-claims``: claims and reports a second of up to 256 workers, and what share of their time that takes.

Workers are processes that make the calls of the service's worker by its own code, without Keras: first without a pause,
then with epochs between their reports. Past what the machine bears they are played on a virtual clock, whose calls take
what they were measured to take in the same run; where both are possible, both are shown. Nothing else should run on the
machine meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import optuna
import sqlalchemy

from storage import attributes
from storage.claims import Claims
from storage.opening import open_database
from storage.processes.cores import usable_cores
from tests.benchmarks.claims.crowd import Crowd, at_work, free_for
from tests.benchmarks.claims.figures import Found
from tests.benchmarks.claims.simulated import Alone, Machines, play
from tests.benchmarks.claims.summary import report
from tests.benchmarks.claims.worker import Pace
from tests.benchmarks.command import add_databases_option, exit_status, require_positive
from tests.benchmarks.report import add_result_option, keep
from tests.benchmarks.storage.studies import STUDY, Mix, make_study
from tests.postgres import database_on, server

GPUS: Final = 1_000
BUDGET: Final = 10**6
# Connections of a PostgreSQL server that are not for workers: its own, and who looks on.
_SPARE: Final = 10


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        workers: how many, each number by itself.
        gpus: how many there are on paper.
        processes: the most real ones.
        alone_s: for how long one works alone, and so much more for each trial that others hold.
        busy_s: for how long all work without pause.
        steady_s: for how long all work with epochs.
        epochs_s: what an epoch takes; the first one is measured, the others are played.
        played: virtual time is so many trials, or so many seconds without pause.
    """

    workers: Sequence[int] = (1, 8, 64, 256)
    gpus: int = GPUS
    processes: int = 64
    alone_s: tuple[float, float] = (3.0, 0.01)
    busy_s: float = 8.0
    steady_s: float = 20.0
    epochs_s: Sequence[float] = (1.0, 5.0, 30.0)
    played: float = 1.5


SMOKE: Final = Size((2, 4), 8, 2, (0.5, 0.0), 0.5, 1.0, (0.1, 2.0), 1.0)


@dataclass
class Place:
    """Where databases are: a folder for SQLite, or a server.

    Attributes:
        connections: the most that the server takes; None where nobody counts.
    """

    name: str
    folder: Path
    server: str | None
    connections: int | None = None
    _made: int = field(default=0)

    @property
    def one_writer(self) -> bool:
        """Whether the database takes one write transaction at a time."""
        return self.server is None

    @contextmanager
    def study(self, trials: int, mix: Mix) -> Iterator[tuple[str, Path]]:
        """Yield the URL of a made study that workers may write to, and a folder for their files."""
        self._made += 1
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self.folder)))
            url = f"sqlite:///{folder / 'studies.db'}"
            if self.server is not None:
                url = stack.enter_context(database_on(self.server))
            make_study(url, trials, mix, budget=BUDGET)
            _bound_epochs(url)
            yield url, folder


def _bound_epochs(url: str) -> None:
    # As the service's own plans have it: a worker counts after each epoch what is left.
    database = open_database(url)
    study_id = database.get_study_id_from_name(STUDY)
    Claims(database, study_id, "bench").set_budget(BUDGET, {attributes.BUDGET_EPOCHS: 10 * BUDGET})
    database.engine.dispose()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    given = make_parser().parse_args(arguments)
    return exit_status(lambda: _measure(given), stopped="Nothing was kept.")


def _measure(given: argparse.Namespace) -> int:
    size = SMOKE if given.smoke else Size()
    asked = {name: value for name in ("workers", "processes") if (value := getattr(given, name)) is not None}
    size = dataclasses.replace(size, **asked)
    require_positive(("--processes", size.processes), *(("--workers", number) for number in size.workers))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found: dict[str, dict[int, Found]] = {}
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bench-claims-") as folder, contextlib.ExitStack() as stack:
        for name in given.databases:
            url = stack.enter_context(server()) if name == "postgresql" else None
            place = Place(name, Path(folder), url, _connections(url))
            found[name] = _found(place, size, notes)
    cores = usable_cores()
    told = report(found, cores=cores, epochs_s=size.epochs_s, gpus=size.gpus, notes=notes)
    print(told)
    keep(told, "bench-claims", make_parser(), given)
    return 0


def _connections(url: str | None) -> int | None:
    if url is None:
        return None
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        most = int(connection.exec_driver_sql("SHOW max_connections").scalar_one())
    engine.dispose()
    return most


def _found(place: Place, size: Size, notes: list[str]) -> dict[int, Found]:
    found: dict[int, Found] = {}
    memory_mb, each, most = 0.0, 1.0, size.processes
    for workers in (*size.workers, size.gpus):
        _say(f"{place.name}, {workers} workers: one alone")
        one = found[workers] = Found(_alone(place, size, workers))
        real = workers <= most and workers != size.gpus and free_for(workers, memory_mb)
        if real and place.connections is not None:
            real = workers * each <= place.connections - _SPARE
        if real:
            _say(f"{place.name}, {workers} workers: at once")
            one.crowd = _crowd(place, workers, size.busy_s, Pace())
            one.unflushed = _crowd(place, workers, size.busy_s, Pace(flushed=False))
            one.steady = _crowd(place, workers, size.steady_s, Pace(epoch_s=size.epochs_s[0]))
            memory_mb = max(memory_mb, one.crowd.memory_mb)
            each = max(each, *(crowd.server.connections / workers for crowd in (one.crowd, one.steady)))
        _say(f"{place.name}, {workers} workers: on the virtual clock")
        _play(one, workers, size)
    notes.append(_bears(place, found, memory_mb, each))
    return found


def _bears(place: Place, found: Mapping[int, Found], memory_mb: float, each: float) -> str:
    real = max((workers for workers, one in found.items() if one.crowd is not None), default=0)
    words = f"{place.name}: up to {real} real workers, of {memory_mb:.0f} MB each besides what they share"
    if place.connections is None:
        return f"{words}."
    return (
        f"{words}, and {each:.1f} connections: the server's {place.connections} are enough for"
        f" {int((place.connections - _SPARE) / each)} workers."
    )


def _alone(place: Place, size: Size, workers: int) -> Alone:
    seconds = size.alone_s[0] + size.alone_s[1] * workers
    crowds = []
    for waits in (True, False):
        with place.study(workers - 1, "running") as (url, folder):
            crowds.append(at_work(url, folder, 1, seconds, Pace(beats=True, flushed=waits, trials=2)))
    flushed, unflushed = (crowd.workers[0].calls for crowd in crowds)
    return Alone.of(flushed, unflushed, crowds[1].server.cpu_s, one_writer=place.one_writer)


def _crowd(place: Place, workers: int, seconds: float, pace: Pace) -> Crowd:
    with place.study(100, "over") as (url, folder):
        return at_work(url, folder, workers, seconds, pace)


def _play(one: Found, workers: int, size: Size) -> None:
    for apart, played in ((False, one.played), (True, one.apart)):
        machines = Machines(usable_cores(), apart)
        if workers != size.gpus:
            played["busy"] = play(one.alone, workers, machines, seconds=8 * size.played)
        for epoch_s in size.epochs_s if apart else size.epochs_s[:1]:
            seconds = size.played * 20 * epoch_s
            played[f"{epoch_s:g} s"] = play(one.alone, workers, machines, seconds=seconds, epoch_s=epoch_s)


def _say(words: str) -> None:
    print(f"{words} ...", file=sys.stderr)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.claims", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="2 and 4 workers, a second each; ends in half a minute")
    parser.add_argument("--workers", nargs="+", type=int, help="how many at once; default: 1 8 64 256")
    parser.add_argument("--processes", type=int, help="the most real workers; more are simulated; default: 64")
    add_databases_option(parser)
    add_result_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
