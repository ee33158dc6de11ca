"""Wherever a write of a file is cut off, the file is the old one or the new one, and what is torn is told from it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.artifacts import Artifacts
from storage.checkpoints import KEPT, Checkpoint, TrialCheckpoints
from storage.claims import Choice, Claim, Start, Thaw
from storage.database import Database
from storage.errors import StorageUnavailable
from storage.files import replacing
from storage.rows.ledger import is_frozen
from storage.settings import Home
from storage.stores.local import LocalFiles
from studies.datasets.preparing import prepare
from tests.databases import fresh_database, new_study
from tests.faults.breaking import Fault, Faults, PowerCut

pytestmark = pytest.mark.faults

ROOT = Path(__file__).resolve().parents[2]

# Each call on the way to the disk, with how often the writing of one file makes it.
STEPS = [("os", "fsync", 1), ("os", "replace", 1), ("os", "fsync", 2)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with fresh_database(tmp_path / "studies.db") as opened:
        yield opened


@pytest.fixture(params=STEPS, ids=lambda step: f"{step[1]} {step[2]}")
def failing_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let one call of the next writing fail for want of room."""
    _, name, number = request.param

    def start() -> None:
        real, calls = getattr(os, name), []

        def call(*arguments: Any) -> Any:
            calls.append(name)
            if len(calls) == number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments)

        monkeypatch.setattr(os, name, call)

    return start


def hidden(folder: Path) -> list[str]:
    return [file.name for file in folder.rglob(".*")]


def test_a_replaced_file_is_the_old_or_the_new_one(tmp_path: Path, failing_disk: Callable[[], None]) -> None:
    target = tmp_path / "kept"
    target.write_text("old")
    failing_disk()
    with pytest.raises(OSError, match="No space"), replacing(target) as beside:
        beside.write_text("new")
    assert target.read_text() in ("old", "new")
    assert hidden(tmp_path) == []


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, failing_disk: Callable[[], None]
) -> None:
    checkpoints = TrialCheckpoints(LocalFiles(tmp_path / "7"), fingerprint="spec", trial=7)
    for epochs in (1, 2):
        checkpoints.save(claim=1, epochs=epochs, content=b"%d" % epochs)
    failing_disk()
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(claim=1, epochs=3, content=b"3")
    assert checkpoints.load() in (Checkpoint(2, b"2"), Checkpoint(3, b"3"))
    assert hidden(tmp_path) == []
    checkpoints.save(claim=1, epochs=4, content=b"4")
    assert checkpoints.load() == Checkpoint(4, b"4")
    assert len(list((tmp_path / "7").iterdir())) == KEPT


def test_an_artifact_that_cannot_be_written_is_not_recorded(
    tmp_path: Path, database: Database, failing_disk: Callable[[], None]
) -> None:
    artifacts, claim = Artifacts(LocalFiles(tmp_path / "artifacts")), claimed(database)
    (tmp_path / "artifacts").mkdir()
    failing_disk()
    with pytest.raises(OSError, match="No space"):
        artifacts.put(database, claim.trial_id, "model", "model.keras", write)
    assert get_all_artifact_meta(database.get_trial(claim.trial_id), storage=database) == []
    assert hidden(tmp_path / "artifacts") == []
    artifacts.put(database, claim.trial_id, "model", "model.keras", write)
    assert artifacts.verified(database.get_trial(claim.trial_id), "model").read_bytes() == b"weights"


def claimed(database: Database) -> Claim:
    claim = new_study(database).next()
    assert claim is not None
    return claim


def write(file: Path) -> None:
    file.write_bytes(b"weights")


def test_a_record_that_the_database_does_not_take_leaves_the_bytes(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts, claim = Artifacts(LocalFiles(tmp_path)), claimed(database)

    def fail(*_: object) -> None:
        raise StorageUnavailable("away")

    monkeypatch.setattr(database, "set_trial_system_attr", fail)
    with pytest.raises(StorageUnavailable):
        artifacts.put(database, claim.trial_id, "model", "model.keras", write)
    # The record may have arrived although the answer did not: the bytes it names must be there.
    assert [file.read_bytes() for file in tmp_path.iterdir() if file.name.count("-") == 4] == [b"weights"]


def test_prepared_data_are_on_the_disk_with_all_that_lies_with_them_before_they_have_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[str, tuple[int, int]] = {}
    lost: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noting_fsync(handle: int) -> None:
        fsync(handle)
        known = os.fstat(handle)
        synced[os.readlink(f"/proc/self/fd/{handle}")] = known.st_size, known.st_mtime_ns

    def cutting_rename(folder: Path, target: Path) -> Path:
        for file in (folder, *folder.rglob("*")):
            known = file.stat()
            if synced.get(str(file)) != (known.st_size, known.st_mtime_ns):
                lost.append(file.name)
        return rename(folder, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "rename", cutting_rename)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 1), dtype=np.uint8)
    np.savez(tmp_path / "own.npz", x_train=pixels, y_train=np.arange(40) % 2)
    dataset = prepare(str(tmp_path / "own.npz"), Home(tmp_path / "home"), report=lambda _: None)
    assert len(list(dataset.folder.iterdir())) > 4
    assert lost == []


