"""``make bench-dashboard``: what a page of a large study costs, beside Optuna's own dashboard on the same database.

Each is asked as its page asks: for the whole study first, then every ten seconds for what that may not have, once with
nothing changed and once after a worker has reported. Processor time is the server's; the browser's own is the same.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.trial import TrialState

from storage.database import Database
from storage.opening import open_database
from tests.benchmarks.command import exit_status, require_positive
from tests.benchmarks.dashboard.asked import KINDS, Asked, asked
from tests.benchmarks.report import Report, Table, add_result_option, keep
from tests.benchmarks.storage import studies
from tests.benchmarks.storage.studies import REPORTS, make_study
from tests.benchmarks.throughput.data import scratch
from tests.benchmarks.throughput.measures import shown

FINISHED, FROZEN, SMOKE = 10_000, 1_000, 60
# As often as the page asks by itself. Optuna's own remembers trials for as long.
WAIT_S: Final = 10.5
STUDY: Final = "/api/studies/1"

Figures = dict[str, list[float]]
# A figure, how it is written, and what is wanted of ours at most: of finished trials, and of frozen ones.
FIGURES: Final[Mapping[str, tuple[Callable[[float], str], float | None, float | None]]] = {
    "first data, s of processor time": (shown, 1.5, None),
    "first data, MB sent": (shown, 6.0, None),
    "memory for it, MB": (lambda value: shown(value, 0), None, None),
    "nothing changed, ms": (lambda value: shown(1e3 * value, 1), 0.020, None),
    "nothing changed, kB sent": (shown, 1.0, 1.0),
    "a trial changed, ms": (lambda value: shown(1e3 * value, 1), None, None),
    "a trial changed, kB sent": (lambda value: shown(value, 1), None, None),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    given = make_parser().parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return exit_status(lambda: _compare(given), stopped="Nothing was kept.")


def _compare(given: argparse.Namespace) -> int:
    repeats = given.repeats if given.repeats is not None else (1 if given.smoke else 3)
    require_positive(("--repeats", repeats))
    wait_s = 0.0 if given.smoke else WAIT_S
    tables, figures, notes = list[Table](), dict[str, float](), list[str]()
    for frozen, trials in ((False, FINISHED), (True, FROZEN)):
        number = SMOKE if given.smoke else trials
        what = "frozen" if frozen else "finished"
        print(f"{number:,} {what} trials ...", file=sys.stderr)
        with scratch() as folder:
            measured = _measured(folder, number, frozen=frozen, repeats=repeats, wait_s=wait_s)
        tables.append(Table(f"{number:,} {what} trials of {REPORTS} epochs", _rows(measured, frozen=frozen)))
        for kind, found in measured.items():
            for name, values in found.items():
                figures[f"{what}, {name}, {kind}"] = statistics.median(values)
    notes.append(
        "Each figure is the median. Memory is what the process takes above what it took before the first data."
    )
    report = Report(tables, notes, figures)
    print(report)
    keep(report, "bench-dashboard", make_parser(), given)
    return 0


def _measured(folder: Path, trials: int, *, frozen: bool, repeats: int, wait_s: float) -> dict[str, Figures]:
    found: dict[str, Figures] = {kind: defaultdict(list) for kind in KINDS}
    file = folder / "studies.db"
    # One more than there are: the one that trains meanwhile.
    make_study(f"sqlite:///{file}", trials, "frozen" if frozen else "over", budget=trials + 1)
    database = open_database(f"sqlite:///{file}")
    try:
        study_id = database.get_study_id_from_name(studies.STUDY)
        changing = _begin(database, study_id, trials)
        for _ in range(repeats):
            for kind in KINDS:
                with asked(kind, f"sqlite:///{file}", folder) as dashboard:
                    _ask(dashboard, found[kind], database, changing, wait_s)
    finally:
        database.engine.dispose()
    return found


def _begin(database: Database, study_id: int, trials: int) -> int:
    """Have one trial in the middle train, and return its id."""
    found = database.get_all_trials(study_id)
    waiting = [trial for trial in found[trials // 2 :] if trial.state == TrialState.WAITING]
    trial_id = waiting[0]._trial_id if waiting else database.create_new_trial(study_id)
    database.set_trial_state_values(trial_id, TrialState.RUNNING)
    return trial_id


def _ask(dashboard: Asked, found: Figures, database: Database, changing: int, wait_s: float) -> None:
    dashboard.get("/api/studies")
    before_mb = dashboard.memory_mb
    first = dashboard.get(f"{STUDY}?after=0")
    found["first data, s of processor time"].append(first.cpu_s)
    found["first data, MB sent"].append(first.sent_bytes / 1e6)
    found["memory for it, MB"].append(dashboard.memory_mb - before_mb)
    page: list[dict[str, Any]] = first.document["trials"]
    after = next((place for place, one in enumerate(page) if one["state"] in ("Running", "Waiting")), len(page))
    path = f"{STUDY}?after={after}"
    dashboard.get(path)
    time.sleep(wait_s)
    same = dashboard.get(path)
    found["nothing changed, ms"].append(same.cpu_s)
    found["nothing changed, kB sent"].append(same.sent_bytes / 1e3)
    step = len(database.get_trial(changing).intermediate_values) + 1
    database.set_trial_intermediate_value(changing, step, step / 1000)
    time.sleep(wait_s)
    changed = dashboard.get(path)
    found["a trial changed, ms"].append(changed.cpu_s)
    found["a trial changed, kB sent"].append(changed.sent_bytes / 1e3)


def _rows(measured: Mapping[str, Figures], *, frozen: bool) -> list[list[str]]:
    rows = [["figure", *KINDS, "wanted"]]
    for name, (write, finished_bar, frozen_bar) in FIGURES.items():
        bar = frozen_bar if frozen else finished_bar
        values = [statistics.median(measured[kind][name]) for kind in KINDS]
        rows.append([name, *map(write, values), "" if bar is None else f"at most {write(bar)}"])
    return rows


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.dashboard", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="60 trials, once, without waiting; ends in seconds")
    parser.add_argument("--repeats", type=int, help="how often each takes its turn; default: 3")
    add_result_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
