"""A trial trained again from its record, beside its study, and the curves compared. Nothing of the study is written.

Imported without Keras, which comes once the process is what the trial's was: its threads, its precision, its backend.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from optuna.trial import FrozenTrial

from storage import attributes
from storage.artifacts import ArtifactDamaged, Artifacts
from storage.errors import BadInput
from storage.processes.cores import usable_cores
from storage.settings import Home
from storage.stores.chosen import artifact_files
from studies.phases.training import training_of
from studies.stored import StudyRecord
from studies.trials import values_of
from tuning.machine.devices import CPU, cores_as_device, find_gpus, place_worker
from tuning.messages import WorkerOptions
from tuning.user_classes import UserFile
from tuning.words import counted
from tuning.worker.preparing.framework import prepare_training

Curves = Mapping[str, Sequence[float]]


def replay(
    record: StudyRecord,
    trial: FrozenTrial,
    home: Home,
    user_file: UserFile | None,
    objective_file: UserFile | None,
    report: Callable[[str], None],
) -> int:
    """Train a trial again, as far as it came; return the exit status: 0 where all is equal, 1 where it is not.

    Args:
        record: what its study records.
        trial: with its parameters and at least one epoch.
        home: where data and artifacts are.
        user_file: the file with the hypermodel, if it is a user's.
        objective_file: the file with the function that it optimises, likewise.
        report: takes one line for the user.

    Raises:
        BadInput: the trial has nothing to repeat, or it cannot be repeated here.
    """
    recorded = curves_of(trial, Artifacts(artifact_files(home)), record.objective.curve)
    epochs = len(values_of(trial))
    if not trial.params or not epochs:
        raise BadInput(
            f"trial {trial.number} has trained no epoch, so there is nothing to repeat. Give another --trial."
        )
    options = replace(_as_recorded(record, trial, user_file), objective_file=objective_file)
    on = f"{options.device} with {counted(options.threads, 'thread')}"
    report(f"replay: trial {trial.number} of {record.name}, {counted(epochs, 'epoch')} on {on}")
    with _unheard():
        now = _trained(record, trial, epochs, options, home)
    lines = differences(recorded, now)
    for line in lines:
        report(line)
    if not lines:
        report(f"equal in every bit: {', '.join(name for name in recorded if name in now)}")
    return 1 if lines else 0


def curves_of(trial: FrozenTrial, artifacts: Artifacts, objective: str) -> dict[str, Sequence[float]]:
    """Return what is recorded of a trial's epochs: what it reported, and the other curves where they were kept.

    Args:
        trial: whose they are.
        artifacts: where they were kept.
        objective: the name of the curve that it reported.
    """
    reported = values_of(trial)
    try:
        kept = json.loads(artifacts.verified(trial, "history").read_text(encoding="utf-8"))
    except (ArtifactDamaged, ValueError):
        kept = {}
    others: dict[str, Sequence[float]] = {
        name: curve for name, curve in kept.items() if isinstance(curve, list) and len(curve) == len(reported)
    }
    # What is not judged reports no numbers.
    return {**others, objective: reported} if any(map(math.isfinite, reported)) else others


def differences(recorded: Curves, now: Curves) -> list[str]:
    """Return how two trainings differ, one line a curve: at which epoch first, and how far at most; none if equal."""
    lines = []
    for name, before in recorded.items():
        if name not in now:
            continue
        pairs = list(zip(before, now[name], strict=False))
        # What an earlier version noted nothing of is not a number.
        unlike = [at for at, (one, other) in enumerate(pairs, start=1) if one != other and not math.isnan(one)]
        if len(before) != len(now[name]):
            lines.append(f"{name}: {counted(len(before), 'epoch')} recorded, {len(now[name])} now")
        if unlike:
            one, other = pairs[unlike[0] - 1]
            most = max(abs(pairs[at - 1][0] - pairs[at - 1][1]) for at in unlike)
            lines.append(
                f"{name}: in epoch {unlike[0]} {one!r} was recorded, {other!r} is now; {most:.3g} apart at most"
            )
    return lines


def _as_recorded(record: StudyRecord, trial: FrozenTrial, user_file: UserFile | None) -> WorkerOptions:
    """Make this process what the trial's was, as far as it can be; before Keras is imported."""
    device, precision, backend = (
        attributes.of_trial(trial, key, str) for key in (attributes.DEVICE, attributes.PRECISION, attributes.BACKEND)
    )
    threads = attributes.of_trial(trial, attributes.THREADS, int) or usable_cores()
    gpus = [] if device in (None, CPU) else find_gpus()
    if device not in (None, CPU) and not gpus:
        raise BadInput(
            f"trial {trial.number} was trained on {device}, and there is no GPU here. Repeat it where one is."
        )
    place = place_worker(gpus[0] if gpus else cores_as_device(), threads, os.environ)
    os.environ.update(place.environment)
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend
    return WorkerOptions(record.name, user_file, None, place.device.name, precision or "float32", threads)


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep what is written past this process's console, of which nothing is of the curves, for where it fails."""
    sys.stderr.flush()
    with os.fdopen(os.dup(2), "wb") as console, tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            shutil.copyfileobj(kept, console)
            raise
        finally:
            sys.stderr.flush()
            os.dup2(console.fileno(), 2)


def _trained(record: StudyRecord, trial: FrozenTrial, epochs: int, options: WorkerOptions, home: Home) -> Curves:
    classifiers = prepare_training(record, options, home)
    import keras

    from models.backend import seed_generators
    from tuning.worker.hyperparameters import RangedHyperParameters

    def end(epoch: int, _logs: object) -> None:
        # No further than the trial came.
        if epoch + 1 >= epochs:
            model.stop_training = True

    training = training_of(record.spec, trial)
    parts = (classifiers.learned_from(training), classifiers.data.validation)
    seed_generators(training.seed)
    hypermodel = classifiers.new(training)
    holds = classifiers.hypermodel.first_range_holds
    hp = RangedHyperParameters(record.spec.parameters, trial.params, first_range_holds=holds)
    model = hypermodel.build(hp)
    ending = keras.callbacks.LambdaCallback(on_epoch_end=end)
    result = hypermodel.fit(hp, model, *parts, seed=training.seed, callbacks=[ending])
    return result.history
