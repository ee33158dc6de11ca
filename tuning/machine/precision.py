"""What the cores of this machine compute fastest in without losing accuracy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from studies.spec import Precision

# Products of bfloat16 that are summed in float32: AVX-512 BF16 and AMX, as Linux names them.
_INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16"})


def cores_precision(environ: Mapping[str, str] = os.environ, cpuinfo: Path = Path("/proc/cpuinfo")) -> Precision:
    """Return the Keras dtype policy with which networks train fastest on the cores.

    Where they have instructions for bfloat16, TensorFlow's oneDNN takes these; without, a step takes ten times as long.
    `TUNING_PRECISION` is the answer where it is set.
    """
    known: tuple[Precision, ...] = get_args(Precision)
    for precision in known:
        if environ.get("TUNING_PRECISION") == precision:
            return precision
    uses_onednn = (
        environ.get("KERAS_BACKEND") in (None, "", "tensorflow") and environ.get("TF_ENABLE_ONEDNN_OPTS") != "0"
    )
    return "mixed_bfloat16" if uses_onednn and _INSTRUCTIONS & _flags(cpuinfo) else "float32"


def _flags(cpuinfo: Path) -> frozenset[str]:
    """Return what every core can; nothing where no such file is there, or it says nothing of it."""
    try:
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    of_each = [frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")]
    return frozenset.intersection(*of_each) if of_each else frozenset()
