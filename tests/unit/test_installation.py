"""What a node has is compared with what a study was begun with, and the difference is said in words."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict, replace

import numpy
import pytest

from storage.processes.isolation import python, python_environment
from storage.settings import CHECKOUT
from tuning.machine.installation import Installation, differences, installation

STUDY = Installation("3.11.7", {"keras": "3.15.1", "numpy": "2.4.6"}, {"models/cnn.py": "a", "tuning/cli.py": "b"})


def test_this_machine_is_like_itself_also_when_told_as_plain_data() -> None:
    mine = installation()
    assert mine.python == platform.python_version()
    assert mine.packages["numpy"] == numpy.__version__
    assert {"keras", "optuna", "tensorflow", "sqlalchemy"} <= mine.packages.keys()
    assert "tuning/machine/installation.py" in mine.source and "studies/catalog/mnist.toml" in mine.source
    assert differences(mine, Installation(**asdict(mine))) == []


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (replace(STUDY, python="3.12.1"), "it has Python 3.12.1, the study 3.11.7"),
        (replace(STUDY, packages={"keras": "3.14.0"}), "it has keras 3.14.0 for 3.15.1, numpy not at all for 2.4.6"),
        (replace(STUDY, source={**STUDY.source, "tuning/cli.py": "c"}), "its checkout differs in tuning/cli.py"),
        (replace(STUDY, source={"models/cnn.py": "a"}), "its checkout differs in tuning/cli.py"),
        (
            replace(STUDY, source={**STUDY.source, **{f"tuning/{n}.py": "n" for n in range(5)}}),
            "its checkout differs in tuning/0.py, tuning/1.py, tuning/2.py and 2 more",
        ),
    ],
)
def test_a_difference_is_said_in_words(node: Installation, said: str) -> None:
    assert differences(STUDY, node) == [said]


def test_a_node_may_have_more_packages() -> None:
    assert differences(STUDY, replace(STUDY, packages={**STUDY.packages, "torch": "2.9"})) == []


def test_nothing_of_ray_or_of_an_object_store_is_imported_before_it_is_asked_for() -> None:
    program = "import sys, tuning.launch.launcher; sys.exit(bool({'ray', 'fsspec', 's3fs'} & sys.modules.keys()))"
    assert subprocess.run([*python(), "-c", program], env=python_environment(os.environ), cwd=CHECKOUT).returncode == 0
