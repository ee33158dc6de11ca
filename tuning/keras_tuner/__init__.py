"""KerasTuner's tuner, whose trials live in an Optuna study: `from tuning.keras_tuner import Tuner`. Imports Keras."""

from tuning.keras_tuner.tuner import Tuner as Tuner

__all__ = ["Tuner"]
