"""What is wrong around a command is one line, and true: terminals, encodings, proxies, clocks, a database that goes."""

from __future__ import annotations

import http.server
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from storage.errors import StorageUnavailable
from storage.opening import open_database
from studies.datasets.download import SourceError, _without_passwords, download
from studies.datasets.registry import dataset_info
from studies.declaration import read_declaration
from studies.forecast import effort_of, rate_per_hour, seconds_of
from studies.stored import find_study

ROOT = Path(__file__).resolve().parents[2]


# --- Terminals


def in_a_process(command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """What the shell makes of a command line, in which `tuning` is this one."""
    command = command.replace("tuning", f"{shlex.quote(sys.executable)} -m tuning", 1)
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        ("tuning data list >&-", 1, "error: standard output: it is closed. Mend that and give the command again.\n"),
        ("tuning data list --json > /dev/full", 1, "error: output: No space left on device. Mend that and give"),
        ("tuning data list | true; exit ${PIPESTATUS[0]}", 1, ""),
        ("tuning data list 2>&- >&- <&-", 1, ""),
        (r"tuning status --study $'caf\xe9'", 2, r"error: --study 'caf\udce9': is not UTF-8. Give another name"),
        (r"tuning tune --study $'caf\xe9'", 2, r"error: --study 'caf\udce9': is not UTF-8. Give another name"),
    ],
)
def test_what_is_wrong_with_the_terminal_is_at_most_one_line(command: str, status: int, says: str) -> None:
    done = in_a_process(command)
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == bool(says)


@pytest.mark.parametrize(
    ("command", "environ"),
    [
        ("trials", {"PYTHONIOENCODING": "ascii"}),
        ("status", {"PYTHONIOENCODING": "latin-1"}),
        ("status", {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
    ],
    ids=["ascii", "latin-1", "posix"],
)
def test_a_name_that_the_terminal_has_no_letters_for_is_shown_by_their_numbers(
    home: Path, command: str, environ: dict[str, str]
) -> None:
    study = optuna.create_study(
        study_name="Größe 日本", storage=open_database(f"sqlite:///{home / 'studies.db'}", create=True)
    )
    study.add_trial(optuna.create_trial(value=0.5))
    done = subprocess.run(
        [sys.executable, "-m", "tuning", command],
        cwd=ROOT, env={**os.environ, **environ}, capture_output=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u65e5\u672c" in done.stdout


@pytest.mark.parametrize("where", ["tuning.cli", "tuning.launch.launcher", "optuna"])
def test_ctrl_c_while_modules_are_imported_is_one_line(where: str, tmp_path: Path) -> None:
    interrupts = f"""
import sys
from importlib.abc import MetaPathFinder

class Finder(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {where!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
"""
    (tmp_path / "sitecustomize.py").write_text(interrupts)
    done = in_a_process("tuning tune --dataset mnist_sample", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")


# --- Files of editors


def test_a_study_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    catalog = ROOT / "studies" / "catalog" / "mnist_sample.toml"
    file = tmp_path / "marked.toml"
    file.write_bytes(b"\xef\xbb\xbf" + catalog.read_bytes())
    assert read_declaration(file) == read_declaration(catalog)


# --- Proxies


@pytest.fixture
def refusing_proxy() -> Iterator[str]:
    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_error(407)

        do_GET = do_CONNECT  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def reason_with(proxy: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(SourceError) as refused:
        download(dataset_info("mnist"), "https://data.example/", folder, lambda _: None)
    return str(refused.value)


def test_a_proxy_that_does_not_serve_is_told_from_the_source(
    refusing_proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for proxy in (f"http://me:secret@{refusing_proxy}", "http://me:secret@127.0.0.1:9"):
        reason = reason_with(proxy, tmp_path, monkeypatch)
        assert reason.startswith("the proxy of HTTP_PROXY or HTTPS_PROXY does not serve: ")
        assert "secret" not in reason


@pytest.mark.parametrize("proxy", ["http://me:se/cret@host:port", "http://me:secret@[host:80", "me:secret@:x"])
def test_the_password_of_a_proxy_that_cannot_be_read_is_not_said(
    proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = reason_with(proxy, tmp_path, monkeypatch)
    assert reason.startswith("the proxy of HTTP_PROXY or HTTPS_PROXY does not serve: ")
    assert "cret" not in reason


def test_a_password_is_taken_out_of_whatever_is_said() -> None:
    said = "Failed to parse: http://me:se@cret@host:80, or me:secret@host, 'http://x:y@z'"
    assert "cret" not in _without_passwords(said)
    assert "x:y" not in _without_passwords(said)
    assert _without_passwords("https://data.example/a: 404") == "https://data.example/a: 404"


# --- A database that goes


def test_of_a_database_that_was_removed_nothing_is_promised(tmp_path: Path) -> None:
    file = tmp_path / "studies.db"
    database = open_database(f"sqlite:///{file}", create=True)
    database.outage_s = 0.0
    for part in tmp_path.glob("studies.db*"):
        part.unlink()
    with pytest.raises(StorageUnavailable) as refused:
        database.get_all_studies()
    database.engine.dispose()
    assert f"the database is gone: there is no {file} any more" in str(refused.value)
    assert "no finished trial is lost" not in str(refused.value)


# --- Clocks


def test_a_study_from_a_clock_that_was_ahead_does_not_stay_the_last(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'studies.db'}", create=True)
    for name, start in (("ahead", datetime.now() + timedelta(days=2)), ("now", datetime.now())):
        study = optuna.create_study(storage=database, study_name=name, direction="maximize")
        study.add_trial(
            optuna.trial.FrozenTrial(
                0, TrialState.COMPLETE, 0.5, start, start + timedelta(seconds=1), {}, {}, {}, {}, {}, 0
            )
        )
    assert find_study(database, None).study_name == "now"
    database.delete_study(find_study(database, "now")._study_id)
    assert find_study(database, None).study_name == "ahead"
    database.engine.dispose()


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize("night", ["2026-10-25", "2026-03-29"], ids=["back", "forward"])
def test_the_night_in_which_clocks_change_changes_no_rate(tmp_path: Path, night: str) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'studies.db'}", create=True)
    study = optuna.create_study(storage=database, study_name="night", direction="maximize")
    study.tell(study.ask(), 0.5)
    with database.engine.begin() as connection:
        begun, ended = f"{night} 00:20:00.000000", f"{night} 01:20:00.000000"
        connection.exec_driver_sql(f"UPDATE trials SET datetime_start = '{begun}', datetime_complete = '{ended}'")
    (trial,) = optuna.load_study(storage=database, study_name="night").trials
    assert seconds_of(trial) == 3600.0
    assert rate_per_hour([effort_of(trial)]) == 1.0
    database.engine.dispose()
