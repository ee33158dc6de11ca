"""A checkpoint is whole, of this trial and the newest, or not used; a stale owner removes nothing of the next one's."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import checkpoints
from storage.checkpoints import FORMAT, KEPT, Checkpoint, TrialCheckpoints, remove_checkpoints_of
from storage.errors import StorageUnavailable
from storage.stores.local import LocalFiles

CONTENT = b"weights\nand more"


def of(folder: Path, *, fingerprint: str = "spec", trial: int = 7) -> TrialCheckpoints:
    return TrialCheckpoints(LocalFiles(folder / "7"), fingerprint=fingerprint, trial=trial)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "7").iterdir())


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    assert of(tmp_path).load() is None
    of(tmp_path).save(claim=1, epochs=3, content=CONTENT)
    assert of(tmp_path).load() == Checkpoint(3, CONTENT)


def test_a_checkpoint_is_there_though_older_ones_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    with monkeypatch.context() as cut:
        cut.setattr(LocalFiles, "remove", fail)
        for epochs in range(1, KEPT + 2):
            of(tmp_path).save(claim=1, epochs=epochs, content=b"%d" % epochs)
    assert of(tmp_path).load() == Checkpoint(KEPT + 1, b"%d" % (KEPT + 1))
    of(tmp_path).save(claim=1, epochs=9, content=CONTENT)
    assert len(names(tmp_path)) == KEPT


def test_the_newest_two_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    mine = of(tmp_path)
    for epochs in range(1, 12):
        mine.save(claim=1, epochs=epochs, content=b"%d" % epochs)
        assert len(names(tmp_path)) == min(epochs, KEPT)
    assert names(tmp_path) == ["claim-1-epochs-10.checkpoint", "claim-1-epochs-11.checkpoint"]
    assert mine.load() == Checkpoint(11, b"11")


def test_more_epochs_count_for_more_than_a_later_claim(tmp_path: Path) -> None:
    mine = of(tmp_path)
    mine.save(claim=1, epochs=9, content=b"nine")
    mine.save(claim=2, epochs=8, content=b"eight")
    assert mine.load() == Checkpoint(9, b"nine")


def test_a_checkpoint_of_the_next_owner_is_neither_removed_nor_overwritten_by_a_stale_one(tmp_path: Path) -> None:
    stale, owner = of(tmp_path), of(tmp_path)
    for epochs in (1, 2, 3):
        owner.save(claim=2, epochs=epochs, content=b"owner's %d" % epochs)
    for epochs in (1, 2, 3):
        stale.save(claim=1, epochs=epochs, content=b"stale")
    kept = {name: (tmp_path / "7" / name).read_bytes().splitlines()[2] for name in names(tmp_path)}
    assert kept["claim-2-epochs-2.checkpoint"] == b"owner's 2"
    assert kept["claim-2-epochs-3.checkpoint"] == b"owner's 3"
    assert owner.load() == Checkpoint(3, b"owner's 3")


def test_the_owner_removes_what_its_predecessors_left(tmp_path: Path) -> None:
    for claim, epochs in ((1, 4), (2, 5), (3, 6), (4, 7)):
        of(tmp_path).save(claim=claim, epochs=epochs, content=CONTENT)
    assert names(tmp_path) == ["claim-3-epochs-6.checkpoint", "claim-4-epochs-7.checkpoint"]


@pytest.mark.parametrize(("other", "says"), [({"fingerprint": "another"}, "fingerprint"), ({"trial": 8}, "trial")])
def test_a_foreign_checkpoint_is_set_aside_and_the_one_before_it_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, other: dict[str, str | int], says: str
) -> None:
    of(tmp_path).save(claim=1, epochs=2, content=b"mine")
    fingerprint, trial = str(other.get("fingerprint", "spec")), int(other.get("trial", 7))
    of(tmp_path, fingerprint=fingerprint, trial=trial).save(claim=1, epochs=3, content=b"foreign")
    with caplog.at_level(logging.WARNING):
        assert of(tmp_path).load() == Checkpoint(2, b"mine")
    assert f"is set aside: its {says} is" in caplog.text
    assert names(tmp_path) == ["claim-1-epochs-2.checkpoint", "claim-1-epochs-3.damaged"]


def test_one_of_another_format_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "FORMAT", FORMAT + 1)
    of(tmp_path).save(claim=1, epochs=3, content=CONTENT)
    monkeypatch.undo()
    assert of(tmp_path).load() is None


def test_all_that_are_damaged_are_set_aside_and_the_trial_begins_anew(tmp_path: Path) -> None:
    for epochs in (1, 2):
        (tmp_path / "7" / of(tmp_path).save(claim=1, epochs=epochs, content=CONTENT)).write_bytes(b"")
    assert of(tmp_path).load() is None
    assert names(tmp_path) == ["claim-1-epochs-1.damaged", "claim-1-epochs-2.damaged"]
    of(tmp_path).save(claim=2, epochs=1, content=CONTENT)
    assert of(tmp_path).load() == Checkpoint(1, CONTENT)
    of(tmp_path).remove()
    assert not (tmp_path / "7").exists()
    of(tmp_path).remove()


def test_one_that_cannot_be_read_just_now_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = of(tmp_path)
    for epochs in (1, 2):
        mine.save(claim=1, epochs=epochs, content=b"%d" % epochs)
    with monkeypatch.context() as context:

        def read(_file: Path) -> bytes:
            raise OSError(errno.EMFILE, "Too many open files")

        context.setattr(Path, "read_bytes", read)
        with pytest.raises(StorageUnavailable, match=r"epochs-2.checkpoint cannot be read: Too many open files"):
            mine.load()
    assert mine.load() == Checkpoint(2, b"2")


def test_one_on_a_bad_sector_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, read = of(tmp_path), Path.read_bytes
    for epochs in (1, 2):
        mine.save(claim=1, epochs=epochs, content=b"%d" % epochs)

    def damaged(file: Path) -> bytes:
        if "epochs-2" in file.name:
            raise OSError(errno.EIO, "Input/output error")
        return read(file)

    monkeypatch.setattr(Path, "read_bytes", damaged)
    assert mine.load() == Checkpoint(1, b"1")
    assert "claim-1-epochs-2.damaged" in names(tmp_path)


def test_checkpoints_of_trials_that_are_over_are_swept_and_no_others(tmp_path: Path) -> None:
    remove_checkpoints_of(LocalFiles(tmp_path / "not there"), {7})
    of(tmp_path).save(claim=1, epochs=3, content=CONTENT)
    for other in ("8", "07a", "notes"):
        (tmp_path / other).mkdir()
    remove_checkpoints_of(LocalFiles(tmp_path), {7, 9})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["07a", "8", "notes"]


def test_other_files_in_the_folder_are_not_looked_at(tmp_path: Path) -> None:
    of(tmp_path).save(claim=1, epochs=3, content=CONTENT)
    for name in (".claim-1-epochs-4-abcdefgh.checkpoint", "claim-1-epochs-5.checkpoint.bak", "notes"):
        (tmp_path / "7" / name).write_bytes(b"torn")
    assert of(tmp_path).load() == Checkpoint(3, CONTENT)
    assert len(names(tmp_path)) == 4


@given(data=st.data())
def test_any_wrong_byte_is_found_and_the_checkpoint_before_is_used(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    of(folder).save(claim=1, epochs=2, content=b"before")
    path = (
        folder
        / "7"
        / of(folder).save(claim=1, epochs=3, content=data.draw(st.binary(min_size=1, max_size=64), label="content"))
    )
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1), label="at")
    wrong = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]), label="byte")
    path.write_bytes(whole[:at] + bytes([wrong]) + whole[at + 1 :])
    assert of(folder).load() == Checkpoint(2, b"before")


@given(data=st.data())
def test_any_missing_end_is_found_and_so_is_anything_added(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    of(folder).save(claim=1, epochs=2, content=b"before")
    path = (
        folder
        / "7"
        / of(folder).save(claim=1, epochs=3, content=data.draw(st.binary(min_size=1, max_size=64), label="content"))
    )
    whole = path.read_bytes()
    torn = data.draw(
        st.integers(0, len(whole) - 1).map(lambda kept: whole[:kept]) | st.binary(min_size=1).map(lambda m: whole + m),
        label="torn",
    )
    path.write_bytes(torn)
    assert of(folder).load() == Checkpoint(2, b"before")
