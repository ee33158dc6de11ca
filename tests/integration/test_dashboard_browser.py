"""The dashboard in a browser, as a person sees it: opened by its link, alive, read-only, and deaf to other sites."""

from __future__ import annotations

import io
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement

from storage import attributes
from storage.artifacts import Artifacts
from storage.claims import Claim, Claims, Thaw
from storage.database import Database
from storage.settings import Home
from storage.stores.chosen import artifact_files
from tests.browser import NoBrowser, browser, text_of, until
from tests.databases import claimed, finish, fresh_database, new_study
from tests.integration.command_line import CommandLine

# What a script does that runs in the page's name: it makes a study, once by each name.
CREATE = """
const [base, name, done] = arguments;
const words = JSON.stringify({study_name: name, directions: ["maximize"]});
const asked = {method: "POST", headers: {"Content-Type": "application/json"}, body: words};
fetch(base + "api/studies", asked).then(answer => done(answer.status), error => done(error.name));
"""
SCRIPT = f"document.title = 'it ran'; (function() {{{CREATE}}})('/', document.location.pathname, String)"
FILES = {
    "page.html": f"<!DOCTYPE html><title>a page</title><script>{SCRIPT}</script>",
    "drawing.svg": f'<svg xmlns="http://www.w3.org/2000/svg"><script><![CDATA[{SCRIPT}]]></script></svg>',
    "code.js": SCRIPT,
}

# How a page, which others may lead somebody to or write a note for, may have a file opened.
WAYS = (
    "open(arguments[0])",
    "document.body.append(Object.assign(document.createElement('iframe'), {src: arguments[0]}))",
    "document.body.append(Object.assign(document.createElement('object'), {data: arguments[0]}))",
    "document.body.append(Object.assign(document.createElement('script'), {src: arguments[0]}))",
    "document.body.append(Object.assign(new Image(), {src: arguments[0]}))",
    "location = arguments[0]",
)

# A page of somebody else, who knows where the dashboard is.
OTHER_SITE = """<!DOCTYPE html>
<title>waiting</title>
<a href="{base}dashboard">a link</a>
<form action="{base}api/studies" method="post" enctype="text/plain">
<input name='{{"study_name": "by a form", "directions": ["maximize"], "rest": "' value='"}}'><button>a form</button>
</form>
<iframe src="{base}dashboard"></iframe>
<img src="{base}artifacts/1/1/{artifact}" alt="a picture">
<script src="{base}artifacts/1/1/{artifact}"></script>
<script>
const create = {{method: "POST", body: '{{"study_name": "by fetch", "directions": ["maximize"]}}'}};
const json = {{...create, headers: {{"Content-Type": "application/json"}}}};
const ways = [
  ["api/studies", {{}}], ["api/studies", create], ["api/studies", json], ["api/studies/1", {{method: "DELETE"}}],
];
const attempts = ways.map(([path, how]) => fetch("{base}" + path, {{credentials: "include", ...how}})
  .then(answer => answer.text(), error => "kept out"));
fetch("{base}api/studies", {{mode: "no-cors", credentials: "include", ...create}}).catch(String)
  .then(() => Promise.all(attempts)).then(said => {{ document.title = [...new Set(said)].join(); }});
</script>
"""


@dataclass
class Served:
    """A study with a trial of each kind, in a home of its own, of which a process serves the dashboard.

    Attributes:
        link: what that process printed.
        database: where the study is.
        claims: the study's.
        running: the trial that trains.
    """

    link: str
    database: Database
    claims: Claims
    running: Claim

    @property
    def names(self) -> list[str]:
        """The names of all studies."""
        return [study.study_name for study in self.database.get_all_studies()]

    @property
    def files(self) -> dict[str, str]:
        """The addresses of the files of the first trial, by their names."""
        kept = self.database.get_trial_system_attrs(1).items()
        records = [json.loads(text) for key, text in kept if key.startswith(attributes.OPTUNA_ARTIFACT)]
        return {one["filename"]: f"{self.url}artifacts/1/1/{one['artifact_id']}" for one in records}

    @property
    def url(self) -> str:
        return self.link.partition("?")[0]

    def of_study(self, *parts: str) -> str:
        return "/".join([f"{self.url}dashboard/studies/1", *parts])


