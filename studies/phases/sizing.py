"""A study that fits the time: how much of it is searched, with which images and epochs, and what is left for the rest.

The winner's own training is what is handed over, so most of the time is its. A search ranks configurations; for that
fewer images and epochs do, and `make bench-fidelity` measures how few. Where the time is too short to rank anything,
all of it goes into training the defaults.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from studies.course import LEAST_CONFIRMED, Course

SEARCH_SHARE = 0.25
"""Of the time: the search, with all that it takes to begin it."""
CONFIRM_SHARE = 0.15
"""Of the time, at most."""
EFFICIENCY = 0.75
"""What workers that share the cores, and trace what they train, make of what one alone would make of them."""
RESERVE_S = 5.0
"""Between the phases, and to keep the last model."""

# Of the images that there are to train on, and the epochs of a trial; those that cost most come first.
_FIDELITIES = ((1.0, 30), (1.0, 16), (1.0, 8), (0.5, 8), (0.25, 6), (0.125, 4))
# With fewer images than this, what is learnt of them says little of more.
_LEAST_IMAGES = 2_000
# So many configurations are wanted; with fewer than the least, nothing is searched.
_WANTED_TRIALS, _LEAST_TRIALS, _MOST_TRIALS = 12, 4, 1_000
# How many configurations are confirmed with how many seeds each, what costs most first.
_CONFIRMATIONS = ((3, 3), (3, 2), (2, 2))


@dataclass(frozen=True)
class Pace:
    """How fast one training goes that has a device to itself, or all of the cores.

    Attributes:
        begin_s: seconds until a process is ready to train.
        start_s: seconds to build a model and to trace its steps.
        image_s: seconds for each image of an epoch.
        judge_s: seconds for the validation after it.
    """

    begin_s: float
    start_s: float
    image_s: float
    judge_s: float

    def epoch_s(self, images: int) -> float:
        """Return the seconds of an epoch of so many images."""
        return self.image_s * images + self.judge_s


@dataclass(frozen=True)
class Fidelity:
    """With what configurations are compared.

    Attributes:
        images: how many a trial trains on; None for all that there are.
        epochs: how many times.
    """

    images: int | None
    epochs: int


@dataclass(frozen=True)
class Sized:
    """A study that fits a time.

    Attributes:
        fidelity: of its search.
        trials: how many it has.
        budget_epochs: how many epochs these train together.
        course: what follows, and when.
        refit_epochs: how many epochs of all images that leaves for the winner, more or less.
    """

    fidelity: Fidelity
    trials: int
    budget_epochs: int
    course: Course
    refit_epochs: int


def sized(
    time_s: float,
    spent_s: float,
    pace: Pace,
    *,
    images: int,
    devices: int,
    share: float,
    fixed: Fidelity | None = None,
) -> Sized:
    """Return the study that fits a time.

    Args:
        time_s: all the seconds that there are, set-up included.
        spent_s: how many of them are over.
        pace: of the default configuration.
        images: how many there are to train on.
        devices: how many are trained on at once; the cores are one.
        share: of the epochs of all trials, what the strategy trains: a third for one that freezes, 1 for one that
            trains each to its end.
        fixed: with what configurations are compared, where that is not to be chosen.
    """
    search_s = SEARCH_SHARE * time_s - 2 * pace.begin_s
    tried = [_searched(search_s, pace, one, images, devices, share) for one in _fidelities(images, fixed)]
    enough = (one for one in tried if one[1] >= _WANTED_TRIALS)
    fidelity, trials, budget_epochs = next(enough, tried[-1])
    confirm = _confirmation(time_s, pace, fidelity, images, devices)
    if trials < _LEAST_TRIALS:
        # One short trial of the defaults, which the long one is said to be of.
        fidelity = fixed or Fidelity(_fewest(images), 1)
        trials, budget_epochs, search_s, confirm = 1, fidelity.epochs, 0.0, None
    until_s = max(spent_s, SEARCH_SHARE * time_s) if search_s else time_s
    left_s = time_s - until_s - confirmation_s(pace, confirm, fidelity, images, devices)
    return Sized(
        fidelity,
        trials,
        budget_epochs,
        Course(
            confirm=confirm,
            refit_epochs=0,
            time_s=time_s,
            search_s=until_s if search_s else None,
            all_images=fixed is None,
        ),
        refit_epochs=epochs_in(left_s if search_s else time_s - spent_s, pace, images),
    )


def epochs_in(left_s: float, pace: Pace, images: int) -> int:
    """Return for how many epochs a winner can be trained, at least one.

    Args:
        left_s: seconds that are left when it is asked for.
        pace: of its configuration.
        images: of an epoch.
    """
    # A little less than would fit: a step more than measured in each call, and the time is over.
    usable_s = 0.97 * (left_s - pace.begin_s - pace.start_s - RESERVE_S)
    return max(1, math.floor(usable_s / pace.epoch_s(images)))


def confirmation_s(pace: Pace, confirm: tuple[int, int] | None, fidelity: Fidelity, images: int, devices: int) -> float:
    """Return the seconds that a confirmation takes, more or less."""
    if confirm is None:
        return 0.0
    trained = math.prod(confirm) * fidelity.epochs * pace.epoch_s(fidelity.images or images)
    return 1.5 * pace.begin_s + trained / (EFFICIENCY * devices)


def _confirmation(time_s: float, pace: Pace, fidelity: Fidelity, images: int, devices: int) -> tuple[int, int] | None:
    assert min(map(min, _CONFIRMATIONS)) == LEAST_CONFIRMED
    for confirm in _CONFIRMATIONS:
        if confirmation_s(pace, confirm, fidelity, images, devices) <= CONFIRM_SHARE * time_s:
            return confirm
    return None


def _fewest(images: int) -> int | None:
    least = max(_LEAST_IMAGES, round(_FIDELITIES[-1][0] * images))
    return least if least < images else None


def _fidelities(images: int, fixed: Fidelity | None) -> Iterator[Fidelity]:
    if fixed is not None:
        yield fixed
        return
    for share, epochs in _FIDELITIES:
        if share == 1.0:
            yield Fidelity(None, epochs)
        elif share * images >= _LEAST_IMAGES:
            yield Fidelity(round(share * images), epochs)


def _searched(
    search_s: float, pace: Pace, fidelity: Fidelity, images: int, devices: int, share: float
) -> tuple[Fidelity, int, int]:
    """Return a fidelity, how many trials there is time for, and how many epochs these train together."""
    epoch_s = pace.epoch_s(fidelity.images or images)
    budget = max(0, math.floor(EFFICIENCY * devices * search_s / epoch_s))
    trials = min(_MOST_TRIALS, math.floor(budget / (share * fidelity.epochs)))
    # Each trial trains one, and the best its last.
    enough = budget >= trials + fidelity.epochs - 1
    return fidelity, trials if enough else 0, budget
