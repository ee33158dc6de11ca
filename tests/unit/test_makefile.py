"""The Makefile, run for real in a copy with a pretended Python and a pretended ``tuning``; and what it installs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ("requirements.txt", "requirements-cuda.txt", "requirements-dev.txt")
COPIED = ("Makefile", "pyproject.toml", *REQUIREMENTS)

# Stands in for Python: makes an environment whose python is this script again, and writes what pip was asked for to
# pip.log. A file "fail" or "wait" in the checkout makes pip fail, or hang until it is killed.
PRETENDED_PYTHON = f"""\
#!/bin/sh
case "$*" in
    *fcntl*|*version_info*) exec "{sys.executable}" "$@" ;;
    "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    "-m pip --version") ;;
    "-m pip install"*)
        if [ -e fail ]; then exit 1; fi
        if [ -e wait ]; then touch waiting; exec sleep 60; fi
        echo "$@" >> pip.log
        cp "$PRETENDED_TUNING" .venv/bin/tuning ;;
    *) echo "unexpected: $*" >&2; exit 1 ;;
esac
"""

# The head of a Python script; unlike a #! line, it may name an interpreter whose path has spaces.
RUN_BY_THIS_PYTHON = f"""\
#!/bin/sh
"exec" "{sys.executable}" "$0" "$@"
"""

SEEN = ("TUNING_HOME", "TUNING_FILES", "DATA_DIR", "PYTHONPATH", "TUNING_PYTHONPATH")

# Stands in for the command: prints its arguments and what it sees of the environment.
PRETENDED_TUNING = f"""\
{RUN_BY_THIS_PYTHON}
import json, os, sys
print(json.dumps([sys.argv[1:], {{name: os.environ.get(name) for name in {SEEN}}}]))
"""


class Checkout:
    """A copy of the set-up, and ``make`` in it."""

    def __init__(self, root: Path, tools: Path) -> None:
        root.mkdir(parents=True)
        tools.mkdir()
        for name in COPIED:
            shutil.copy(ROOT / name, root)
        self.root = root
        self.python = self.script(tools / "python", PRETENDED_PYTHON)
        self.tuning = self.script(tools / "tuning", PRETENDED_TUNING)

    @staticmethod
    def script(path: Path, text: str) -> Path:
        path.write_text(text)
        path.chmod(0o755)
        return path

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return subprocess.Popen(
            ["make", f"PYTHON={self.python}", "CUDA=", *arguments],
            cwd=self.root,
            env=inherited | {"PRETENDED_TUNING": str(self.tuning)} | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A shell starts what it puts into the background with SIGINT ignored, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def make(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environ)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def command(self, *arguments: str, **environ: str) -> list[str]:
        """The arguments that ``tuning`` received."""
        done = self.make(*arguments, **environ)
        assert done.returncode == 0, done.stderr
        received: list[str] = json.loads(done.stdout)[0]
        return received

    def environment(self, *arguments: str, **environ: str) -> dict[str, str]:
        """What ``tuning`` saw of the environment."""
        done = self.make("tune", *arguments, **environ)
        assert done.returncode == 0, done.stderr
        seen: dict[str, str | None] = json.loads(done.stdout)[1]
        return {name: value for name, value in seen.items() if value is not None}

    def installs(self) -> int:
        log = self.root / "pip.log"
        return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "a checkout" / "it's here", tmp_path / "tools")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


# --- Set-up


def test_the_first_make_sets_up_and_the_second_installs_nothing(checkout: Checkout) -> None:
    assert checkout.command("tune", "DATASET=mnist") == ["tune", "--dataset=mnist"]
    assert checkout.installs() == 2
    assert checkout.command("tune", "DATASET=mnist") == ["tune", "--dataset=mnist"]
    assert checkout.installs() == 2


def test_setting_up_says_so_on_stderr_only(checkout: Checkout) -> None:
    done = checkout.make("status", "JSON=1")
    assert json.loads(done.stdout)[0] == ["status", "--json"]
    assert "Setting up .venv" in done.stderr


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_changed_requirements_are_installed(checkout: Checkout, name: str) -> None:
    checkout.make("setup")
    time.sleep(0.02)  # the file system counts time in ticks of some milliseconds
    (checkout.root / name).touch()
    checkout.make("setup")
    assert checkout.installs() == 4


def test_a_driver_that_appears_brings_the_cuda_libraries(checkout: Checkout) -> None:
    checkout.make("setup")
    checkout.make("setup", "CUDA=yes")
    assert "requirements-cuda.txt" in (checkout.root / "pip.log").read_text().splitlines()[2]
    checkout.make("setup", "CUDA=yes")
    assert checkout.installs() == 4


def test_a_set_up_that_failed_starts_over(checkout: Checkout) -> None:
    (checkout.root / "fail").touch()
    assert checkout.make("tune").returncode != 0
    (checkout.root / ".venv" / "left over").touch()
    (checkout.root / "fail").unlink()
    assert checkout.command("tune") == ["tune"]
    assert not (checkout.root / ".venv" / "left over").exists()


@pytest.mark.parametrize("target", ["tune", "lint"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_set_up_that_was_killed_starts_over(checkout: Checkout, target: str, how: signal.Signals) -> None:
    if target == "lint":
        checkout.make("setup")
    (checkout.root / "wait").touch()
    killed = checkout.start(target)
    wait_for(checkout.root / "waiting")
    os.killpg(killed.pid, how)
    killed.communicate(timeout=30)
    assert killed.returncode != 0
    (checkout.root / ".venv" / "left over").touch()
    (checkout.root / "wait").unlink()
    assert checkout.command("tune") == ["tune"]
    assert not (checkout.root / ".venv" / "left over").exists()


def test_two_makes_at_once_install_once(checkout: Checkout) -> None:
    (checkout.root / "wait").touch()
    first = checkout.start("tune")
    wait_for(checkout.root / "waiting")
    others = [checkout.start("tune") for _ in range(3)]
    (checkout.root / "wait").unlink()
    os.killpg(first.pid, signal.SIGKILL)
    for process in (first, *others):
        process.communicate(timeout=60)
    assert [process.returncode for process in others] == [0, 0, 0]
    assert checkout.installs() == 2


def test_a_checkout_that_was_moved_is_set_up_again(checkout: Checkout, tmp_path: Path) -> None:
    checkout.make("setup")
    checkout.root = checkout.root.rename(tmp_path / "moved")
    assert checkout.command("tune") == ["tune"]
    assert checkout.installs() == 4


def test_an_environment_whose_python_is_gone_is_set_up_again(checkout: Checkout) -> None:
    checkout.make("setup")
    python = checkout.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nonexistent/python3")
    assert checkout.command("tune") == ["tune"]
    assert checkout.installs() == 4


def test_a_python_that_does_not_fit_is_refused_in_one_sentence(checkout: Checkout, tmp_path: Path) -> None:
    checkout.python = checkout.script(
        tmp_path / "old python",
        '#!/bin/sh\ncase $2 in *print*) echo found Python 3.10.13 at "$0";; *) exit 1;; esac\n',
    )
    done = checkout.make("tune")
    assert done.returncode == 2
    assert done.stdout == ""
    sentence = (
        f"found Python 3.10.13 at {checkout.python}, but this needs Python 3.11 to 3.13: set PYTHON=/path/to/python3.12"
    )
    assert re.fullmatch(rf"Makefile:\d+: \*\*\* {re.escape(sentence)}\.  Stop\.\n", done.stderr)
    assert not (checkout.root / ".venv").exists()


def test_a_python_that_is_not_there_is_refused_in_one_sentence(checkout: Checkout) -> None:
    checkout.python = Path("/nonexistent/python3")
    done = checkout.make("tune")
    assert "found no working Python at /nonexistent/python3, but this needs Python 3.11 to 3.13" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_python_given_the_first_that_really_runs_is_taken(checkout: Checkout, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    checkout.script(folder / "python3", "#!/bin/sh\nexit 1\n")  # too old
    checkout.script(folder / "python3.13", "#!/bin/sh\nexit 127\n")  # a shim with nothing behind it
    checkout.script(folder / "python3.12", PRETENDED_PYTHON)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    assert json.loads(checkout.make("tune", "PYTHON=", PATH=path).stdout)[0] == ["tune"]


# --- Commands


@pytest.mark.parametrize(
    ("given", "received"),
    [
        ("tune", "tune"),
        (
            "tune DATASET=d STUDY=s TRIALS=1 EPOCHS=2 TIMEOUT=30m WORKERS=auto WORKERS_PER_DEVICE=2",
            "tune --dataset=d --study=s --trials=1 --epochs=2 --timeout=30m --workers=auto --workers-per-device=2",
        ),
        (
            "tune MODEL=m SEED=-1 SPACE=core TRAIN_IMAGES=9 STORAGE=u SPEC=f NO_PROGRESS=1",
            "tune --model=m --space=core --train-images=9 --seed=-1 --storage=u --spec=f --no-progress",
        ),
        (
            "tune DATASET=d BUDGET_EPOCHS=90 STRATEGY=promotion FROM_STUDY=s",
            "tune --dataset=d --budget-epochs=90 --strategy=promotion --from-study=s",
        ),
        ("tune DATASET=d NO_PROGRESS=0", "tune --dataset=d"),
        ("tune DATASET=d PRECISION=auto", "tune --dataset=d --precision=auto"),
        ("tune DATASET=d DASHBOARD=0", "tune --dataset=d --no-dashboard"),
        ("worker STUDY=s STORAGE=u MODEL=m", "worker --study=s --storage=u --model=m"),
        ("worker STUDY=s STORAGE=u STRATEGY=f.py:S", "worker --study=s --storage=u --strategy=f.py:S"),
        ("status", "status"),
        ("status STUDY=s JSON=1", "status --study=s --json"),
        ("trials STUDY=s FORMAT=csv", "trials --study=s --format=csv"),
        ("dashboard", "dashboard"),
        ("dashboard STORAGE=u HOST=h PORT=1", "dashboard --storage=u --host=h --port=1"),
        ("dashboard ALLOW_HOST=a.example,b EDIT=1", "dashboard --allow-host=a.example,b --edit"),
        ("dashboard EDIT=0", "dashboard"),
        ("delete STUDY=s YES=1", "delete --study=s --yes"),
        ("backup STUDY=s STORAGE=u OUT=o", "backup --out=o --study=s --storage=u"),
        ("restore FROM=f STORAGE=u STUDY=s", "restore --storage=u --study=s -- f"),
        ("gc", "gc"),
        ("gc STUDY=s STORAGE=u YES=1", "gc --study=s --storage=u --yes"),
        ("export", "export"),
        ("export DATASET=d", "export --dataset=d"),
        ("export MODEL=f.py:M", "export --model=f.py:M"),
        ("export DATASET=d STUDY=s TRIAL=0 FORMAT=onnx OUT=o", "export --study=s --trial=0 --format=onnx --out=o"),
        ("export STUDY=s FLIPS=1", "export --study=s --flips"),
        ("export STUDY=s FLIPS=0", "export --study=s"),
        ("predict STUDY=s IMAGE=i.png JSON=1", "predict --study=s --json -- i.png"),
        ("predict MODEL=m IMAGE=i.png", "predict --model=m -- i.png"),
        ("predict MODEL=m IMAGE=i.png RUN_CODE=1", "predict --model=m --run-code -- i.png"),
        ("predict MODEL=m IMAGE=i.png RUN_CODE=no", "predict --model=m -- i.png"),
        ("explore DATASET=d", "explore --dataset=d"),
        ("data", "data list"),
        ("data DATASET=d", "data prepare -- d"),
        ("data-list", "data list"),
        ("data-prepare DATASET=d", "data prepare -- d"),
    ],
)
def test_variables_become_flags(checkout: Checkout, given: str, received: str) -> None:
    assert checkout.command(*given.split()) == received.split()


@pytest.mark.parametrize(
    "value", ["two words", "it's", 'a "b" c', "$HOME $(HOME) `id`", "a;b|c>d&e", "a,b #c", "*", "a\\b", "-1"]
)
def test_a_value_reaches_the_command_as_it_was_given(checkout: Checkout, value: str) -> None:
    assert checkout.command("tune", f"STUDY={value}") == ["tune", f"--study={value}"]


def test_home_and_data_reach_the_command_as_environment(checkout: Checkout) -> None:
    assert checkout.environment("TUNING_HOME=/a b", "DATA_DIR=/c'd") == {"TUNING_HOME": "/a b", "DATA_DIR": "/c'd"}
    assert checkout.environment(TUNING_HOME="/e", DATA_DIR="/f") == {"TUNING_HOME": "/e", "DATA_DIR": "/f"}
    assert checkout.environment() == {}


def test_what_is_given_is_never_run(checkout: Checkout) -> None:
    given = "$(shell touch ran)"  # make runs it where its file is
    assert checkout.command("tune", f"STUDY={given}") == ["tune", f"--study={given}"]
    assert checkout.environment(f"TUNING_HOME={given}") == {"TUNING_HOME": given}
    assert not list(checkout.root.glob("ran*"))


def test_where_files_are_kept_reaches_every_command_and_no_other_programs_variable_is_taken_for_it(
    checkout: Checkout,
) -> None:
    assert checkout.environment("FILES=s3://a/$b") == {"TUNING_FILES": "s3://a/$b"}
    assert checkout.environment("FILES=", TUNING_FILES="s3://c") == {"TUNING_FILES": ""}
    assert checkout.environment(TUNING_FILES="s3://c", FILES="mine") == {"TUNING_FILES": "s3://c"}


def test_python_searches_a_users_folders_last(checkout: Checkout) -> None:
    assert checkout.environment(PYTHONPATH="/my $(x) models:/b c") == {"TUNING_PYTHONPATH": "/my $(x) models:/b c"}


def test_what_the_shell_exports_does_not_open_the_dashboard(checkout: Checkout) -> None:
    exported = {"HOST": "0.0.0.0", "PORT": "80", "ALLOW_HOST": "evil.example", "EDIT": "1"}
    assert checkout.command("dashboard", **exported) == ["dashboard"]


def test_what_the_shell_exports_does_not_run_the_code_in_a_bundle(checkout: Checkout) -> None:
    assert checkout.command("predict", "IMAGE=i.png", RUN_CODE="1") == ["predict", "--", "i.png"]


@pytest.mark.parametrize("to_all", [True, False], ids=["Ctrl-C", "SIGTERM to make alone"])
def test_make_waits_until_the_command_has_shut_down(checkout: Checkout, to_all: bool) -> None:
    checkout.make("setup")
    checkout.script(
        checkout.root / ".venv" / "bin" / "tuning",
        f"""{RUN_BY_THIS_PYTHON}