@contextmanager
def served(root: Path, *options: str) -> Iterator[Served]:
    command, home = CommandLine(root), Home(root)
    with fresh_database(root / "studies.db") as database:
        claims = new_study(database, budget=9)
        database.set_study_user_attr(1, attributes.SPEC, {"dataset": "mnist", "model": "cnn", "epochs": 4})
        running = write_trials(database, claims, Artifacts(artifact_files(home, make=True)))
        with command.start("dashboard", "--port", "0", *options) as process:
            try:
                yield Served(first_line(process), database, claims, running)
            finally:
                process.terminate()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def write_trials(database: Database, claims: Claims, artifacts: Artifacts) -> Claim:
    """Write one that is complete, with files; one that runs, which is returned; one that is frozen; one that failed."""
    complete, running, frozen, failed = (claimed(claims) for _ in range(4))
    for claim, epochs in ((complete, 4), (frozen, 3), (running, 2)):
        database.set_trial_param(claim.trial_id, "dropout", claim.number / 10, FloatDistribution(0, 1))
        for epoch in range(1, epochs + 1):
            report(database, claim, epoch)
    picture = io.BytesIO()
    Image.new("RGB", (60, 40), "green").save(picture, "PNG")
    files = {"learning_curve.png": picture.getvalue()} | {name: text.encode() for name, text in FILES.items()}
    for name, content in files.items():
        artifacts.put(database, complete.trial_id, name, name, writing(content))
    finish(database, complete, value=0.75)
    claims.progressed(frozen, 3)
    claims.put_back(frozen, "frozen", "frozen")
    finish(database, failed, TrialState.FAIL)
    return running


def writing(content: bytes) -> Callable[[Path], Any]:
    return lambda file: file.write_bytes(content)


def report(database: Database, claim: Claim, epoch: int) -> None:
    database.set_trial_intermediate_value(claim.trial_id, epoch, 0.5 + epoch / 16)


