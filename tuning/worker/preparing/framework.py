"""The framework, and the data of a study: what any training needs. `prepare_training` imports Keras."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from storage.prepared.bases import is_base
from storage.settings import Home
from studies.stored import StudyRecord
from tuning.keras_settings import require_backend, settle_keras
from tuning.machine.compile_cache import cache_environment
from tuning.machine.devices import CPU
from tuning.messages import WorkerOptions
from tuning.user_classes import load_metric
from tuning.worker.joining import require_accelerator
from tuning.worker.preparing.hypermodels import load_hypermodel

if TYPE_CHECKING:
    from models.tunable import Hypermodel
    from tuning.worker.training_data import Classifiers, TrainingData

logger = logging.getLogger(__name__)


def prepare_training(
    record: StudyRecord, options: WorkerOptions, home: Home, say: Callable[[str], None] = logger.info
) -> Classifiers:
    """Import the framework and open the data of a study; return what makes its classifiers.

    Args:
        record: the study's.
        options: what the worker is started with.
        home: where data are.
        say: takes a line for the user, of what takes long.

    Raises:
        BadInput: the model, the objective or the data cannot be used.
    """
    spec = record.spec
    home.make(home.root)
    # Frameworks read it when they are imported.
    os.environ.update(cache_environment(home, options.device if options.device != CPU else None, os.environ))
    settle_keras(os.environ)
    require_backend(os.environ)
    from models.importing import importing_keras

    with importing_keras():
        from models.backend import set_defaults, set_precision
        from models.training.compiled import CompiledModels
        from tuning.worker.training_data import Classifiers, open_training_data

    set_defaults()
    hypermodel = load_hypermodel(spec.model, options.user_file, home)
    metric = load_metric(spec.objective, options.objective_file)
    require_accelerator(options.device)
    set_precision(options.precision if hypermodel.mixed else "float32")
    data = open_training_data(record, home)
    if is_base(spec.model):
        _keep_features(hypermodel, record, data, home, say)
    return Classifiers(hypermodel, spec, data, CompiledModels(), metric)


def _keep_features(
    hypermodel: Hypermodel, record: StudyRecord, data: TrainingData, home: Home, say: Callable[[str], None]
) -> None:
    """Have all workers of a home use the features that one of them has computed."""
    from models.transfer.hypermodel import TransferModels
    from tuning.worker.preparing.features import KeptFeatures

    assert isinstance(hypermodel, TransferModels) and record.data is not None
    parts = (data.training, data.validation, data.everything)
    hypermodel.features = KeptFeatures(home, record.data["checksum"], parts, say)
