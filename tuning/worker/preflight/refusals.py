"""What is said of a model that cannot be built or trained somewhere in its space."""

from __future__ import annotations

import logging

from models.training.loop import UnknownMonitor
from tuning.worker.endings import failure_of
from tuning.worker.hyperparameters import RangedHyperParameters, parameters_of

logger = logging.getLogger(__name__)


def cannot(what: str, hp: RangedHyperParameters, error: Exception) -> str:
    """Return in one line, and log, that a model cannot be built or trained with these parameters, and why."""
    if isinstance(error, UnknownMonitor):
        return f"objective {error.name!r}: {error}. Give one of these."
    values = values_in_words(hp)
    fact = f"the model cannot be {what}" + (f" with {values}" if values else "")
    logger.error("%s", fact, exc_info=error)
    _, reason = failure_of(error)
    return f"{fact}: {reason.rstrip('.')}. Narrow the space, or mend the model."


def values_in_words(hp: RangedHyperParameters) -> str:
    """Return `name=value, ...` of those that are active."""
    return ", ".join(f"{name}={value}" for name, value in parameters_of(hp).items())
