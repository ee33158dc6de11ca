"""From a spec to the Optuna sampler of one trial."""

from __future__ import annotations

import importlib.util
import math
import warnings
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GridSampler, QMCSampler, RandomSampler, TPESampler

from storage.errors import BadInput
from studies.space import SearchSpace
from studies.spec import StudySpec, derive_seed


def make_sampler(spec: StudySpec, space: SearchSpace | None, trial_number: int, attempt: int = 0) -> BaseSampler:
    """Return the sampler of one trial.

    Its random stream is derived from the study's seed and the trial's number, so that no two workers draw the same
    configuration and a restart does not repeat the startup trials (one seeded `TPESampler` per process does both).
    Grid and QMC share the study's seed, and take the point of the trial's number.

    Args:
        spec: the study's.
        space: what is searched; a grid needs it.
        trial_number: of the trial.
        attempt: how often its parameters were drawn before.

    Raises:
        BadInput: the sampler cannot be had here.
    """
    path = ("sampler", trial_number, attempt) if attempt else ("sampler", trial_number)
    seed, shared = derive_seed(spec.seed, *path), derive_seed(spec.seed, "sampler")
    with warnings.catch_warnings():
        # Some of what is passed is marked experimental by Optuna: `group` keeps conditional parameters inside the
        # joint model, `GPSampler` and `QMCSampler` are so as a whole.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match spec.sampler.name:
            case "random":
                return RandomSampler(seed=seed)
            case "qmc":
                return _PointOfNumber(trial_number, seed=shared)
            case "grid":
                return _grid(spec, space, trial_number, shared)
            case "cmaes":
                return CmaEsSampler(
                    seed=seed, n_startup_trials=spec.sampler.startup_trials, warn_independent_sampling=False
                )
            case "gp":
                require_sampler(spec)
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=spec.sampler.startup_trials)
        return TPESampler(seed=seed, n_startup_trials=spec.sampler.startup_trials, group=True)


def require_sampler(spec: StudySpec) -> None:
    """Refuse a sampler that cannot be had here.

    Raises:
        BadInput: it needs what is not installed.
    """
    # Optuna imports it when the first parameters are drawn.
    if spec.sampler.name == "gp" and importlib.util.find_spec("torch") is None:
        raise BadInput(
            "sampler 'gp' needs PyTorch, which is not installed. Install it with: .venv/bin/python -m pip install torch"
        )


class _PointOfNumber(QMCSampler):
    """Takes the point of a trial's number: Optuna's own count of points is not safe with several workers."""

    def __init__(self, number: int, *, seed: int) -> None:
        super().__init__(scramble=True, seed=seed, warn_asynchronous_seeding=False, warn_independent_sampling=False)
        self._number = number

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self._number


class _CellOfNumber(GridSampler):
    """Takes the cell of a trial's number: Optuna's own choice of a cell is not safe with several workers.

    A trial beyond the grid, in the place of one that failed, takes the grid's cells from the start.
    """

    def __init__(self, grid: dict[str, list[Any]], number: int, *, seed: int) -> None:
        super().__init__(grid, seed=seed)
        self._number = number

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        storage = study._storage
        storage.set_trial_system_attr(trial._trial_id, "search_space", self._search_space)
        storage.set_trial_system_attr(trial._trial_id, "grid_id", self._number % len(self._all_grids))


def _grid(spec: StudySpec, space: SearchSpace | None, trial_number: int, seed: int) -> BaseSampler:
    if space is None:
        raise BadInput("sampler 'grid' needs the study's search space, which was not recorded. Take STUDY=another.")
    return _CellOfNumber(grid_of(space, spec.sampler.points), trial_number, seed=seed)


def require_room(spec: StudySpec, space: SearchSpace, trials: int) -> None:
    """Refuse a budget that is larger than the study's grid.

    Raises:
        BadInput: there are fewer points than trials.
    """
    if spec.sampler.name != "grid":
        return
    cells = math.prod(len(values) for values in grid_of(space, spec.sampler.points).values())
    if trials > cells:
        raise BadInput(f"the grid has {cells} points, {trials} trials were asked for. Give TRIALS={cells} or fewer.")


def grid_of(space: SearchSpace, points: int) -> dict[str, list[Any]]:
    """Return the values of a grid: each choice, and so many of each number, its bounds among them."""
    grid: dict[str, list[Any]] = {}
    for name, one in space.parameters.items():
        if isinstance(one.distribution, CategoricalDistribution):
            grid[name] = list(one.distribution.choices)
        else:
            units = [0.5] if points == 1 else [number / (points - 1) for number in range(points)]
            grid[name] = list(dict.fromkeys(one.value_at(unit) for unit in units))
    return grid
