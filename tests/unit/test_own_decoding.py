"""What a folder of pictures becomes: the pixels, pixel for pixel; what is left out; and what a stopped one keeps."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from storage.errors import BadInput, TuningError
from studies.datasets.own.decoders import crew as crew_module
from studies.datasets.own.decoders.chunks import Task, array_file, entries_file, main, make_chunk, measure, options
from studies.datasets.own.decoding import Decoded, decode, default_size
from studies.datasets.own.listing import Listing, PictureFile, list_folder
from studies.form import FITS, Fit
from tests.picture_folders import by_hand, encoded, files, picture, write


def folder_of(root: Path, classes: int = 2, pictures: int = 3, **more: Any) -> Path:
    for label in range(classes):
        for number in range(pictures):
            write(root / f"class{label}" / f"{number:03d}.png", seed=100 * label + number, **more)
    return root


def decoded(listing: Listing, folder: Path, **more: Any) -> tuple[Decoded, list[str]]:
    lines = list[str]()
    given = {"image_size": (8, 8), "fit": "crop", "workers": 1, "report": lines.append}
    return decode(listing, folder, **{**given, **more}), lines


def pixels(of: Decoded, part: Any = "train") -> Any:
    return np.concatenate([np.empty((0, *of.shape), np.uint8), *of.blocks(part)])


def task(root: Path, paths: list[str], chunk: Path, size: tuple[int, int] = (8, 8), fit: Fit = "crop") -> Task:
    return {
        "do": "decode",
        "root": str(root),
        "paths": paths,
        "chunk": str(chunk),
        "options": options(size, fit),
        "careful": False,
        "given_up": {},
    }


@settings(max_examples=40)
@given(
    drawn=st.lists(files(), min_size=1, max_size=6, unique_by=lambda file: file[0]),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    fit=st.sampled_from(FITS),
)
def test_pixels_are_those_of_pillow_in_a_plain_loop(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, bytes, bool]], size: tuple[int, int], fit: Fit
) -> None:
    root = tmp_path_factory.mktemp("pictures")
    for name, content, _ in drawn:
        write(root / name, content)
    make_chunk(task(root, [name for name, _, _ in drawn], root / "chunk", size, fit), print)
    expected = [by_hand(content, size, fit) for _, content, is_picture in drawn if is_picture]
    array = np.load(array_file(root / "chunk"))
    colour = array.shape[3] == 3
    np.testing.assert_array_equal(
        np.repeat(array, 1 if colour else 3, axis=3), np.array(expected).reshape(-1, *size, 3)
    )
    if not colour:
        assert all((one == one[..., :1]).all() for one in expected)
    about = json.loads(entries_file(root / "chunk").read_text())
    for (name, content, is_picture), entry in zip(drawn, about["entries"], strict=True):
        assert (entry["path"], entry["size_bytes"]) == (name, len(content))
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert (entry["reason"] is None) == is_picture


def test_parts_labels_and_order_are_the_listing_s(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    for number, part in enumerate(["train", "val", "test"]):
        folder_of(root / part, classes=2 + 1, pictures=2 + number)
    listing = list_folder(root)
    found, lines = decoded(listing, tmp_path / "work", image_size=None, workers=2)
    assert found.shape == (9, 7, 3)  # all of one size: taken as they are
    for part, listed in listing.parts.items():
        contents = [(root / file.path).read_bytes() for file in listed]
        np.testing.assert_array_equal(pixels(found, part), [by_hand(it, (9, 7), "crop") for it in contents])
        assert found.parts[part].labels.tolist() == [file.label for file in listed]
        assert found.parts[part].digests == tuple(hashlib.sha256(it).hexdigest() for it in contents)
        assert [source.path for source in found.parts[part].sources] == [file.path for file in listed]
    assert len(lines) == 2
    assert lines[0].startswith("27 pictures: decoding")


def test_grey_pictures_make_grey_data_until_one_has_colour(tmp_path: Path) -> None:
    for mode, label in (("L", "a"), ("RGB", "a"), ("P", "a"), ("1", "b"), ("LA", "b"), ("I;16", "b")):
        write(tmp_path / "in" / label / f"{mode}.png", encoded(picture(mode, (9, 9), 5, grey=True), "PNG"))
    grey, _ = decoded(list_folder(tmp_path / "in"), tmp_path / "work")
    assert grey.shape == (8, 8, 1)
    before = pixels(grey)
    coloured = np.zeros((500, 500, 3), np.uint8)
    coloured[7, 7] = (0, 0, 1)  # nothing of it is left at 8x8
    write(tmp_path / "in" / "b" / "z.png", encoded(Image.fromarray(coloured), "PNG"))
    found, _ = decoded(list_folder(tmp_path / "in"), tmp_path / "work")
    assert found.shape == (8, 8, 3)
    np.testing.assert_array_equal(pixels(found)[:6], np.repeat(before, 3, axis=3))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(28, 28)], (28, 28)),
        ([(48, 64)], (48, 64)),
        ([(65, 65)], (64, 64)),
        ([(1, 1)], (1, 1)),
        ([(64, 65)], (64, 64)),
        ([(28, 28), (28, 29)], (32, 32)),
        ([(40, 100), (100, 60)], (48, 48)),
        ([(40, 100), (100, 55)], (32, 32)),
        ([(500, 300), (400, 400), (20, 20)], (64, 64)),
        ([], (32, 32)),
    ],
)
def test_the_size_is_that_of_all_or_follows_from_the_median(
    sizes: list[tuple[int, int]], expected: tuple[int, int]
) -> None:
    assert default_size(dict.fromkeys(sizes, 1)) == expected


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_the_size_of_a_turned_picture_is_that_of_the_upright_one(tmp_path: Path, kind: str) -> None:
    lying = encoded(picture("RGB", (40, 60), 1), kind, orientation=6)
    write(tmp_path / "a", lying)
    write(tmp_path / "b", encoded(picture("RGB", (60, 40), 1), kind))
    measuring: Task = {**task(tmp_path, ["a", "b"], tmp_path), "do": "sizes"}
    assert measure(measuring, print) == {"sizes": [[60, 40, 2]]}


def test_what_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", pictures=150)
    whole = (root / "class0" / "000.png").read_bytes()
    (root / "class0" / "000.png").write_bytes(whole[: len(whole) // 2])
    (root / "class1" / "001.png").write_bytes(b"")
    (root / "class1" / "new\nline.heic").write_bytes(b"no format of ours")
    found, lines = decoded(list_folder(root), tmp_path / "work")
    assert [path for path, _ in found.skipped] == ["class0/000.png", "class1/001.png", "class1/new\nline.heic"]
    assert len(pixels(found)) == len(found.parts["train"].labels) == len(found.parts["train"].digests) == 298
    assert found.parts["train"].labels.tolist() == [0] * 149 + [1] * 149
    assert len(found.parts["train"].sources) == 301
    left_out = [line for line in lines if line.startswith("left out")]
    assert left_out[0].startswith("left out: class0/000.png (a damaged picture: ")
    assert left_out[2] == "left out: class1/new\\nline.heic (no picture that can be read)"
    for number in (2, 3):
        (root / "class0" / f"00{number}.png").write_bytes(b"")
    with pytest.raises(BadInput, match=r"^5 of 301 pictures in \S+ cannot be read, more than 1%: class0/000.png \(a "):
        decoded(list_folder(root), tmp_path / "work")


def test_a_class_that_loses_too_many_pictures_is_refused(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", classes=2, pictures=300)
    for number in range(3):
        write(root / "class2" / f"{number}.png", None if number else b"")
    with pytest.raises(BadInput, match="class 'class2' has 2 pictures in train and needs 3"):
        decoded(list_folder(root), tmp_path / "work")


def test_a_folder_that_grows_or_shrinks_meanwhile_is_refused(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", pictures=4)
    listing = list_folder(root)
    for number in range(3):
        write(root / "class0" / f"new{number}.png")
    (root / "class1" / "000.png").unlink()
    with pytest.raises(BadInput, match=r"changed while it was read: 3 files more and 1 file fewer\. Give the"):
        decoded(listing, tmp_path / "work")


def test_a_chunk_is_taken_over_as_long_as_its_files_and_options_stay_and_it_is_whole(tmp_path: Path) -> None:
    root, chunk = folder_of(tmp_path), tmp_path / "chunk"
    paths = [f"class{label}/00{number}.png" for label in (0, 1) for number in (0, 1, 2)]
    given = task(root, paths, chunk)

    def is_kept(**more: Any) -> bool:
        again: Task = {**given, **more}  # type: ignore[typeddict-item]  # of its own fields
        first = make_chunk(again, print)["taken_over"]
        assert make_chunk(again, print)["taken_over"]
        return first

    assert not is_kept()
    assert not is_kept(options=options((8, 8), "stretch"))
    assert not is_kept(options=options((8, 9), "crop"))
    assert not is_kept()
    assert not is_kept(paths=paths[:5])
    assert not is_kept()
    os.utime(root / paths[0], ns=(1, 1))
    assert not is_kept()
    write(root / paths[1], seed=77)
    assert not is_kept()
    (root / paths[2]).unlink()
    assert not is_kept()
    whole = array_file(chunk).read_bytes(), entries_file(chunk).read_bytes()
    for damage in (b"", bytes(300), b"{}", b"[]", whole[1][:-2]):
        entries_file(chunk).write_bytes(damage)
        assert not is_kept()
    for damage in (b"", bytes(300), whole[0][:-1], whole[0][:-1] + b"\x01\x02"):
        array_file(chunk).write_bytes(damage)
        assert not is_kept()
    assert (array_file(chunk).read_bytes(), entries_file(chunk).read_bytes()) == whole
    array_file(chunk).unlink()
    assert not is_kept()


def test_chunks_of_other_options_or_of_another_folder_lie_side_by_side(tmp_path: Path) -> None:
    root, work = folder_of(tmp_path / "in"), tmp_path / "work"
    first, _ = decoded(list_folder(root), work)
    before = pixels(first)
    decoded(list_folder(root), work, image_size=(8, 9))
    decoded(list_folder(folder_of(tmp_path / "other", size=(20, 20))), work)
    np.testing.assert_array_equal(pixels(first), before)
    assert decoded(list_folder(root), work)[1][-1] == "6 pictures decoded to 8x8, colour; 1 of 1 parts were there"


DIES = """
import os, signal
from studies.datasets.own.decoders import chunks
read, marks = chunks._read, {marks!r}

