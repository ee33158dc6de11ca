"""A bundle's model in other formats than Keras's own, each as far as it can be written here. No Keras."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from storage.errors import TuningError
from tuning.bundles.bundle import FORMATS
from tuning.bundles.checking import Checked, ask
from tuning.tasks import TOLERATED_PROBABILITY, ConvertTask


def convert(checked: Checked, wanted: list[str], precision: str, *, required: bool) -> dict[str, str]:
    """Write the formats besides Keras's own; return why those that are missing are, by name.

    Args:
        checked: the model in the bundle.
        wanted: names out of `FORMATS`.
        precision: the dtype policy that it was trained with.
        required: whether each of them is needed.

    Raises:
        TuningError: one that is needed cannot be written, or there is no room.
    """
    folder, backend = checked.model.parent, checked.judgement["backend"]
    skipped = {name: reason for name in wanted if (reason := _obstacle(name, backend))}
    rest = [name for name in wanted if name != "keras" and name not in skipped]
    if rest:
        kind = "float32" if precision == "float32" else "mixed"
        task = ConvertTask(
            do="convert",
            model=str(checked.model),
            building=checked.building,
            formats=rest,
            tolerated=TOLERATED_PROBABILITY[kind],
        )
        answers = {answer["format"]: answer["error"] for answer in ask(task) if "format" in answer}
        skipped |= {name: reason for name in rest if (reason := answers.get(name, "its converter died")) is not None}
    for name, reason in skipped.items():
        if "No space left" in reason:
            raise TuningError(f"no room for the model as {name}. Free some, or give another folder with --out.")
        if required:
            raise TuningError(f"the model cannot be written as {name}: {reason}. Leave out --format {name}.")
        _remove(folder / FORMATS[name])
    return skipped | ({"keras": checked.not_whole} if checked.not_whole else {})


def _obstacle(name: str, backend: str) -> str | None:
    """Why a format cannot even be tried."""
    torch = backend == "torch"
    if name == "torch" and not torch:
        return "needs the PyTorch backend"
    if name == "litert" and backend not in ("tensorflow", "torch"):
        return "needs the TensorFlow backend"
    modules = {
        "tf_saved_model": ("tensorflow",),
        "onnx": ("onnx", "onnxscript") if torch else ("tensorflow", "tf2onnx", "onnx"),
        "openvino": ("openvino",),
        "litert": ("litert_torch",) if torch else ("tensorflow",),
    }
    missing = [module for module in modules.get(name, ()) if importlib.util.find_spec(module) is None]
    return f"needs {' and '.join(missing)}" if missing else None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
