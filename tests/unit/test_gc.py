"""What no study needs is found and freed, and nothing else, whatever databases a home serves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from storage import attributes
from storage.artifacts import Artifacts
from storage.backups.backup import back_up
from storage.backups.restore import restore
from storage.database import Database
from storage.leftovers import COMPILED_MIN_AGE_S, MIN_AGE_S, SHIPPED_MIN_AGE_S, Leftovers, find_leftovers, free
from storage.opening import open_to_read
from storage.scratch import ABANDONED_AFTER_S
from storage.settings import Home
from storage.stores.local import LocalFiles
from tests.databases import fresh_database, new_study
from tests.studies_made import UID, age, claimed, varied
from tuning.cli import run

database = varied
NEW_UUID = "11111111-2222-3333-4444-{:012}"


def put(file: Path, size_bytes: int = 10) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(size_bytes))
    return file


def found(home: Home, *databases: Database, study: str | None = None) -> Leftovers:
    return find_leftovers(home, databases, study=study)


def paths(leftovers: Leftovers) -> set[Path]:
    return {Path(leftover.place) for leftover in leftovers.free}


def make_leftovers(home: Home) -> set[Path]:
    """One of each kind beside the study that is there, whose COMPLETE trial 0 has left a checkpoint."""
    checkpoints = home.checkpoints("mnist", UID)
    return {
        put(home.artifacts / NEW_UUID.format(1)),
        put(home.artifacts / ".11111111-2222-3333-4444-555555555555-ab_c12xy.keras"),
        put(checkpoints / "3" / "claim-1-epochs-2.damaged"),
        put(checkpoints / "3" / ".claim-1-epochs-2-abcdefgh.checkpoint"),
        put(checkpoints / "99" / "claim-1-epochs-2.checkpoint").parent,
        put(home.downloads / ".mnist-0123abcd" / "images" / "one.gz").parents[1],
        put(home.dataset(".mnist-0123abcd") / "train.npy").parent,
        put(home.export(".mnist-0123abcd") / "model.keras").parent,
        checkpoints / "0",
    }


def make_what_stays(home: Home) -> set[Path]:
    """Files that look a little like leftovers."""
    return {
        put(home.artifacts / "README"),
        put(home.artifacts / ".gitkeep"),
        put(home.dataset("mnist") / "train.npy"),
        put(home.dataset(".mnist-mine") / "train.npy"),
        put(home.export("mnist") / "model.keras"),
        put(home.logs("mnist") / "worker-0.log"),
        put(home.root / "explore" / "mnist" / "samples.png"),
        put(home.compiled("jax") / "jit_f-0123-cache"),
    }


def test_what_is_left_over_is_found_and_freed_and_nothing_else(database: Database, mine: Home) -> None:
    stays = make_what_stays(mine) | {path for path in mine.root.rglob("*") if path.is_file()}
    stays -= {path for path in stays if path.parent == mine.checkpoints("mnist", UID) / "0"}
    leftovers = make_leftovers(mine)
    age(mine.root, 2 * ABANDONED_AFTER_S)
    before = found(mine, database)
    assert paths(before) == leftovers
    assert (before.doubtful, before.strangers) == ([], [])
    removed = free(before.free)
    assert {Path(leftover.place) for leftover in removed} == leftovers
    assert sum(leftover.size_bytes for leftover in removed) >= 80
    assert not any(path.exists() for path in leftovers)
    assert all(path.exists() for path in stays)
    assert paths(found(mine, database)) == set()
    for trial in database.get_all_trials(database.get_study_id_from_name("mnist")):
        Artifacts(LocalFiles(mine.artifacts)).verified(trial, "model")


def test_nothing_young_is_freed(database: Database, mine: Home) -> None:
    make_leftovers(mine)
    assert paths(found(mine, database)) == set()
    age(mine.root, MIN_AGE_S - 60)
    assert paths(found(mine, database)) == set()
    age(mine.root, MIN_AGE_S + 60)
    kinds = {leftover.kind for leftover in found(mine, database).free}
    assert kinds == {"artifacts", "checkpoints", "damaged checkpoints", "unfinished files"}


def test_a_program_compiled_a_month_ago_is_freed_and_its_folder_stays(database: Database, mine: Home) -> None:
    old = put(mine.compiled("tensorflow-2.21.0-H200") / "xla_compile_cache__1__2__GPU.pb")
    autotuned = put(mine.compiled("jax") / "xla_gpu_per_fusion_autotune_cache_dir" / "one.textproto")
    age(mine.root, COMPILED_MIN_AGE_S + 60)
    young = put(mine.compiled("jax") / "jit_f-0123-cache")
    of_kind = [leftover for leftover in found(mine, database).free if leftover.kind == "compiled programs"]
    assert {Path(leftover.place) for leftover in of_kind} == {old, autotuned}
    free(of_kind)
    assert not old.exists()
    assert young.exists()


def test_what_a_launcher_sent_to_a_node_goes_once_no_worker_was_started_with_it_for_a_month(
    database: Database, mine: Home
) -> None:
    old, used = (put(mine.shipped(digest) / "0" / "mine.py").parents[1] for digest in ("ab" * 32, "cd" * 32))
    age(mine.root, SHIPPED_MIN_AGE_S + 60)
    os.utime(used)
    of_kind = [leftover for leftover in found(mine, database).free if leftover.kind == "shipped files"]
    assert {Path(leftover.place) for leftover in of_kind} == {old}
    free(of_kind)
    assert not old.exists()
    assert used.exists()


def test_a_folder_is_as_young_as_the_youngest_file_in_it(database: Database, mine: Home) -> None:
    scratch = put(mine.downloads / ".mnist-0123abcd" / "images" / "one.gz")
    age(mine.root, 2 * ABANDONED_AFTER_S)
    os.utime(scratch)
    assert scratch.parents[1] not in paths(found(mine, database))


def test_an_artifact_that_is_named_after_the_listing_is_looked_at_again(database: Database, mine: Home) -> None:
    file = put(mine.artifacts / NEW_UUID.format(1))
    age(mine.root, 2 * MIN_AGE_S)
    listed = found(mine, database).free
    assert file in {Path(leftover.place) for leftover in listed}
    os.utime(file)  # as a restoration does before it names the file
    assert file not in {Path(leftover.place) for leftover in free(listed)}
    assert file.exists()


def test_artifacts_of_former_attempts_and_of_other_studies_stay(database: Database, mine: Home) -> None:
    other = new_study(database, name="other")
    claimed(database, other, mine)
    trial = database.get_all_trials(other._study_id)[0]
    database.set_study_system_attr(other._study_id, f"artifacts:{NEW_UUID.format(7)}", json.dumps({
        "artifact_id": NEW_UUID.format(7)
    }))  # fmt: skip
    put(mine.artifacts / NEW_UUID.format(7))
    count = len(list(mine.artifacts.iterdir()))
    assert sum(key.startswith("artifacts:") for key in trial.system_attrs) == 3
    age(mine.root, 2 * MIN_AGE_S)
    free(found(mine, database).free)
    assert len(list(mine.artifacts.iterdir())) == count


def test_an_artifact_that_the_dashboard_removed_is_not_named(database: Database, mine: Home) -> None:
    study_id = database.get_study_id_from_name("mnist")
    database.set_study_system_attr(study_id, f"artifacts:{NEW_UUID.format(8)}", json.dumps(None))
    file = put(mine.artifacts / NEW_UUID.format(8))
    age(mine.root, 2 * MIN_AGE_S)
    assert file in paths(found(mine, database))


@pytest.mark.parametrize("evidence", ["logs", "checkpoints"])
def test_while_a_study_of_another_database_shows_no_artifact_is_freed(
    database: Database, mine: Home, tmp_path: Path, evidence: str
) -> None:
    artifact = put(mine.artifacts / NEW_UUID.format(1))
    stranger = mine.logs("far") if evidence == "logs" else mine.checkpoints("far", "9876543210")
    put(stranger / "0" / "file")
    age(mine.root, 2 * MIN_AGE_S)
    doubt = found(mine, database)
    assert [Path(leftover.place) for leftover in doubt.doubtful] == [artifact]
    assert doubt.strangers == [str(stranger)]
    assert artifact not in paths(doubt)
    with fresh_database(tmp_path / "far.db") as far:
        claims = new_study(far, name="far")
        far.set_study_user_attr(claims._study_id, attributes.UID, "9876543210")
        known = found(mine, database, far)
    assert known.strangers == []
    assert artifact in paths(known)


def test_a_study_that_is_gone_is_freed_by_its_name(database: Database, mine: Home) -> None:
    gone = {
        put(mine.checkpoints("gone", "abcdef0123") / "0" / "claim-1-epochs-2.checkpoint").parents[1],
        put(mine.logs("gone") / "worker-0.log").parent,
    }
    put(mine.checkpoints("gone-too", "abcdef0123") / "0" / "claim-1-epochs-2.checkpoint")
    put(mine.logs("gone-too") / "worker-0.log")
    age(mine.root, 2 * MIN_AGE_S)
    assert paths(found(mine, database, study="gone")) == gone
    assert paths(found(mine, database, study="mnist")) == {mine.checkpoints("mnist", UID) / "0"}
    assert paths(found(mine, database, study="never")) == set()


def test_what_a_restoration_that_was_killed_left_is_found(database: Database, mine: Home, tmp_path: Path) -> None:
    backup = back_up(database, "mnist", tmp_path / "copy", mine)
    free(found(mine, database).free)
    new = Home(tmp_path / "new")
    restore(backup, new.database_url, new)
    age(new.root, 2 * MIN_AGE_S)
    with fresh_database(tmp_path / "empty.db") as empty:
        doubt = found(new, empty)
        assert len(doubt.strangers) == 1
        assert len(doubt.doubtful) == len(backup.under("artifacts"))
        free(found(new, empty, study="mnist").free)
        free(found(new, empty).free)
    assert list(new.artifacts.iterdir()) == []


def test_a_restored_study_is_told_of_though_no_trial_of_it_has_a_checkpoint(tmp_path: Path) -> None:
    new = Home(tmp_path / "new")
    with fresh_database(tmp_path / "old.db") as old, fresh_database(tmp_path / "empty.db") as empty:
        old.set_study_user_attr(new_study(old)._study_id, attributes.UID, UID)
        restore(back_up(old, "mnist", tmp_path / "copy", Home(tmp_path / "old")), new.database_url, new)
        assert len(found(new, empty).strangers) == 1
        restored = open_to_read(new.database_url)
        assert found(new, restored).strangers == []
        restored.engine.dispose()


def test_the_command_only_tells_until_it_is_told_to_free(
    database: Database, mine: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    file = put(mine.artifacts / NEW_UUID.format(1), 2_000_000)
    age(mine.root, 2 * MIN_AGE_S)
    assert run(["gc"]) == 0
    said = capsys.readouterr().err
    assert f"databases read: sqlite:///{mine.root}/studies.db" in said
    assert "left over: 1 artifacts, 2.0 MB" in said
    assert "Nothing was freed" in said
    assert file.exists()
    assert run(["gc", "--yes"]) == 0
    assert "freed: 1 artifacts, 2.0 MB" in capsys.readouterr().err
    assert not file.exists()
    assert run(["gc", "--yes"]) == 0
    assert "freed: nothing" in capsys.readouterr().err


def test_the_default_database_is_read_beside_one_that_is_given(
    database: Database, mine: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    age(mine.root, 2 * MIN_AGE_S)
    with fresh_database(tmp_path / "far.db") as far:
        url = far.shown_url
    assert run(["gc", "--storage", url, "--yes"]) == 0
    assert f"databases read: {url}, sqlite:///{mine.root}/studies.db" in capsys.readouterr().err
    assert len(list(mine.artifacts.iterdir())) == 18


def test_without_a_database_nothing_is_freed(mine: Home, capsys: pytest.CaptureFixture[str]) -> None:
    file = put(mine.artifacts / NEW_UUID.format(1))
    age(mine.root, 2 * MIN_AGE_S)
    assert run(["gc", "--yes"]) == 2
    assert "there is no study in" in capsys.readouterr().err
    assert file.exists()


def test_the_command_says_why_artifacts_are_kept(
    database: Database, mine: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    file = put(mine.artifacts / NEW_UUID.format(1), 2_000_000)
    put(mine.logs("far") / "worker-0.log")
    age(mine.root, 2 * MIN_AGE_S)
    assert run(["gc", "--yes"]) == 0
    said = capsys.readouterr().err
    assert f"kept: 1 artifacts that no study names, 2.0 MB, because of {mine.logs('far')}" in said
    assert "tuning gc --study NAME --yes" in said
    assert file.exists()
