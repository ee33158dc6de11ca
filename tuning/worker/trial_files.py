"""The files of a study's trials: what each made, and the checkpoints that it goes on from. No Keras."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna

from storage.artifacts import Artifacts
from storage.checkpoints import TrialCheckpoints, remove_checkpoints_of
from storage.claims import Claim, Claims
from storage.errors import StorageUnavailable, disk_error
from storage.stores.file_store import FileStore
from tuning.building import WEIGHTS
from tuning.pictures import (
    MOST_DRAWN_CLASSES,
    Mistakes,
    draw_confusion_matrix,
    draw_learning_curve,
    draw_mistakes,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Written:
    """A file that is written and not yet kept.

    Attributes:
        size_bytes: how large it is.
        keep: puts it in its place.
    """

    size_bytes: int
    keep: Callable[[], None]


class TrialFiles:
    """Keeps the files of one study's trials.

    Where the disk does not take one, the trial is not at fault and its result must not be lost: it waits for a disk
    that does.

    Args:
        study: Optuna's own.
        fingerprint: of the study's spec; a checkpoint carries it.
        claims: the study's.
        artifacts: where what trials made is kept.
        checkpoints: where the study's checkpoints are kept.
        balanced: whether learning curves show the balanced accuracy.
        objective: the name of the curve that is optimised, which they show as well.
    """

    def __init__(
        self,
        study: optuna.Study,
        fingerprint: str,
        claims: Claims,
        artifacts: Artifacts,
        checkpoints: FileStore,
        *,
        balanced: bool = False,
        objective: str = "val_accuracy",
    ) -> None:
        self._study = study
        self._fingerprint = fingerprint
        self._claims = claims
        self._artifacts = artifacts
        self._checkpoints = checkpoints
        self._balanced = balanced
        self._objective = objective

    def checkpoints_of(self, claim: Claim) -> TrialCheckpoints:
        """Return the checkpoints of a claimed trial."""
        files = self._checkpoints.folder(str(claim.number))
        return TrialCheckpoints(files, fingerprint=self._fingerprint, trial=claim.number)

    def write_model(self, claim: Claim, save: Callable[[Path], None], save_weights: Callable[[Path], None]) -> Written:
        """Write a trial's model now, since its weights are the next trial's as well; it is to be kept yet.

        Args:
            claim: the right to the trial.
            save: writes a `.keras` file, or raises what it likes where it cannot.
            save_weights: writes a `.weights.h5` file, which is kept then.

        Raises:
            StorageUnavailable: the disk does not take it; so does what keeps it.
        """
        try:
            return self._write(claim, "model.keras", save)
        except StorageUnavailable:
            raise
        except Exception as error:  # Keras's own, or that of a user's layer
            logger.info("trial %d: its weights are kept, since the model cannot be saved: %s", claim.number, error)
            return self._write(claim, WEIGHTS, lambda file: _copied(save_weights, file))

    def _write(self, claim: Claim, name: str, save: Callable[[Path], None]) -> Written:
        with self._on_disk(claim, name), contextlib.ExitStack() as held:
            file = held.enter_context(self._artifacts.writing(self._study._storage, claim.trial_id, "model", name))
            save(file)
            size_bytes = file.stat().st_size
            unfinished = held.pop_all()

        def keep() -> None:
            with self._on_disk(claim, name):
                unfinished.close()

        return Written(size_bytes, keep)

    def keep_curve(self, claim: Claim, history: Mapping[str, list[float]], best_epoch: int | None) -> None:
        """Keep a trial's learning curve, as data and as a picture.

        Args:
            claim: the right to the trial.
            history: a value for each epoch, by name.
            best_epoch: counted from 0; None if the trial has no model.

        Raises:
            StorageUnavailable: the disk does not take it.
        """
        shown = None if best_epoch is None else best_epoch + 1
        document = {**history, "best_epoch": shown}
        title = f"{self._study.study_name}, trial {claim.number}"
        self._keep(claim, "history", "history.json", lambda file: _write_json(file, document))
        self._keep(
            claim,
            "learning_curve",
            "learning_curve.png",
            lambda file: draw_learning_curve(
                history, shown, title, file=file, balanced=self._balanced, also=self._objective
            ),
        )

    def keep_mistakes(self, claim: Claim, mistakes: Mistakes) -> None:
        """Keep what a trial's classifier takes for what, and its worst mistakes, as pictures.

        Args:
            claim: the right to the trial.
            mistakes: of the weights that are kept.

        Raises:
            StorageUnavailable: the disk does not take it.
        """
        if len(mistakes.class_names) <= MOST_DRAWN_CLASSES:
            self._keep(
                claim,
                "confusion_matrix",
                "confusion_matrix.png",
                lambda file: draw_confusion_matrix(mistakes.confusion, mistakes.class_names, file, "validation images"),
            )
        if mistakes.labels:
            self._keep(claim, "mistakes", "mistakes.png", lambda file: draw_mistakes(mistakes, file))

    def _keep(self, claim: Claim, role: str, filename: str, write: Callable[[Path], None]) -> None:
        with self._on_disk(claim, filename):
            self._artifacts.put(self._study._storage, claim.trial_id, role, filename, write)

    @contextlib.contextmanager
    def _on_disk(self, claim: Claim, filename: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            fact = f"{filename} of trial {claim.number} cannot be written to {self._artifacts.files.shown()}"
            then = "Make room and give the same command again."
            raise disk_error(error, fact, then, StorageUnavailable) from error

    def tidy(self) -> None:
        """Remove what killed workers left: half-written artifacts, and checkpoints of trials that are over."""
        self._artifacts.sweep()
        over = {trial.number for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished()}
        # This process may remember as over what was not recorded so: see `ResultWriter.mistaken`.
        remove_checkpoints_of(self._checkpoints, over - self._claims.unfinished())


def _copied(write: Callable[[Path], None], file: Path) -> None:
    """Write a file elsewhere first: HDF5 locks what it writes, and who keeps an artifact has locked it already."""
    with tempfile.TemporaryDirectory() as folder:
        beside = Path(folder) / WEIGHTS
        write(beside)
        shutil.copyfile(beside, file)


def _write_json(file: Path, document: object) -> None:
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
