"""The configurations that every contestant trains, drawn once and for all."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from itertools import product
from typing import Final

Scalar = int | float | str
Configuration = Mapping[str, Scalar]

SEED: Final = 20_261_120
BATCH_SIZES: Final = (32, 64, 128, 256)
OPTIMIZERS: Final = ("sgd", "adam", "adamw")
LEARNING_RATES: Final = (3e-4, 1e-1)
DROPOUTS: Final = (0.0, 0.6)
SIGNATURES: Final = tuple(product(BATCH_SIZES, OPTIMIZERS))
"""What decides the graph of a model of the core space."""


def draw_configurations(count: int, seed: int = SEED) -> list[Configuration]:
    """Return configurations drawn from the core space as a random search draws them."""
    generator = random.Random(seed)
    return [_configuration(generator, generator.choice(SIGNATURES)) for _ in range(count)]


def draw_in_rounds(count: int, seed: int = SEED) -> list[Configuration]:
    """Return configurations of which each dozen has every signature once, in a random order."""
    generator = random.Random(seed)
    rounds = (generator.sample(SIGNATURES, len(SIGNATURES)) for _ in range(math.ceil(count / len(SIGNATURES))))
    return [_configuration(generator, signature) for one in rounds for signature in one][:count]


def _configuration(generator: random.Random, signature: tuple[int, str]) -> Configuration:
    batch_size, optimizer = signature
    low, high = LEARNING_RATES
    return {
        "batch_size": batch_size,
        "optimizer": optimizer,
        # Few digits: the same number in TOML, JSON and every database.
        "learning_rate": float(f"{math.exp(generator.uniform(math.log(low), math.log(high))):.4g}"),
        "dropout": round(generator.uniform(*DROPOUTS), 3),
    }
