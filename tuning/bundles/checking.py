"""A trial's model in a bundle, checked: a fresh process must find the validation accuracy that the trial recorded.

That is the trial's one file, if Keras can load it by itself. If it cannot, it is the weights, with a copy of the user's
file that builds the model: the file that the command line names, if it is the one that the study records.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from storage import attributes
from storage.artifacts import Artifacts
from storage.errors import BadInput, SpecMismatch, TuningError, first_sentence
from storage.settings import Home
from studies.leaderboard import value_of
from studies.phases.training import training_of
from studies.stored import StudyData, StudyRecord
from tuning.building import WEIGHTS, Building, building_of, copy_code
from tuning.bundles.bundle import MODEL
from tuning.tasks import Answer, Differs, Failed, Judge, Judgement, JudgeTask, MirrorTask, Task
from tuning.user_classes import UserFile

# How far the accuracy of the exported model may lie from the recorded one. Other kernels round otherwise, and an image
# or two on the border between classes go over; half precision rounds more.
TOLERATED_IMAGES = 2
TOLERATED_FLOAT32 = 5e-4
TOLERATED_MIXED = 5e-3


@dataclass(frozen=True)
class Checked:
    """A model in a bundle that is as good as its trial recorded.

    Attributes:
        model: its file, or its weights.
        judgement: its figures.
        building: what else it is built of, if it is weights.
        not_whole: why it is no file that Keras loads by itself; empty if it is.
        flips: whether it says the mean of a picture and its mirror image.
    """

    model: Path
    judgement: Judgement
    building: Building | None = None
    not_whole: str = ""
    flips: bool = False


@dataclass(frozen=True)
class Source:
    """Whose model it is.

    Attributes:
        record: the study's.
        trial: the trial.
        file: what it saved, verified.
        whole: whether that is one file of Keras's, not weights.
        inputs: what the model was told of its data.
        user_file: the file that the command line names, if it names one.
        flips: whether what is handed over is to say the mean of a picture and its mirror image.
    """

    record: StudyRecord
    trial: FrozenTrial
    file: Path
    whole: bool
    inputs: dict[str, Any]
    user_file: UserFile | None
    flips: bool = False

    @property
    def precision(self) -> str:
        """The dtype policy that the trial was trained with."""
        return precision_of(self.trial)

    @property
    def is_judged(self) -> bool:
        """Whether the trial left the validation images for others to judge by."""
        return training_of(self.record.spec, self.trial).is_judged

    @property
    def accuracy(self) -> float:
        """The accuracy on the validation images that the trial recorded, whatever it was chosen by."""
        if not self.is_judged:
            value = attributes.of_trial(self.trial, attributes.LEARNED_ACCURACY, float)
        elif self.record.objective.curve == "val_accuracy":
            value = value_of(self.trial)
        else:
            value = attributes.of_trial(self.trial, attributes.VALIDATION_ACCURACY, float)
        assert value is not None, "recorded with its model"
        return value

    @property
    def data(self) -> StudyData:
        """What the study records of its data."""
        return data_of(self.record)


def source_of(
    trial: FrozenTrial,
    record: StudyRecord,
    inputs: dict[str, Any],
    artifacts: Artifacts,
    user_file: UserFile | None,
    *,
    flips: bool = False,
) -> Source:
    """Return whose model is to be put into a bundle.

    Raises:
        ArtifactDamaged: it is missing or was changed.
        BadInput: what is handed over was to look at mirror images, and these are of another class.
    """
    if flips and not inputs["flips"]:
        raise BadInput(
            f"--flips: what {record.spec.dataset} holds may be of another class when it is mirrored, so the study"
            f" {record.name!r} trained on no mirror images. Leave it out (make: FLIPS=)."
        )
    file, artifact = artifacts.verified(trial, "model"), artifacts.find(trial, "model")
    assert artifact is not None
    return Source(record, trial, file, artifact.filename != WEIGHTS, inputs, user_file, flips)


def require_file(record: StudyRecord, user_file: UserFile | None) -> None:
    """Refuse a user's file that is not the study's.

    Raises:
        BadInput: it is another one, or was changed.
    """
    if user_file is not None and user_file.name != record.spec.model:
        raise BadInput(
            f"study {record.name!r} was made with the model {record.spec.model!r}, --model is {user_file.name!r}. Give"
            " the same file, unchanged, or leave it out."
        )


def data_of(record: StudyRecord) -> StudyData:
    """Return what a study records of its data.

    Raises:
        SpecMismatch: nothing.
    """
    if record.data is None:
        raise SpecMismatch(f"study {record.name!r} records no data. Tune it on, then export it.")
    return record.data


def precision_of(trial: FrozenTrial) -> str:
    """Return the dtype policy that a trial was trained with."""
    return attributes.of_trial(trial, attributes.PRECISION, str) or "float32"


def tolerance(precision: str, images: int) -> float:
    """Return how far an exported model's accuracy on so many validation images may lie from the recorded one."""
    return max(TOLERATED_IMAGES / images, TOLERATED_FLOAT32 if precision == "float32" else TOLERATED_MIXED)


