"""A dashboard as a process, asked as its page asks, and what answering takes it."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import psutil

from storage.errors import TuningError
from tests.benchmarks.throughput.data import ROOT

Kind = Literal["ours", "stock"]
KINDS: Final[tuple[Kind, ...]] = ("ours", "stock")

_START_S: Final = 120.0


@dataclass(frozen=True)
class Cost:
    """What one request took.

    Attributes:
        cpu_s: the processor time of the dashboard, all threads.
        sent_bytes: what it sent, head and content.
        document: what it said; None where it said that the browser has it.
    """

    cpu_s: float
    sent_bytes: int
    document: Any


@dataclass
class Asked:
    """A dashboard that runs.

    Attributes:
        process: its process.
        port: where it listens.
        cookie: what opens it.
        tags: what it called its answers, by their paths, as a browser remembers.
    """

    process: psutil.Process
    port: int
    cookie: str
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def memory_mb(self) -> float:
        """How much memory it takes."""
        return float(self.process.memory_info().rss) / 1e6

    def get(self, path: str) -> Cost:
        """Ask as a browser does: compressed, and only for what it has not."""
        before = self._cpu_s()
        headers = {"Accept-Encoding": "gzip", "Cookie": self.cookie}
        headers |= {"If-None-Match": self.tags[path]} if path in self.tags else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        told = answer.getheaders()
        if answer.status not in (200, 304):
            raise TuningError(f"{path} was answered with {answer.status}: {content[:200]!r}")
        if tag := answer.getheader("ETag"):
            self.tags[path] = tag
        cost_s = self._cpu_s() - before
        sent = len(content) + sum(len(name) + len(value) + 4 for name, value in told) + 20
        if answer.getheader("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        return Cost(cost_s, sent, json.loads(content) if answer.status == 200 else None)

    def _cpu_s(self) -> float:
        # All of its threads, those that have ended too: clock_getcpuclockid(3). An answer takes less than a tick of the
        # clock that /proc has.
        return time.clock_gettime((~self.process.pid << 3) | 2)


@contextmanager
def asked(kind: Kind, url: str, folder: Path) -> Iterator[Asked]:
    """Run a dashboard of a database inside the block.

    Args:
        kind: ours, or Optuna's own as its command starts it.
        url: the database's.
        folder: for its files.
    """
    environment = {**os.environ, "TUNING_HOME": str(folder)}
    command = _command(kind, url, folder)
    with (
        (folder / f"{kind}.log").open("w") as log,
        subprocess.Popen(
            [*command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            yield _opened(kind, process, command)
        finally:
            process.terminate()


def _command(kind: Kind, url: str, folder: Path) -> list[str]:
    if kind == "ours":
        return [sys.executable, "-m", "tuning", "dashboard", "--storage", url, "--port", "0"]
    own = [sys.executable, "-c", "from optuna_dashboard._cli import main; main()", url, "--server", "wsgiref"]
    return [*own, "--artifact-dir", str(folder), "--port", str(_free_port())]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _opened(kind: Kind, process: subprocess.Popen[str], command: list[str]) -> Asked:
    known = psutil.Process(process.pid)
    if kind == "ours":
        assert process.stdout is not None
        link = urlsplit(process.stdout.readline().strip())
        connection = http.client.HTTPConnection("127.0.0.1", link.port or 0, timeout=60)
        connection.request("GET", f"{link.path}?{link.query}")
        cookie = str(connection.getresponse().getheader("Set-Cookie")).partition(";")[0]
        connection.close()
        return Asked(known, link.port or 0, cookie)
    found = Asked(known, int(command[-1]), "")
    until = time.monotonic() + _START_S
    while True:
        try:
            found.get("/api/meta")
        except OSError:
            if time.monotonic() > until or process.poll() is not None:
                raise TuningError("Optuna's own dashboard did not start") from None
            time.sleep(0.1)
        else:
            return found
