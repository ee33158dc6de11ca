"""The field: other searches as contestants, at the settings of peers.toml."""

from __future__ import annotations

import math
import tomllib
import warnings
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from studies.simulation.virtual_clock import Run

SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = tomllib.loads(Path(__file__).with_name("peers.toml").read_text())


def version_of(package: str) -> str:
    """Return the installed version of a package."""
    return metadata.version(package)


def torch_missing() -> str | None:
    """Return why Optuna's Gaussian process cannot run here, or None."""
    return None if find_spec("torch") else "torch is not installed: pip install torch"


class OptunaSearch:
    """A sampler and a pruner of Optuna, as its users run them.

    Args:
        space: what to choose from.
        horizon: R.
        seed: of the sampler.
        settings: a section of peers.toml.
    """

    def __init__(
        self, space: Mapping[str, BaseDistribution], horizon: int, seed: int, settings: Mapping[str, Any]
    ) -> None:
        self._space = dict(space)
        self._horizon = horizon
        self._trials: dict[int, optuna.Trial] = {}
        self._study = optuna.create_study(
            direction="maximize",
            study_name=f"study-{seed}",  # HyperbandPruner draws the brackets from it
            sampler=_sampler(settings, seed),
            pruner=_pruner(settings, horizon),
        )

    def next(self) -> Run | None:
        trial = self._study.ask(self._space)
        self._trials[trial.number] = trial
        return Run(trial.number, trial.params, first_epoch=1)

    def reported(self, trial: int, epoch: int, value: float) -> bool:
        running = self._trials[trial]
        if math.isnan(value):
            # As FAIL, it would be drawn again and again: TPE does not learn from those.
            self._end(trial, TrialState.PRUNED)
            return False
        running.report(value, epoch)
        if epoch == self._horizon:
            self._end(trial, TrialState.COMPLETE, value)
        elif running.should_prune():
            self._end(trial, TrialState.PRUNED)
        else:
            return True
        return False

    def _end(self, trial: int, state: TrialState, value: float | None = None) -> None:
        self._study.tell(self._trials.pop(trial), value, state)


def _sampler(settings: Mapping[str, Any], seed: int) -> optuna.samplers.BaseSampler:
    match settings["sampler"]:
        case "tpe":
            return optuna.samplers.TPESampler(seed=seed)
        case "gp":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.samplers.GPSampler(seed=seed)
        case other:
            raise ValueError(f"peers.toml names the sampler {other!r}: take tpe or gp.")


def _pruner(settings: Mapping[str, Any], horizon: int) -> optuna.pruners.BasePruner:
    match settings["pruner"]:
        case "median":
            return optuna.pruners.MedianPruner(
                n_startup_trials=settings["startup_trials"], n_warmup_steps=settings["warmup_epochs"]
            )
        case "hyperband":
            return optuna.pruners.HyperbandPruner(
                min_resource=settings["min_epochs"],
                max_resource=horizon,
                reduction_factor=settings["reduction_factor"],
            )
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner(
                min_resource=settings["min_epochs"], reduction_factor=settings["reduction_factor"]
            )
        case other:
            raise ValueError(f"peers.toml names the pruner {other!r}: take median, hyperband or halving.")


class KerasTunerHyperband:
    """KerasTuner's Hyperband without its training: the oracle is asked, and told what an epoch came to.

    A trial that it promotes is a new one there, which starts from the weights of an older one; here it is that one.

    Args:
        space: what to choose from.
        horizon: R.
        seed: of the draws.
        factor: one trial in so many goes on from each round.
    """

    def __init__(self, space: Mapping[str, BaseDistribution], horizon: int, seed: int, *, factor: int) -> None:
        import keras_tuner  # imports Keras, which takes seconds

        class Oracle(keras_tuner.oracles.HyperbandOracle):
            """Writes nothing: it would write all that it knows at every trial."""

            def save(self) -> None: ...

            def _save_trial(self, trial: Any) -> None: ...

        self._names = tuple(space)
        self._oracle = Oracle(
            objective=keras_tuner.Objective("value", "max"),
            max_epochs=horizon,
            factor=factor,
            hyperband_iterations=0,  # without end
            seed=seed + 1,  # it takes 0 for none
            hyperparameters=_hyperparameters(keras_tuner.HyperParameters(), space),
            max_consecutive_failed_trials=10**9,
        )
        self._oracle.verbose = 0
        self._tuners: list[str] = []  # free ones
        self._running: dict[int, tuple[str, Any]] = {}  # our trial -> the tuner that runs it, and its trial
        self._root: dict[str, int] = {}  # the oracle's trial -> ours
        self._over: set[int] = set()  # ours, ended without reaching R
        self._best: dict[int, float] = {}

    def next(self) -> Run | None:
        while True:
            tuner = self._tuners.pop() if self._tuners else f"tuner{len(self._running)}"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # threading.currentThread, at every call
                trial = self._oracle.create_trial(tuner)
            if trial.status != "RUNNING":
                self._tuners.append(tuner)
                return None
            values = trial.hyperparameters.values
            root = self._root.get(values.get("tuner/trial_id"), len(set(self._root.values())))
            self._root[trial.trial_id] = root
            self._running[root] = (tuner, trial)
            if root not in self._over:
                return Run(root, {name: values[name] for name in self._names}, values["tuner/initial_epoch"] + 1)
            # Stopped early or diverged: training it further changes nothing and costs nothing.
            self._tell(trial, values["tuner/initial_epoch"] + 1, self._best[root])
            self._end(root)

    def reported(self, trial: int, epoch: int, value: float) -> bool:
        running = self._running[trial][1]
        if math.isnan(value):
            self._over.add(trial)
            if trial in self._best:
                self._tell(running, epoch, self._best[trial])
            self._end(trial)
            return False
        self._best[trial] = max(value, self._best.get(trial, -math.inf))
        self._tell(running, epoch, value)
        if epoch < running.hyperparameters.values["tuner/epochs"]:
            return True
        self._end(trial)
        return False

    def close(self) -> None:
        """Let go of the trials: KerasTuner keeps every oracle for as long as the process lives."""
        self._oracle.trials.clear()

    def _tell(self, trial: Any, epoch: int, value: float) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self._oracle.update_trial(trial.trial_id, {"value": value}, step=epoch)

    def _end(self, root: int) -> None:
        tuner, trial = self._running.pop(root)
        trial.status = "COMPLETED" if root in self._best else "FAILED"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self._oracle.end_trial(trial)
        self._tuners.append(tuner)


def _hyperparameters(made: Any, space: Mapping[str, BaseDistribution]) -> Any:
    for name, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            made.Choice(name, list(distribution.choices))
        elif isinstance(distribution, FloatDistribution):
            made.Float(name, distribution.low, distribution.high, sampling="log" if distribution.log else "linear")
        else:
            assert isinstance(distribution, IntDistribution)
            made.Int(name, distribution.low, distribution.high, sampling="log" if distribution.log else "linear")
    return made
