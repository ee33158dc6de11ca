"""The live view of a study that somebody else runs. It only reads; ending it ends nothing else. No Keras."""

from __future__ import annotations

import time
from collections.abc import Callable

import optuna
from optuna.trial import TrialState
from rich.console import Console

from storage.attributes import PHASES, SEARCH, Phase
from storage.claims import Claims, Standing
from storage.database import Database
from storage.errors import shown
from studies.stored import StudyRecord
from studies.trials import is_alive, phase_of
from tuning.launch.progress import Progress
from tuning.words import counted

TICK_S = 1.0


def watch(
    study: optuna.Study,
    database: Database,
    console: Console,
    *,
    live: bool = True,
    nap: Callable[[float], None] = time.sleep,
) -> int:
    """Show a study until what it does is done, or Ctrl-C; return the exit status, 0 or 130.

    Args:
        study: whose it is.
        database: where it is, opened to read.
        console: where it is shown: a live view on a terminal, else a line for each trial that stops.
        live: whether a terminal gets the live view.
        nap: waits so many seconds between two looks.

    Raises:
        ForeignStudy: another program made the study.
        StudyDeleted: it is gone.
    """
    record = StudyRecord.of(study)
    if record.function is None:
        record.require_ours()
    phase = _phase_of(study)
    claims = Claims(database, study._study_id, "", uid=record.uid or None, phase=phase)
    progress = Progress(
        study,
        record.spec.epochs if record.function is None else None,
        console,
        live=live,
        expected_epoch_s=record.launched["epoch_s"] if record.launched is not None else None,
        balanced=bool(record.imbalanced),
        phase=phase,
    )
    try:
        standing = _shown(study, claims, progress, console, nap)
    except KeyError:  # Optuna's word for what is not there
        claims.standing()
        raise
    if standing is None:
        return 130
    failed = f", {standing.failed} failed" if standing.failed else ""
    _say(console, f"done: {standing.finished} of {counted(standing.budget, 'trial')} finished{failed}")
    return 0


def _shown(
    study: optuna.Study, claims: Claims, progress: Progress, console: Console, nap: Callable[[float], None]
) -> Standing | None:
    """Show a study until it is done; return where it stands then, None where the user stopped looking."""
    resting = False
    progress.start()
    try:
        while True:
            standing = claims.standing()
            if standing.done and not standing.running:
                return standing
            progress.follow()
            if (rests := not _is_worked_on(study)) and not resting:
                _say(console, f"nobody works on {shown(study.study_name)} at the moment; the same tune goes on with it")
            resting = rests
            nap(TICK_S)
    except KeyboardInterrupt:
        return None
    finally:
        progress.stop()


def _phase_of(study: optuna.Study) -> Phase:
    """Return the latest phase with trials that are not over; the search where there is none."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))
    there = {phase_of(trial) for trial in trials}
    return next((phase for phase in reversed(PHASES) if phase in there), SEARCH)


def _is_worked_on(study: optuna.Study) -> bool:
    now = time.time()
    return any(is_alive(trial, now) for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)
