"""What the dashboard keeps of studies: read once, by one who asks at a time, and sent only where something changed."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import re
import shlex
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from storage import attributes
from storage.database import Database
from storage.opening import open_to_read
from storage.rows import trial_rows
from storage.settings import Home
from studies.stored import StudyRecord
from tests.dashboard import answer, running
from tests.databases import claimed as taken
from tests.databases import fresh_database, new_study, url_of
from tuning.commands.dashboard.reads import answering, kept_study
from tuning.commands.dashboard.reads.packed import Piece, gzipped
from tuning.commands.dashboard.reads.study_note import study_note
from tuning.commands.dashboard.server import DashboardServer
from tuning.commands.dashboard.serving import ServeOptions, make_server

TRIALS = 150


@pytest.fixture
def database(home: Path) -> Iterator[Database]:
    place = Home(home)
    place.make(place.artifacts)
    with fresh_database(place.root / "studies.db") as opened:
        yield opened


@pytest.fixture
def study(database: Database) -> optuna.Study:
    study = optuna.create_study(study_name="mnist", storage=database)
    study.add_trials(
        [create_trial(value=number / 7, intermediate_values={1: 1 / 3, 2: number / 7}) for number in range(TRIALS)]
    )
    return study


@pytest.fixture
def server(database: Database, home: Path) -> Iterator[DashboardServer]:
    with running(make_server(open_to_read(url_of(database)), Home(home), ServeOptions(port=0))) as server:
        yield server


def statements(database: Database) -> list[str]:
    """The statements that a database is asked from now on."""
    found: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *of: found.append(of[2]))
    return found


def test_a_page_that_asks_again_is_told_in_a_few_bytes_that_nothing_changed(
    server: DashboardServer, study: optuna.Study
) -> None:
    for path in ("/api/studies", "/api/studies/1?after=0", "/api/studies/1/param_importances"):
        first = answer(server, "GET", path)
        assert first.status == 200
        assert first.headers["cache-control"] == "private, no-cache"
        tag = first.headers["etag"]
        again = answer(server, "GET", path, **{"If-None-Match": f'"other", {tag}'})
        assert (again.status, again.content) == (304, b"")
        assert sum(len(name) + len(value) + 4 for name, value in again.headers.items()) < 800
        assert answer(server, "GET", path, **{"If-None-Match": tag, "Cookie": ""}).status == 403
    shown = answer(server, "GET", "/api/studies/1").headers["etag"]
    study.add_trial(create_trial(value=0.5))
    changed = answer(server, "GET", "/api/studies/1", **{"If-None-Match": shown})
    assert changed.status == 200
    assert len(json.loads(changed.content)["trials"]) == TRIALS + 1


@pytest.mark.parametrize("after", [0, 1, 63, 64, 65, TRIALS - 1, TRIALS, TRIALS + 1])
def test_what_is_compressed_is_what_is_not(server: DashboardServer, study: optuna.Study, after: int) -> None:
    plain = answer(server, "GET", f"/api/studies/1?after={after}")
    packed = answer(server, "GET", f"/api/studies/1?after={after}", **{"Accept-Encoding": "gzip, deflate"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.content) == plain.content
    assert [one["number"] for one in json.loads(plain.content)["trials"]] == list(range(after, TRIALS))
    head = answer(server, "HEAD", f"/api/studies/1?after={after}")
    assert (head.status, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(plain.content))


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_pieces_in_a_row_are_one_gzip_stream_with_one_member(contents: list[bytes]) -> None:
    pieces = [Piece(lambda content=content: content) for content in contents]  # type: ignore[misc]
    for _ in range(2):
        stream = b"".join(gzipped(pieces))
        unpacking = zlib.decompressobj(31)
        assert unpacking.decompress(stream) == b"".join(contents)
        assert unpacking.eof
        assert unpacking.unused_data == b""


def test_trials_that_are_over_are_read_once(database: Database, study: optuna.Study) -> None:
    looked_at = open_to_read(url_of(database))
    reads = answering.Reads(looked_at)
    asked = statements(looked_at)
    environ = {"PATH_INFO": "/api/studies/1", "REQUEST_METHOD": "GET"}
    first = reads.answer(environ)
    assert first is not None
    assert any("trial_intermediate_values" in statement for statement in asked)
    asked.clear()
    reads.answer(environ)
    assert asked
    assert not any("trial_intermediate_values" in statement or "trial_params" in statement for statement in asked)
    looked_at.engine.dispose()


def test_those_who_ask_at_once_wait_for_one_reading(
    database: Database, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second who asks may have come after something changed, so it reads again what did; the others share that."""
    go_on, looked, readings, times = threading.Event(), threading.Semaphore(0), list[int](), itertools.count()
    update = kept_study.KeptStudy.update

    def slow(self: kept_study.KeptStudy, connection: Any) -> None:
        readings.append(1)
        assert go_on.wait(20)
        update(self, connection)

    def clock() -> float:
        looked.release()
        return next(times)

    def ask() -> bytes:
        found = reads.answer({"PATH_INFO": "/api/studies/1"})
        assert found is not None
        return b"".join(found.body)

    monkeypatch.setattr(kept_study.KeptStudy, "update", slow)
    reads = answering.Reads(database, clock=clock)
    with ThreadPoolExecutor(9) as threads:
        first = threads.submit(ask)
        for _ in range(2):  # it has come, and begins to read
            assert looked.acquire(timeout=20)
        others = [threads.submit(ask) for _ in range(8)]
        for _ in others:
            assert looked.acquire(timeout=20)
        go_on.set()
        assert {future.result() for future in others} == {first.result()}
    assert len(readings) == 2


