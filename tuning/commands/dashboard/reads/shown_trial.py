"""One trial as the dashboard's page takes it: JSON, made once from the rows of a database.

`optuna_dashboard._serializer.serialize_frozen_trial` says what stands in it, and a contract test compares the two. They
differ where a trial waits that has trained before: to the page, one that waits has neither parameters nor a curve.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple, NoReturn

from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState
from optuna_dashboard._note import get_note_from_system_attrs
from optuna_dashboard._serializer import MAX_ATTR_LENGTH, serialize_distribution

from storage import attributes
from storage.attributes import Phase, phase_in
from storage.rows.trial_rows import Row, TrialRows, distribution_of, local_time, number_of
from studies.forecast import Span, spans_in

# In the study's system attributes: what the dashboard keeps there of one trial, its note and former files of it.
OF_TRIAL: Final = "dashboard:"
_FILES_OF_TRIAL: Final = "dashboard:artifacts:"

_CONSTRAINTS: Final = "constraints"

_compact = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True, eq=False)  # each is there once, see `_shared`
class Content:
    """What is in the search space of a study, or in its table of trials, because of one trial.

    Attributes:
        params: the parameters, each with its distribution as JSON; None of a trial that failed.
        user: the names of the user attributes, and whether each is a number.
        has_curve: whether it reported anything, and did not fail.
    """

    params: tuple[tuple[str, str], ...] | None
    user: tuple[tuple[str, bool], ...]
    has_curve: bool


@dataclass(slots=True)
class Worked:
    """When a trial was worked on, as it is recorded: read where that is asked for, and once.

    Attributes:
        before: its former claims, as JSON.
        last: the last one, likewise; endless where it is held.
        start: when it was taken up, in UTC, if it was.
        complete: when it ended, in UTC, if it did.
    """

    before: str
    last: str
    start: datetime | None
    complete: datetime | None
    _spans: list[Span] | None = field(default=None, init=False, compare=False)

    @property
    def ended(self) -> float | None:
        """When it ended, in seconds since 1970."""
        return None if self.complete is None else self.complete.replace(tzinfo=UTC).timestamp()

    def spans(self) -> list[Span]:
        """Return the spans, in seconds since 1970; none where what is recorded is of another form."""
        if self._spans is None:
            self._spans = self._read()
        return self._spans

    def _read(self) -> list[Span]:
        held = attributes.typed(json.loads(self.last), dict) or {}
        started = None if self.start is None else self.start.replace(tzinfo=UTC).timestamp()
        if held.get(attributes.ENDS):  # taken up only to be ended
            held, started = {}, None
        try:
            known = {attributes.WORKED: json.loads(self.before), attributes.CLAIM: held}
            return [(float(begun), float(until)) for begun, until in spans_in(known, started, self.ended)]
        except (KeyError, TypeError, ValueError):
            return []


class ShownTrial(NamedTuple):
    """One trial, ready to be sent.

    Attributes:
        trial_id: its id.
        number: its number.
        state: Optuna's.
        curve: whether it waits with values that it reported.
        frozen: whether it waits until it is thawed.
        reported: what it reported, in the order of its epochs.
        seconds: how long it has trained, where that is recorded.
        worked: when it was worked on.
        phase: what it is for.
        values: one for each objective; of a trial that waits, the last that it reported.
        feasible: whether it keeps to its constraints.
        content: what a study has because of it.
        before, after: the JSON before and after the name of its state.
    """

    trial_id: int
    number: int
    state: TrialState
    curve: bool
    frozen: bool
    reported: Sequence[float]
    seconds: float | None
    worked: Worked
    phase: Phase
    values: tuple[float, ...]
    feasible: bool
    content: Content
    before: bytes
    after: bytes

    @property
    def is_open(self) -> bool:
        """Whether it is not over."""
        return not self.state.is_finished()

    def text(self, *, first_open: bool) -> bytes:
        """Return its JSON.

        The page asks for the trials from the first on that is Running or Waiting there, draws curves of all but what is
        Waiting, and in the history only what is Complete or Pruned. So what waits with a curve is Pruned, but Waiting,
        as it is, where it is that first one: it does not run.

        Args:
            first_open: whether all trials before it are over.
        """
        state = self.state.name.capitalize()
        if self.curve:
            state = "Waiting" if first_open else "Pruned"
        return self.before + state.encode() + self.after


Noted = Callable[[TrialRows, Mapping[str, str], Mapping[str, str]], str]
"""Returns what a note says where nobody wrote one, from a trial's rows, user and system attributes as JSON."""


