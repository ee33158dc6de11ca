"""How fast a configuration trains here, measured by a process of its own before anything is promised."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from storage.errors import BadInput
from storage.processes.cores import usable_cores
from storage.settings import Home
from studies.phases.sizing import Pace
from studies.phases.training import Training
from studies.spec import StudySpec
from studies.stored import StudyData
from tuning.machine.devices import find_gpus, place_workers
from tuning.messages import WorkerOptions
from tuning.tasks import Failed, MeasureTask, Meter
from tuning.user_classes import UserFile


@dataclass(frozen=True)
class Configured:
    """A study, as far as its trainings depend on it.

    Attributes:
        spec: the study's.
        data: what it records of its data, or will.
        user_file: the file with the hypermodel, if it is a user's.
        objective_file: the file with the function that it optimises, likewise.
    """

    spec: StudySpec
    data: StudyData
    user_file: UserFile | None
    objective_file: UserFile | None


def pace_of(
    study: Configured,
    home: Home,
    *,
    parameters: Mapping[str, Any] | None = None,
    training: Training | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Pace:
    """Return how fast a configuration trains on a device of its own, or on all of the cores.

    Args:
        study: of which it is.
        home: where the data are.
        parameters: those of the configuration; None for the defaults.
        training: what it is trained with; None for what a trial of the search is.
        clock: monotonic seconds.

    Raises:
        BadInput: it cannot be trained here; the message says why.
    """
    place = place_workers(find_gpus(), usable_cores(), workers=1, per_device=None, environ=os.environ)[0]
    options = WorkerOptions.at(place, "", study.user_file, None, objective_file=study.objective_file)
    task = MeasureTask(
        options=options.to_json(),
        home=str(home.root),
        spec=study.spec.model_dump(mode="json"),
        recorded=study.data,
        parameters=dict(parameters) if parameters is not None else None,
        training=training.document() if training is not None else None,
    )
    began = clock()
    with Meter(place.environment) as meter:
        answer = next(meter.ask(task), Failed(error="no answer"))
    if "error" in answer:
        raise BadInput(f"how fast a training goes cannot be measured: {str(answer['error']).rstrip('.')}.")
    assert "timed_s" in answer
    return Pace(
        begin_s=clock() - began - answer["timed_s"],
        start_s=answer["start_s"],
        image_s=answer["image_s"],
        judge_s=answer["judge_s"],
    )
