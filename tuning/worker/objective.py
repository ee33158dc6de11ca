"""One trial: build, fit, and keep what it made."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import optuna
from optuna.trial import TrialState

from models.backend import seed_generators
from models.classifier import ImageClassifier, Inputs
from models.training.compiled import CompiledModels
from models.training.feeding import LabelledImages
from models.training.loop import FitResult, NonFiniteLoss
from models.training.model import TrainingModel
from models.training.state import TrainingState
from storage import attributes
from storage.artifacts import Artifacts
from storage.checkpoints import TrialCheckpoints, remove_checkpoints_of
from storage.claims import Claim, Claims
from storage.database import Result
from storage.errors import ClaimLost, StorageUnavailable
from studies.scheduler import Course, Taken, UnusableStrategy
from studies.spec import StudySpec, derive_seed
from studies.stored import Limits
from tuning.messages import FromWorker, Note
from tuning.pictures import draw_learning_curve
from tuning.worker.callbacks import CheckpointKeeper, Frozen, Interrupted, ReportToTrial, state_of
from tuning.worker.failures import ERROR, failure_of
from tuning.worker.hyperparameters import TrialHyperParameters
from tuning.worker.throughput import TellPace

logger = logging.getLogger(__name__)

# How often parameters are drawn that are known not to fit into the device's memory.
MAX_DRAWS = 10


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


class TrialError(Exception):
    """A trial raised something that another attempt may not meet.

    Attributes:
        reason: what it was, in one line.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Place:
    """Where this process trains, recorded with each trial.

    Attributes:
        device: the product's name.
        precision: the Keras dtype policy.
        threads: CPU threads of the framework. Another number gives other weights, in the last digits.
    """

    device: str
    precision: str
    threads: int


@dataclass(frozen=True)
class Ending:
    """How a trial ended, which is to be recorded still.

    Attributes:
        result: its last state and value.
        failure: the class of its failure, or None if it did not fail.
        keep: puts its files in place and adds what is said of them. It needs neither the model nor this thread.
    """

    result: Result
    failure: str | None = None
    keep: Callable[[], None] = lambda: None


