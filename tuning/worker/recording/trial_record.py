"""What the database is told of a trial besides its parameters, its reports and its files. No Keras."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import optuna

from storage import attributes
from storage.claims import Claim, Claims
from tuning.machine.devices import Place

logger = logging.getLogger(__name__)


class TrialRecord:
    """Tells the database of one claimed trial: each time in one transaction.

    Args:
        trial: Optuna's.
        claim: the right to it.
        claims: the study's.
    """

    def __init__(self, trial: optuna.trial.Trial, claim: Claim, claims: Claims) -> None:
        self._trial = trial
        self._claim = claim
        self._claims = claims

    def begun(self, place: Place, weight_count: int, *, resumed: bool) -> None:
        """Record where a trial is trained, and how large its model is.

        Args:
            place: where.
            weight_count: of its model.
            resumed: whether it goes on from a checkpoint; what is otherwise then is logged.
        """
        recorded = {
            attributes.DEVICE: place.device,
            attributes.BACKEND: place.backend,
            attributes.PRECISION: place.precision,
            attributes.THREADS: place.threads,
            attributes.WEIGHTS: weight_count,
        }
        before = self._trial.user_attrs
        for key, value in recorded.items():
            if resumed and (was := before.get(key)) != value:
                what = key.removeprefix("tuning:")
                number = self._trial.number
                logger.warning("trial %d: %s was %s when it was begun, is %s now", number, what, was, value)
        self._set(recorded)

    def trained(self, *, epochs: int, seconds: float, traces: int) -> None:
        """Record what a training took.

        Args:
            epochs: of the trial, with those of former claims.
            seconds: of this claim.
            traces: likewise.
        """
        before = self._trial.user_attrs
        traced = attributes.read(before, attributes.TRACES, int) or 0
        took = attributes.read(before, attributes.SECONDS, float) or 0.0
        self._set(
            {
                attributes.TRACES: traced + traces,
                attributes.EPOCHS: epochs,
                attributes.SECONDS: round(took + seconds, 3),
            }
        )

    def best(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Record the best epoch, counted from 1, and its figures by their attribute; those that are no numbers not."""
        known = {key: value for key, value in figures.items() if math.isfinite(value)}
        self._set({attributes.BEST_EPOCH: epoch, **known})

    def _set(self, recorded: Mapping[str, object]) -> None:
        with self._claims.together(self._claim):
            for key, value in recorded.items():
                self._trial.set_user_attr(key, value)
