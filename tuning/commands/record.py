"""A study's learning curves as a small file, on which searches can be compared without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.errors import BadInput
from studies.simulation.curve_tables import CurveTable, table_of
from studies.stored import StudyRecord
from studies.trials import of_phase, values_of


def record(study: optuna.Study, file: Path) -> CurveTable:
    """Write the learning curves of a study that trained every trial to its end; return them.

    Args:
        study: run with the strategy `none`.
        file: an `.npz` that is not there yet.

    Raises:
        BadInput: the study is another program's, was pruned or is not done, or the file is there already.
    """
    if file.suffix != ".npz":
        raise BadInput(f"--out {file}: must end in .npz.")
    if not file.absolute().parent.is_dir():
        raise BadInput(f"--out {file}: there is no folder {file.absolute().parent}. Make it, or give another name.")
    if file.exists():
        raise BadInput(f"--out {file}: is there already. Give another name.")
    recorded = StudyRecord.of(study)
    recorded.require_ours()
    spec, higher = recorded.spec, recorded.objective.direction == "max"
    trials = _whole(study)
    rows = [trial.params for trial in trials]
    curves = np.full((len(trials), spec.epochs), np.nan)
    seconds = np.full((len(trials), spec.epochs), np.nan)
    for row, trial in enumerate(trials):
        values = values_of(trial)
        curves[row, : len(values)] = values
        # Of each trial its whole time is known: its epochs are alike.
        took = attributes.of_trial(trial, attributes.SECONDS, float)
        seconds[row, : len(values)] = (np.nan if took is None else took) / max(1, len(values))
    timed = np.isfinite(seconds[np.isfinite(curves)]).all()
    table = table_of(rows, curves, higher_is_better=higher, seconds=seconds if timed else None)
    table.save(file)
    return table


def _whole(study: optuna.Study) -> list[FrozenTrial]:
    trials = of_phase(study.get_trials(deepcopy=False))
    pruned = [trial.number for trial in trials if trial.state == TrialState.PRUNED]
    open_ = [trial.number for trial in trials if not trial.state.is_finished()]
    for numbers, what in ((pruned, "was pruned"), (open_, "is not finished")):
        if numbers:
            raise BadInput(
                f"study {study.study_name!r}: trial {numbers[0]} {what}, so its curve is not whole. Record a study that"
                ' was run to its end with [strategy] name = "none".'
            )
    if not any(trial.intermediate_values for trial in trials):
        raise BadInput(f"study {study.study_name!r} has no learning curve yet. Run it to its end first.")
    # What diverged in its first epoch has a curve, too: one without a value. What failed of something else would have
    # another the next time.
    told = [
        t
        for t in trials
        if t.state == TrialState.COMPLETE or attributes.of_trial(t, attributes.FAILURE, str) == attributes.DIVERGED
    ]
    return [trial for trial in told if trial.params]
