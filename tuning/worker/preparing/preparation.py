"""What comes before a worker's first trial: the framework, the data, and the preflight where it is this worker's.

Imported without Keras; `prepare` imports it.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING

from storage import attributes
from storage.artifacts import Artifacts
from storage.settings import Home
from storage.stores.chosen import artifact_files, checkpoint_files
from studies.scheduler import first_configurations
from studies.strategies.samplers import require_room
from tuning.machine.devices import CPU, Place
from tuning.machine.precision import cores_precision
from tuning.messages import Note, WorkerOptions
from tuning.worker.joining import ScheduledStudy
from tuning.worker.preparing.framework import prepare_training
from tuning.worker.supervisor import Supervisor
from tuning.worker.trial_files import TrialFiles

if TYPE_CHECKING:
    from tuning.worker.training_data import Classifiers
    from tuning.worker.trial_runner import TrialRunner

logger = logging.getLogger(__name__)


def prepare(joined: ScheduledStudy, options: WorkerOptions, home: Home, supervisor: Supervisor) -> TrialRunner:
    """Import the framework, open the data, make the preflight if asked to; return what runs the trials.

    Raises:
        BadInput: the model, the data or the search space cannot be used.
    """
    joined.record.require_ours(home)
    if options.device == CPU and options.precision not in ("float32", cores_precision()):
        slow = (
            f"the study computes in {options.precision}, which these cores are slow in: its epochs will take long here"
        )
        supervisor.tell(Note(slow))
    classifiers = prepare_training(joined.record, options, home, lambda line: supervisor.tell(Note(line)))
    # Keras is imported from here on.
    from models.backend import backend_name, precision_name
    from tuning.worker.trial_runner import TrialRunner

    if options.preflight:
        _preflight(joined, classifiers, options, supervisor)
    files = _files(joined, home)
    files.tidy()
    return TrialRunner(
        study=joined.study,
        record=joined.record,
        scheduler=joined.scheduler,
        classifiers=classifiers,
        claims=joined.claims,
        files=files,
        supervisor=supervisor,
        place=Place(options.device, backend_name(), precision_name(), options.threads),
    )


def _preflight(
    joined: ScheduledStudy, classifiers: Classifiers, options: WorkerOptions, supervisor: Supervisor
) -> None:
    from tuning.worker.preflight.walk import preflight
    from tuning.worker.throughput import peaks

    space, found, first_calls = preflight(classifiers, options.user_file)
    logger.info("preflight took %.3f s", found.seconds)
    spec = joined.record.spec
    first = first_configurations(spec, space, joined.record.first)
    require_room(spec, space, joined.claims.standing().budget, len(first))
    joined.study.set_user_attr(attributes.SPACE, space.document())
    # The longest of all: a later preflight may find compiled what this one did.
    before, device = joined.record.first_calls, options.device
    longest = {**before, device: first_calls.longest(before.get(device, first_calls))}
    joined.study.set_user_attr(attributes.FIRST_CALLS, {name: asdict(one) for name, one in longest.items()})
    supervisor.tell(peaks())
    supervisor.tell(found)


def _files(joined: ScheduledStudy, home: Home) -> TrialFiles:
    record = joined.record
    artifacts = Artifacts(artifact_files(home, make=True))
    # Made at once: to `gc` it says that these files are the study's.
    checkpoints = checkpoint_files(home, record.name, record.uid, make=True)
    fingerprint, balanced, objective = record.spec.fingerprint, bool(record.imbalanced), record.objective.curve
    return TrialFiles(
        joined.study, fingerprint, joined.claims, artifacts, checkpoints, balanced=balanced, objective=objective
    )
