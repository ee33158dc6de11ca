"""Processes that decode: each is given one task after the other, and replaced when a decoder takes it down."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Any

from storage.errors import TuningError
from storage.processes.isolation import python_environment, python_module
from studies.datasets.own.decoders.chunks import Task

Ask = Callable[[Sequence[Task]], Iterator[tuple[Task, Any]]]

_CHILD = "studies.datasets.own.decoders.chunks"
# A picture that ends its process so often is given up; once may have been a kill from outside.
_DEATHS_OF_A_PICTURE = 2
# A process that ends so often before any picture is not ended by a picture.
_DEATHS_AT_ALL = 3
_LAST_WORDS_S = 10.0


@contextmanager
def crew(count: int) -> Iterator[Ask]:
    """Start processes; what is yielded gives them tasks and yields each with its answer, as they come.

    At the end of the block, however it comes, none of them is left.

    Raises:
        TuningError: they do not start, or a task failed for a reason of ours.
        OSError: what the operating system refused to one of them.
    """
    members = [_Member() for _ in range(count)]
    try:
        yield lambda tasks: _ask(members, tasks)
    finally:
        for member in members:
            member.end()


def _ask(members: Sequence[_Member], tasks: Sequence[Task]) -> Iterator[tuple[Task, Any]]:
    left, lock = iter(tasks), Lock()
    answers: queue.SimpleQueue[tuple[Task, Any] | BaseException] = queue.SimpleQueue()

    def work(member: _Member) -> None:
        try:
            while True:
                with lock:
                    task = next(left, None)
                if task is None:
                    return
                answers.put((task, member.do(task)))
        except BaseException as error:  # raised where the tasks were given
            answers.put(error)

    threads = [Thread(target=work, args=(member,), daemon=True) for member in members]
    for thread in threads:
        thread.start()
    for _ in tasks:
        answer = answers.get()
        if isinstance(answer, BaseException):
            raise answer
        yield answer
    for thread in threads:
        thread.join()


class _Died(Exception):
    """A process ended in the middle of a task.

    Attributes:
        at: the picture that it was at, if it was asked to say so.
        how: in words.
    """

    def __init__(self, at: int | None, how: str) -> None:
        super().__init__(how)
        self.at = at
        self.how = how


@dataclass
class _Member:
    """One process, and the one that takes its place."""

    _process: subprocess.Popen[str] | None = None
    _ended: bool = False
    _lock: Lock = field(default_factory=Lock)

    def do(self, task: Task) -> Any:
        """Return the answer to a task; of a picture that takes the process down, the task is given again without."""
        deaths, careful = Counter[int | None](), False
        given_up = dict(task["given_up"])
        while True:
            try:
                return self._say({**task, "careful": careful, "given_up": given_up})
            except _Died as died:
                deaths[died.at] += 1
                if died.at is None and deaths[None] >= _DEATHS_AT_ALL:
                    raise TuningError(
                        f"a process that decodes pictures {died.how}, {_DEATHS_AT_ALL} times. Give the command again."
                    ) from died
                if died.at is not None and deaths[died.at] >= _DEATHS_OF_A_PICTURE:
                    given_up[str(died.at)] = f"the process that decoded it {died.how}"
                careful = True

    def end(self) -> None:
        """End the process; whoever waits for it is told that it died."""
        with self._lock:
            self._ended = True
            process, self._process = self._process, None
        if process is not None:
            _stop(process)

    def _say(self, task: Task) -> Any:
        process = self._started()
        at: int | None = None
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                answer = json.loads(line)
                if "at" in answer:
                    at = answer["at"]
                elif "errno" in answer:
                    raise _failure(answer["errno"], answer["words"])
                else:
                    return answer
        except (BrokenPipeError, ValueError):
            pass  # it ended before it had read the task, or in the middle of a line
        with self._lock:
            self._process = None
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_WORDS_S)  # how it ended is known a moment after its output did
        raise _Died(at, _how(_stop(process)))

    def _started(self) -> subprocess.Popen[str]:
        with self._lock:
            if self._ended:
                raise TuningError("decoding was stopped")
            if self._process is None:
                self._process = subprocess.Popen(
                    python_module(_CHILD),
                    env={**python_environment(os.environ), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,  # C libraries complain there about odd metadata
                    text=True,
                    encoding="utf-8",
                    process_group=0,  # Ctrl-C is for the command, which then ends these
                )
            return self._process


def _stop(process: subprocess.Popen[str]) -> int:
    process.kill()
    status = process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):  # what it was told last is lost with it
                stream.close()
    return status


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"ended with {signal.Signals(-status).name}"
    except ValueError:
        return f"ended with signal {-status}"


def _failure(errno: int, words: str) -> Exception:
    if errno:
        return OSError(errno, words)
    return TuningError(f"a process that decodes pictures failed: {words}. Give the command again.")