def dying(root, path):
    if path.endswith("kills.png"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.endswith("once.png") and not os.path.exists(marks):
        open(marks, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return read(root, path)

chunks._read = dying
chunks.main()
"""


def dying_processes(monkeypatch: pytest.MonkeyPatch, marks: Path) -> None:
    monkeypatch.setattr(crew_module, "python_module", lambda _: [sys.executable, "-c", DIES.format(marks=str(marks))])


def test_a_picture_that_ends_its_process_is_found_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying_processes(monkeypatch, tmp_path / "killed")
    root = folder_of(tmp_path / "in", pictures=200)
    write(root / "class0" / "000kills.png")
    write(root / "class1" / "150kills.png")
    found, _ = decoded(list_folder(root), tmp_path / "work", workers=2)
    reason = "the process that decoded it ended with SIGSEGV"
    assert found.skipped == (("class0/000kills.png", reason), ("class1/150kills.png", reason))
    assert len(pixels(found)) == 400


def test_a_process_that_is_killed_once_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying_processes(monkeypatch, tmp_path / "killed")
    root = folder_of(tmp_path / "in")
    write(root / "class0" / "once.png")
    found, _ = decoded(list_folder(root), tmp_path / "work")
    assert (tmp_path / "killed").exists()
    assert found.skipped == ()
    assert len(pixels(found)) == 7


def test_processes_that_cannot_start_are_not_started_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "python_module", lambda _: [sys.executable, "-c", "raise SystemExit(9)"])
    with pytest.raises(TuningError, match="a process that decodes pictures ended with status 9, 3 times"):
        decoded(list_folder(folder_of(tmp_path / "in")), tmp_path / "work")


def test_a_full_disk_is_the_callers_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import errno, os\nfrom studies.datasets.own.decoders import chunks\n"
        "def full(*_):\n    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "chunks._write = full\nchunks.main()\n"
    )
    monkeypatch.setattr(crew_module, "python_module", lambda _: [sys.executable, "-c", script])
    with pytest.raises(OSError, match="No space left") as caught:
        decoded(list_folder(folder_of(tmp_path / "in")), tmp_path / "work")
    assert caught.value.errno == errno.ENOSPC


SLOWLY = """
import sys, time
from pathlib import Path
from studies.datasets.own import decoding, listing
from studies.datasets.own.decoders import crew
decoding._CHUNK_PICTURES = 1
crew.python_module = lambda _: [sys.executable, "-c", '''
import time
from studies.datasets.own.decoders import chunks
read = chunks._read
chunks._read = lambda *a: (time.sleep(0.3), read(*a))[1]
chunks.main()
''']
decoding.decode(listing.list_folder(Path(sys.argv[1])), Path(sys.argv[2]), image_size=(8, 8), fit="crop",
                report=print, workers=2)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_it_leaves_no_process_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    root, work = folder_of(tmp_path / "in", pictures=10), tmp_path / "work"
    with subprocess.Popen(
        [sys.executable, "-c", SLOWLY, str(root), str(work)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as command:
        children = list[psutil.Process]()
        while len(list(work.glob("*.json"))) < 3 or len(children) < 2:
            assert command.poll() is None
            time.sleep(0.02)
            children = psutil.Process(command.pid).children()
        command.send_signal(how)
    assert not psutil.wait_procs(children, timeout=10)[1]
    kept = len(list(work.glob("*.json")))
    assert kept < 20
    monkeypatch.setattr("studies.datasets.own.decoding._CHUNK_PICTURES", 1)
    found, lines = decoded(list_folder(root), work)
    assert lines[-1].endswith(f"; {kept} of 20 parts were there")
    expected = [by_hand((root / file.path).read_bytes(), (8, 8), "crop") for file in list_folder(root).parts["train"]]
    np.testing.assert_array_equal(pixels(found), expected)


def test_on_a_terminal_a_bar_is_shown_instead_of_lines(tmp_path: Path) -> None:
    folder_of(tmp_path / "in")
    script = (
        "import sys\nfrom pathlib import Path\nfrom studies.datasets.own import decoding, listing\n"
        "decoding.decode(listing.list_folder(Path(sys.argv[1])), Path(sys.argv[2]), image_size=None, fit='pad',"
        " report=print, workers=1)\n"
    )
    ours, terminal = os.openpty()
    command = [sys.executable, "-c", script, str(tmp_path / "in"), str(tmp_path / "work")]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    with open(ours, "rb", buffering=0) as stream, suppress(OSError):  # the end of a terminal is an error on Linux
        while part := stream.read(65_536):
            shown += part
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"sizes" in shown
    assert b"6/6" in shown.partition(b"decoding")[2]


def test_a_pipe_that_took_the_place_of_a_picture_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    make_chunk(task(tmp_path, ["a.png", "gone.png"], tmp_path / "chunk"), print)
    entries = json.loads(entries_file(tmp_path / "chunk").read_text())["entries"]
    assert [entry["reason"] for entry in entries] == ["no regular file", "No such file or directory"]


def test_a_file_too_large_for_memory_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.tif").open("wb") as stream:
        stream.truncate(3 << 30)
    make_chunk(task(tmp_path, ["a.tif"], tmp_path / "chunk"), print)
    (entry,) = json.loads(entries_file(tmp_path / "chunk").read_text())["entries"]
    assert entry["reason"] == "too large: a file of 3.2 GB"


def test_a_listing_without_a_way_to_list_anew_is_decoded_too(tmp_path: Path) -> None:
    files = [write(tmp_path / "in" / f"{number}.png", seed=number) for number in range(6)]
    listed = tuple(PictureFile(file.name, number % 2) for number, file in enumerate(files))
    found, _ = decoded(Listing(tmp_path / "in", ("a", "b"), {"train": listed}), tmp_path / "work")
    assert found.parts["train"].labels.tolist() == [0, 1, 0, 1, 0, 1]


def test_tasks_are_answered_in_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / os.fsdecode(b"not \xff utf-8\n.png"))
    given: Task = {**task(tmp_path, [os.fsdecode(b"not \xff utf-8\n.png")], tmp_path / "chunk"), "careful": True}
    broken: Task = {**given, "chunk": str(tmp_path / "none" / "chunk")}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(given) + "\n" + json.dumps(broken) + "\n"))
    main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"at": 0}, {"taken_over": False}, {"at": 0}, {"errno": 2, "words": "No such file or directory"}]
