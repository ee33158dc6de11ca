"""A worker hears its launcher and the signals, and its launcher hears nothing from it but messages."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tuning.messages import Alone, Crowded, Go, Leave, Note, decode, encode

SIGNALLED = """
import os, signal, sys, time
from tuning.worker.supervisor import Supervisor
supervisor = Supervisor(supervised=sys.argv[1] == "True")
supervisor.heed_signals()
if sys.argv[2] == "True":
    supervisor.ready.set()
for _ in range(2):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.05)
print("the epoch is over", supervisor.stop.is_set())
"""


@pytest.mark.parametrize(
    ("supervised", "ready", "goes_on"),
    [(True, True, True), (False, True, False), (True, False, False), (False, False, False)],
)
def test_the_second_signal_ends_a_worker_that_has_no_launcher_at_once(
    supervised: bool, ready: bool, goes_on: bool
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(supervised), str(ready)], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == (0 if goes_on else 128 + signal.SIGINT)
    assert ended.stdout == ("the epoch is over True\n" if goes_on else "")


LISTENS = """
import time
from tuning.messages import Note
from tuning.worker import supervisor as module
module.ORPHAN_GRACE_S = 0.0
supervisor = module.Supervisor(supervised=True)
supervisor.listen()
print("a library's greeting", flush=True)
supervisor.tell(Note("up"))
supervisor.wait_for_go()
supervisor.ready.set()
def state():
    return f"leaving {supervisor.leaving.is_set()}, crowded {supervisor.crowded.is_set()}"
before = None
while True:
    if state() != before:
        before = state()
        supervisor.tell(Note(before))
    time.sleep(0.01)
"""


def test_a_worker_does_what_its_launcher_says_and_ends_with_it() -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", LISTENS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with worker:
        assert worker.stdin is not None and worker.stdout is not None and worker.stderr is not None
        spoken, answered = worker.stdin, worker.stdout

        def heard() -> object:
            return decode(answered.readline())

        def says(*messages: Go | Leave | Crowded | Alone) -> None:
            for message in messages:
                spoken.write(encode(message))
            spoken.flush()

        assert heard() == Note("up")
        says(Go())
        assert heard() == Note("leaving False, crowded False")
        says(Crowded())
        assert heard() == Note("leaving False, crowded True")
        says(Alone())
        assert heard() == Note("leaving False, crowded False")
        spoken.write("half a mess\n")
        says(Leave())
        assert heard() == Note("leaving True, crowded False")
        spoken.close()
        assert worker.wait(30) == 1
        said = worker.stderr.read()
    assert "a library's greeting" in said
    assert "half a mess" in said
