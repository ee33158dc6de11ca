"""TensorFlow keeps what XLA compiles only where that was seen to work."""

from __future__ import annotations

import os
import subprocess
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from storage.settings import Home
from tuning.machine import compile_probe
from tuning.machine.compile_cache import FAILS, WORKS, cache_environment
from tuning.machine.compile_probe import probe_compile_cache, why_not_kept
from tuning.machine.devices import Device, place_worker

GPU = Device("gpu", "-1", "H200", 100, (9, 0))
NONE = place_worker(GPU, 1, {})
CORES = place_worker(Device("cpu", "cpu", "CPU"), 1, {})


@pytest.fixture
def folder(home: Path) -> Path:
    return Home(home).compiled(f"tensorflow-{metadata.version('tensorflow')}-H200")


@pytest.mark.slow
def test_what_one_process_compiles_serves_the_next(tmp_path: Path) -> None:
    """On a CPU, with the same switches: TensorFlow's own part of it is the same."""
    folder = tmp_path / "a folder's"
    folder.mkdir()
    assert why_not_kept(folder, {**os.environ, **CORES.environment}, kind="CPU") is None
    assert list(folder.iterdir()) == []


def test_where_it_does_not_work_nothing_is_kept_and_it_is_not_tried_again(home: Path, folder: Path) -> None:
    lines: list[str] = []
    probe_compile_cache(Home(home), NONE, os.environ, lines.append)  # there is no GPU
    assert lines == [
        "trying once whether TensorFlow can keep what it compiles for H200 ...",
        "it cannot, so each worker compiles its programs itself: status 1. no such device",
    ]
    assert [file.name for file in folder.iterdir()] == [FAILS]
    assert "TF_XLA_FLAGS" not in cache_environment(Home(home), "H200", {})
    probe_compile_cache(Home(home), NONE, os.environ, lines.append)
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        (["a", "a"], None),
        (["a", "b"], "what was kept gives other results"),
        (["", ""], "nothing was kept"),
    ],
)
def test_it_works_if_the_second_process_computes_the_same(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, outputs: list[str], why: str | None
) -> None:
    def run(command: list[str], *, env: dict[str, str], **_: object) -> SimpleNamespace:
        output = outputs.pop(0)
        if output:
            kept = Path(env["TF_XLA_FLAGS"].split('"')[1]) / "program.pb"
            kept.write_text("")
        return SimpleNamespace(returncode=0, stdout=output, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    lines: list[str] = []
    probe_compile_cache(Home(home), NONE, {}, lines.append)
    assert (folder / (FAILS if why else WORKS)).exists()
    assert lines[1:] == ([f"it cannot, so each worker compiles its programs itself: {why}"] if why else [])
    assert ("TF_XLA_FLAGS" in cache_environment(Home(home), "H200", {})) == (why is None)


def test_one_that_takes_too_long_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_probe, "TIMEOUT_S", 0.01)
    assert why_not_kept(tmp_path, dict(os.environ)) == "it took longer than 0.01 s"


@pytest.mark.parametrize(("place", "environ"), [(CORES, {}), (NONE, {"KERAS_BACKEND": "jax"})])
def test_it_is_tried_for_tensorflow_on_a_gpu_alone(home: Path, place: object, environ: dict[str, str]) -> None:
    probe_compile_cache(Home(home), place, environ, pytest.fail)  # type: ignore[arg-type]
    assert list(home.iterdir()) == []