import pathlib, signal, sys, time
def stop(number, frame):
    time.sleep(0.5)
    pathlib.Path("shut down").touch()
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
pathlib.Path("started").touch()
time.sleep(60)
""",
    )
    process = checkout.start("tune", "DATASET=mnist")
    wait_for(checkout.root / "started")
    if to_all:
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)
    assert (checkout.root / "shut down").exists()
    assert process.returncode != 0


def test_make_alone_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {name for line in re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE) for name in line.split()}
    # Without the environment: this test may itself run under make, which tells a make below it so.
    environ = {"PATH": os.environ["PATH"]}
    listed = subprocess.run(["make"], cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in listed.splitlines()[1:]} == targets


# --- What is installed


def pins(name: str) -> dict[str, set[tuple[str, str]]]:
    """The distributions of a requirements file: their versions, each with its marker."""
    found: dict[str, set[tuple[str, str]]] = {}
    for line in (ROOT / name).read_text().splitlines():
        requirement = Requirement(line)
        specifier = str(requirement.specifier)
        found.setdefault(canonicalize_name(requirement.name), set()).add((specifier, str(requirement.marker or "")))
    return found


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_line_pins_one_version_and_names_no_place(name: str) -> None:
    where = "[a-z_]+ [<>=!]+ '[^']+'"
    for line in (ROOT / name).read_text().splitlines():
        assert re.fullmatch(rf"[a-z0-9.-]+==[0-9][0-9a-z.]*( ; {where}( and {where})*)?", line), line


def test_the_requirements_files_agree() -> None:
    runtime, cuda, dev = (pins(name) for name in REQUIREMENTS)
    assert runtime.items() <= cuda.items()
    assert {name.split("-")[0] for name in cuda.keys() - runtime.keys()} == {"nvidia"}
    assert {name: dev[name] for name in dev.keys() & runtime.keys()} == {
        name: runtime[name] for name in dev.keys() & runtime.keys()
    }


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("requirements.txt", ("project", "dependencies")),
        ("requirements-cuda.txt", ("project", "dependencies")),
        ("requirements-cuda.txt", ("project", "optional-dependencies", "cuda")),
        ("requirements-dev.txt", ("dependency-groups", "dev")),
    ],
)
def test_every_direct_dependency_is_pinned_within_its_range(name: str, table: tuple[str, ...]) -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for key in table:
        wanted = wanted[key]
    pinned = pins(name)
    for line in wanted:
        requirement = Requirement(line)
        versions = [specifier.removeprefix("==") for specifier, _ in pinned[canonicalize_name(requirement.name)]]
        assert versions
        assert all(requirement.specifier.contains(version) for version in versions), (line, versions)