class Objective:
    """Runs the trials of one study in this process, one after the other.

    Args:
        study: Optuna's own.
        course: the study's; asked after each epoch whether the trial goes on.
        spec: the study's spec.
        hypermodel: what the spec names.
        data: mapped once.
        models: this process's compiled models, which trials of one signature share.
        claims: the study's; told of the progress of each trial.
        artifacts: where files are kept.
        checkpoints: the folder of the study's checkpoints.
        limits: what the study's workers keep to.
        place: where this process trains.
        stop: set when the worker was asked to stop.
        crowded: set while others share the device.
        tell: takes messages for the launcher.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        study: optuna.Study,
        course: Course,
        spec: StudySpec,
        hypermodel: type[ImageClassifier],
        data: TrainingData,
        models: CompiledModels,
        claims: Claims,
        artifacts: Artifacts,
        checkpoints: Path,
        limits: Limits,
        place: Place,
        stop: threading.Event,
        crowded: threading.Event,
        tell: Callable[[FromWorker], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._study = study
        self._course = course
        self._spec = spec
        self._hypermodel = hypermodel
        self._data = data
        self._models = models
        self._claims = claims
        self._artifacts = artifacts
        self._checkpoints = checkpoints
        self._limits = limits
        self._place = place
        self._stop = stop
        self._crowded = crowded
        self._tell = tell
        self._clock = clock

    def run(self, taken: Taken) -> Ending | None:
        """Run a claimed trial to its end, from its checkpoint if it has one; `record` does the rest.

        A trial that is frozen on the way is recorded as such at once, and one taken up to be ended is not trained.

        Returns:
            How it ended; None if it was frozen.

        Raises:
            Interrupted: the worker was asked to stop; nothing was decided, the caller puts the trial back.
            TrialError: the trial raised; likewise.
            ClaimLost: the trial was given to another worker; nothing was written since.
            StorageUnavailable: the database or the disk could not be reached, or has no room; likewise.
        """
        claim = taken.claim
        checkpoints = self._checkpoints_of(claim)
        try:
            return self._end(claim, checkpoints) if taken.ends else self._attempt(claim, checkpoints)
        except Frozen as frozen:
            self._claims.put_back(claim, str(frozen), "frozen")
            return None
        finally:
            self._models.tidy()

    def record(self, claim: Claim, ending: Ending) -> None:
        """Keep what a trial made, then record how it ended; in any thread.

        Raises:
            ClaimLost: the trial was given to another worker; nothing was written since.
            StorageUnavailable: the database or the disk could not be reached, or has no room; the caller puts the trial
                back.
        """
        ending.keep()
        # Not `Study.tell`, which answers a lost claim with an error of its own: the fenced write answers `ClaimLost`.
        self._study._storage.set_trial_state_values(claim.trial_id, ending.result.state, ending.result.values)
        # Last: a trial that is over needs no checkpoint, one whose end was not recorded does.
        self._checkpoints_of(claim).remove()
        self.tidy()

    def _checkpoints_of(self, claim: Claim) -> TrialCheckpoints:
        folder = self._checkpoints / str(claim.number)
        return TrialCheckpoints(folder, fingerprint=self._spec.fingerprint, trial=claim.number)

    def tidy(self) -> None:
        """Remove what killed workers left: half-written artifacts, and checkpoints of trials that are over."""
        self._artifacts.sweep()
        over = {trial.number for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished()}
        # This process may remember as over what was not recorded so, and goes on elsewhere: see `Endings.mistaken`.
        remove_checkpoints_of(self._checkpoints, over - self._claims.unfinished())

    def _end(self, claim: Claim, checkpoints: TrialCheckpoints) -> Ending:
        """Return how a frozen trial ends that is not wanted any more; keep its curve."""
        trial = optuna.trial.Trial(self._study, claim.trial_id)  # it suggests nothing: no sampler
        values = list(trial.storage.get_trial(claim.trial_id).intermediate_values.values())
        # Frozen on another machine, its checkpoint is not here, but what it reported is.
        state = state_of(checkpoints)
        history = state.history if state is not None else {"val_accuracy": values}
        result = Result(TrialState.PRUNED, values[-1] if values else None)
        return Ending(result, keep=lambda: self._keep_curve(trial, history, best_epoch=None))

    def _attempt(self, claim: Claim, checkpoints: TrialCheckpoints) -> Ending:
        trial = self._course.trial(claim)
        try:
            return self._train(trial, claim, checkpoints)
        except (Frozen, Interrupted, ClaimLost, StorageUnavailable, UnusableStrategy):
            raise
        except Exception as error:
            failure, reason = (
                (attributes.DIVERGED, str(error)) if isinstance(error, NonFiniteLoss) else failure_of(error)
            )
            logger.exception("trial %d: %s", claim.number, failure)
            if failure == ERROR or (failure == attributes.OUT_OF_MEMORY and self._crowded.is_set()):
                raise TrialError(reason) from error
            # What the parameters themselves bring about would come again: no second attempt.
            trial.set_user_attr(attributes.FAILURE, failure)
            trial.set_user_attr(attributes.REASON, reason)
            return Ending(Result(TrialState.FAIL, None), failure)

    def _train(self, trial: optuna.trial.Trial, claim: Claim, checkpoints: TrialCheckpoints) -> Ending:
        seed = derive_seed(self._spec.seed, "trial", trial.number)
        seed_generators(seed)
        hypermodel = make_classifier(self._hypermodel, self._spec, self._data, self._models)
        trial, hp, model = self._build(trial, claim, hypermodel)
        traces = model.steps.traces
        resume = state_of(checkpoints)
        self._record_place(trial, model, resume)
        keeper = CheckpointKeeper(
            checkpoints,
            claim=claim.count,
            epochs=self._spec.epochs,
            interval_s=self._limits["checkpoint_interval_s"],
            stop=self._stop,
            moved=lambda epochs: self._claims.progressed(claim, epochs),
            failed=lambda why: self._tell(Note(f"trial {claim.number}: {why}. It goes on without")),
            clock=self._clock,
        )
        report = ReportToTrial(
            lambda epoch, value, last: self._course.epoch_ended(claim, epoch, value, last=last),
            keeper,
            stop=self._stop,
            began=lambda: logger.info("trial %d: first step", trial.number),
            history=resume.history if resume is not None else None,
            clock=self._clock,
        )
        started = self._clock()
        training, validation = self._data.training, self._data.validation
        pace = TellPace(self._tell, images=len(training), batch_size=hp.values.get("batch_size", 32))
        try:
            result = hypermodel.fit(
                hp, model, training, validation, seed=seed, callbacks=[pace, report], resume=resume, keeper=keeper
            )
        except (Frozen, Interrupted, NonFiniteLoss):
            self._record_effort(trial, report, started, model.steps.traces - traces)
            raise
        except optuna.TrialPruned:
            self._record_effort(trial, report, started, model.steps.traces - traces)
            pruned = Result(TrialState.PRUNED, report.history["val_accuracy"][-1])
            return Ending(pruned, keep=lambda: self._keep_curve(trial, report.history, best_epoch=None))
        finally:
            keeper.settle()
        self._record_effort(trial, report, started, model.steps.traces - traces)
        keep_model = self._save_model(trial, hypermodel.classifier(model), result)

        def keep() -> None:
            keep_model()
            self._keep_curve(trial, report.history, best_epoch=result.best_epoch)

        return Ending(Result(TrialState.COMPLETE, result.value), keep=keep)

    def _build(
        self, trial: optuna.trial.Trial, claim: Claim, hypermodel: ImageClassifier
    ) -> tuple[optuna.trial.Trial, TrialHyperParameters, TrainingModel]:
        """Build the model of the trial's parameters, drawn again while they are known to be too large.

        TPE does not learn from FAIL: left alone, it goes on to propose what ran out of memory.
        """
        for attempt in range(1, MAX_DRAWS + 1):
            hp = TrialHyperParameters(trial, self._spec.parameters)
            model = hypermodel.build(hp)
            too_large = ran_out_with(trial.study.get_trials(deepcopy=False), self._place.device, hp.values, model)
            if too_large is None or attempt == MAX_DRAWS or trial.user_attrs.get(attributes.WEIGHTS) is not None:
                break
            logger.info("trial %d: drawn again, as large as trial %d, which ran out", claim.number, too_large)
            self._claims.forget_parameters(claim)
            seed_generators(derive_seed(self._spec.seed, "trial", claim.number))
            trial = self._course.trial(claim, attempt)
        return trial, hp, model

    def _record_place(self, trial: optuna.trial.Trial, model: TrainingModel, resume: TrainingState | None) -> None:
        recorded = {
            attributes.DEVICE: self._place.device,
            attributes.PRECISION: self._place.precision,
            attributes.THREADS: self._place.threads,
            attributes.WEIGHTS: model.weight_count,
        }
        before = trial.user_attrs.get(attributes.THREADS)
        if resume is not None and before != self._place.threads:
            logger.warning(
                "trial %d was begun with %s threads, goes on with %d", trial.number, before, self._place.threads
            )
        for key, value in recorded.items():
            trial.set_user_attr(key, value)

    def _save_model(self, trial: optuna.trial.Trial, classifier: keras.Model, result: FitResult) -> Callable[[], None]:
        """Save the model now, since its weights are the next trial's as well; return what does the rest."""
        with self._on_disk(trial, "model.keras"), contextlib.ExitStack() as held:
            file = held.enter_context(self._artifacts.writing(trial.storage, trial._trial_id, "model", "model.keras"))
            classifier.save(file)
            unfinished = held.pop_all()

        def keep() -> None:
            with self._on_disk(trial, "model.keras"):
                unfinished.close()
            trial.set_user_attr(attributes.BEST_EPOCH, result.best_epoch + 1)
            trial.set_user_attr(attributes.VALIDATION_LOSS, result.history["val_loss"][result.best_epoch])

        return keep

    def _keep_curve(
        self, trial: optuna.trial.Trial, history: Mapping[str, list[float]], best_epoch: int | None
    ) -> None:
        shown = None if best_epoch is None else best_epoch + 1
        document = {**history, "best_epoch": shown}
        self._keep(trial, "history", "history.json", lambda file: _write_json(file, document))
        title = f"{self._study.study_name}, trial {trial.number}"
        self._keep(
            trial,
            "learning_curve",
            "learning_curve.png",
            lambda file: draw_learning_curve(history, best_epoch=shown, title=title, file=file),
        )

    def _keep(self, trial: optuna.trial.Trial, role: str, filename: str, write: Callable[[Path], None]) -> None:
        with self._on_disk(trial, filename):
            self._artifacts.put(trial.storage, trial._trial_id, role, filename, write)

    @contextlib.contextmanager
    def _on_disk(self, trial: optuna.trial.Trial, filename: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # The trial is not at fault, and its result must not be lost: it waits for a disk that takes it.
            why, folder = error.strerror or error, self._artifacts.folder
            raise StorageUnavailable(
                f"{filename} of trial {trial.number} cannot be written to {folder}: {why}."
                " Make room and give the same command again."
            ) from error

    def _record_effort(self, trial: optuna.trial.Trial, report: ReportToTrial, started: float, traces: int) -> None:
        before = float(trial.user_attrs.get(attributes.SECONDS, 0.0))
        trial.set_user_attr(attributes.TRACES, int(trial.user_attrs.get(attributes.TRACES, 0)) + traces)
        trial.set_user_attr(attributes.EPOCHS, len(report.history.get("val_accuracy", [])))
        trial.set_user_attr(attributes.SECONDS, round(before + self._clock() - started, 3))


def ran_out_with(
    trials: Sequence[optuna.trial.FrozenTrial], device: str, values: Mapping[str, Any], model: TrainingModel
) -> int | None:
    """Return the number of a trial that ran out of memory on this kind of device with no more than is proposed now.

    Args:
        trials: the study's.
        device: the product's name.
        values: the proposal; its `batch_size` counts.
        model: the model built from it; its weights count.
    """
    for trial in trials:
        if (
            trial.user_attrs.get(attributes.FAILURE) != attributes.OUT_OF_MEMORY
            or trial.user_attrs.get(attributes.DEVICE) != device
        ):
            continue
        batch_size, weights = trial.params.get("batch_size", 0), trial.user_attrs.get(attributes.WEIGHTS, math.inf)
        if values.get("batch_size", 0) >= batch_size and model.weight_count >= weights:
            return trial.number
    return None


def make_classifier(
    hypermodel: type[ImageClassifier], spec: StudySpec, data: TrainingData, models: CompiledModels
) -> ImageClassifier:
    """Return a spec's hypermodel for its data, whose trainings share compiled models."""
    return hypermodel(
        data.inputs,
        extended=spec.space == "extended",
        epochs=spec.epochs,
        train_images=len(data.training),
        patience=spec.patience,
        models=models,
    )


def _write_json(file: Path, document: object) -> None:
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
