"""One trial: build, fit, and keep what it made."""

from __future__ import annotations

import gc
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import optuna
from optuna.trial import TrialState

from models.classifier import ImageClassifier, Inputs
from models.training import FitResult, LabelledImages, NonFiniteLoss
from storage.artifacts import Artifacts
from storage.claims import FAILURE_KEY, REASON_KEY, Claim
from storage.errors import ClaimLost, StorageUnavailable
from studies import attributes
from studies.spec import StudySpec, derive_seed
from studies.strategies import make_sampler
from tuning.callbacks import Interrupted, ReportToTrial
from tuning.hyperparameters import RangedHyperParameters, TrialHyperParameters, parameters_of
from tuning.report import draw_learning_curve

logger = logging.getLogger(__name__)

# What Optuna's own `enqueue_trial` writes: the values that a trial is to have.
FIXED_PARAMETERS = "fixed_params"


@dataclass(frozen=True)
class TrainingData:
    """The data that all trials of a study train on.

    Attributes:
        training, validation: the two parts of the training split, memory-mapped.
        inputs: what a classifier must know of them.
    """

    training: LabelledImages
    validation: LabelledImages
    inputs: Inputs


class Objective:
    """Runs the trials of one study in this process, one after the other.

    Args:
        study: loaded with the study's pruner; each trial gets a sampler of its own.
        spec: the study's spec.
        hypermodel: what the spec names.
        data: mapped once.
        artifacts: where files are kept.
        precision: the Keras dtype policy, recorded with each trial.
        threads: the CPU threads of this process, recorded likewise.
        stop: set when the worker was asked to stop.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        study: optuna.Study,
        spec: StudySpec,
        hypermodel: type[ImageClassifier],
        data: TrainingData,
        artifacts: Artifacts,
        *,
        precision: str,
        threads: int,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._study = study
        self._spec = spec
        self._hypermodel = hypermodel
        self._data = data
        self._artifacts = artifacts
        self._how = {attributes.PRECISION: precision, attributes.THREADS: threads}
        self._stop = stop
        self._clock = clock

    def classifier(self) -> ImageClassifier:
        """Return the study's hypermodel, ready to build."""
        return make_classifier(self._hypermodel, self._spec, self._data)

    def run(self, claim: Claim) -> TrialState:
        """Run a claimed trial to its end and record how it ended.

        Raises:
            Interrupted: the worker was asked to stop; nothing was decided, the caller puts the trial back.
            ClaimLost: the trial was given to another worker; nothing was written since.
            StorageUnavailable: the database could not be reached for too long.
        """
        trial = self._take_up(claim)
        started = self._clock()
        report = ReportToTrial(trial, epochs=self._spec.epochs, stop=self._stop)
        try:
            state, value = self._train(trial, report, started)
        except (Interrupted, ClaimLost, StorageUnavailable):
            raise
        except Exception as error:
            failure, reason = failure_of(error)
            logger.exception("trial %d failed: %s", trial.number, failure)
            trial.set_user_attr(FAILURE_KEY, failure)
            trial.set_user_attr(REASON_KEY, reason)
            self._record_effort(trial, report, started)
            state, value = TrialState.FAIL, None
        finally:
            # What one trial leaves behind would otherwise grow the worker by its whole graph.
            keras.utils.clear_session()
            gc.collect()
        # Not `Study.tell`, which answers a lost claim with an error of its own: the fenced write answers `ClaimLost`.
        trial.storage.set_trial_state_values(claim.trial_id, state, None if value is None else [value])
        return state

    def _take_up(self, claim: Claim) -> optuna.trial.Trial:
        storage = self._study._storage
        # A study of its own for each trial: `Study` remembers the trials that its last `ask` or `tell` saw, and no
        # trial here passes through those.
        study = optuna.load_study(
            study_name=self._study.study_name,
            storage=storage,
            sampler=make_sampler(self._spec, claim.number),
            pruner=self._study.pruner,
        )
        # The trial was created in a transaction of its own; Optuna's cache learns of it by reading.
        study.get_trials(deepcopy=False)
        for key, value in self._how.items():
            storage.set_trial_user_attr(claim.trial_id, key, value)
        if claim.number == 0 and self._spec.sampler.default_first:
            storage.set_trial_system_attr(claim.trial_id, FIXED_PARAMETERS, self._default_parameters())
        return optuna.trial.Trial(study, claim.trial_id)

    def _default_parameters(self) -> dict[str, Any]:
        hp = RangedHyperParameters(self._spec.parameters)
        self.classifier().build(hp)
        return parameters_of(hp)

    def _train(
        self, trial: optuna.trial.Trial, report: ReportToTrial, started: float
    ) -> tuple[TrialState, float | None]:
        seed = derive_seed(self._spec.seed, "trial", trial.number)
        keras.utils.set_random_seed(seed)
        hypermodel = self.classifier()
        hp = TrialHyperParameters(trial, self._spec.parameters)
        model = hypermodel.build(hp)
        training, validation = self._data.training, self._data.validation
        try:
            result = hypermodel.fit(hp, model, training, validation, seed=seed, callbacks=[report])
        except optuna.TrialPruned:
            self._keep_curve(trial, report, best_epoch=None)
            self._record_effort(trial, report, started)
            return TrialState.PRUNED, report.history["val_accuracy"][-1]
        self._keep_model(trial, hypermodel.classifier(model), result)
        self._keep_curve(trial, report, best_epoch=result.best_epoch)
        self._record_effort(trial, report, started)
        return TrialState.COMPLETE, result.value

    def _keep_model(self, trial: optuna.trial.Trial, classifier: keras.Model, result: FitResult) -> None:
        self._keep(trial, "model", "model.keras", lambda file: classifier.save(file))
        trial.set_user_attr(attributes.BEST_EPOCH, result.best_epoch + 1)
        trial.set_user_attr(attributes.VALIDATION_LOSS, result.history["val_loss"][result.best_epoch])

    def _keep_curve(self, trial: optuna.trial.Trial, report: ReportToTrial, best_epoch: int | None) -> None:
        shown = None if best_epoch is None else best_epoch + 1
        document = {**report.history, "best_epoch": shown}
        self._keep(trial, "history", "history.json", lambda file: _write_json(file, document))
        title = f"{self._study.study_name}, trial {trial.number}"
        self._keep(
            trial,
            "learning_curve",
            "learning_curve.png",
            lambda file: draw_learning_curve(report.history, best_epoch=shown, title=title, file=file),
        )

    def _keep(self, trial: optuna.trial.Trial, role: str, filename: str, write: Callable[[Path], None]) -> None:
        self._artifacts.put(trial.storage, trial._trial_id, role, filename, write)

    def _record_effort(self, trial: optuna.trial.Trial, report: ReportToTrial, started: float) -> None:
        trial.set_user_attr(attributes.EPOCHS, len(report.history.get("val_accuracy", [])))
        trial.set_user_attr(attributes.SECONDS, round(self._clock() - started, 3))


def make_classifier(hypermodel: type[ImageClassifier], spec: StudySpec, data: TrainingData) -> ImageClassifier:
    """Return a spec's hypermodel for its data."""
    return hypermodel(
        data.inputs,
        extended=spec.space == "extended",
        epochs=spec.epochs,
        train_images=len(data.training),
        patience=spec.patience,
    )


def failure_of(error: Exception) -> tuple[str, str]:
    """Return the class of a failure and its reason in one line.

    The classes are `diverged`, `out_of_memory` and `error`. Out of memory is told by the frameworks' names for it:
    TensorFlow's `ResourceExhaustedError`, JAX's `RESOURCE_EXHAUSTED`, Python's `MemoryError`.
    """
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    reason = f"{type(error).__name__}: {first}"[:500] if first else type(error).__name__
    if isinstance(error, NonFiniteLoss):
        return "diverged", str(error)
    text = f"{type(error).__name__} {error}".lower()
    marks = ("resourceexhausted", "resource_exhausted", "out of memory", "memoryerror")
    if isinstance(error, MemoryError) or any(mark in text for mark in marks):
        return "out_of_memory", reason
    return "error", reason


def _write_json(file: Path, document: object) -> None:
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
