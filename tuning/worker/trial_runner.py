"""One trial: build, fit, and say how it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

import keras
import optuna
from optuna.trial import TrialState

from models.backend import why_not_compiled
from models.training.loop import FitResult, NonFiniteLoss
from storage import attributes
from storage.checkpoints import TrialCheckpoints
from storage.claims import Claim, Claims
from storage.database import Result
from storage.errors import ClaimLost, StorageUnavailable
from studies.scheduler import Scheduler, UnusableStrategy
from studies.stored import StudyRecord
from tuning.machine.devices import Place
from tuning.messages import Note
from tuning.worker.callbacks import CheckpointKeeper, ReportToTrial, state_of
from tuning.worker.drawing import Drawn, draw
from tuning.worker.endings import ERROR, Frozen, Interrupted, Outcome, TrialError, failure_of
from tuning.worker.supervisor import Supervisor
from tuning.worker.throughput import ReportThroughput
from tuning.worker.training_data import Classifiers
from tuning.worker.trial_files import TrialFiles

logger = logging.getLogger(__name__)

_OF_THE_BEST_EPOCH = {
    attributes.VALIDATION_ACCURACY: "val_accuracy",
    attributes.VALIDATION_LOSS: "val_loss",
    attributes.VALIDATION_BALANCED_ACCURACY: "val_balanced_accuracy",
}
# The same where it is no figure, since those images were learned from.
_LEARNED = {attributes.LEARNED_ACCURACY: "val_accuracy"}


class TrialRunner:
    """Runs the trials of one study in this process, one after the other.

    Args:
        study: Optuna's own.
        record: what it records.
        scheduler: asked after each epoch whether the trial goes on.
        classifiers: makes each trial's.
        claims: told of the progress of each trial.
        files: keeps what a trial makes.
        supervisor: says when to stop, and is told how it goes.
        place: where this process trains.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        study: optuna.Study,
        record: StudyRecord,
        scheduler: Scheduler,
        classifiers: Classifiers,
        claims: Claims,
        files: TrialFiles,
        supervisor: Supervisor,
        place: Place,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._study = study
        self._record = record
        self._scheduler = scheduler
        self._classifiers = classifiers
        self._claims = claims
        self._files = files
        self._supervisor = supervisor
        self._place = place
        self._clock = clock
        self._told: set[str] = set()
        self._curve = record.objective.curve

    def run(self, claim: Claim) -> Outcome | None:
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
        try:
            return self._end(claim) if claim.ends else self._attempt(claim)
        except Frozen as frozen:
            self._claims.put_back(claim, str(frozen), "frozen")
            return None
        finally:
            self._classifiers.models.tidy()

    def record(self, claim: Claim, outcome: Outcome) -> None:
        """Keep what a trial made, then record how it ended; in any thread.

        Raises:
            ClaimLost: the trial was given to another worker; nothing was written since.
            StorageUnavailable: the database or the disk could not be reached, or has no room; the caller puts the trial
                back.
        """
        outcome.keep()
        # Not `Study.tell`, which answers a lost claim with an error of its own: the fenced write answers `ClaimLost`.
        self._study._storage.set_trial_state_values(claim.trial_id, outcome.result.state, outcome.result.values)
        # Last: a trial that is over needs no checkpoint, one whose end was not recorded does.
        self._files.checkpoints_of(claim).remove()
        self._files.tidy()

    def _end(self, claim: Claim) -> Outcome:
        """Return the outcome of a frozen trial that is not wanted any more; keep its curve."""
        reported = self._study._storage.get_trial(claim.trial_id).intermediate_values
        values = list(reported.values())
        # Frozen on another machine, its checkpoint is not here, but what it reported is.
        state = state_of(self._files.checkpoints_of(claim))
        history = state.history if state is not None else {self._curve: values}
        result = Result(TrialState.PRUNED, values[-1] if values else None)
        return Outcome(result, keep=lambda: self._files.keep_curve(claim, history, best_epoch=None))

    def _attempt(self, claim: Claim) -> Outcome:
        trial = self._scheduler.trial(claim)
        try:
            return self._train(trial, claim)
        except (Frozen, Interrupted, ClaimLost, StorageUnavailable, UnusableStrategy):
            raise
        except Exception as error:
            failure, reason = (
                (attributes.DIVERGED, str(error)) if isinstance(error, NonFiniteLoss) else failure_of(error)
            )
            logger.exception("trial %d: %s", claim.number, failure)
            if failure == ERROR or (failure == attributes.OUT_OF_MEMORY and self._supervisor.crowded.is_set()):
                raise TrialError(reason) from error
            # What the parameters themselves bring about would come again: no second attempt.
            with self._claims.together(claim):
                trial.set_user_attr(attributes.FAILURE, failure)
                trial.set_user_attr(attributes.REASON, reason)
            return Outcome(Result(TrialState.FAIL, None), failure)

    def _train(self, trial: optuna.trial.Trial, claim: Claim) -> Outcome:
        drawn = draw(
            trial,
            claim,
            classifiers=self._classifiers,
            scheduler=self._scheduler,
            claims=self._claims,
            device=self._place.device,
        )
        trial, hp, model, hypermodel, training = drawn.trial, drawn.hp, drawn.model, drawn.hypermodel, drawn.training
        learned_from, traces = self._classifiers.learned_from(training), hypermodel.traces(model)
        self._tell_uncompiled(claim, model)
        checkpoints = self._files.checkpoints_of(claim)
        resume = state_of(checkpoints)
        drawn.record.begun(self._place, hypermodel.weight_count(model), resumed=resume is not None)
        keeper = self._keeper(claim, checkpoints, training.epochs)
        report = ReportToTrial(
            lambda epoch, value, last: self._scheduler.epoch_ended(claim, epoch, value, last=last),
            keeper,
            stop=self._supervisor.stop,
            began=lambda: logger.info("trial %d: first step", trial.number),
            steps=self._supervisor.steps,
            history=resume.history if resume is not None else None,
            curve=self._curve if training.is_judged else None,
            whole=lambda: hypermodel.runs_whole() is not None,
            clock=self._clock,
        )
        self._record_found(trial, claim, hypermodel.runs_whole(), hypermodel.notes(), trained=False)
        size = hp.values.get("batch_size", 32)
        throughput = ReportThroughput(self._supervisor.tell, images=len(learned_from), batch_size=size)
        started = self._clock()
        try:
            if hypermodel.runs_whole() is None:  # else it may never call a callback
                self._supervisor.steps.training_begins()
            result = hypermodel.fit(
                hp,
                model,
                learned_from,
                self._classifiers.data.validation,
                seed=training.seed,
                callbacks=[throughput, report],
                resume=resume,
                keeper=keeper,
            )
        except (Frozen, Interrupted, NonFiniteLoss):
            self._tell_effort(drawn, report, started, hypermodel.traces(model) - traces)
            raise
        except optuna.TrialPruned:
            self._tell_effort(drawn, report, started, hypermodel.traces(model) - traces)
            pruned = Result(TrialState.PRUNED, report.history[self._curve][-1])
            return Outcome(pruned, keep=lambda: self._files.keep_curve(claim, report.history, best_epoch=None))
        finally:
            self._supervisor.steps.rests()
            keeper.settle()
        self._tell_effort(drawn, report, started, hypermodel.traces(model) - traces)
        self._record_found(trial, claim, hypermodel.runs_whole(), hypermodel.notes(), trained=True)
        return self._completed(drawn, claim, result, report.history)

    def _tell_uncompiled(self, claim: Claim, model: keras.Model) -> None:
        why = why_not_compiled(model)
        if why is not None and why not in self._told:
            self._told.add(why)
            logger.warning("trial %d trains without XLA: %s", claim.number, why)
            self._supervisor.tell(Note(f"trial {claim.number} trains without XLA, slower than need be: {why}"))

    def _keeper(self, claim: Claim, checkpoints: TrialCheckpoints, epochs: int) -> CheckpointKeeper:
        def failed(why: str) -> None:
            self._supervisor.tell(Note(f"trial {claim.number}: {why}. It goes on without"))

        return CheckpointKeeper(
            checkpoints,
            claim=claim.count,
            epochs=epochs,
            interval_s=self._record.limits["checkpoint_interval_s"],
            stop=self._supervisor.stop,
            secure=lambda: self._claims.secure(claim),
            moved=lambda epochs: self._claims.progressed(claim, epochs),
            failed=failed,
            clock=self._clock,
        )

    def _completed(self, drawn: Drawn, claim: Claim, result: FitResult, history: Mapping[str, list[float]]) -> Outcome:
        """Return the outcome of a trial; one that learned from the validation images, too, has no value that is one."""
        classifier, judged = drawn.hypermodel.classifier(drawn.model), drawn.training.is_judged
        model = self._files.write_model(claim, classifier.save, classifier.save_weights)
        costs = [one.name for one in self._record.objectives[1:]]
        others = tuple(self._classifiers.cost(name, classifier, model.size_bytes) for name in costs)
        mistakes = self._classifiers.mistakes(classifier) if judged else None
        figures = _OF_THE_BEST_EPOCH if judged else _LEARNED

        def keep() -> None:
            model.keep()
            found = {key: result.history[curve][result.best_epoch] for key, curve in figures.items()}
            if figures.get(attributes.VALIDATION_ACCURACY) == self._curve:  # the trial's value
                del found[attributes.VALIDATION_ACCURACY]
            drawn.record.best(result.best_epoch + 1, found)
            self._files.keep_curve(claim, history, best_epoch=result.best_epoch)
            if mistakes is not None:
                self._files.keep_mistakes(claim, mistakes)

        value = result.value if judged else self._record.objective.worst
        return Outcome(Result(TrialState.COMPLETE, value, others), keep=keep)

    def _record_found(
        self, trial: optuna.trial.Trial, claim: Claim, whole: str | None, notes: list[str], *, trained: bool
    ) -> None:
        """Record why a trial runs whole, and tell what its training was found to do, which nobody knew before it."""
        if whole is not None:
            trial.set_user_attr(attributes.WHOLE, whole)
        for note in notes:
            if trained and note not in self._told:
                self._supervisor.tell(Note(f"trial {claim.number}: {note}"))
            self._told.add(note)

    def _tell_effort(self, drawn: Drawn, report: ReportToTrial, started: float, traces: int) -> None:
        epochs = len(next(iter(report.history.values()), []))
        drawn.record.trained(epochs=epochs, seconds=self._clock() - started, traces=traces)
