"""What artifacts and checkpoints need of a place for files, of each kind of place: a folder and an object store."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta

from storage.artifacts import ArtifactDamaged, Artifacts
from storage.checkpoints import KEPT, Checkpoint, TrialCheckpoints, remove_checkpoints_of
from storage.claims import Claim, Claims
from storage.database import Database
from storage.errors import BadInput, ClaimLost, StorageUnavailable
from storage.settings import Home, files_url
from storage.stores.chosen import all_checkpoint_files, artifact_files, checkpoint_files
from storage.stores.file_store import FileStore
from storage.stores.remote import file_system
from tests.databases import fresh_database, new_study, second_connection
from tests.object_store import ObjectStore, object_store


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with object_store() as started:
        yield started


@pytest.fixture(params=["folder", "mounted folder", "object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Home]:
    """Returns a home by the name of a machine: all of them keep their files in one place."""
    files = ""
    if request.param == "mounted folder":
        files = f"file://{tmp_path / 'shared'}"
    elif request.param == "object store":
        store: ObjectStore = request.getfixturevalue("server")
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        files = store.bucket()

    def home(machine: str) -> Home:
        return Home(tmp_path / (machine if files else "one"), files)

    return home


@pytest.fixture
def files(place: Callable[[str], Home]) -> FileStore:
    return artifact_files(place("here"), make=True)


@pytest.fixture
def elsewhere(place: Callable[[str], Home], files: FileStore) -> FileStore:
    """The same place, seen from another machine."""
    return artifact_files(place("there"), make=True)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with fresh_database(tmp_path / "studies.db") as opened:
        yield opened


def put(files: FileStore, name: str, content: bytes = b"weights") -> None:
    with files.writing(name) as beside:
        beside.write_bytes(content)


# --- Files


def test_what_was_written_is_read_from_anywhere(files: FileStore, elsewhere: FileStore) -> None:
    put(files, "a.bin")
    assert elsewhere.read("a.bin") == files.read("a.bin") == b"weights"
    assert elsewhere.local("a.bin").read_bytes() == b"weights"
    with elsewhere.open("a.bin") as opened:
        assert (opened.read(4), opened.read()) == (b"weig", b"hts")
    assert (files.names(), elsewhere.names()) == (["a.bin"], ["a.bin"])


def test_before_it_is_whole_nobody_sees_it(files: FileStore, elsewhere: FileStore) -> None:
    with files.writing("a", suffix=".keras") as beside:
        beside.write_bytes(b"half")
        assert beside.suffix == ".keras"
        assert [name for name in elsewhere.names() if not name.startswith(".")] == []
        with pytest.raises(FileNotFoundError):
            elsewhere.read("a")


def test_a_writer_that_fails_leaves_what_was_there(files: FileStore, elsewhere: FileStore) -> None:
    put(files, "a", b"before")

    def fail() -> None:
        with files.writing("a") as beside:
            beside.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    assert (files.read("a"), elsewhere.read("a"), elsewhere.names()) == (b"before", b"before", ["a"])


def test_what_is_not_there_is_told_so(files: FileStore) -> None:
    for ask in (files.read, files.open, files.local, files.inside):
        with pytest.raises(FileNotFoundError):
            ask("nothing")
    files.remove("nothing")
    files.folder("nowhere").remove("")
    assert (files.folder("nowhere").names(), files.folder("nowhere").folders()) == ([], [])
    assert files.size_bytes(["nothing"]) == 0


def test_folders_have_files_and_are_removed_with_them_and_no_others(files: FileStore) -> None:
    for name in ("7", "70"):
        inner = files.folder("study").folder(name)
        inner.make()
        put(inner, "one", b"12345")
        put(inner, "two", b"123")
    study = files.folder("study")
    assert (files.folders(), study.folders(), study.names()) == (["study"], ["7", "70"], [])
    known = study.inside("7")
    assert sum(stored.size_bytes for stored in known) == 8
    assert all(abs(time.time() - stored.changed) < 60 for stored in known)
    assert study.folder("7").size_bytes(["one", "two", "three"]) == 8
    study.remove("7")
    assert (study.folders(), study.folder("70").names()) == (["70"], ["one", "two"])
    study.folder("70").remove("")
    assert study.folder("70").names() == []


@pytest.mark.parametrize("name", ["[small] v2", "sta*", "what?", "100% ü"])
def test_a_folder_of_any_name_is_removed_and_no_other(files: FileStore, name: str) -> None:
    for folder in (name, "small v2", "star", "what!"):
        put_in = files.folder(folder)
        put_in.make()
        put(put_in, "one")
    files.remove(name)
    assert files.folders() == ["small v2", "star", "what!"]


def test_what_is_open_is_not_swept(files: FileStore, elsewhere: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.files.HELD_AFTER_S", -1.0)
    put(files, "a")
    with elsewhere.open("a") as opened:
        elsewhere.sweep()
        assert opened.read() == b"weights"


def test_a_file_is_called_otherwise(files: FileStore, elsewhere: FileStore) -> None:
    put(files, "a.checkpoint")
    files.rename("a.checkpoint", "a.damaged")
    assert (elsewhere.names(), elsewhere.read("a.damaged")) == (["a.damaged"], b"weights")
    with pytest.raises(FileNotFoundError):
        files.read("a.checkpoint")


def test_what_was_removed_elsewhere_is_not_there(files: FileStore, elsewhere: FileStore) -> None:
    put(files, "a")
    elsewhere.remove("a")
    assert files.names() == []
    put(files, "a", b"another")
    assert elsewhere.read("a") == b"another"


def test_a_large_file_is_whole(files: FileStore, elsewhere: FileStore) -> None:
    content = bytes(range(256)) * 2**16  # more than what is sent at once
    put(files, "large", content)
    assert elsewhere.read("large") == content


# --- Artifacts


@pytest.fixture
def claim(database: Database) -> Claim:
    claim = new_study(database).next()
    assert claim is not None
    return claim


def write(file: Path) -> None:
    file.write_bytes(b"weights")


def test_an_artifact_is_verified_anywhere_and_stock_optuna_reads_it(
    database: Database, files: FileStore, elsewhere: FileStore, claim: Claim, tmp_path: Path
) -> None:
    kept = Artifacts(files).put(database, claim.trial_id, "model", "model.keras", write)
    trial = database.get_trial(claim.trial_id)
    assert Artifacts(elsewhere).verified(trial, "model").read_bytes() == b"weights"
    (listed,) = get_all_artifact_meta(
        optuna.load_study(study_name="mnist", storage=database).trials[0], storage=database
    )
    store = Artifacts(elsewhere).store
    optuna.artifacts.download_artifact(
        artifact_store=store, file_path=str(tmp_path / "copy"), artifact_id=listed.artifact_id
    )
    assert (tmp_path / "copy").read_bytes() == b"weights"
    store.remove(kept.id)
    with pytest.raises(optuna.artifacts.exceptions.ArtifactNotFound):
        store.open_reader(kept.id)
    with pytest.raises(optuna.artifacts.exceptions.ArtifactNotFound):
        store.open_reader("../artifacts")


def test_the_bytes_of_an_artifact_are_in_place_before_the_database_hears_of_them(
    database: Database, files: FileStore, elsewhere: FileStore, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[bytes]] = []
    monkeypatch.setattr(
        database, "set_trial_system_attr", lambda *_: seen.append([elsewhere.read(name) for name in elsewhere.names()])
    )
    Artifacts(files).put(database, claim.trial_id, "model", "model.keras", write)
    assert seen == [[b"weights"], [b"weights"]]


def test_a_worker_that_lost_its_trial_leaves_no_artifact(database: Database, files: FileStore, claim: Claim) -> None:
    with second_connection(database) as other:
        Claims(other, other.get_study_id_from_name("mnist"), "another").put_back(claim, "silent")
    with pytest.raises(ClaimLost):
        Artifacts(files).put(database, claim.trial_id, "model", "model.keras", write)
    assert files.names() == []


def test_damage_and_loss_of_an_artifact_are_found(
    database: Database, files: FileStore, elsewhere: FileStore, claim: Claim
) -> None:
    kept = Artifacts(files).put(database, claim.trial_id, "model", "model.keras", write)
    trial = database.get_trial(claim.trial_id)
    put(files, kept.id, b"weightZ")
    with pytest.raises(ArtifactDamaged, match=r"is damaged: .*Take another trial with --trial"):
        Artifacts(elsewhere).verified(trial, "model")
    assert Artifacts(files).remove([kept.id, "../precious"]) == 7
    elsewhere.remove(kept.id)
    with pytest.raises(ArtifactDamaged, match="is missing: "):
        Artifacts(elsewhere).verified(trial, "model")


# --- Checkpoints


def checkpoints(home: Home, name: str = "mnist") -> TrialCheckpoints:
    return TrialCheckpoints(checkpoint_files(home, name, "0123456789").folder("7"), fingerprint="spec", trial=7)


def test_a_trial_goes_on_from_a_checkpoint_that_another_machine_has_kept(place: Callable[[str], Home]) -> None:
    for epochs in range(1, 5):
        checkpoints(place("here")).save(claim=1, epochs=epochs, content=b"%d" % epochs)
    mine = checkpoint_files(place("there"), "renamed", "0123456789").folder("7")
    assert len(mine.names()) == KEPT
    assert checkpoints(place("there"), "renamed").load() == Checkpoint(4, b"4")
    assert all_checkpoint_files(place("there")).folders() == ["mnist-01234567"]
    remove_checkpoints_of(checkpoint_files(place("there"), "mnist", "0123456789"), {7, 8})
    assert checkpoints(place("here")).load() is None


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(place: Callable[[str], Home]) -> None:
    for epochs in (1, 2):
        name = checkpoints(place("here")).save(claim=1, epochs=epochs, content=b"%d" % epochs)
    put(checkpoint_files(place("here"), "mnist", "0123456789").folder("7"), name, b"torn")
    assert checkpoints(place("there")).load() == Checkpoint(1, b"1")
    names = checkpoint_files(place("there"), "mnist", "0123456789").folder("7").names()
    assert names == ["claim-1-epochs-1.checkpoint", "claim-1-epochs-2.damaged"]


# --- What only an object store does


def s3(server: ObjectStore, home: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return Home(home, server.bucket())


def test_a_copy_is_kept_and_a_damaged_one_is_fetched_again(
    server: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = s3(server, tmp_path, monkeypatch)
    files = artifact_files(home, make=True)
    put(files, "a")
    copy = files.local("a")
    assert copy.is_relative_to(home.copies)
    copy.write_bytes(b"weightZ")
    digest = "9c478bf63e9500cb5db1e85ece82f18c8eb9e52e2f9135acd7f10972c8d563ba"
    assert files.local("a", digest).read_bytes() == b"weights"


def test_copies_that_were_not_used_for_the_longest_make_room(
    server: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = s3(server, tmp_path, monkeypatch)
    files = artifact_files(home, make=True)
    monkeypatch.setattr("storage.stores.remote.COPIES_BYTES", 20)
    for age, name in enumerate(("a", "b", "c")):
        put(files, name, b"12345678")
        if name != "c":
            os.utime(home.copies / "artifacts" / name, (age, age))
    assert sorted(file.name for file in (home.copies / "artifacts").iterdir()) == ["b", "c"]
    assert files.names() == ["a", "b", "c"]
    os.utime(home.copies / "artifacts" / "b", (1, 1))
    # A trial that goes on elsewhere leaves its copies here, and there may be thousands.
    for trial in ("7", "8"):
        put(checkpoint_files(home, "mnist", "0123456789").folder(trial), "d", b"12345678")
    assert sorted(str(file.relative_to(home.copies)) for file in home.copies.rglob("?") if file.is_file()) == [
        "checkpoints/mnist-01234567/7/d", "checkpoints/mnist-01234567/8/d",
    ]  # fmt: skip


@pytest.mark.parametrize("what", ["credentials", "bucket", "server"])
def test_a_store_that_cannot_be_reached_is_told_in_one_line_without_a_secret(
    server: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    home = s3(server, tmp_path, monkeypatch)
    if what == "bucket":
        home = Home(tmp_path, "s3://nobody-made-this-bucket/tuning")
    elif what == "server":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    else:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("HOME", str(tmp_path))
    file_system.cache_clear()
    with pytest.raises(BadInput, match=r"^s3://.*/artifacts cannot be written: .*credentials come from") as refused:
        artifact_files(home, make=True)
    assert "a-secret-of-the-tests" not in str(refused.value)
    assert "\n" not in str(refused.value)
    if what == "server":
        with pytest.raises(StorageUnavailable, match="cannot be read: Could not connect"):
            checkpoints(home).load()
    file_system.cache_clear()


# --- The URL


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("s3://bucket/tuning/", "s3://bucket/tuning"),
        ("gs://bucket", "gs://bucket"),
        ("file:///mnt/shared/", "file:///mnt/shared"),
    ],
)
def test_a_url_has_one_form(given: str, means: str) -> None:
    assert files_url(given) == means


@pytest.mark.parametrize(
    "given",
    [
        "/mnt/shared",
        "ftp://host/folder",
        "s3://",
        "file://host/folder",
        "file:///",
        "s3://key:hunter2@bucket/tuning",
        "s3://bucket/tuning?secret=hunter2",
    ],
)
def test_another_url_is_refused_and_no_password_is_shown(given: str) -> None:
    with pytest.raises(BadInput, match="FILES=") as refused:
        files_url(given)
    assert "hunter2" not in str(refused.value)


def test_a_package_that_is_not_installed_is_named_by_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file_system.cache_clear()
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(BadInput, match=r"pip install '\.\[files-gs\]'"):
        artifact_files(Home(tmp_path, "gs://bucket/tuning"), make=True)
