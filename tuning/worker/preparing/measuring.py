"""The process that says how fast a configuration trains on a device: `python -m tuning.worker.preparing.measuring`.

A study is sized to a time before it is there, so its spec comes with the task; see `tuning.tasks.MeasureTask`.
"""

from __future__ import annotations

import time
from pathlib import Path

from storage.errors import TuningError
from storage.settings import Home
from studies.phases.training import training_in
from studies.stored import StudyRecord
from tuning.messages import WorkerOptions
from tuning.tasks import Failed, Measured, MeasureTask, answering, asked
from tuning.worker.preparing.framework import prepare_training

# So long is measured, and so many steps at least and at most.
TIMED_S = 6.0
LEAST_STEPS, MOST_STEPS = 8, 400


def measured(task: MeasureTask) -> Measured:
    """Train a few steps as the task says, and return what they took.

    Raises:
        TuningError: it cannot be trained here.
    """
    record = StudyRecord.unmade(task["spec"], task["recorded"])
    options = WorkerOptions.from_json(task["options"]).computing_in(record.spec.precision)
    classifiers = prepare_training(record, options, Home(Path(task["home"])))
    from tuning.worker.hyperparameters import RangedHyperParameters
    from tuning.worker.preflight.timing import timed

    training = training_in(record.spec, task["training"]) if task["training"] is not None else None
    began = time.monotonic()
    holds = classifiers.hypermodel.first_range_holds
    hp = RangedHyperParameters(record.spec.parameters, task["parameters"] or {}, first_range_holds=holds)
    first, _ = timed(classifiers, hp, time.monotonic, training=training)
    step_s = max(first["image_s"] * int(hp.values.get("batch_size", 32)), 1e-6)
    steps = max(LEAST_STEPS, min(MOST_STEPS, round(TIMED_S / step_s)))
    # Nothing is traced any more: only what it takes to start is the first one's.
    then, _ = timed(classifiers, hp, time.monotonic, training=training, steps=steps)
    return {**then, "start_s": first["start_s"], "timed_s": time.monotonic() - began}


def _answer_stdin() -> None:
    with answering() as say:
        task: MeasureTask = asked()
        try:
            say(measured(task))
        except TuningError as error:
            say(Failed(error=str(error)))


if __name__ == "__main__":
    _answer_stdin()
