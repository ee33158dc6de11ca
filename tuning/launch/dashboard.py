"""The dashboard beside a study that is tuned: a process of its own, which ends with the launcher however that ends.

It is started where somebody looks at the terminal: its link lets in whoever has it, and belongs in no log.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Final

from storage.processes.isolation import python_environment, python_module
from storage.settings import Home

END_S: Final = 5.0
"""How long it may take to end once it was told to."""
_WITHOUT: Final = "dashboard not served: make dashboard says why"


@contextmanager
def dashboard_of(url: str, home: Home, report: Callable[[str], None]) -> Iterator[None]:
    """Serve the dashboard of a database inside the block, and report the link that opens it.

    Args:
        url: the database's.
        home: where its files are.
        report: takes a line for the user, from another thread.
    """
    # A password does not belong on a command line, which others on this machine can read.
    command = python_module("tuning", "dashboard", "--beside")
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**python_environment(os.environ), "TUNING_HOME": str(home.root)},
            start_new_session=True,  # the terminal's Ctrl-C is the launcher's alone
        )
    except OSError:
        report(_WITHOUT)
        yield  # a study is tuned without it just as well
        return
    assert process.stdin is not None and process.stdout is not None
    with suppress(OSError):
        process.stdin.write(url + "\n")
        process.stdin.flush()
    ended = threading.Event()
    telling = threading.Thread(target=_tell, args=(process.stdout, report, ended), daemon=True)
    telling.start()
    try:
        yield
    finally:
        ended.set()
        if telling.is_alive():  # nobody has its link yet
            process.terminate()
        _end(process)
        telling.join()


def _tell(output: IO[str], report: Callable[[str], None], ended: threading.Event) -> None:
    with output:
        link = output.readline().strip()
        if not ended.is_set():
            report(f"dashboard {link}" if link else _WITHOUT)


def _end(process: subprocess.Popen[str]) -> None:
    """End it as the end of the launcher would: what it reads has an end."""
    with suppress(OSError):
        process.stdin.close()  # type: ignore[union-attr]
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
