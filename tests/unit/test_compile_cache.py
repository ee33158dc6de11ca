"""What XLA compiles is kept under the home, nothing torn is read, and what the user set stays."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from storage.settings import Home
from tuning.machine.compile_cache import (
    FAILS,
    MIN_FREE_BYTES,
    SETTLED_S,
    WORKS,
    cache_environment,
    drop_unsealed,
    seal_compiled,
)


def test_both_frameworks_keep_what_they_compile_for_a_gpu_under_the_home(
    mine: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: "2.21.0")
    assert "TF_XLA_FLAGS" not in cache_environment(mine, "NVIDIA H200", {})  # not before it was tried
    put(mine.compiled("tensorflow-2.21.0-NVIDIA H200") / WORKS, 0)
    variables = cache_environment(mine, "NVIDIA H200", {"TF_XLA_FLAGS": "--mine"})
    assert variables == {
        "JAX_COMPILATION_CACHE_DIR": f"{mine.root}/compiled/jax",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        "TF_XLA_FLAGS": "--mine --tf_xla_persistent_cache_directory="
        f'"{mine.root}/compiled/tensorflow-2.21.0-NVIDIA H200" --tf_xla_persistent_cache_device_types=GPU',
    }
    assert shlex.split(variables["TF_XLA_FLAGS"])[1].endswith("/compiled/tensorflow-2.21.0-NVIDIA H200")
    put(mine.compiled("tensorflow-2.21.0-T4") / FAILS, 0)
    assert "TF_XLA_FLAGS" not in cache_environment(mine, "T4", {})


def test_on_the_cores_and_without_tensorflow_only_jax_keeps_anything(
    mine: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(cache_environment(mine, None, {})) == {
        "JAX_COMPILATION_CACHE_DIR",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    }

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    put(mine.compiled("tensorflow-None-H200") / WORKS, 0)
    assert "TF_XLA_FLAGS" not in cache_environment(mine, "H200", {})


def test_what_the_user_set_stays(mine: Home) -> None:
    set_by_user = {
        "JAX_COMPILATION_CACHE_DIR": "/mine",
        "TF_XLA_FLAGS": "--tf_xla_persistent_cache_directory=/mine",
    }
    put(mine.compiled(f"tensorflow-{metadata.version('tensorflow')}-H200") / WORKS, 0)
    assert "TF_XLA_FLAGS" in cache_environment(mine, "H200", {})
    assert cache_environment(mine, "H200", set_by_user) == {}
    minimum = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "7"}
    assert cache_environment(mine, None, minimum)["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] == "7"


def test_nothing_is_kept_on_a_disk_without_room(mine: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=MIN_FREE_BYTES - 1))
    assert cache_environment(mine, "H200", {}) == {}


def put(file: Path, age_s: float) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"program")
    os.utime(file, (time.time() - age_s,) * 2)
    return file


def test_only_what_was_sealed_or_is_just_written_outlives_a_power_cut(mine: Home) -> None:
    folder = mine.compiled("tensorflow-2.21.0-H200")
    sealed = [put(folder / "1.pb", 60), put(mine.compiled("jax") / "jit_f-1-cache", 60)]
    seal_compiled(mine)
    torn = [put(folder / "2.pb", SETTLED_S + 1), put(mine.compiled("jax") / "jit_f-2-cache", SETTLED_S + 1)]
    young = put(folder / "3.pb", 0)
    half = put(folder / "4.pbvm-77-1.tmp", 60)
    drop_unsealed(mine)
    assert all(file.exists() for file in (*sealed, young, half))
    assert not any(file.exists() for file in torn)
    seal_compiled(mine)
    put(young.with_name("other.pb"), 60)
    os.utime(young, (0, 0))
    drop_unsealed(mine)
    assert young.exists()


def test_a_home_without_compiled_programs_is_left_alone(mine: Home) -> None:
    seal_compiled(mine)
    drop_unsealed(mine)
    assert list(mine.root.iterdir()) == []