def shown_trial(rows: TrialRows, study_id: int, kept: Mapping[str, Any], noted: Noted) -> ShownTrial:
    """Return a trial as it is sent.

    Args:
        rows: what the database has of it.
        study_id: of which study.
        kept: the study's system attributes that begin with `OF_TRIAL` and are about it.
        noted: what is said of it where nobody has written a note.
    """
    system = {key: text for _, key, text in rows.system}
    user = {key: text for _, key, text in rows.user}
    curve = rows.state == TrialState.WAITING and bool(rows.reports)
    values = [number_of(value, kind) for _, value, kind in rows.values]
    if curve:
        values = [value for value in [number_of(*rows.reports[-1][2:])] if not math.isnan(value)]
        user = _with_frozen(user, system)
    constraints = _constraints(system)
    # Keras computes with seven digits, and Python writes sixteen of such a number.
    digits = ".7g" if attributes.CLAIM in system else ""
    before = f'{{"trial_id":{rows.trial_id},"study_id":{study_id},"number":{rows.number},"state":"'
    parts = [
        f'","params":[{",".join(_param(name, text)(value) for _, name, value, text in rows.params)}]',
        f'"fixed_params":[{",".join(_fixed(system, rows.params if curve else ()))}]',
        f'"user_attrs":[{",".join(_attribute(key, text) for key, text in user.items())}]',
        f'"note":{_note(rows, kept, lambda: noted(rows, user, system))}',
        f'"artifacts":[{",".join(_files(rows.trial_id, kept, system))}]',
        f'"constraints":{_compact(constraints) if constraints else "[]"}',
        f'"intermediate_values":[{_curve(rows.reports, digits)}]',
    ]
    if values:
        parts.append(f'"values":[{",".join(_number(value, digits) for value in values)}]')
    for name, moment in (("datetime_start", rows.start), ("datetime_complete", rows.complete)):
        if (local := local_time(moment)) is not None:
            parts.append(f'"{name}":"{local.isoformat()}"')
    return ShownTrial(
        trial_id=rows.trial_id,
        number=rows.number,
        state=rows.state,
        curve=curve,
        frozen=rows.state == TrialState.WAITING and system.get(attributes.FROZEN, "null") != "null",
        reported=array("d", [number_of(value, kind) for _, _, value, kind in rows.reports]),
        seconds=_seconds(user),
        worked=_worked(rows, system),
        phase=phase_in({key: json.loads(system[key]) for key in (attributes.PHASE,) if key in system}),
        values=tuple(values),
        feasible=all(one <= 0 for one in constraints),
        content=_content(rows, user),
        before=before.encode(),
        after=(",".join(parts) + "}").encode(),
    )


def _seconds(user: Mapping[str, str]) -> float | None:
    text = user.get(attributes.SECONDS) or user.get(attributes.former(attributes.SECONDS))
    return None if text is None else attributes.typed(json.loads(text), float)


def _worked(rows: TrialRows, system: Mapping[str, str]) -> Worked:
    claim = system.get(attributes.CLAIM, "{}")
    if not rows.state.is_finished():
        # When it was last seen changes with every beat, and nothing else does.
        held = attributes.typed(json.loads(claim), dict) or {}
        claim = json.dumps({"begun": held["begun"], "seen": math.inf}) if "begun" in held else "{}"
    return Worked(system.get(attributes.WORKED, "[]"), claim, rows.start, rows.complete)


def _content(rows: TrialRows, user: Mapping[str, str]) -> Content:
    failed = rows.state == TrialState.FAIL
    params = None if failed else tuple([(name, text) for _, name, _, text in rows.params])
    numbers = tuple([_is_number(text) for text in user.values()])
    return _shared(params, tuple(user), numbers, bool(rows.reports) and not failed)


@lru_cache(maxsize=4096)
def _shared(
    params: tuple[tuple[str, str], ...] | None, names: tuple[str, ...], numbers: tuple[bool, ...], has_curve: bool
) -> Content:
    return Content(params, tuple(zip(names, numbers, strict=True)), has_curve)


def _with_frozen(user: Mapping[str, str], system: Mapping[str, str]) -> dict[str, str]:
    """The user attributes with one that says since when a trial is frozen, where it is."""
    epochs = system.get(attributes.FROZEN, "null")
    return {**user} if epochs == "null" else {attributes.FROZEN: _compact(f"after epoch {epochs}"), **user}


def _number(value: float, digits: str) -> str:
    if math.isfinite(value):
        return format(value, digits) if digits else repr(value)
    return '"inf"' if value > 0 else '"-inf"'


_UNLIKE_NUMBERS: Final = {"NAN": '"nan"', "INF_POS": '"inf"', "INF_NEG": '"-inf"'}


