"""`tuning refit`: the winner trained for long, with the augmentation and label smoothing that a long training bears."""

from __future__ import annotations

from optuna.trial import FrozenTrial
from rich.console import Console

from storage.claims import Planned
from storage.errors import BadInput, TuningError
from storage.settings import Home
from studies.datasets.info import DatasetInfo
from studies.phases.known import confirmed, refitted, searched_value, winning_trial
from studies.phases.training import Learned, Training, refit_training, training_of
from studies.study_data import images_of
from tuning.launch.phases.phase import Opened, PhaseOptions, opened, run_phase
from tuning.words import counted, parameters_in_words

# The schedule is as long as this at least, and so many times that of a trial.
LEAST_EPOCHS = 40
TIMES = 2
MOST_EPOCHS = 100_000
# What a training of so many epochs bears at least; a shorter one, which has seen less of it twice, its share. Colour
# photographs vary in more ways than what is grey.
AUGMENTED_EPOCHS = 20
PHOTO_AUGMENTATION = 0.5
OTHER_AUGMENTATION = 0.3
LABEL_SMOOTHING = 0.1
# The weights are averaged over the steps of the last so many epochs, more or less, and over 1,000 at most.
AVERAGED_EPOCHS = 2
MOST_AVERAGING = 0.999
USUAL_BATCH = 32
"""Keras's own, where a model has no such parameter."""


def refit(
    options: PhaseOptions, home: Home, console: Console, *, epochs: int | None = None, all_data: bool = False
) -> int:
    """Train the winner of a study for long; return the exit status: 0 done, 130 interrupted.

    Args:
        options: which study, and where it is trained.
        home: where everything is kept.
        console: takes what is said.
        epochs: how many; by default 40, or twice those of a trial where that is more.
        all_data: whether it learns from the validation images, too: then nothing says which of its epochs is the best,
            and how good it is.

    Raises:
        BadInput: something given cannot be used.
        TuningError: there is no winner, or its training failed.
    """
    if epochs is not None and not 1 <= epochs <= MOST_EPOCHS:
        raise BadInput(
            f"--epochs {epochs}: must be from 1 to {MOST_EPOCHS:,}. Leave it out for {LEAST_EPOCHS}, or twice those"
            " of a trial where that is more."
        )
    with opened(options, home, console) as found:
        spec = found.record.spec
        best = winning_trial(found.study, spec)
        if best is None:
            raise nothing_to_refit(found)
        epochs = epochs or max(LEAST_EPOCHS, TIMES * spec.epochs)
        training = long_training(found, best, epochs, learned="validation too" if all_data else None)
        status = refit_one(found, best, training)
        if found.claims("refit").standing().done:
            found.report(f"next: make export {found.arguments}")
    return status


def nothing_to_refit(found: Opened) -> TuningError:
    """Return what to say where a study has no winner."""
    return TuningError(
        f"study {found.record.name!r} has no trial with a value to refit. Wait for one, or give the command of its"
        " search again."
    )


def long_training(found: Opened, best: FrozenTrial, epochs: int, learned: Learned | None = None) -> Training:
    """Return what a winner is trained with for so many epochs.

    Args:
        found: the study.
        best: the trial of the search that is the winner.
        epochs: how many.
        learned: on which images; None for what the plan says.
    """
    if learned is None:
        course = found.record.course
        learned = "all" if course is not None and course.all_images else "searched"
    images = images_of(found.record, found.data, learned)
    at_least = long_recipe(found.data.info, images, epochs, int(best.params.get("batch_size", USUAL_BATCH)))
    return refit_training(found.record.spec, best.number, epochs=epochs, at_least=at_least, learned=learned)


def refit_one(found: Opened, best: FrozenTrial, training: Training) -> int:
    """Train a winner for long; return the exit status: 0 done, 130 interrupted.

    Args:
        found: the study.
        best: the trial of the search that is the winner.
        training: what it is trained with.

    Raises:
        TuningError: its training failed.
    """
    spec = found.record.spec
    how = "confirmed" if confirmed(found.study, spec) else "not confirmed"
    images = images_of(found.record, found.data, training.learned)
    objective, value = spec.objective, searched_value(best, spec.objective)
    assert value is not None, "a winner has one"
    found.report(
        f"refit: trial {best.number}, {objective.figure(value)} in the search, {how}:"
        f" {counted(training.epochs, 'epoch')} of {counted(images, 'image')},"
        f" {parameters_in_words(training.at_least)} at least, {parameters_in_words(best.params)}"
    )
    status = run_phase(found, "refit", [Planned(best.params, training.document())])
    if not found.claims("refit").standing().done:
        return status
    done = next((trial for trial in refitted(found.study) if training_of(spec, trial) == training), None)
    if done is None or done.value is None:
        raise TuningError("the training failed. Look at: tuning trials; the same command tries again.")
    told = (
        f"{objective.words} {objective.figure(done.value)}"
        if training.is_judged
        else "no validation figure: it learned from all but test"
    )
    found.report(f"refitted: trial {done.number}, {told}")
    return status


def long_recipe(info: DatasetInfo, images: int, epochs: int, batch_size: int = USUAL_BATCH) -> dict[str, float]:
    """Return what a long training has at least of the recipe, by name: `studies.phases.training.Training.at_least`.

    These are shares from 0 to 1, as in `models.recipe.Recipe`; what is no picture is not augmented.

    Args:
        info: the data set that it trains on.
        images: how many an epoch has.
        epochs: how many it has.
        batch_size: how many images a step has.
    """
    steps = max(1, images // batch_size)
    averaging = min(MOST_AVERAGING, round(1 - 1 / (AVERAGED_EPOCHS * steps), 4))
    always = {"label_smoothing": LABEL_SMOOTHING, "averaging": averaging}
    if not info.is_picture:
        return always
    augmentation = PHOTO_AUGMENTATION if info.shape[2] == 3 else OTHER_AUGMENTATION
    return {"augmentation": round(augmentation * min(1.0, epochs / AUGMENTED_EPOCHS), 2), **always}
