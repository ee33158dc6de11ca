"""How much room a study takes under a home."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import optuna

from storage import attributes
from storage.settings import Home


def disk_use(study: optuna.Study, home: Home) -> dict[str, int]:
    """Return the bytes of a study's files under a home: `artifacts`, `checkpoints`, `export`, `logs` and `total`.

    Files that come and go meanwhile are counted or not. Artifacts of former attempts at a trial count as well.
    """
    uid = str(study.user_attrs.get(attributes.UID, ""))
    keys = [key for trial in study.get_trials(deepcopy=False) for key in trial.system_attrs]
    keys += study._storage.get_study_system_attrs(study._study_id)
    ids = {key.removeprefix(attributes.OPTUNA_ARTIFACT) for key in keys if key.startswith(attributes.OPTUNA_ARTIFACT)}
    used = {
        "artifacts": _size(home.artifacts / Path(artifact).name for artifact in ids),
        "checkpoints": _size(_files(home.checkpoints(study.study_name, uid))),
        "export": _size(_files(home.export(study.study_name))),
        "logs": _size(_files(home.logs(study.study_name))),
    }
    return {**used, "total": sum(used.values())}


def _files(folder: Path) -> Iterable[Path]:
    return (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)


def _size(files: Iterable[Path]) -> int:
    total = 0
    for file in files:
        try:
            total += file.lstat().st_size
        except FileNotFoundError:
            continue
    return total
