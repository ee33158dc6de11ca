"""What Keras imports for pictures and notebooks waits until it is used, and is then what it is everywhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# As Keras and KerasTuner ask for them.
ASKS = """
import gc, sys
from models.importing import importing_keras
{before}
with importing_keras():
    import matplotlib.pyplot as plt
    from matplotlib import patches
    try:
        import IPython
    except ImportError:
        IPython = None
    assert not gc.isenabled()
assert gc.isenabled() and gc.get_freeze_count()
"""
WAIT = """
assert IPython is None and not [name for name in sys.modules if name.startswith(("matplotlib", "IPython"))]
"""
USED = """
from matplotlib.figure import Figure
import matplotlib.patches, IPython
assert plt.Figure is Figure and patches.Patch is matplotlib.patches.Patch
assert sys.modules["matplotlib.pyplot"].Figure is Figure and IPython.get_ipython() is None
"""


@pytest.mark.parametrize(
    "code",
    [
        ASKS.format(before="") + WAIT + USED,
        ASKS.format(before="") + "assert plt.Figure and patches.Patch" + USED,
        ASKS.format(before="import matplotlib, IPython") + "assert IPython" + USED,
    ],
)
def test_what_shows_pictures_and_notebooks_is_imported_when_it_is_used(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
