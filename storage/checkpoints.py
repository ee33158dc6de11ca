"""Training state of a trial: atomic, verified, cleaned up.

A checkpoint is one file: a line with the SHA-256 of all that follows, a line of JSON that says what it is, then the
bytes. Its path carries the number of the claim that wrote it, so a process that was paused past its lease and wakes up
can only write beside the files of the trial's next owner, never over them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from storage.errors import StorageUnavailable, disk_error
from storage.stores.file_store import FileStore

logger = logging.getLogger(__name__)

# The newest may be torn by a power cut that the disk did not survive as promised; the one before it is whole.
KEPT = 2

# Of the file and of the state in it; what has another is set aside, and its trial begins anew.
FORMAT = 2
_SUFFIX, _DAMAGED = ".checkpoint", ".damaged"
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
        files: the folder of the trial alone; it is made with the first checkpoint.
        fingerprint: of the study's spec; a checkpoint with another one is foreign.
        trial: the trial's number, likewise.
    """

    def __init__(self, files: FileStore, *, fingerprint: str, trial: int) -> None:
        self._files = files
        self._identity = {"format": FORMAT, "fingerprint": fingerprint, "trial": trial}

    def save(self, *, claim: int, epochs: int, content: bytes) -> str:
        """Write a checkpoint, return its name; then the bytes are there to stay, and older ones but one are gone.

        Args:
            claim: the count of the claim under which it is written.
            epochs: how many epochs are done.
            content: the training's state.

        Raises:
            OSError: it cannot be written; the ones before it are untouched.
        """
        self._files.make()
        header = json.dumps({**self._identity, "claim": claim, "epochs": epochs}).encode() + b"\n"
        name = f"claim-{claim}-epochs-{epochs}{_SUFFIX}"
        with self._files.writing(name) as beside, beside.open("wb") as file:
            file.write(_sha256(header, content).encode() + b"\n")
            file.write(header)
            file.write(content)
        with suppress(OSError, StorageUnavailable):  # what is there is there; the next one removes them
            self._remove_older(claim)
        return name

    def _remove_older(self, claim: int) -> None:
        # Those of a later claim are not this one's to remove, nor to count.
        mine = [name for name in self._newest_first() if _order(name)[1] <= claim]
        for name in mine[KEPT:]:
            self._files.remove(name)

    def load(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole and this trial's; what is not is set aside.

        Raises:
            StorageUnavailable: one cannot be read now, and is left as it is.
        """
        for name in self._newest_first():
            shown = self._files.shown(name)
            try:
                return self._read(name)
            except FileNotFoundError:
                continue  # its owner has a newer one
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno != errno.EIO:
                    fact, then = f"the checkpoint {shown} cannot be read", "Mend that and give the same command again."
                    raise disk_error(error, fact, then, StorageUnavailable) from error
                logger.warning("checkpoint %s is set aside: %s", shown, error)
                with suppress(OSError):
                    self._files.rename(name, name.removesuffix(_SUFFIX) + _DAMAGED)
        return None

    def _read(self, name: str) -> Checkpoint:
        stored = self._files.read(name)
        first = stored.find(b"\n")
        second = stored.find(b"\n", first + 1)
        if stored[:first] != _sha256(memoryview(stored)[first + 1 :]).encode():
            raise ValueError("its SHA-256 is another one")
        header = json.loads(stored[first + 1 : second])
        for key, mine in self._identity.items():
            if header[key] != mine:
                raise ValueError(f"its {key} is {header[key]!r}, here it is {mine!r}")
        return Checkpoint(header["epochs"], stored[second + 1 :])

    def _newest_first(self) -> list[str]:
        try:
            names = self._files.names()
        except OSError as error:
            fact, then = f"{self._files.shown()} cannot be read", "Mend that and give the same command again."
            raise disk_error(error, fact, then, StorageUnavailable) from error
        return sorted((name for name in names if _NAME.fullmatch(name)), key=_order, reverse=True)

    def remove(self) -> None:
        """Remove all checkpoints of the trial, the damaged ones too."""
        with suppress(OSError):
            self._files.remove("")


def remove_checkpoints_of(files: FileStore, over: Collection[int]) -> None:
    """Remove the checkpoints of trials that are over, whose workers were killed before they could.

    Args:
        files: the folder of the study, with a folder for each trial, named by its number.
        over: the numbers of the finished trials.
    """
    with suppress(OSError):  # the next worker does it
        for name in files.folders():
            if name.isdecimal() and int(name) in over:
                files.remove(name)


def _order(name: str) -> tuple[int, int]:
    found = _NAME.fullmatch(name)
    assert found is not None
    return int(found[2]), int(found[1])


def _sha256(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
