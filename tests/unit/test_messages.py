"""What launcher and worker say to each other comes over whole, or is known not to have."""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.attributes import PHASES, Phase
from storage.claims import Claim
from storage.errors import BadInput
from tuning import messages
from tuning.machine.devices import CPU, Device, Placement
from tuning.messages import FromLauncher, FromWorker, Message, Note, Unreadable, WorkerOptions, decode, encode
from tuning.user_classes import UserFile

KINDS = (*get_args(FromWorker), *get_args(FromLauncher))
FLOATS = st.floats(allow_nan=False)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(),
    float: FLOATS,
    bool: st.booleans(),
    str: st.text(),
    str | None: st.none() | st.text(),
    Phase: st.sampled_from(PHASES),
    list[str]: st.lists(st.text()),
    dict[str, str]: st.dictionaries(st.text(), st.text()),
    dict[str, Any]: st.dictionaries(st.text(), st.text() | st.integers() | FLOATS | st.booleans()),
}


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    return st.builds(kind, **{name: any_of(of) if is_dataclass(of) else VALUES[of] for name, of in hints.items()})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
@given(data=st.data())
def test_a_message_is_one_line_and_decoded_it_is_the_same(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(any_of(kind))
    line = encode(message)
    assert line.index("\n") == len(line) - 1
    assert decode(line) == message


@given(st.sampled_from(KINDS).flatmap(any_of), st.data())
def test_of_a_line_that_a_kill_cut_off_it_is_told_what_came(message: Message, data: st.DataObject) -> None:
    line = encode(message)
    part = line[: data.draw(st.integers(0, len(line) - 2))]
    assert decode(part) == Unreadable(part)


NO_MESSAGES = ("{}", "[]", '{"Nap": {}}', '{"Note": {}}', '{"Note": 3}', '{"EpochEnded": {"memory": 1}}', "[" * 10_000)


@given(st.text() | st.sampled_from(NO_MESSAGES))
def test_what_is_no_message_is_not_taken_for_one(line: str) -> None:
    assert decode(line) == Unreadable(line)


def test_a_message_in_words_that_no_file_system_takes_comes_over() -> None:
    note = Note("no checkpoint in /home/m\udcfcller")
    assert decode(encode(note)) == note


def test_what_is_waited_for_longer_is_longer() -> None:
    """Or a launcher kills what would have put its trial back, and an orphan is gone before its epoch is over."""
    assert messages.EPOCH_GRACE_S + 5 <= messages.ORPHAN_GRACE_S
    assert messages.ORPHAN_GRACE_S + 5 <= messages.LAUNCHER_GRACE_S


# --- What a worker is started with


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("user's files") / 'mine: "a" & b.py'
    path.touch()
    return path


@given(data=st.data())
def test_a_worker_is_started_with_what_was_meant(file: Path, data: st.DataObject) -> None:
    user_file = st.none() | st.sampled_from(["Mine", "Ours"]).map(lambda name: UserFile(file, name))
    own = {UserFile | None: user_file, Claim | None: st.none() | any_of(Claim), int | None: st.none() | st.integers()}
    kinds = get_type_hints(WorkerOptions).items()
    options = data.draw(st.builds(WorkerOptions, **{name: (VALUES | own)[of] for name, of in kinds}))
    assert WorkerOptions.from_json(options.to_json()) == options
    command = options.command()
    assert WorkerOptions.from_json(command[command.index("--as") + 1]) == options


PLACE = Placement(Device("gpu", "GPU-0", "H200", 0, (9, 0)), 3, {})
CLAIM = Claim(trial_id=9, number=4, owner="host:1:a", count=2, id="b")


def test_a_worker_in_a_place_has_its_device_and_threads() -> None:
    options = WorkerOptions.at(PLACE, "mnist", None, None)
    assert options == WorkerOptions("mnist", None, None, "H200", "mixed_bfloat16", 3)


def test_who_takes_a_workers_place_makes_no_preflight_and_does_not_wait() -> None:
    options = WorkerOptions("mnist", None, None, CPU, "float32", 2, supervised=True, preflight=True)
    assert options.successor() == replace(options, preflight=False, go=True)


def test_after_the_trial_for_which_it_took_other_threads_a_worker_has_its_own_again() -> None:
    options = WorkerOptions("mnist", None, None, CPU, "float32", 2, go=True)
    for_the_trial = options.successor(claim=CLAIM, threads=8)
    assert for_the_trial == replace(options, claim=CLAIM, threads=8, own_threads=2)
    assert for_the_trial.successor(claim=CLAIM, threads=4) == replace(for_the_trial, threads=4)
    assert for_the_trial.successor() == options


def test_a_users_file_that_is_gone_is_named(tmp_path: Path) -> None:
    options = WorkerOptions("mnist", UserFile(tmp_path / "mine.py", "Mine"), None, CPU, "float32", 1)
    with pytest.raises(BadInput, match="there is no file"):
        WorkerOptions.from_json(options.to_json())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"study": "mnist"}', "a worker"])
def test_what_no_launcher_wrote_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="launchers start their workers with it"):
        WorkerOptions.from_json(text)
