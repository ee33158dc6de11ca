"""The names that a peer's script and whoever reads its results agree on; without Keras, which the scripts import."""

from __future__ import annotations

from typing import Final

OPTUNA_STUDY: Final = "peer"
TUNER_PROJECT: Final = "peer"
