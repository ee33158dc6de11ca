"""Training state of a trial: atomic, verified, cleaned up.

A checkpoint is one file: a line of JSON that says what it is, then the bytes. Its path carries the number of the claim
that wrote it, so a process that was paused past its lease and wakes up can only write beside the files of the trial's
next owner, never over them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.files import replacing

logger = logging.getLogger(__name__)

# The newest may be torn by a power cut that the disk did not survive as promised; the one before it is whole.
KEPT = 2

FORMAT = 1
_SUFFIX = ".checkpoint"
_NAME = re.compile(r"claim-(\d+)-epochs-(\d+)\.checkpoint")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint.

    Attributes:
        epochs: how many epochs its training has done.
        content: the bytes that were saved.
    """

    epochs: int
    content: bytes


class TrialCheckpoints:
    """The checkpoints of one trial.

    Args:
        folder: of the trial alone; it is made with the first checkpoint.
        fingerprint: of the study's spec; a checkpoint with another one is foreign.
        trial: the trial's number, likewise.
    """

    def __init__(self, folder: Path, *, fingerprint: str, trial: int) -> None:
        self._folder = folder
        self._identity = {"format": FORMAT, "fingerprint": fingerprint, "trial": trial}

    def save(self, *, claim: int, epochs: int, content: bytes) -> Path:
        """Write a checkpoint; when it returns the bytes are on the disk and older ones but one are gone.

        Args:
            claim: the count of the claim under which it is written.
            epochs: how many epochs are done.
            content: the training's state.

        Raises:
            OSError: it cannot be written; the ones before it are untouched.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        header = {**self._identity, "claim": claim, "epochs": epochs, "sha256": _sha256(content), "size": len(content)}
        target = self._folder / f"claim-{claim}-epochs-{epochs}{_SUFFIX}"
        with replacing(target) as beside, beside.open("wb") as file:
            file.write(json.dumps(header).encode() + b"\n")
            file.write(content)
        self._remove_older(claim)
        return target

    def _remove_older(self, claim: int) -> None:
        # Those of a later claim are not this one's to remove, nor to count.
        mine = [file for file in self._newest_first() if _order(file)[1] <= claim]
        for file in mine[KEPT:]:
            file.unlink(missing_ok=True)

    def load(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole and this trial's; what is not is set aside."""
        for file in self._newest_first():
            problem = None
            try:
                header, content = self._read(file)
            except (OSError, ValueError, KeyError) as error:
                problem = f"it cannot be read ({error})"
            else:
                problem = self._problem(header, content)
            if problem is None:
                return Checkpoint(header["epochs"], content)
            logger.warning("checkpoint %s is set aside: %s", file, problem)
            os.replace(file, file.with_suffix(".damaged"))
        return None

    @staticmethod
    def _read(file: Path) -> tuple[dict[str, Any], bytes]:
        head, separator, content = file.read_bytes().partition(b"\n")
        if not separator:
            raise ValueError("it has no header")
        return json.loads(head), content

    def _problem(self, header: dict[str, Any], content: bytes) -> str | None:
        for key, mine in self._identity.items():
            if header.get(key) != mine:
                return f"its {key} is {header.get(key)!r}, here it is {mine!r}"
        if len(content) != header["size"]:
            return f"it has {len(content)} bytes of {header['size']}"
        if _sha256(content) != header["sha256"]:
            return "its SHA-256 is another one"
        return None

    def _newest_first(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted((file for file in self._folder.iterdir() if _NAME.fullmatch(file.name)), key=_order, reverse=True)

    def remove(self) -> None:
        """Remove all checkpoints of the trial, the damaged ones too."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _order(file: Path) -> tuple[int, int]:
    found = _NAME.fullmatch(file.name)
    assert found is not None
    return int(found[2]), int(found[1])


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
