"""A fresh database for a test, copied from one that was made once: making one takes a tenth of a second.

And what tests of claims do with it, or with a ledger in memory.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from storage.claims import Choice, Claim, Claims, Start
from storage.database import Database
from storage.opening import open_database
from storage.rows.memory_rows import Memory

# Where claims can be kept.
Kept = Database | Memory


@cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "studies.db"
        open_database(f"sqlite:///{file}", create=True).engine.dispose()
        return file.read_bytes()


@contextmanager
def fresh_database(file: Path) -> Iterator[Database]:
    """Put an empty database at a path and open it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file.write_bytes(_template())
    opened = open_database(f"sqlite:///{file}")
    try:
        yield opened
    finally:
        opened.engine.dispose()


@contextmanager
def fresh_ledger(kind: str, folder: Path) -> Iterator[Kept]:
    """Open an empty place for claims: `sqlite`, in a folder, or `memory`."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if kind == "memory":
        yield Memory()
        return
    with fresh_database(folder / "studies.db") as opened:
        yield opened


def url_of(database: Database) -> str:
    """Return the URL that a database was opened with, its password in it."""
    return database.engine.url.render_as_string(hide_password=False)


@contextmanager
def second_connection(database: Database) -> Iterator[Database]:
    """Open a database again, as another worker does."""
    opened = open_database(url_of(database))
    try:
        yield opened
    finally:
        opened.engine.dispose()


def new_study(
    ledger: Kept, *, budget: int = 3, name: str = "mnist", owner: str = "me", clock: Callable[[], float] = time.time
) -> Claims:
    """Create a study with a budget."""
    claims = Claims(ledger, ledger.create_new_study([StudyDirection.MAXIMIZE], name), owner, clock)
    claims.set_budget(budget)
    return claims


START = Start()


def claimed(claims: Claims, choice: Choice | None = START) -> Claim:
    """Claim what there is to be had."""
    claim = claims.next(choice)
    assert claim is not None
    return claim


def finish(ledger: Kept, claim: Claim, state: TrialState = TrialState.COMPLETE, value: float = 0.5) -> None:
    """Record a trial as over."""
    ledger.set_trial_state_values(claim.trial_id, state, [value] if state == TrialState.COMPLETE else None)


def trials(ledger: Kept, name: str = "mnist") -> list[FrozenTrial]:
    """Return a study's trials by number."""
    return ledger.get_all_trials(ledger.get_study_id_from_name(name))