def put_checked(source: Source, home: Home, folder: Path) -> Checked:
    """Put a trial's model into a bundle's folder, and check it.

    Args:
        source: whose it is.
        home: where the data sets are.
        folder: the bundle's, with none yet.

    Raises:
        TuningError: the model is damaged, cannot be loaded, or is not as good as recorded.
    """
    answer: Differs | Failed = Failed(error="Keras could not save it as one file")
    if source.whole:
        shutil.copyfile(source.file, folder / MODEL)
        judged = _judged(source, home, folder / MODEL, None)
        if "confusion" in judged:
            return Checked(folder / MODEL, judged, flips=source.flips)
        answer = judged
    if ".py:" not in source.record.spec.model:
        raise _refusal(source, answer)
    (folder / MODEL).unlink(missing_ok=True)
    reason = _reason(source, answer)
    if source.user_file is None:
        file = source.record.spec.model.partition("@")[0]
        raise TuningError(
            f"the model of trial {source.trial.number} cannot be loaded where its file is unknown: {reason}. Its"
            f" weights and that file may do: give --model {file} (make: MODEL=), the same file, unchanged."
        )
    building = _put_parts(source, folder)
    built = _judged(source, home, folder / WEIGHTS, building)
    if "confusion" not in built:
        raise _refusal(source, built)
    return Checked(folder / WEIGHTS, built, building, reason, source.flips)


def _put_parts(source: Source, folder: Path) -> Building:
    """Put the weights and the code into a bundle; return what the model is built of."""
    record = source.record
    assert source.user_file is not None
    if source.whole:
        # Only the weights: what else is in Keras's file may be code, which nobody is to load.
        try:
            with zipfile.ZipFile(source.file) as archive:
                archive.extract(WEIGHTS, folder)
        except (zipfile.BadZipFile, KeyError) as error:
            raise _refusal(source, Failed(error=f"there are no weights in it ({error})")) from error
    else:
        shutil.copyfile(source.file, folder / WEIGHTS)
    copy_code(source.user_file.path, folder)
    building = building_of(
        record.spec,
        source.inputs,
        train_images=source.data["train"],
        parameters=source.trial.params,
        precision=source.precision,
    )
    return Building(**building, mirrored=True) if source.flips else building


def _judged(source: Source, home: Home, model: Path, building: Building | None) -> Judgement | Differs | Failed:
    task = JudgeTask(
        do="judge",
        model=str(model),
        building=building,
        home=str(home.root),
        spec=source.record.spec.model_dump(mode="json"),
        recorded=source.data,
        value=source.accuracy,
        tolerated=_tolerated(source),
    )
    if not source.flips:
        return _asked(task)
    # What was recorded is the trial's own: only what is as good as that is mirrored, and then judged as it is saved.
    alone = building if building is None else Building(**{**building, "mirrored": False})
    first = next(ask(MirrorTask(**{**task, "do": "mirror", "building": alone})), Failed(error="no answer"))
    if "mirrored" not in first:
        assert "confusion" not in first and "difference" not in first
        assert "format" not in first and "timed_s" not in first and "predicted" not in first
        return first
    answer = _asked({**task, "value": first["mirrored"]})
    if "differs" not in answer:
        return answer
    fact = f"saved with mirror images it has a validation accuracy of {answer['differs']:.4f}, before it had"
    return Failed(error=f"{fact} {first['mirrored']:.4f}")


def _asked(task: JudgeTask) -> Judgement | Differs | Failed:
    answer = next(ask(task), Failed(error="no answer"))
    assert "mirrored" not in answer and "difference" not in answer
    assert "format" not in answer and "timed_s" not in answer and "predicted" not in answer
    return answer


def _tolerated(source: Source) -> float:
    return tolerance(source.precision, source.data["validation"])


def _reason(source: Source, answer: Differs | Failed) -> str:
    if "error" in answer:
        return first_sentence(answer["error"])
    return f"loaded, it has a validation accuracy of {answer['differs']:.4f}, recorded was {source.accuracy:.4f}"


def _refusal(source: Source, answer: Differs | Failed) -> TuningError:
    number = source.trial.number
    if "error" in answer:
        return TuningError(
            f"the model of trial {number} cannot be checked: {answer['error']}. Take another trial with --trial."
        )
    return TuningError(
        f"the exported model of trial {number} has a validation accuracy of"
        f" {answer['differs']:.4f}, recorded was {source.accuracy:.4f}, and {_tolerated(source):.4f} is the most"
        " they may differ. It is not exported: take another trial with --trial."
    )


def ask(task: Task) -> Iterator[Answer]:
    """Yield a fresh process's answers to its one task."""
    with Judge() as judge:
        yield from judge.ask(task)
