"""The dashboard beside a launcher: its link is told, another port is taken where one is in use, and it ends with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import optuna
import psutil

from storage.opening import open_database
from storage.settings import Home
from tuning.commands.dashboard.serving import DEFAULT_PORT
from tuning.launch.dashboard import dashboard_of

LAUNCHER = """
import sys, time
from pathlib import Path
from storage.settings import Home
from tuning.launch.dashboard import dashboard_of

home = Home(Path(sys.argv[1]))
with dashboard_of(home.database_url, home, lambda line: print(line, flush=True)):
    time.sleep(600)
"""


def made(home: Path) -> Home:
    place = Home(home)
    place.make(place.root)
    database = open_database(place.database_url, create=True)
    optuna.create_study(study_name="mnist", storage=database)
    database.engine.dispose()
    return place


def port_in(line: str) -> int:
    name, _, link = line.strip().partition(" ")
    assert name == "dashboard"
    assert urlsplit(link).query.startswith("token=")
    return urlsplit(link).port or 0


def listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def test_its_link_is_told_also_where_its_port_is_in_use_and_it_ends_with_the_block(home: Path) -> None:
    place, told, lines = made(home), threading.Event(), list[str]()

    def report(line: str) -> None:
        lines.append(line)
        told.set()

    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not listens(DEFAULT_PORT):
            other.bind(("127.0.0.1", DEFAULT_PORT))
            other.listen()
        with dashboard_of(place.database_url, place, report):
            assert told.wait(60)
            port = port_in(lines[0])
            assert port > DEFAULT_PORT
            assert listens(port)
    assert not listens(port)


def test_it_ends_with_a_launcher_that_is_killed(home: Path) -> None:
    place = made(home)
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, place.root], stdout=subprocess.PIPE, text=True)
    try:
        assert launcher.stdout is not None
        port = port_in(launcher.stdout.readline())
        (child,) = psutil.Process(launcher.pid).children()
        # What the terminal sends to all of its processes does not reach it.
        assert os.getsid(child.pid) != os.getsid(launcher.pid)
        launcher.send_signal(signal.SIGKILL)
        assert psutil.wait_procs([child], timeout=20)[1] == []
        assert not listens(port)
    finally:
        launcher.kill()
        launcher.communicate()
