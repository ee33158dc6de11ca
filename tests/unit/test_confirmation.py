"""A confirmation's interval covers, its winner is the best, and the luck of the first choice shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import ndtr

from studies.phases.confirmation import Confirmed, interval, winner


def confirmed(of: int, searched: float, *values: float) -> Confirmed:
    return Confirmed(of, {"units": of}, searched, 8, values)


def test_the_winner_has_the_best_mean_and_not_the_best_value() -> None:
    lucky, steady = confirmed(3, 0.95, 0.94, 0.86), confirmed(7, 0.92, 0.92, 0.92)
    assert winner([lucky, steady]) == steady
    assert (lucky.mean, lucky.luck) == pytest.approx((0.9, 0.05))


def test_of_equals_the_earliest_wins() -> None:
    assert winner([confirmed(7, 0.9, 0.9, 0.9), confirmed(3, 0.9, 0.9, 0.9)]).of == 3


def test_the_interval_is_that_of_the_formula() -> None:
    one, other = confirmed(0, 0.95, 0.90, 0.92, 0.94), confirmed(1, 0.9, 0.85, 0.87, 0.86)
    # By hand: the squares are 0.0008 and 0.0002 with 2 degrees of freedom each, so a training has the variance 0.00025,
    # a mean of three 0.0000833; the images 0.9199 * 0.0801 / 5,000 = 0.00001473; together 4 * (9.807 / 8.333)^2 = 5.54
    # degrees of freedom, of which 1.974 is the 95% point.
    found = interval(one, [one, other], images=5_000)
    assert (found.low, found.high) == pytest.approx((0.92 - 0.01955, 0.92 + 0.01955), abs=2e-5)


def test_the_images_alone_give_a_width_where_all_seeds_agree() -> None:
    one = confirmed(0, 1.0, 1.0, 1.0)
    found = interval(one, [one], images=100)
    assert found.high == 1.0
    assert 0.9 < found.low < 1.0


@dataclass(frozen=True)
class Study:
    """What is true of a simulated study, and what was seen of it.

    An image has a difficulty; a training classifies it where its skill, of a configuration and a seed, is larger, with
    noise of its own. So trainings agree on many images, as they do.
    """

    truth: float
    first: Confirmed
    best: Confirmed
    confirmed: list[Confirmed]


def simulated(
    random: np.random.Generator, *, top: int, seeds: int, images: int, of_seeds: float, noise: float
) -> Study:
    skills = random.normal(1.2, 0.08, 24)
    difficulty = random.normal(size=images)

    def seen(skill: float) -> float:
        own = random.normal(skill, of_seeds)
        return float((difficulty + noise * random.normal(size=images) < own).mean())

    searched = [seen(skill) for skill in skills]
    ranked = sorted(range(24), key=lambda number: -searched[number])[:top]
    found = [Confirmed(n, {}, searched[n], 8, tuple(seen(skills[n]) for _ in range(seeds))) for n in ranked]
    best = winner(found)
    truth = float(ndtr(skills[best.of] / np.sqrt(1 + noise**2 + of_seeds**2)))
    return Study(truth, found[0], best, found)


@pytest.mark.parametrize(
    ("top", "seeds", "images", "of_seeds", "noise"),
    [(3, 3, 1_000, 0.03, 0.2), (2, 2, 400, 0.02, 0.3), (3, 2, 2_000, 0.06, 0.2), (5, 3, 1_000, 0.02, 0.1)],
)
def test_over_200_studies_the_interval_covers_what_is_true_of_the_winner(
    top: int, seeds: int, images: int, of_seeds: float, noise: float
) -> None:
    random = np.random.default_rng(0)
    studies = [
        simulated(random, top=top, seeds=seeds, images=images, of_seeds=of_seeds, noise=noise) for _ in range(200)
    ]
    found = [(study.truth, interval(study.best, study.confirmed, images)) for study in studies]
    covered = np.mean([one.low <= truth <= one.high for truth, one in found])
    assert 0.85 <= covered <= 0.95
    # What was chosen as the best of 24 looks better than it is, and the confirmation says by how much.
    assert np.mean([study.first.luck for study in studies]) > 0.002
