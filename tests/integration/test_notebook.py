"""A study in the kernel of a notebook: the tutorial, and Ctrl-C."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

from tests.integration.command_line import ROOT, CommandLine, wait_until
from tests.pages.tutorial import read

SMALL = "dataset='mnist_sample', workers=2, train_images=400, epochs=40, strategy='none', search_only=True"


class Notebook:
    """A kernel, and cells that are run in it."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager, self.client = manager, client

    def begin(self, code: str) -> str:
        return str(self.client.execute(code))

    def end(self, cell: str, timeout_s: float = 120.0) -> tuple[dict[str, Any], str]:
        """Return the answer to a cell, and what its output shows in the end, and what else it printed."""
        shown, others = {}, ""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            message = self.client.get_iopub_msg(timeout=timeout_s)
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind in ("display_data", "update_display_data"):
                shown[content["transient"].get("display_id")] = content["data"]["text/plain"]
            elif kind == "stream":
                others += content["text"]
            elif kind == "status" and content["execution_state"] == "idle":
                break
        assert len(shown) <= 1, "one output, which is drawn anew"
        return self.client.get_shell_msg(timeout=timeout_s)["content"], "".join([*shown.values(), others])

    def run(self, code: str) -> str:
        answer, text = self.end(self.begin(code))
        assert answer["status"] == "ok", answer
        return text


@pytest.fixture
def command(home: Path) -> CommandLine:
    return CommandLine(home)


@pytest.fixture
def notebook(home: Path) -> Iterator[Notebook]:
    environment = {**os.environ, "TUNING_HOME": str(home)}
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(ROOT), env=environment, stderr=subprocess.DEVNULL)
    try:
        yield Notebook(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.slow
def test_the_tutorial_runs_from_its_first_cell_to_its_last(tmp_path: Path) -> None:
    out = tmp_path / "run.ipynb"
    given = [sys.executable, "-m", "tests.pages.tutorial", "--short", "--out", str(out)]
    done = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    by_code = {cell.source: cell.outputs for cell in read(out).cells if cell.cell_type == "code"}
    (said,) = (output for output in by_code["study.refit(epochs=1)"] if output.output_type == "display_data")
    assert "refitted: trial" in said["data"]["text/plain"]
    for name, kind in (("samples", "png"), ("history", "svg+xml"), ("curves", "svg+xml"), ("confusion", "svg+xml")):
        (drawn,) = (outputs for code, outputs in by_code.items() if code.endswith(f"study.plot.{name}()"))
        assert f"image/{kind}" in drawn[-1]["data"]
    assert "picture 0" in by_code["study.predict(picture)"][0]["data"]["text/html"]


@pytest.mark.slow
def test_an_interrupt_stops_a_study_in_a_line_and_the_same_call_goes_on(
    notebook: Notebook, command: CommandLine
) -> None:
    notebook.run(
        "import logging, os, signal, sys\n"
        "def surroundings(): return ([signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)], os.getcwd(),"
        " logging.root.handlers[:], sys.stderr, sys.path[:], dict(os.environ))\n"
        "before = surroundings()\nfrom tuning import Study\nstudy = Study('s', " + SMALL + ")"
    )
    cell = notebook.begin("study.tune(trials=2)")
    wait_until(lambda: (command.home / "studies.db").exists() and any_epoch(command))
    notebook.manager.interrupt_kernel()
    answer, shown = notebook.end(cell)
    assert (answer["status"], answer["ename"]) == ("error", "Interrupted")
    assert answer["traceback"] == ["interrupted; the same call goes on"]
    assert "stopping: running trials go on to the end of their epoch" in shown
    assert "interrupted: 2 trials are back in the queue" in shown
    assert command.workers() == []
    told = notebook.run(
        "left = {'keras', 'tensorflow', 'jax', 'models'} & sys.modules.keys()\n"
        "print(left, [a == b for a, b in zip(before, surroundings())], study.status['trials']['waiting'])"
    )
    assert told == "set() [True, True, True, True, True, True] 2\n"
    shown = notebook.run("study.tune(trials=2)")
    assert "2 of 2 trials finished (2 complete, 0 pruned)" in shown
    assert [trial.last_step for trial in command.study("s").trials] == [40, 40]
    answer, _ = notebook.end(notebook.begin("study.tune(trials=1)"))
    (line,) = answer["traceback"]
    assert line.startswith("error: --trials 1: 2 trials of study 's' are finished already")


def any_epoch(command: CommandLine) -> bool:
    try:
        return any(trial.intermediate_values for trial in command.study("s").trials)
    except KeyError:  # not made yet
        return False
