"""The benchmark of preparing data of one's own runs to its end, as small as it can be, and measures what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from storage.settings import Home
from tests.benchmarks.data import __main__ as data
from tests.benchmarks.data.pictures import CLASSES, make_pictures
from tests.benchmarks.data.preparation import prepare_folder
from tests.benchmarks.report import Kept

HOLDS_100_MB = """
import subprocess, sys
held = bytearray(b"1") * 100_000_000
if sys.argv[1] == "parent":
    child = subprocess.Popen([sys.executable, __file__, "child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
print("ready", flush=True)
sys.stdin.read()
"""


def test_it_tells_time_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "KEPT", tmp_path)
    assert data.main(["--pictures", "40", "--repeats", "1", "--result", str(tmp_path / "data.json")]) == 0
    kept = Kept.read(tmp_path / "data.json")
    assert capsys.readouterr().out.strip() == str(kept.report)
    assert kept.command == "make bench-data PICTURES=40 REPEATS=1"
    assert kept.report.figures["times"] > 0.2
    assert kept.report.figures["MB"] > 10  # a process that decodes was seen


def test_what_it_prepares_are_the_pictures_that_it_makes_and_these_are_always_the_same(tmp_path: Path) -> None:
    made, again = (make_pictures(tmp_path / name, 30, Home(tmp_path / "home")) for name in "ab")
    files = sorted(file.relative_to(made) for file in made.rglob("*.png"))
    assert len(files) == 30
    assert len({file.parent for file in files}) == CLASSES
    assert all((made / file).read_bytes() == (again / file).read_bytes() for file in files)
    prepared = prepare_folder(made, tmp_path / "home")
    assert len(prepared.train_images) == 30
    assert prepared.info.class_names == tuple(f"class{label}" for label in range(CLASSES))


def test_the_memory_of_a_process_is_that_of_its_children_too(tmp_path: Path) -> None:
    script = tmp_path / "holds.py"
    script.write_text(HOLDS_100_MB)
    with subprocess.Popen(
        [sys.executable, str(script), "parent"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert 200 < data.memory_mb(process.pid) < 300
        process.communicate()
    assert data.memory_mb(process.pid) == 0