@pytest.mark.parametrize("seed", range(6))
def test_what_was_claimed_frozen_or_complete_is_so_after_a_power_cut_with_all_that_it_said(
    tmp_path: Path, database: Database, seed: int
) -> None:
    random = Random(seed)
    claims = new_study(database, budget=99)
    cut = PowerCut(database, tmp_path / "studies.db")
    held: list[Claim] = []
    promised: dict[int, Any] = {}  # by the number of a trial: what a power cut must leave of it
    rode = lost = 0
    for step in range(60):
        what = random.choice(["claim", "report", "report", "report", "beat", "checkpoint", "freeze", "end"])
        if what == "claim" or not held:
            frozen: list[Choice] = [Thaw(number) for number, kept in promised.items() if kept[0] == "frozen"]
            claim = claims.next(random.choice([Start(), *frozen]))
            assert claim is not None
            held.append(claim)
        else:
            claim = random.choice(held)
            if what == "report":
                with database.together(claim.trial_id):
                    database.set_trial_intermediate_value(claim.trial_id, step, 0.5)
                    database.set_trial_user_attr(claim.trial_id, f"step {step}", step)
            elif what == "beat":
                claims.beat(claim)
            elif what == "checkpoint":
                claims.secure(claim)
                assert cut.written == cut.synced, "it would go on after reports that are lost"
            elif what == "freeze":
                assert claims.put_back(claim, "frozen", "frozen")
            else:
                database.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, [float(step)])
        if what in ("report", "beat") and claim in held and step:
            rode += cut.written > cut.synced
        if what in ("freeze", "end"):
            held = [one for one in held if one != claim]
        if cut.written == cut.synced:
            promised = {trial.number: said(trial) for trial in database.get_all_trials(claims._study_id)}
        left = cut.left(tmp_path / f"after {step}", random.randint(cut.synced, cut.written))
        found = {trial.number: said(trial) for trial in trials_in(left)}
        lost += found != {trial.number: said(trial) for trial in database.get_all_trials(claims._study_id)}
        assert found.keys() == promised.keys()
        for number, (state, reports) in promised.items():
            assert found[number][0] == state
            assert set(reports) <= set(found[number][1])
            assert state not in ("COMPLETE", "frozen") or reports == found[number][1]
    assert rode > lost > 0, "what rides is lost at times, and only then"


def said(trial: FrozenTrial) -> tuple[str, list[int]]:
    """How a trial stands, with who holds it, and the steps after which it reported, each with its attribute."""
    held = trial.system_attrs[attributes.CLAIM]["id"]
    state = (
        "frozen" if is_frozen(trial) else f"claimed {held}" if trial.state == TrialState.RUNNING else trial.state.name
    )
    assert {key for key in trial.user_attrs if key.startswith("step ")} == {
        f"step {s}" for s in trial.intermediate_values
    }
    return state, list(trial.intermediate_values)


def trials_in(file: Path) -> list[FrozenTrial]:
    """The trials of the one study of a database, as stock Optuna reads them."""
    stock = optuna.storages.RDBStorage(f"sqlite:///{file}")
    (study,) = stock.get_all_studies()
    trials = stock.get_all_trials(study._study_id)
    stock.engine.dispose()
    return trials


# A process of its own writes three checkpoints, or says where it was ended.
_WRITE = """
import sys
from pathlib import Path
from storage.checkpoints import TrialCheckpoints
from storage.stores.local import LocalFiles
checkpoints = TrialCheckpoints(LocalFiles(Path(sys.argv[1]) / "7"), fingerprint="spec", trial=7)
for epochs in (1, 2, 3):
    checkpoints.save(claim=1, epochs=epochs, content=b"%d" % epochs)
"""

_CUTS = [
    Fault("os:fsync", "kill", call=5, process=""),
    Fault("os:replace", "kill", call=3, process=""),
    Fault("os:replace", "kill", "after", call=3, process=""),
    Fault("os:fsync", "kill", "after", call=6, process=""),
    Fault("storage.checkpoints:TrialCheckpoints._remove_older", "kill", call=3, process=""),
]


@pytest.mark.parametrize("cut", _CUTS, ids=lambda fault: f"{fault.when} {fault.at.split(':')[1]} {fault.call}")
def test_a_process_that_is_killed_while_it_writes_leaves_a_checkpoint_to_go_on_from(tmp_path: Path, cut: Fault) -> None:
    faults = Faults(tmp_path / "faults", cut)
    killed = subprocess.run(
        [sys.executable, "-c", _WRITE, str(tmp_path)], check=False, cwd=ROOT, env={**os.environ, **faults.environment}
    )
    assert killed.returncode == -9
    assert faults.happened() == [1]
    checkpoints = TrialCheckpoints(LocalFiles(tmp_path / "7"), fingerprint="spec", trial=7)
    renamed = cut.when == "after" or "older" in cut.at
    assert checkpoints.load() == (Checkpoint(3, b"3") if renamed else Checkpoint(2, b"2"))
    checkpoints.save(claim=2, epochs=4, content=b"4")
    whole = [file for file in (tmp_path / "7").iterdir() if not file.name.startswith(".")]
    assert len(whole) == KEPT
    # What the killed process was writing goes with the folder when the trial is over.
    checkpoints.remove()
    assert not (tmp_path / "7").exists()
