"""What a user said of a study, on the command line or in Python, as the functions behind the commands take it.

Both say it in the same words: a duration is `30m`, workers are `auto` or a number. In Python, a number may be one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from storage.errors import BadInput, unknown_name
from studies.declaration import Overrides
from studies.form import FITS, LARGEST_SIDE, SMALLEST_SIDE
from studies.spec import Images
from studies.stored import DEFAULT_LIMITS, Limits
from tuning.launch.phases.phase import PhaseOptions
from tuning.launch.understand import TuneOptions
from tuning.machine.precision import cores_precision
from tuning.words import parse_duration

if TYPE_CHECKING:
    from tuning.machine.devices import PerDevice

Duration = str | float


class TuneWords(TypedDict, total=False):
    """What `tuning tune` is told: its options, with `_` in the place of `-`, and `for_`, since `for` is Python's.

    What is left out, or None, is the default that `tuning/README.md` says of the option.
    """

    dataset: str | None
    study: str | None
    trials: int | None
    epochs: int | None
    budget_epochs: int | None
    for_: Duration | None
    search_only: bool
    timeout: Duration | None
    workers: str | int
    workers_per_device: str | int | None
    model: str | None
    base_weights: str | Path | None
    space: str | None
    class_weights: str | None
    precision: str | None
    strategy: str | None
    objective: str | None
    direction: str | None
    audit: float | None
    from_study: str | None
    train_images: int | None
    image_size: str | int | Sequence[int] | None
    fit: str | None
    flips: bool | None
    seed: int | None
    storage: str | None
    cluster: str | None
    ship: bool
    spec: str | Path | None
    trial_timeout: Duration | None
    checkpoint_interval: Duration
    progress: bool
    dashboard: bool


class PhaseWords(TypedDict, total=False):
    """What `tuning confirm` and `tuning refit` are told, likewise."""

    study: str | None
    storage: str | None
    model: str | None
    objective: str | None
    cluster: str | None
    ship: bool
    workers: str | int
    timeout: Duration | None
    progress: bool


def tune_options(**said: Unpack[TuneWords]) -> TuneOptions:
    """Return what `tuning tune` was given.

    Raises:
        BadInput: a value is not of its form.
    """
    overrides = Overrides(
        model=said.get("model"),
        space=said.get("space"),
        epochs=said.get("epochs"),
        train_images=said.get("train_images"),
        seed=said.get("seed"),
        strategy=said.get("strategy"),
        class_weights=said.get("class_weights"),
        objective=said.get("objective"),
        direction=said.get("direction"),
        images=images(said.get("image_size"), said.get("fit"), said.get("flips")),
        precision=said.get("precision"),
        audit=said.get("audit"),
    )
    spec, base_weights = said.get("spec"), said.get("base_weights")
    return TuneOptions(
        dataset=said.get("dataset"),
        spec_file=Path(spec) if spec is not None else None,
        study=said.get("study"),
        trials=said.get("trials"),
        budget_epochs=said.get("budget_epochs"),
        from_study=said.get("from_study"),
        timeout_s=_seconds("timeout", said.get("timeout")),
        for_s=_seconds("for", said.get("for_")),
        search_only=said.get("search_only", False),
        workers=_whole("workers", said.get("workers", "auto")),
        workers_per_device=_per_device(said.get("workers_per_device")),
        storage=said.get("storage"),
        base_weights=Path(base_weights) if base_weights is not None else None,
        cluster=said.get("cluster"),
        ship=said.get("ship", False),
        progress=said.get("progress", True),
        dashboard=said.get("dashboard", True),
        limits=_limits(said.get("trial_timeout"), said.get("checkpoint_interval")),
        overrides=replace(overrides, cores=cores_precision()),
    )


def phase_options(**said: Unpack[PhaseWords]) -> PhaseOptions:
    """Return what the command of a later phase was given.

    Raises:
        BadInput: a value is not of its form.
    """
    return PhaseOptions(
        study=said.get("study"),
        storage=said.get("storage"),
        model=said.get("model"),
        objective=said.get("objective"),
        workers=_whole("workers", said.get("workers", "auto")),
        timeout_s=_seconds("timeout", said.get("timeout")),
        progress=said.get("progress", True),
        cluster=said.get("cluster"),
        ship=said.get("ship", False),
    )


def images(
    image_size: str | int | Sequence[int] | None = None, fit: str | None = None, flips: bool | None = None
) -> Images | None:
    """Return what was said of the form of pictures; None if nothing was.

    Raises:
        BadInput: a value is not of its form.
    """
    if image_size is not None and not isinstance(image_size, str | int):
        image_size = "x".join(map(str, image_size))
    sides = str(image_size).lower().split("x") if image_size is not None else []
    if len(sides) > 2 or not all(side.isdecimal() and SMALLEST_SIDE <= int(side) <= LARGEST_SIDE for side in sides):
        raise BadInput(
            f"--image-size {image_size}: must be the side of a square in pixels, such as 64, or height x width, such as"
            f" 48x64, from {SMALLEST_SIDE} to {LARGEST_SIDE} each."
        )
    if fit is not None and fit not in FITS:
        raise unknown_name("fit", fit, FITS)
    said = {"size": (int(sides[0]), int(sides[-1])) if sides else None, "fit": fit, "flips": flips}
    given = {name: value for name, value in said.items() if value is not None}
    return Images.model_validate(given) if given else None


def _limits(trial_timeout: Duration | None, checkpoint_interval: Duration | None) -> Limits:
    interval_s = _seconds("checkpoint-interval", checkpoint_interval)
    limits = Limits(**{**DEFAULT_LIMITS, "trial_timeout_s": _seconds("trial-timeout", trial_timeout)})
    return limits if interval_s is None else Limits(**{**limits, "checkpoint_interval_s": interval_s})


def _seconds(flag: str, given: Duration | None) -> float | None:
    if given is None:
        return None
    try:
        return parse_duration(str(given))
    except ValueError:
        raise BadInput(f"--{flag} {given}: must be a positive duration such as 90s, 30m or 2h.") from None


def _whole(flag: str, given: str | int) -> int | None:
    if given == "auto":
        return None
    try:
        return int(given)
    except ValueError:
        raise BadInput(f"--{flag} {given}: must be auto or a whole number, at least 1.") from None


def _per_device(given: str | int | None) -> PerDevice:
    if given is None:
        return None
    number = _whole("workers-per-device", given)
    return "auto" if number is None else number
