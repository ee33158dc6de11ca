"""Notes on trials where nobody has written one, made of what is recorded as they are read. None is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final, TypeVar

from optuna.trial import TrialState

from storage import attributes
from storage.attributes import Phase, phase_in
from storage.rows.trial_rows import TrialRows, number_of
from studies.stored import StudyRecord
from tuning.words import counted, markdown_text

T = TypeVar("T")

_PHASES: Final[dict[Phase, str]] = {
    "search": "",
    "confirm": "Trains one of the best configurations{} again, with another seed.",
    "refit": "Trains the winner{} for long.",
}


@dataclass(frozen=True)
class Notes:
    """What is said of a study's trials.

    Attributes:
        uid: tells the study from others; another study's trials have other notes.
        images: how many training images it has; None where that is not recorded.
        epochs: the most epochs of a trial; None where that is not recorded.
        strategy: what decides whether a trial goes on; None likewise.
    """

    uid: str
    images: int | None
    epochs: int | None
    strategy: str | None

    @classmethod
    def of(cls, record: StudyRecord) -> Notes:
        """Return the notes on a study's trials."""
        spec = record.spec_document or {}
        strategy = attributes.typed(spec.get("strategy"), dict) or {}
        return cls(
            uid=record.uid,
            images=attributes.typed(spec.get("train_images"), int) or (record.data["train"] if record.data else None),
            epochs=attributes.typed(spec.get("epochs"), int),
            strategy=attributes.typed(strategy.get("name"), str),
        )

    def of_trial(self, rows: TrialRows, user: Mapping[str, str], system: Mapping[str, str]) -> str:
        """Return what is said of a trial, in Markdown; nothing of one that another program made.

        Args:
            rows: what the database has of it.
            user: its user attributes as JSON.
            system: its system attributes as JSON.
        """
        if attributes.CLAIM not in system:
            return ""
        phase = phase_in({key: json.loads(system[key]) for key in (attributes.PHASE,) if key in system})
        said = [
            _PHASES[phase].format(_of(system)) if _PHASES[phase] else "",
            self._became(rows, user, system),
            _audited(system),
            self._trained(user),
        ]
        return "\n\n".join(filter(None, said))

    def _became(self, rows: TrialRows, user: Mapping[str, str], system: Mapping[str, str]) -> str:
        """Why it is not running."""
        after = ""
        if rows.reports:
            _, step, value, kind = rows.reports[-1]
            of = f" of at most {self.epochs}" if self.epochs is not None else ""
            after = f" after epoch {step}{of}, at {number_of(value, kind):.4f}"
        if rows.state == TrialState.FAIL:
            failure, reason = (_recorded(user, key, str) for key in (attributes.FAILURE, attributes.REASON))
            kind = f" ({markdown_text(failure)})" if failure else ""
            return f"**Failed**{kind}{': ' + markdown_text(reason) if reason else '.'}"
        if rows.state == TrialState.PRUNED:
            by = f" by {markdown_text(self.strategy)}" if self.strategy else ""
            return f"**Pruned**{after}{by}: others were more promising."
        if rows.state == TrialState.COMPLETE:
            kept = _recorded(user, attributes.BEST_EPOCH, int)
            return f"**Complete**. The weights of epoch {kept} are kept." if kept is not None else ""
        if rows.state != TrialState.WAITING:
            return ""
        if system.get(attributes.FROZEN, "null") != "null":
            return (
                f"**Frozen**{after}. It goes on when it is among the most promising, and is pruned at the end if not."
            )
        return f"**Waits**{after}{_put_back(user)}. The next free worker takes it up."

    def _trained(self, user: Mapping[str, str]) -> str:
        """On what, and how fast."""
        said = [_place(*map(partial(_text, user), _PLACE))]
        epochs, seconds = _recorded(user, attributes.EPOCHS, int), _recorded(user, attributes.SECONDS, float)
        if epochs and seconds:
            images = f", {self.images * epochs / seconds:,.0f} images/s" if self.images else ""
            said.append(f"{counted(epochs, 'epoch')} in {seconds:,.1f} s, {seconds / epochs:,.2f} s an epoch{images}")
        return ": ".join(filter(None, said))


def _of(system: Mapping[str, str]) -> str:
    """Whose parameters a trial of a later phase has."""
    training = _recorded(system, attributes.TRAINING, dict) or {}
    of = attributes.typed(training.get("of"), int)
    return f", trial {of}," if of is not None else ""


_PLACE: Final = (attributes.DEVICE, attributes.THREADS, attributes.BACKEND, attributes.PRECISION)


@lru_cache(maxsize=1024)
def _place(*texts: str | None) -> str:
    """What a trial was trained on, by `_PLACE` as JSON; most trials of a study have the same."""
    device, threads, backend, precision = (None if text is None else json.loads(text) for text in texts)
    number = attributes.typed(threads, int)
    said = [device, counted(number, "thread") if number else None, backend, precision]
    return markdown_text(", ".join(filter(None, (attributes.typed(one, str) for one in said))))


def _audited(system: Mapping[str, str]) -> str:
    after = _recorded(system, attributes.AUDITED, int)
    if after is None:
        return ""
    return f"**Audited**: it would have been pruned after epoch {after}, and is trained to its end all the same."


def _put_back(user: Mapping[str, str]) -> str:
    given_up = _recorded(user, attributes.GIVEN_UP, list)
    last = attributes.typed(given_up[-1], dict) if given_up else None
    reason = attributes.typed(last.get("reason"), str) if last else None
    return f": {markdown_text(reason)}" if reason else ""


def _recorded(user: Mapping[str, str], key: str, kind: type[T]) -> T | None:
    """What is recorded in a trial's user attributes, also by an earlier version."""
    text = _text(user, key)
    return None if text is None else attributes.typed(json.loads(text), kind)


def _text(user: Mapping[str, str], key: str) -> str | None:
    return user.get(key) or user.get(attributes.former(key))