def _curve(reports: Sequence[Row], digits: str) -> str:
    point = f'{{"step":%d,"value":%{digits or "r"}}}'
    return ",".join(
        [
            point % (step, value) if kind == "FINITE" else f'{{"step":{step},"value":{_UNLIKE_NUMBERS[kind]}}}'
            for _, step, value, kind in reports
        ]
    )


@lru_cache(maxsize=4096)
def _param(name: str, text: str) -> Callable[[float], str]:
    """What writes a parameter's value, with all that is the same in every trial."""
    distribution = distribution_of(text)
    head = f'{{"name":{_compact(name)},"param_internal_value":'
    tail = f',"distribution":{_compact(serialize_distribution(distribution))}}}'

    def said(external: Any) -> str:
        known = (
            f'"param_external_value":{_compact(str(external))},"param_external_pytyp":{_compact(str(type(external)))}'
        )
        return f",{known}{tail}"

    if isinstance(distribution, CategoricalDistribution):
        choices = [said(choice) for choice in distribution.choices]
        return lambda value: f"{head}{int(value)}{choices[int(value)]}"
    if isinstance(distribution, IntDistribution):
        return lambda value: f"{head}{value!r}{said(distribution.to_external_repr(value))}"
    kind = f'","param_external_pytyp":{_compact(str(float))}{tail}'
    return lambda value: f'{head}{value!r},"param_external_value":"{value!r}{kind}'


def _fixed(system: Mapping[str, str], drawn: Sequence[Row]) -> Iterator[str]:
    """What is known of a trial before it is taken up: the page shows this alone of one that is Waiting."""
    known = json.loads(system[attributes.FIXED_PARAMETERS]) if attributes.FIXED_PARAMETERS in system else {}
    known |= {name: distribution_of(text).to_external_repr(value) for _, name, value, text in drawn}
    for name, value in known.items():
        yield f'{{"name":{_compact(name)},"param_external_value":{_compact(str(value))}}}'


def _attribute(key: str, text: str) -> str:
    if text[0] == '"':
        said = text
    elif text[0] in _BEGIN_NUMBERS and text[-1].isdigit():
        said = f'"{text}"'  # as Python writes a number to JSON, it writes it for people
    else:
        said = _compact(_attribute_words(text))
    return f"{_key(key)}{said}}}"


_BEGIN_NUMBERS: Final = "-0123456789"


@lru_cache(maxsize=4096)
def _key(key: str) -> str:
    return f'{{"key":{_compact(key)},"value":'


@lru_cache(maxsize=4096)
def _attribute_words(text: str) -> str:
    """What the page shows of an attribute that is neither a string nor a plain number."""
    value = json.loads(text)
    return str(value) if isinstance(value, bool | int | float) else json.dumps(value)[:MAX_ATTR_LENGTH]


def _is_number(text: str) -> bool:
    return text[0] in _BEGIN_NUMBERS or text in ("NaN", "Infinity")


def _note(rows: TrialRows, kept: Mapping[str, Any], noted: Callable[[], str]) -> str:
    note = get_note_from_system_attrs(dict(kept), rows.trial_id) if kept else None
    if note is not None and note["body"]:
        return _compact(note)
    # A string alone is encoded in a third of the time of a document.
    return f'{{"version":{_compact(note["version"]) if note is not None else 0},"body":{_compact(noted())}}}'


def _files(trial_id: int, kept: Mapping[str, Any], system: Mapping[str, str]) -> Iterator[str]:
    """The records of a trial's files, which are JSON inside of JSON, and null where the file was removed."""
    for key, stored in kept.items():
        if key.startswith(f"{_FILES_OF_TRIAL}{trial_id}:") and _is_record(stored):
            yield stored
    for key, text in system.items():
        if key.startswith(attributes.OPTUNA_ARTIFACT) and _is_record(stored := json.loads(text)):
            yield stored


def _is_record(stored: Any) -> bool:
    try:
        return isinstance(stored, str) and _strictly.decode(stored) is not None
    except ValueError:  # nobody could read the study's page for one file
        return False


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


_strictly = json.JSONDecoder(parse_constant=_refuse)


def _constraints(system: Mapping[str, str]) -> list[float]:
    """What a trial says of its constraints, in the former way and in that of `Trial.set_constraint`."""
    former = json.loads(system[_CONSTRAINTS]) if _CONSTRAINTS in system else None
    found: dict[str, float] = {str(place): value for place, value in enumerate(former or ())}
    for key, text in system.items():
        if key.startswith(f"{_CONSTRAINTS}:"):
            found[key.removeprefix(f"{_CONSTRAINTS}:")] = json.loads(text)
    return list(found.values())