def test_a_reading_that_was_broken_off_is_done_again_and_shows_all(
    database: Database, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = trial_rows.read_rows, list[int]()

    def break_off(*args: Any, **named: Any) -> Iterator[Any]:
        for number, rows in enumerate(whole(*args, **named)):
            if number == 70 and not broken:
                broken.append(number)
                raise OperationalError("SELECT", {}, Exception("database is locked"))
            yield rows

    monkeypatch.setattr(kept_study, "read_rows", break_off)
    monkeypatch.setattr(database, "sleep", lambda _seconds: None)
    found = answering.Reads(database).answer({"PATH_INFO": "/api/studies/1"})
    assert found is not None
    assert broken == [70]
    shown = json.loads(b"".join(found.body))
    assert [one["number"] for one in shown["trials"]] == list(range(TRIALS))
    assert shown["has_intermediate_values"] is True


def test_a_frozen_trial_has_its_curve_and_says_since_when(database: Database) -> None:
    claims = new_study(database)
    first, second = taken(claims), taken(claims)
    for claim, epochs in ((first, 2), (second, 3)):
        database.set_trial_param(claim.trial_id, "dropout", 0.25, FloatDistribution(0, 1))
        for epoch in range(1, epochs + 1):
            database.set_trial_intermediate_value(claim.trial_id, epoch, epoch / 10)
        claims.progressed(claim, epochs)
        claims.put_back(claim, "frozen", "frozen")
    found = answering.Reads(database).answer({"PATH_INFO": "/api/studies/1"})
    assert found is not None
    shown = json.loads(b"".join(found.body))["trials"]
    assert [(one["state"], one["values"], len(one["intermediate_values"])) for one in shown] == [
        ("Waiting", [0.2], 2),  # so that the page asks for it and all later ones again
        ("Pruned", [0.3], 3),
    ]
    # Of what is Waiting the page shows those parameters that were fixed beforehand.
    assert shown[0]["fixed_params"] == [{"name": "dropout", "param_external_value": "0.25"}]
    assert shown[1]["note"]["body"].startswith("**Frozen** after epoch 3, at 0.3000.")
    assert {"key": "tuning:frozen", "value": "after epoch 3"} in shown[1]["user_attrs"]
    assert database.get_trial(second.trial_id).state == TrialState.WAITING  # nothing is written
    assert "tuning:frozen" not in database.get_trial(second.trial_id).user_attrs


def test_a_study_and_its_trials_have_notes_of_what_is_recorded_until_somebody_writes_one(database: Database) -> None:
    claims = new_study(database, budget=2)
    recorded: dict[str, Any] = {
        attributes.SPEC: {
            "dataset": "mnist",
            "model": "cnn",
            "space": "core",
            "epochs": 4,
            "seed": 1,
            "strategy": {"name": "freeze_thaw"},
        },
        attributes.DATA: {
            "checksum": "c",
            "split": "s",
            "train": 1_200,
            "validation": 100,
            "mean": [0.0],
            "std": [1.0],
        },
    }
    for key, value in recorded.items():
        database.set_study_user_attr(1, key, value)
    pruned, failed = taken(claims), taken(claims)
    place: dict[str, Any] = {
        attributes.DEVICE: "CPU",
        attributes.THREADS: 2,
        attributes.BACKEND: "jax",
        attributes.EPOCHS: 2,
        attributes.SECONDS: 4.0,
    }
    for key, value in place.items():
        database.set_trial_user_attr(pruned.trial_id, key, value)
    for epoch in (1, 2):
        database.set_trial_intermediate_value(pruned.trial_id, epoch, 0.5)
    database.set_trial_state_values(pruned.trial_id, TrialState.PRUNED)
    database.set_trial_user_attr(failed.trial_id, attributes.FAILURE, "diverged")
    database.set_trial_user_attr(failed.trial_id, attributes.REASON, "the loss is *nan*")
    database.set_trial_state_values(failed.trial_id, TrialState.FAIL)
    reads = answering.Reads(database, storage="sqlite:///its own.db")

    def shown() -> Any:
        found = reads.answer({"PATH_INFO": "/api/studies/1"})
        assert found is not None
        return json.loads(b"".join(found.body))

    document = shown()
    assert document["note"] == {
        "version": 0,
        "body": "- **data**: mnist: 1,200 training and 100 validation images\n"
        "- **model**: cnn, core space\n"
        "- **plan**: 2 trials of at most 4 epochs by freeze\\_thaw with seed 1\n"
        "- **trials**: 1 of 2 done: 1 pruned, 1 failed\n"
        "- **epochs**: 2 trained\n\n"
        "```sh\nmake tune STUDY=mnist STORAGE='sqlite:///its own.db'    # goes on with it\n"
        "make report STUDY=mnist STORAGE='sqlite:///its own.db'    # all that it found, as one page\n```",
    }
    assert [one["note"]["body"] for one in document["trials"]] == [
        (
            "**Pruned** after epoch 2 of at most 4, at 0.5000 by freeze\\_thaw: others were more promising.\n\n"
            "CPU, 2 threads, jax: 2 epochs in 4.0 s, 2.00 s an epoch, 600 images/s"
        ),
        r"**Failed** (diverged): the loss is \*nan\*",
    ]
    assert database.get_study_system_attrs(1).keys() & {"dashboard:note_ver", "dashboard:note_str:0"} == set()
    for key in ("dashboard:", f"dashboard:{failed.trial_id}:"):
        database.set_study_system_attr(1, f"{key}note_ver", 1)
        database.set_study_system_attr(1, f"{key}note_str:0", "mine")
    document = shown()
    assert document["note"] == document["trials"][1]["note"] == {"version": 1, "body": "mine"}


@pytest.mark.parametrize("name", ["x`; rm -rf ~; `y", "it's", "```", "a b"])
def test_a_command_in_a_note_means_the_study_to_a_shell_whatever_that_is_called(database: Database, name: str) -> None:
    new_study(database)
    database.set_study_user_attr(1, attributes.SPEC, {"dataset": "mnist"})
    record = replace(StudyRecord.read(database, 1, "mnist"), name=name)
    fence, command, report, end = study_note(record, [], None, None, 0.0).splitlines()[-4:]
    assert fence == f"{end}sh"
    assert end not in command + report
    assert shlex.split(command, comments=True) == ["make", "tune", f"STUDY={name}"]
    assert shlex.split(report, comments=True) == ["make", "report", f"STUDY={name}"]


def test_a_note_says_what_came_of_a_study_and_when_its_search_is_done(database: Database) -> None:
    claims = new_study(database, budget=4)
    for key, value in {
        attributes.SPEC: {"dataset": "mnist"},
        attributes.BUDGET_EPOCHS: 8,
        attributes.LAUNCHED: {"at": time.time() - 60, "epochs": 0, "epoch_s": None},
    }.items():
        database.set_study_user_attr(1, key, value)
    first, better, refit, running = (taken(claims) for _ in range(4))
    database.set_trial_system_attr(refit.trial_id, attributes.PHASE, "refit")
    database.set_trial_system_attr(refit.trial_id, attributes.TRAINING, {"of": 1, "seed": 3})
    for claim, value in ((first, 0.5), (better, 0.75), (refit, 0.875)):
        database.set_trial_intermediate_value(claim.trial_id, 1, value)
        database.set_trial_user_attr(claim.trial_id, attributes.BEST_EPOCH, 1)
        database.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, [value])
    database.set_trial_intermediate_value(running.trial_id, 1, 0.5)
    claims.beat(running)

    def shown() -> Any:
        found = answering.Reads(database).answer({"PATH_INFO": "/api/studies/1"})
        assert found is not None
        return json.loads(b"".join(found.body))

    note = shown()["note"]["body"]
    assert "- **best**: trial 1, 0.7500\n" in note
    assert "- **refitted**: trial 2, 0.8750: the winner, trained for long\n" in note
    assert re.search(r"- \*\*forecast\*\*: the search is done about [0-9 :-]+, in \d+ s\n", note)
    assert shown()["trials"][1]["note"]["body"] == "**Complete**. The weights of epoch 1 are kept."
    assert shown()["trials"][2]["note"]["body"].startswith("Trains the winner, trial 1, for long.\n\n**Complete**.")
    database.set_trial_state_values(running.trial_id, TrialState.PRUNED)
    assert "forecast" not in shown()["note"]["body"]
    unjudged = taken(claims)
    database.set_trial_system_attr(unjudged.trial_id, attributes.PHASE, "refit")
    database.set_trial_state_values(unjudged.trial_id, TrialState.COMPLETE, [-math.inf])
    assert f"- **refitted**: trial {unjudged.number}: the winner, trained for long\n" in shown()["note"]["body"]
