"""The strategy that a spec names."""

from __future__ import annotations

from collections.abc import Callable

from storage.errors import BadInput, unknown_name
from studies.spec import StudySpec
from studies.strategies.freeze_thaw.search import FreezeThaw
from studies.strategies.promotion import Promotion
from studies.strategies.stopping import hyperband, median, never, successive_halving
from studies.strategies.strategy import Strategy

_OWN: dict[str, Callable[[StudySpec], Strategy]] = {
    "freeze_thaw": FreezeThaw,
    "promotion": Promotion,
    "successive_halving": successive_halving,
    "hyperband": hyperband,
    "median": median,
    "none": never,
}


def sampler_in_words(spec: StudySpec) -> str:
    """Return who proposes a study's parameters, as its sampler's and its strategy's names decide it."""
    if spec.sampler.name != "model":
        return spec.sampler.name
    own, known = "the strategy's own model", _OWN.get(spec.strategy.name)
    if known is None:  # a user's, which may or may not
        return f"{own}, or tpe"
    return own if getattr(known, "proposes", False) else "tpe"


def make_strategy(spec: StudySpec, users: type[Strategy] | None = None) -> Strategy:
    """Return a study's strategy.

    Args:
        spec: the study's.
        users: the class that a user's file has, where the spec names one.

    Raises:
        BadInput: the spec names a user's strategy, and none was given.
    """
    if spec.strategy.name in _OWN:
        return _OWN[spec.strategy.name](spec)
    if users is None:
        raise unknown_name("strategy", spec.strategy.name, _OWN)
    try:
        made = users(spec)
        if not hasattr(made, "spec"):  # a constructor of its own may not have passed it on
            made.spec = spec
        return made
    except Exception as error:
        raise BadInput(
            f"strategy {spec.strategy.name!r} cannot be made: {type(error).__name__}: {error}. Mend the file."
        ) from error
