"""The acquisition function of freeze-thaw search: what a further training, or a new one, is expected to gain.

The expected gain above a random threshold within a random horizon (after the acquisition of ifBO, Rakotoarison et al.
2024, arXiv 2404.16795, section 4.2, which takes the probability to pass). Half of the thresholds lie a random step
above the best value seen, half where the process itself expects its own top percent of random configurations.

The gain counts by the probability that the training is feasible, that it neither diverges nor fails (Gelbart et al.
2014, "Bayesian Optimization with Unknown Constraints", arXiv 1403.5607).

All in logarithms: far from the threshold gains are too small for a number. As in `process`, SciPy is imported
where it is first asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from studies.strategies.freeze_thaw.process import BLOCK, Array, CurvePoints, CurveProcess, Indices

STEPS_ABOVE = (-1.5, 0.3)  # log10 of the random step above the best value, in standard deviations of all values
SHORTER = 2.2  # 1: the random horizon is log-uniform; above: shorter ones more often (0.5 was clearly worse)
TOP_SHARE = 0.01  # the other threshold: this share of random configurations passes it at the end
FAR = -5.0  # standard deviations below a threshold, where the expected gain is taken from its tail

# Of some of those asked, by their rows (m,): the logarithm of the probability that they are feasible (m,).
LogFeasibility = Callable[[Indices], Array]


@dataclass(frozen=True)
class Asked:
    """What may be chosen.

    Attributes:
        x: (n, d) in [0, 1].
        trial: (n,) which curve is continued; negative, each another number, where a trial would be new.
        done: (n,) epochs that it has.
        random: so many of the first ones stand for random configurations.
    """

    x: Array
    trial: Indices
    done: Array
    random: int

    def after(self, epochs: float, horizon: int) -> CurvePoints:
        """Return where each is after so many epochs more, at most at its end: n points."""
        return CurvePoints(self.x, np.log(np.minimum(self.done + epochs, horizon) / horizon), self.trial)

    def at_end(self, rows: Indices | slice) -> CurvePoints:
        """Return where the trainings of some end: as many points."""
        x = self.x[rows]
        return CurvePoints(x, np.zeros(len(x)), self.trial[rows])


def log_gain_ahead(process: CurveProcess, asked: Asked, horizon: int, rng: np.random.Generator) -> Array:
    """Return the logarithm of the expected gain (n,) above a random threshold within a random number of epochs.

    Args:
        process: of the values so far.
        asked: n of them.
        horizon: epochs of one full trial.
        rng: draws threshold and epochs, the same for all.
    """
    threshold = _threshold(process, asked, process.incumbent(), rng)
    ahead = np.exp(np.log(horizon) * rng.random() ** SHORTER)
    return log_expected_improvement(*process.predict(asked.after(ahead, horizon)), threshold)


def log_gain_at_end(process: CurveProcess, asked: Asked) -> Array:
    """Return the logarithm of the expected gain (n,) above the best by the end of the training."""
    return log_expected_improvement(*process.predict(asked.at_end(slice(None))), process.incumbent())


def log_feasibility(
    process: CurveProcess, asked: Asked, x: Array, trial: Indices, feasible: Array
) -> LogFeasibility | None:
    """Return what tells how likely some of those asked are feasible; None where all trials are, or none is.

    A second process, with the kernel of the first, over which trials were feasible: as values alone, those that were
    not would hide their neighbours, which may be the best.

    Args:
        process: of the values so far.
        asked: what may be chosen.
        x: (k, d) of the trials that began.
        trial: (k,) which they are.
        feasible: (k,) 1, or 0 where one diverged or failed.
    """
    from scipy.special import log_ndtr

    mean, spread = float(feasible.mean()), float(feasible.std())
    if not spread:
        return None
    # At the end, not at the epochs where they are: then those at which trials diverge would look dangerous themselves.
    known = CurvePoints(x, np.zeros(len(x)), trial)
    classifier = process.alike(known, (feasible - mean) / spread)
    boundary = (0.5 - mean) / spread

    def log_probability(rows: Indices) -> Array:
        expected, doubt = classifier.predict(asked.at_end(rows))
        return np.asarray(log_ndtr((expected - boundary) / doubt))

    return log_probability


def most_promising(log_gain: Array, feasibility: LogFeasibility | None) -> int:
    """Return where the gain (n,), times the probability that it is feasible, is highest; n is at least 1.

    The logarithm of a probability is never positive: what gains less than the best product so far is not asked for.
    """
    if feasibility is None:
        return int(np.argmax(log_gain))
    order = np.argsort(-log_gain, kind="stable")
    best, highest = int(order[0]), -np.inf
    for start in range(0, len(order), BLOCK):
        rows = order[start : start + BLOCK]
        if log_gain[rows[0]] <= highest:
            break
        products = log_gain[rows] + feasibility(rows)
        if products.max() > highest:
            best, highest = int(rows[np.argmax(products)]), float(products.max())
    return best


def log_expected_improvement(mean: Array, spread: Array, threshold: float) -> Array:
    """Return log E max(0, y - threshold) (n,), also where the expectation is too small for a number.

    After LogEI, Ament et al. 2023, arXiv 2310.20708, with one term of the asymptotic series below FAR.

    Args:
        mean: (n,) of y, which is normal.
        spread: (n,) its standard deviation.
        threshold: what y is to pass.
    """
    from scipy.special import ndtr

    u = (mean - threshold) / spread
    near = np.maximum(u, FAR)
    density = np.exp(-0.5 * near * near) / np.sqrt(2 * np.pi)
    # Far below: the first term of the asymptotic series of the same.
    tail = -0.5 * u * u - 0.5 * np.log(2 * np.pi) - 2 * np.log(np.maximum(-u, 1.0))
    return np.asarray(np.log(spread) + np.where(u > FAR, np.log(near * ndtr(near) + density), tail))


def _threshold(process: CurveProcess, asked: Asked, best: float, rng: np.random.Generator) -> float:
    low, high = STEPS_ABOVE
    if rng.random() < 0.5 or not asked.random:
        return float(best + 10 ** rng.uniform(low, high))
    return max(_upper_quantile(*process.predict(asked.at_end(slice(asked.random)))), best + 10**low)


def _upper_quantile(mean: Array, spread: Array) -> float:
    """What a share TOP_SHARE of the mixture of these normal distributions lies above (by bisection)."""
    from scipy.special import ndtr

    low, high = float((mean - 5 * spread).min()), float((mean + 5 * spread).max())
    for _ in range(30):
        middle = (low + high) / 2
        below = float(ndtr((middle - mean) / spread).mean())
        low, high = (middle, high) if below < 1 - TOP_SHARE else (low, middle)
    return high
