"""Who searches. A contestant is made anew for every study, from what is searched and the study's seed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np

from storage.errors import unknown_name
from studies.simulation.rehearsal import UNBOUNDED_TRIALS, Rehearsal
from studies.simulation.virtual_clock import Contestant
from studies.spec import Sampler, Scalar, StrategyChoice
from tests.benchmarks.search import peers, syne_tune
from tests.benchmarks.search.measures import SHARES
from tests.benchmarks.search.references import Clairvoyant, Foresight, Promotion, RandomSearch
from tests.benchmarks.search.tables import ROOT, Table

# (what is searched, the study's seed) -> a fresh contestant. One with a method `close()` is closed after its study.
# But a bound, none looks at more of a table than its space and its R.
Factory = Callable[[Table, int], Contestant]

# Results of another one are simulated again: for a change of what a simulation means.
LABORATORY: Final = "1"

KNOWN_BEFOREHAND: Final = 1000  # configurations of the clairvoyant, about ten of them in the top hundredth


def nothing() -> None:
    """Nothing is missing."""


@dataclass(frozen=True)
class Entry:
    """A contestant that can be named.

    Attributes:
        factory: makes one for a study.
        version: of its settings and code; results of another version are not used.
        missing: returns why it cannot run here, or None.
    """

    factory: Factory
    version: str
    missing: Callable[[], str | None] = nothing


def code_version(*files: str) -> str:
    """Return a version that changes with the bytes of files, given relative to the repository's root."""
    digest = hashlib.sha256()
    for file in files:
        digest.update((ROOT / file).read_bytes())
    return digest.hexdigest()[:12]


def source_files(folder: str) -> list[str]:
    """Return the Python files of a folder, relative to the repository's root, for `code_version`."""
    return sorted(str(Path(file).relative_to(ROOT)) for file in (ROOT / folder).rglob("*.py"))


def settings_version(settings: Mapping[str, object]) -> str:
    """Return a version that changes with settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def own_search(
    table: Table,
    seed: int,
    *,
    strategy: str = "freeze_thaw",
    sampler: Literal["model", "random"] = "model",
    trials: int = UNBOUNDED_TRIALS,
    budget_epochs: int | None = None,
) -> Rehearsal:
    """Return one of the project's own strategies for one study.

    Args:
        table: what is searched.
        seed: the study's.
        strategy: its name; the default one unless said.
        sampler: its name.
        trials: the study's budget, which it is told.
        budget_epochs: likewise; None without a bound.
    """
    return Rehearsal(
        table.space,
        table.horizon,
        seed,
        strategy=StrategyChoice(name=strategy),
        sampler=Sampler(name=sampler),
        trials=trials,
        budget_epochs=budget_epochs,
    )


def _own(strategy: str, sampler: Literal["model", "random"]) -> Entry:
    return Entry(
        partial(own_search, strategy=strategy, sampler=sampler),
        code_version(
            *source_files("studies/strategies"), "studies/space.py", "studies/scheduler.py", "studies/trials.py"
        ),
    )


# The project's own strategies. The first one is what the ratios are of.
OWN: Final[Mapping[str, Entry]] = {
    "freeze_thaw": _own("freeze_thaw", "model"),
    "promotion": _own("promotion", "random"),
}


def _optuna(name: str) -> Entry:
    settings = peers.SETTINGS[name]
    return Entry(
        lambda table, seed: peers.OptunaSearch(table.space, table.horizon, seed, settings),
        f"optuna {peers.version_of('optuna')} {settings_version(settings)}",
        peers.torch_missing if settings["sampler"] == "gp" else nothing,
    )


def _asha() -> Entry:
    settings = peers.SETTINGS["asha"]
    factor, first = settings["reduction_factor"], settings["min_epochs"]
    return Entry(
        lambda table, seed: Promotion(table.space, table.horizon, seed, factor=factor, first=first),
        settings_version(settings),
    )


def _keras_tuner() -> Entry:
    settings = peers.SETTINGS["keras_tuner_hyperband"]
    return Entry(
        lambda table, seed: peers.KerasTunerHyperband(table.space, table.horizon, seed, factor=settings["factor"]),
        f"keras-tuner {peers.version_of('keras-tuner')} {settings_version(settings)}",
    )


def _syne_tune(name: str) -> Entry:
    settings = peers.SETTINGS[name]
    return Entry(
        lambda table, seed: syne_tune.SyneTune(table.space, table.horizon, seed, **settings),
        settings_version(settings),  # its requirements are pinned
        lambda: syne_tune.missing(settings["environment"]),
    )


def _foresight(table: Table, seed: int) -> Contestant:
    # A source of its own, asked for the same trials in the same order, gives the same curves.
    curves, enough = table.curves(seed), table.threshold(SHARES[0])

    def wins(trial: int, params: Mapping[str, Scalar]) -> bool:
        return bool((curves.curve_of(trial, params).values >= enough).any())

    return Foresight(table.space, seed, wins)


def _clairvoyant(table: Table, seed: int) -> Contestant:
    enough = table.threshold(SHARES[0])

    def soon(params: Mapping[str, Scalar]) -> float:
        # Of a source of its own for each, in which nothing was used up: it will be the first trial.
        reached = np.flatnonzero(table.curves(seed).curve_of(0, params).values >= enough)
        return float(reached[0]) + 1 if len(reached) else math.inf

    return Clairvoyant(table.space, seed, soon, KNOWN_BEFOREHAND)


PEERS: Final[Mapping[str, Entry]] = {
    "random": Entry(lambda table, seed: RandomSearch(table.space, seed), "1"),
    **{name: _optuna(name) for name in ("tpe_median", "tpe_hyperband", "tpe_halving", "gp_halving")},
    "asha": _asha(),
    "keras_tuner_hyperband": _keras_tuner(),
    **{name: _syne_tune(name) for name in ("syne_tune_asha", "syne_tune_promotion", "syne_tune_mobster")},
}

# What no search can do, to measure them by.
BOUNDS: Final[Mapping[str, Entry]] = {"foresight": Entry(_foresight, "1"), "clairvoyant": Entry(_clairvoyant, "1")}


def find_contestant(name: str) -> Entry:
    """Return the contestant of a name.

    Raises:
        BadInput: there is none.
    """
    known = {**OWN, **PEERS, **BOUNDS}
    if name not in known:
        raise unknown_name("contestant", name, known)
    return known[name]


@contextmanager
def made(entry: Entry, table: Table, seed: int) -> Iterator[Contestant]:
    """Yield a contestant for one study of a table, and close it afterwards if it can be."""
    with ExitStack() as stack:
        contestant = entry.factory(table, seed)
        if (close := getattr(contestant, "close", None)) is not None:
            stack.callback(close)
        if table.rows is not None and (limit := getattr(contestant, "limit_trials", None)) is not None:
            limit(table.rows)  # who pauses trials would else start rows again that wait
        yield contestant


def version_of(entry: Entry, table: Table) -> str:
    """Return what a result depends on besides its key."""
    return f"{LABORATORY}/{table.fingerprint}/{entry.version}"


def runnable(names: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Return the contestants that can run here, and why the others cannot.

    Raises:
        BadInput: one does not exist.
    """
    reasons = {name: find_contestant(name).missing() for name in names}
    return [name for name, reason in reasons.items() if reason is None], {
        name: reason for name, reason in reasons.items() if reason is not None
    }
