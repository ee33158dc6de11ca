"""The tokens with which a dashboard is opened: one for each start, kept as hashes.

Whoever is on the same machine reaches the address as well, so being there proves nothing; to know the token does. It is
in no file: each start makes a new one and prints it, and its hash keeps the browsers that came with it in after that.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from storage.files import replacing

KEPT_DAYS = 90
"""How long a token counts after its start, but at least as long as that dashboard runs."""

MOST_KEPT = 20
"""Of how many starts the tokens count; the newest."""

_LINE = re.compile("([0-9a-f]{64}) ([0-9]{1,12})")


class Tokens:
    """What opens one dashboard: the token of this start, and those of earlier ones.

    Args:
        file: where the hashes are kept, a line each with the time of the start; of this user alone.
        clock: seconds since 1970.

    Attributes:
        token: this start's.
        kept: whether the next start will know it.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self.token = secrets.token_urlsafe(32)
        self._file = file
        self._clock = clock
        self._own = _hash(self.token)
        self.kept = self._keep()

    def count(self, token: str) -> bool:
        """Whether a token opens this dashboard."""
        given = _hash(token)
        # All of them are compared, each in the same time: how long it takes says nothing of them.
        equal = [hmac.compare_digest(given, known) for known in (self._own, *self._earlier())]
        return any(equal)

    def _keep(self) -> bool:
        earlier = self._earlier()
        lines = [*(f"{known} {began}\n" for known, began in earlier.items()), f"{self._own} {int(self._clock())}\n"]
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            if self._file.exists() and self._file.stat().st_uid != os.geteuid():
                return False
            with replacing(self._file, mode=0o600) as beside:
                beside.write_text("".join(lines[-MOST_KEPT:]), encoding="ascii")
        except OSError:
            return False
        return True

    def _earlier(self) -> dict[str, int]:
        """Return the hashes that are kept, with their starts; read each time, so that to remove the file ends them."""
        try:
            with self._file.open("rb") as file:
                status = os.fstat(file.fileno())
                # Who else could write it could let in anybody.
                if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                    return {}
                lines = file.read(1 << 16).decode("ascii", errors="replace").splitlines()
        except OSError:
            return {}
        oldest = self._clock() - KEPT_DAYS * 24 * 3600
        found = [parsed for line in lines if (parsed := _LINE.fullmatch(line)) is not None]
        return {known: int(began) for known, began in map(re.Match.groups, found) if int(began) > oldest}


def _hash(token: str) -> str:
    # It is drawn at random, 256 bits: no salt and no slow hash make it harder to guess.
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
