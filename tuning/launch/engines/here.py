"""Workers as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

from storage.processes.isolation import python_environment
from tuning.launch.engines.engine import Start


class Here:
    """An `Engine`: this machine."""

    def start(self, start: Start) -> ProcessHere:
        """Start a process."""
        # The folder is the name's: whoever deletes a study of that name in another database removes it.
        start.log.parent.mkdir(parents=True, exist_ok=True)
        with start.log.open("a", encoding="utf-8") as log:
            # A session of its own: the terminal's Ctrl-C reaches the launcher alone, which decides for all.
            return ProcessHere(
                subprocess.Popen(
                    start.options.command(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env={**python_environment(os.environ), **start.placement.environment, **start.environment},
                    start_new_session=True,
                )
            )


class ProcessHere:
    """A `WorkerProcess` of this machine.

    Args:
        process: it was started with pipes for what it reads and says.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def lines(self) -> Iterator[str]:
        """Yield what it writes."""
        assert self._process.stdout is not None
        with self._process.stdout as output:
            yield from output

    def say(self, line: str) -> None:
        """Write to its input."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def status(self) -> int | None:
        """Return its exit status."""
        return self._process.poll()

    def stop(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def wait(self) -> int:
        """Wait for it."""
        return self._process.wait()

    def close(self) -> None:
        """Close its input, whose end says that its launcher is gone."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