@pytest.fixture(scope="module")
def page() -> Iterator[WebDriver]:
    """One browser for all; what each test opens in it stays open for the next."""
    try:
        with browser() as started:
            yield started
    except NoBrowser as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def shown(page: WebDriver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A dashboard that only shows, in which the browser was let in."""
    with served(tmp_path_factory.mktemp("shown")) as found:
        page.get(found.url)
        assert "enter the token" in text_of(page)
        page.get(found.link)
        yield found


@pytest.fixture(scope="module")
def edited(page: WebDriver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One in which studies may be changed, likewise."""
    with served(tmp_path_factory.mktemp("edited"), "--edit") as found:
        page.get(found.link)
        yield found


def seen(page: WebDriver, words: str) -> None:
    """Wait until words can be read."""
    until(page, lambda page: words in text_of(page) or None, repr(words))


def found(page: WebDriver, css: str, holds: str = "") -> WebElement:
    """Return an element that can be seen and holds words, once it is there."""

    def look(page: WebDriver) -> WebElement | None:
        elements = page.find_elements(By.CSS_SELECTOR, css)
        return next((one for one in elements if holds in one.text and one.is_displayed()), None)

    return until(page, look, f"{css} with {holds!r}")


def drawn(page: WebDriver, place: str) -> list[dict[str, Any]]:
    """Return what plotly draws at a place, once that is anything."""
    script = """
    const at = document.getElementById(arguments[0]), shown = ({name, x, y}) => ({name, x: [...x], y: [...y]});
    return at && at.data && at.data.map(shown);
    """

    def look(page: WebDriver) -> list[dict[str, Any]] | None:
        traces = page.execute_script(script, place)
        return traces if traces and any(one["x"] for one in traces) else None

    return until(page, look, f"the plot {place}")


def test_the_link_opens_the_studies_and_the_token_leaves_the_address(page: WebDriver, shown: Served) -> None:
    page.get(shown.link)
    assert "token" not in page.current_url
    found(page, "a", "mnist").click()
    seen(page, "Hyperparameter Importance")
    assert page.current_url == shown.of_study()
    history = next(one for one in drawn(page, "plot-history") if one["x"])
    assert (history["x"][:2], history["y"][:2]) == ([0, 2], [0.75, 0.6875])  # the frozen one, too
    assert page.execute_script("return document.cookie") == ""  # no script reads the token


def test_a_trial_has_its_curve_its_note_and_its_pictures(page: WebDriver, shown: Served) -> None:
    page.get(shown.of_study("trials?numbers=0"))
    seen(page, "learning_curve.png")
    seen(page, "0.75")
    picture = found(page, "img[alt='learning_curve.png']")
    until(page, lambda page: picture.get_property("naturalWidth") == 60 or None, "the picture")


def test_a_frozen_trial_is_seen_with_its_curve(page: WebDriver, shown: Served) -> None:
    page.get(shown.of_study("trials?numbers=2"))
    seen(page, "Frozen after epoch 3")
    seen(page, "1 0.5625")
    page.get(shown.of_study())
    curves = {one["name"]: one["y"] for one in drawn(page, "graph-intermediate-values")}
    assert curves["trial #2 "] == [0.5625, 0.625, 0.6875]


def test_a_frozen_trial_with_none_before_it_that_is_not_over_is_waiting_and_changes_when_it_goes_on(
    page: WebDriver, shown: Served
) -> None:
    claims = new_study(shown.database, name="begins")
    first = claimed(claims)
    shown.database.set_trial_param(first.trial_id, "dropout", 0.375, FloatDistribution(0, 1))
    report(shown.database, first, 1)
    claims.progressed(first, 1)
    claims.put_back(first, "frozen", "frozen")
    page.get(f"{shown.url}dashboard/studies/{claims._study_id}/trials?numbers=0")
    found(page, "li", "Trial 0\nWaiting")
    for words in ("dropout 0.375", "1 0.5625", "Frozen after epoch 1"):
        seen(page, words)
    report(shown.database, claimed(claims, Thaw(0)), 2)
    found(page, "li", "Trial 0\nRunning")
    seen(page, "2 0.625")


def test_plots_of_ours_stand_beside_the_pages_own(page: WebDriver, shown: Served) -> None:
    page.get(shown.of_study())
    curves = {one["name"]: one for one in drawn(page, "user-defined-plot:tuning-curves")}
    assert curves["frozen or waiting"]["y"] == [0.5625, 0.625, 0.6875, None]
    times = {one["name"]: one for one in drawn(page, "user-defined-plot:tuning-times")}
    assert times["running"]["y"] == [shown.running.number]


def test_a_running_study_changes_on_the_screen(page: WebDriver, shown: Served) -> None:
    page.get(shown.of_study(f"trials?numbers={shown.running.number}"))
    seen(page, "2 0.625")
    page.execute_script("window.loaded = 'once'")
    report(shown.database, shown.running, 3)
    seen(page, "3 0.6875")
    added = claimed(shown.claims)
    finish(shown.database, added, value=0.25)
    found(page, "li", f"Trial {added.number}\nComplete")
    assert page.execute_script("return window.loaded") == "once"


def test_what_only_shows_refuses_to_be_changed_and_says_how_to(page: WebDriver, shown: Served) -> None:
    page.get(shown.of_study("trials?numbers=0"))
    found(page, "[data-testid=EditIcon]").find_element(By.XPATH, "./ancestor::button").click()
    found(page, "textarea").send_keys("mine")
    found(page, "button", "SAVE").click()
    seen(page, "EDIT=1")
    assert shown.database.get_study_system_attrs(1).keys() & {"dashboard:1:note_ver"} == set()


def test_a_script_in_a_file_of_a_trial_does_not_run(page: WebDriver, edited: Served) -> None:
    page.get(edited.of_study("trials?numbers=0"))
    for name in FILES:
        seen(page, name)
    # What the page itself may do, a script in its name may.
    assert page.execute_async_script(CREATE, edited.url, "by the page") == 201
    for name in FILES:
        page.get(edited.url)
        for way in WAYS:
            page.execute_script(way, edited.files[name])
    time.sleep(1)  # for what begins when the last of them is loaded
    assert edited.names == ["mnist", "by the page"]
    assert page.title != "it ran"


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_page_of_another_site_can_neither_act_nor_read_nor_frame(
    page: WebDriver, edited: Served, name: str
) -> None:
    """From another port of the same machine the browser sends the cookie along, from another name it does not."""
    before = edited.names
    with other_site(edited, name) as other:
        page.get(other)
        until(page, lambda page: page.title != "waiting" or None, "what came of it")
        assert page.title == "kept out"
        assert page.find_element(By.TAG_NAME, "img").get_property("naturalWidth") == 0
        page.switch_to.frame(0)
        assert page.execute_script("return location.protocol") == "chrome-error:"
        page.switch_to.default_content()
        found(page, "button", "a form").click()
        seen(page, "This request comes from another site.")
        assert edited.names == before
        page.get(other)
        found(page, "a", "a link").click()  # which is all that it may have
        found(page, "a", "mnist")


@contextmanager
def other_site(served: Served, name: str) -> Iterator[str]:
    """Serve the page of somebody else inside the block; the address is by a name of this machine."""
    picture = served.files["learning_curve.png"].rpartition("/")[2]
    content = OTHER_SITE.format(base=served.url, artifact=picture).encode()

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://{name}:{site.server_port}/"
        finally:
            site.shutdown()
            thread.join()
