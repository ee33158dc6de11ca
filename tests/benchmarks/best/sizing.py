"""How long a training may be, by what its steps were seen to take. Nothing here trains anything."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

# Of the time that is left, so that a little noise of the machine does not cut the training short.
MARGIN: Final = 0.03
# For loading and ending, besides the test images themselves.
ENDING_S: Final = 3.0
HYPERBAND_FACTOR: Final = 3
LEAST_EPOCHS: Final = 3
MOST_EPOCHS: Final = 10
# TPE draws so many trials at random before it begins.
TPE_STARTUP_TRIALS: Final = 10


@dataclass(frozen=True)
class Pace:
    """What a training was seen to take.

    Attributes:
        start_s: from its beginning until it runs at its pace: building and tracing.
        step_s: a step.
        validation_s: judging an epoch.
    """

    start_s: float
    step_s: float
    validation_s: float

    def epoch_s(self, steps: int) -> float:
        """Return what an epoch of so many steps takes, with its judging."""
        return steps * self.step_s + self.validation_s

    def test_s(self, images: int, validation_images: int) -> float:
        """Return what is kept back for reading the test split once: its graph is traced anew, and not at full speed."""
        return ENDING_S + 2.0 * self.validation_s * images / validation_images


def epochs_that_fit(left_s: float, pace: Pace, steps: int) -> int:
    """Return how many epochs fit into the time that is left; at least one.

    Args:
        left_s: until the training has to be over.
        pace: its.
        steps: of an epoch.
    """
    return max(1, math.floor((1.0 - MARGIN) * (left_s - pace.start_s) / pace.epoch_s(steps)))


def hyperband_epochs(epochs: float) -> int:
    """Return the most epochs of a trial with which one iteration of Hyperband fits into so many epochs in all.

    Args:
        epochs: that there is time for.
    """
    fitting = [size for size in range(LEAST_EPOCHS, MOST_EPOCHS + 1) if iteration_epochs(size) <= epochs]
    return max(fitting, default=LEAST_EPOCHS)


def iteration_epochs(most: int, factor: int = HYPERBAND_FACTOR) -> int:
    """Return how many epochs KerasTuner trains in an iteration of Hyperband (arXiv:1603.06560, algorithm 1).

    Its documentation has `max_epochs * log(max_epochs, factor) ** 2`, for few epochs less than half of it; this
    is what its oracle hands out. A trial that is promoted goes on where it was.

    Args:
        most: of a trial.
        factor: by which trials become fewer and longer.
    """
    brackets = range(math.floor(math.log(most, factor) + 1e-9) + 1)
    return sum(_bracket_epochs(bracket, most, factor) for bracket in brackets)


def _bracket_epochs(bracket: int, most: int, factor: int) -> int:
    end = math.ceil(1.0 + math.log(most, factor)) / (bracket + 1)
    trained, before = 0, 0
    for number in range(bracket + 1):
        epochs = math.ceil(most / factor ** (bracket - number))
        trained += math.ceil(end * factor ** (bracket - number)) * (epochs - before)
        before = epochs
    return trained


def trial_epochs(epochs: float) -> int:
    """Return the epochs of a trial with which TPE gets past its random ones, where there is time for that.

    Args:
        epochs: that there is time for, in all trials together.
    """
    return min(MOST_EPOCHS, max(LEAST_EPOCHS, math.floor(epochs / (1.5 * TPE_STARTUP_TRIALS))))
