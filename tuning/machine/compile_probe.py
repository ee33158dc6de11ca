"""Whether TensorFlow can keep what XLA compiles for a GPU: tried once, in processes of their own.

Where it cannot, it would fail in every trial, or crash.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from storage.files import replacing
from storage.processes.isolation import python, python_environment
from storage.settings import Home
from tuning.machine.compile_cache import FAILS, WORKS, drop_unsealed, tensorflow_flags, tensorflow_folder
from tuning.machine.devices import Placement

TIMEOUT_S = 300.0

# A step with what a network is made of: convolution, matrix product, gradient.
_STEP = """
import sys
import tensorflow as tf

if not tf.config.list_logical_devices(sys.argv[1]):
    sys.exit("no such device")

@tf.function(jit_compile=True)
def step(images, kernel):
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        features = tf.reshape(tf.nn.conv2d(images, kernel, 1, "SAME"), [4, 512])
        loss = tf.reduce_sum(tf.nn.softmax(tf.matmul(features, tf.reshape(tf.range(4096.0) / 4096, [512, 8]))) ** 2)
    return tape.gradient(loss, kernel)

print(step(tf.ones([4, 8, 8, 8]), tf.reshape(tf.range(576.0) / 576, [3, 3, 8, 8])).numpy().tobytes().hex())
"""


def prepare_compile_caches(
    home: Home, placements: Iterable[Placement], environ: Mapping[str, str], report: Callable[[str], None]
) -> None:
    """Drop what no worker came to seal, and find out for each kind of device whether what is compiled can be kept.

    Args:
        home: where it is kept.
        placements: of the workers.
        environ: the environment that they inherit.
        report: takes one line for the user.
    """
    drop_unsealed(home)
    for place in {place.device.name: place for place in placements}.values():
        probe_compile_cache(home, place, environ, report)


def probe_compile_cache(
    home: Home, place: Placement, environ: Mapping[str, str], report: Callable[[str], None]
) -> None:
    """Find out and note whether TensorFlow's workers of a GPU can keep what they compile, unless that is known.

    Args:
        home: where it would be kept.
        place: of a worker on the GPU.
        environ: the environment that workers inherit.
        report: takes one line before it begins and one if it fails.
    """
    if environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow" or place.device.kind != "gpu":
        return
    folder = tensorflow_folder(home, place.device.name, environ)
    if folder is None or (folder / WORKS).exists() or (folder / FAILS).exists():
        return
    report(f"trying once whether TensorFlow can keep what it compiles for {place.device.name} ...")
    home.make(folder)
    why = why_not_kept(folder, {**environ, **place.environment})
    if why is not None:
        report(f"it cannot, so each worker compiles its programs itself: {why}")
    with replacing(folder / (WORKS if why is None else FAILS)) as file:
        file.write_text(why or "", encoding="utf-8")


def why_not_kept(folder: Path, environ: Mapping[str, str], kind: str = "GPU") -> str | None:
    """Return why a program that one process compiles beside a folder's does not serve the next; None if it does.

    Args:
        folder: beside which they are tried.
        environ: the environment of the processes.
        kind: of the device.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".probe-") as name:
        variables = {**python_environment(environ), "TF_XLA_FLAGS": tensorflow_flags(Path(name), environ, kind)}
        results = []
        for _ in range(2):
            try:
                done = subprocess.run(
                    [*python(), "-c", _STEP, kind],
                    env=variables,
                    capture_output=True,
                    text=True,
                    timeout=TIMEOUT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return f"it took longer than {TIMEOUT_S:g} s"
            if done.returncode != 0:
                said = done.stderr.strip().splitlines() or [""]
                return f"status {done.returncode}. {said[-1][:300]}"
            if not os.listdir(name):
                return "nothing was kept"
            results.append(done.stdout)
        return None if results[0] == results[1] else "what was kept gives other results"
