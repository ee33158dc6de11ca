"""A file that is replaced is the old one or the new one, never a part, and nothing is left beside it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage.files import HELD_AFTER_S, replacing, sha256_of, sweep, sync_tree

ROOT = Path(__file__).resolve().parents[2]


def test_what_was_written_takes_the_targets_place(tmp_path: Path) -> None:
    target = tmp_path / "kept.json"
    target.write_text("old")
    with replacing(target) as beside:
        assert beside.parent == tmp_path
        assert beside.suffix == ".json"
        beside.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_the_result_can_be_read_by_others(tmp_path: Path) -> None:
    with replacing(tmp_path / "kept") as beside:
        beside.write_text("new")
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), SystemExit(1)])
def test_an_exception_leaves_the_target_as_it_was_and_nothing_beside_it(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "kept.json"
    target.write_text("old")

    def write_half(beside: Path) -> None:
        beside.write_text("ha")
        raise error

    with pytest.raises(type(error)), replacing(target) as beside:
        write_half(beside)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_exception_makes_no_target_where_there_was_none(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "kept") as beside:
        beside.write_text(str(1 // 0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_failing_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    target = tmp_path / "kept"
    target.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"), replacing(target) as beside:
        beside.write_text("new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_bytes_are_on_the_disk_before_the_name_changes_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noting_fsync(handle: int) -> None:
        happened.append("sync folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "sync file")
        fsync(handle)

    def noting_replace(source: Path, target: Path) -> None:
        happened.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_replace)
    with replacing(tmp_path / "kept") as beside:
        beside.write_text("new")
    assert happened == ["sync file", "replace", "sync folder"]


def test_a_tree_is_on_the_disk_with_every_file_before_the_folder_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree" / "inner").mkdir(parents=True)
    for name in ("top", "inner/below"):
        (tmp_path / "tree" / name).write_text("bytes")
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}")))
    sync_tree(tmp_path / "tree")
    assert [str(Path(path).relative_to(tmp_path)) for path in synced] == [
        "tree/inner/below", "tree/inner", "tree/top", "tree",
    ]  # fmt: skip


def make_older(*files: Path) -> None:
    for file in files:
        os.utime(file, (0, file.stat().st_mtime - HELD_AFTER_S - 1))


def test_what_a_killed_process_left_is_swept_and_what_another_writes_stays(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from storage.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as beside:\n    beside.write_text('ha')\n    os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "kept.keras")], check=False, cwd=ROOT)
    assert killed.returncode == -9
    (left,) = tmp_path.iterdir()
    (tmp_path / "whole.json").write_text("{}")
    with replacing(tmp_path / "other") as beside:
        make_older(left, tmp_path / "whole.json", beside)
        sweep(tmp_path)
        assert not left.exists()
        beside.write_text("new")
    assert {file.name for file in tmp_path.iterdir()} == {"whole.json", "other"}


def test_a_file_that_may_not_be_held_yet_is_not_swept(tmp_path: Path) -> None:
    (tmp_path / ".kept-abcdefgh").touch()
    sweep(tmp_path)
    assert (tmp_path / ".kept-abcdefgh").exists()
    sweep(tmp_path / "not there")


def test_the_checksum_is_that_of_the_bytes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"bytes" * 100_000)
    assert sha256_of(file) == hashlib.sha256(b"bytes" * 100_000).hexdigest()
