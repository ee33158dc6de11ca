"""LCBench as a surrogate: the learning curve of any configuration of a small network on 34 tabular data sets.

Zimmer, Lindauer and Hutter, "Auto-PyTorch Tabular" (2021); the surrogate is YAHPO Gym's (Pfisterer et al. 2022), an
ONNX model that answers every configuration, without noise. Its first epoch is the untrained network and left out here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from storage.errors import BadInput
from studies.simulation.virtual_clock import Recording
from studies.spec import Scalar
from tests.benchmarks.search.drawing import draw_configurations

HORIZON: Final = 51  # trained epochs; the surrogate's are one more
RANDOM_CONFIGURATIONS: Final = 2000

# In the order of the model's inputs, which follow the epoch.
SPACE: Final[Mapping[str, BaseDistribution]] = {
    "batch_size": IntDistribution(16, 512, log=True),
    "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "momentum": FloatDistribution(0.1, 0.99),
    "weight_decay": FloatDistribution(1e-5, 1e-1),
    "num_layers": IntDistribution(1, 5),
    "max_units": IntDistribution(64, 1024, log=True),
    "max_dropout": FloatDistribution(0.0, 1.0),
}

# By the number of their OpenML task.
DATA_SETS: Final[Mapping[str, str]] = {
    "adult": "126025",
    "airlines": "189354",
    "albert": "189866",
    "amazon_employee_access": "34539",
    "aps_failure": "168868",
    "australian": "167104",
    "bank_marketing": "126029",
    "blood_transfusion_service_center": "167184",
    "car": "189905",
    "christine": "168908",
    "cnae_9": "167185",
    "connect_4": "167201",
    "covertype": "7593",
    "credit_g": "167161",
    "dionis": "189873",
    "fabert": "168910",
    "fashion_mnist": "189908",
    "helena": "168329",
    "higgs": "167200",
    "jannis": "168330",
    "jasmine": "189862",
    "jungle_chess_2pcs_raw_endgame_complete": "189909",
    "kc1": "167181",
    "kddcup09_appetency": "3945",
    "kr_vs_kp": "167149",
    "mfeat_factors": "167152",
    "mini_boo_ne": "168335",
    "nomao": "126026",
    "phoneme": "167190",
    "segment": "189906",
    "shuttle": "146212",
    "sylvine": "189865",
    "vehicle": "167168",
    "volkert": "168331",
}

_ACCURACY = 1  # the model's second output: validation accuracy in percent
_REMEMBERED_CURVES = 100_000


def is_here(folder: Path) -> bool:
    """Return whether the surrogate can be asked: its files and onnxruntime are here."""
    try:
        open_surrogate(folder)
    except BadInput:
        return False
    return True


@cache
def open_surrogate(folder: Path) -> Surrogate:
    """Load the surrogate, once for each process.

    Raises:
        BadInput: its files or onnxruntime are not here.
    """
    model, encoding = folder / "model.onnx", folder / "encoding.json"
    for file in (model, encoding):
        if not file.is_file():
            raise BadInput(f"LCBench needs {file}, which is not there. Leave its tables out, or put it there.")
    try:
        runtime = import_module("onnxruntime")
    except ImportError:
        raise BadInput("LCBench needs onnxruntime, which is not installed. Run pip install onnxruntime.") from None
    return Surrogate(_session(runtime, model), json.loads(encoding.read_text())["OpenML_task_id"], _sha256(model))


class Surrogate:
    """The model, asked in batches; curves are remembered.

    Args:
        session: onnxruntime's.
        codes: the model's input for each OpenML task.
        fingerprint: of the model.
    """

    def __init__(self, session: Any, codes: Mapping[str, int], fingerprint: str) -> None:
        self._session = session
        self._codes = codes
        self.fingerprint = fingerprint
        self.curve = lru_cache(_REMEMBERED_CURVES)(self._curve)

    def accuracies(self, data_set: str, configurations: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """Return the validation accuracy (n, e) in percent of configurations (n, 7) after trained epochs (e,)."""
        count, asked = len(configurations), len(epochs)
        inputs = np.empty((count, asked, 1 + len(SPACE)), np.float32)
        inputs[..., 0] = epochs + 1  # the model's first epoch is the untrained network
        inputs[..., 1:] = configurations[:, None, :]
        code = np.full((count * asked, 1), self._codes[DATA_SETS[data_set]], np.int32)
        outputs = self._session.run(None, {"x_cat": code, "x_cont": inputs.reshape(count * asked, -1)})[0]
        return np.asarray(outputs[:, _ACCURACY], np.float64).reshape(count, asked)

    def random_finals(self, data_set: str) -> np.ndarray:
        """Return the final accuracies (2000,) of random configurations, always the same ones."""
        drawn = draw_configurations(SPACE, np.random.default_rng(0), RANDOM_CONFIGURATIONS)
        rows = np.array([_row(configuration) for configuration in drawn])
        return np.asarray(self.accuracies(data_set, rows, np.array([HORIZON]))[:, 0])

    def _curve(self, data_set: str, row: tuple[float, ...]) -> np.ndarray:
        return np.asarray(self.accuracies(data_set, np.array([row]), np.arange(1, HORIZON + 1))[0])


class SurrogateCurves:
    """The source of one study: every configuration is answered exactly."""

    horizon = HORIZON

    def __init__(self, surrogate: Surrogate, data_set: str) -> None:
        self._surrogate = surrogate
        self._data_set = data_set

    def curve_of(self, trial: int, params: Mapping[str, Scalar]) -> Recording:
        return Recording(self._surrogate.curve(self._data_set, _row(params)))


def _row(params: Mapping[str, Scalar]) -> tuple[float, ...]:
    return tuple(float(params[name]) for name in SPACE)


def _session(runtime: Any, model: Path) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # studies run in parallel instead
    return runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
