"""Records how trials ended, while the worker chooses what it does next. No Keras."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager

from storage.claims import Claim, Claims
from storage.database import Database, Result
from storage.errors import ClaimLost, StorageUnavailable

logger = logging.getLogger(__name__)


class ResultWriter:
    """Writes the files and the end of one trial in a thread while the next one is chosen.

    From the moment its training is over, a trial is seen as ended by all that this process reads, so that what is
    chosen next does not depend on how fast the disk is. Others see it as RUNNING until its files are in place, and if
    this process is killed before that, its claim is put back like that of any trial.

    Args:
        database: where the study is.
        claims: the study's.
        ended: called from the thread with each claim whose trial's end is recorded.

    Attributes:
        mistaken: set when a trial that this process takes for ended was not recorded so. Another process reads anew.
    """

    def __init__(self, database: Database, claims: Claims, ended: Callable[[Claim], None]) -> None:
        self._database = database
        self._claims = claims
        self._ended = ended
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="results")
        self._recording: Future[None] | None = None
        self.mistaken = threading.Event()

    def submit(
        self, claim: Claim, result: Result, record: Callable[[], None], held: AbstractContextManager[object]
    ) -> None:
        """Begin to record how a claimed trial ended. The one before must be settled.

        Args:
            claim: the right to the trial.
            result: how it ended.
            record: does it; what it raises puts the trial back.
            held: keeps the claim alive, and is left when all is done.
        """
        assert self._recording is None
        self._database.announce(claim.trial_id, result)
        self._recording = self._threads.submit(self._record, claim, record, held)

    @property
    def pending(self) -> bool:
        """Whether there is something to settle."""
        return self._recording is not None

    def settle(self) -> None:
        """Wait until the end of the last trial is recorded.

        Raises:
            StorageUnavailable: it was not, because the database or the disk takes nothing; the trial was put back.
        """
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.result()

    def _record(self, claim: Claim, record: Callable[[], None], held: AbstractContextManager[object]) -> None:
        try:
            # Left before the trial is put back: whoever takes it up then, this process too, has a fence of its own.
            with held:
                try:
                    record()
                except Exception:
                    self.mistaken.set()
                    raise
                finally:
                    self._database.withdraw(claim.trial_id)
        except ClaimLost as error:
            logger.warning("%s; dropped", error)
        except StorageUnavailable as error:
            # It cannot be said to the database, perhaps; then the lease says it.
            with contextlib.suppress(StorageUnavailable):
                self._claims.put_back(claim, str(error))
            raise
        except Exception as error:
            logger.exception("trial %d: its files were not written", claim.number)
            self._claims.put_back(claim, f"{type(error).__name__}: {error}", "error")
        else:
            self._ended(claim)
