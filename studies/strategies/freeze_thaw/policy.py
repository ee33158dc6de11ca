"""Freeze-thaw search: which training to start, or to continue, next.

Trials run to milestones, a geometric grid of epochs. Whenever a worker is free, one Gaussian process over (parameters,
logarithm of the epoch), fitted to the curves so far of all trials, says whether a new configuration or the
continuation of a frozen trial is expected to gain the most above a threshold within a horizon, both drawn at random for
each decision: a short horizon asks for quick gains, a long one lets late bloomers be found (freezing and thawing:
Swersky et al. 2014, arXiv 1406.3896; the rest in `acquisition`). A share of the decisions follows asynchronous
successive halving with promotion (Li et al. 2020, arXiv 1810.05934), whatever the model believes: all while there are
few trials, all or most where values are noisy, else few.

A study that has gone on for long (OLD_AFTER) may be one whose early values mislead, which none but long trainings tell.
From then on, while trials may be started, one in a few is started for what it is expected to be worth at its end, and
goes there at once, whatever it shows on the way; a share of the other decisions thaws what promises most at its end.

Everything is a pure function of the curves, the candidates and the seed: nothing is kept between calls. The model of
the curves is `process`; as there, SciPy is imported where it is first asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from studies.strategies.freeze_thaw.candidates import FEW_TRIALS
from studies.strategies.freeze_thaw.curves import Curve, Curves, milestones, noise
from studies.strategies.freeze_thaw.model import Proposal, by_model
from studies.strategies.freeze_thaw.process import Array
from studies.strategies.promotion import promotable

NOISY = 0.015  # so much noise, as a share of what the best is above the median, misleads the model
RULE_SHARE = 0.05  # share of the decisions that follow successive halving where it is not
NOISY_RULE_SHARE = 0.7  # and where it is, if the epochs are bounded: all would leave nothing to what the curves teach
RANDOM_STARTS = (0.3, 0.8)  # of the starts by that rule, quasi-random ones: usually, and where it is noisy
OLD_AFTER = 4.0  # full trainings' worth of epochs after which a study is no longer young
DEEP_EVERY = (4, 2)  # later: one in so many trials is trained to its end at once, and after twice that long
DEEP_LATEST = 8  # if it is among so many latest ones: what started in the young study waits as ever
DEEP_SHARE = 0.4  # of the other decisions: the frozen trial that promises most at the end of its training goes on
REDUCTION = 3  # successive halving promotes one in so many of those that reached a milestone


def choose(
    curves: Sequence[Curve],
    candidates: Array,
    *,
    horizon: int,
    seed: int,
    may_start: bool = True,
    may_thaw: bool = True,
    bounded: bool = False,
    log_costs: tuple[Array, Array] | None = None,
) -> Proposal | None:
    """Return what a free worker does next, up to the next milestone; None: nothing may start, nothing may be thawed.

    Args:
        curves: the trials so far.
        candidates: (m, d) from `candidates`, snapped to the space; the first half stands for random configurations.
        horizon: epochs of one full trial.
        seed: the study's, the same at each call.
        may_start: whether a trial may be started.
        may_thaw: whether a frozen one may go on.
        bounded: whether the study has a budget of epochs.
        log_costs: logarithm of what an epoch costs, (m,) of each candidate and (n,) of each curve; None if all cost
            alike. What costs twice as much must promise twice as much.
    """
    curves = Curves.of(curves)
    frozen = [i for i, c in enumerate(curves) if may_thaw and c.state == "frozen" and len(c.values) < horizon]
    may_start = may_start and len(candidates) > 0
    if not frozen and not (may_start and curves.trained):
        return Proposal(start=0) if may_start else None
    rng = curves.generator(seed, 3)
    model = partial(by_model, curves, candidates, horizon=horizon, log_costs=log_costs, rng=rng)
    few = len(curves) < FEW_TRIALS or (curves.lengths > 0).sum() < FEW_TRIALS // 2
    noisy = noise(curves) > NOISY
    # Once nothing may start, what epochs are left go to what earned them.
    late = may_start and not (few or noisy) and curves.trained > OLD_AFTER * horizon
    if late:
        deep_every = DEEP_EVERY[curves.trained > 2 * OLD_AFTER * horizon]
        deep = [i for i in frozen if i % deep_every == 0 and i >= len(curves) - DEEP_LATEST]
        if deep:
            return Proposal(thaw=deep[0])
        if len(curves) % deep_every == 0:
            return model([], may_start=True, at_end=True)
    # Halving ranks by the noise, too. Without a bound it sees a lucky best value sooner; a bounded study would end with
    # the wrong trials, did what the curves to their end taught not count as well.
    rule_share = 1.0 if few or (noisy and not bounded) else NOISY_RULE_SHARE if noisy else RULE_SHARE
    if rule_share == 1 or rng.random() < rule_share:
        if (promoted := _promoted(curves, frozen, milestones(horizon))) is not None:
            return Proposal(thaw=promoted)
        if may_start and (few or rng.random() < RANDOM_STARTS[noisy]):
            return Proposal(start=0)
        if noisy:
            # Where nothing is promoted: another start, or what is nearest to its end.
            return model([], may_start=True, at_end=True) if may_start else Proposal(thaw=_furthest(curves, frozen))
    if late and frozen and rng.random() < DEEP_SHARE:
        return model(frozen, may_start=False, at_end=True)
    return model(frozen, may_start=may_start)


def _promoted(curves: Curves, frozen: Sequence[int], marks: Sequence[int]) -> int | None:
    """Return what asynchronous successive halving promotes: from the furthest milestone where it promotes any."""
    waiting = set(frozen)
    for mark in reversed(marks[:-1]):
        ends = ((float(c.values[mark - 1]), i) for i, c in enumerate(curves) if len(c.values) >= mark)
        reached = [(value, i) for value, i in ends if math.isfinite(value)]
        here = {i for i in waiting if len(curves[i].values) == mark}
        if (promoted := promotable(reached, REDUCTION, here.__contains__)) is not None:
            return promoted
    return None


def _furthest(curves: Sequence[Curve], frozen: Sequence[int]) -> int:
    """Of the frozen trials that went the furthest the best one."""

    def standing(i: int) -> tuple[int, float, int]:
        values = curves[i].values
        known = len(values) > 0 and np.isfinite(values[-1])
        return len(values), float(values[-1]) if known else -np.inf, -i

    return max(frozen, key=standing)
