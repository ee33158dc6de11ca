"""What the dashboard sends can do no harm: no page but its own, no script from a file, no other site that reads it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from PIL import Image

from storage.artifacts import Artifacts
from storage.opening import open_database
from storage.settings import Home
from storage.stores.local import LocalFiles
from tests.dashboard import answer, running
from tuning.commands.dashboard.server import DashboardServer
from tuning.commands.dashboard.serving import ServeOptions, make_server

SCRIPT = b"<script>alert(document.domain)</script>"
PAGE = b"<!doctype html><html>" + SCRIPT + b"</html>"
DRAWING = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg">' + SCRIPT + b"</svg>"


def picture(form: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(file, format=form)
    return file.getvalue()


@pytest.fixture
def place(home: Path) -> Home:
    place = Home(home)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place.make(place.artifacts)
    return place


@pytest.fixture
def study(place: Home) -> optuna.Study:
    database = open_database(place.database_url, create=True)
    return optuna.create_study(study_name="mnist", storage=database, direction="maximize")


@pytest.fixture
def server(place: Home, study: optuna.Study) -> Iterator[DashboardServer]:
    with running(make_server(open_database(place.database_url), place, ServeOptions(port=0))) as server:
        yield server


def added(place: Home, study: optuna.Study, filename: str, content: bytes) -> str:
    """Add a file to a new trial; return its address."""
    trial = study.ask()

    def write(file: Path) -> None:
        file.write_bytes(content)

    kept = Artifacts(LocalFiles(place.artifacts)).put(study._storage, trial._trial_id, "file", filename, write)
    return f"/artifacts/{study._study_id}/{trial._trial_id}/{kept.id}"


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        ("page.html", PAGE),
        ("drawing.svg", DRAWING),
        ("page.png", PAGE),
        ("drawing.png", DRAWING),
        ("page.xhtml", PAGE),
        ("script.js", SCRIPT),
        ("archive.tar.gz", b"\x1f\x8b\x08"),
        ("late.png", b" " + picture("PNG")),
        ("sound.webp", b"RIFF\x00\x00\x00\x00WAVE"),
        ("empty.png", b""),
    ],
)
def test_a_file_that_is_no_image_is_a_download_whatever_its_name(
    server: DashboardServer, place: Home, study: optuna.Study, filename: str, content: bytes
) -> None:
    address = added(place, study, filename, content)
    for path in (address, address + "/", address.replace("artifacts", "arti%66acts")):
        answered = answer(server, "GET", path)
        assert (answered.status, answered.content) == (200, content)
        assert answered.headers["content-type"] == "application/octet-stream"
        assert answered.headers["content-disposition"] == "attachment"
        assert answered.headers["x-content-type-options"] == "nosniff"
        assert {"default-src 'none'", "sandbox"} <= set(answered.headers["content-security-policy"].split("; "))
        assert not {"content-encodings", "content-encoding"} & set(answered.headers)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP"])
def test_an_image_is_shown_by_its_content_whatever_its_name(
    server: DashboardServer, place: Home, study: optuna.Study, form: str
) -> None:
    content = picture(form)
    for filename in ("image." + form.lower(), "page.html"):
        answered = answer(server, "GET", added(place, study, filename, content))
        assert (answered.status, answered.content) == (200, content)
        assert answered.headers["content-type"] == f"image/{form.lower()}"
        assert "content-disposition" not in answered.headers
        assert "sandbox" in answered.headers["content-security-policy"]


def test_asked_for_the_head_alone_it_is_the_same_without_the_content(
    server: DashboardServer, place: Home, study: optuna.Study
) -> None:
    for filename, content in (("page.html", PAGE), ("image.png", picture("PNG"))):
        address = added(place, study, filename, content)
        whole, head = answer(server, "GET", address), answer(server, "HEAD", address)
        assert head.content == b""
        unchanging = {name: value for name, value in whole.headers.items() if name != "date"}
        assert unchanging == {name: value for name, value in head.headers.items() if name != "date"}
        assert head.headers["content-length"] == str(len(content))


def test_a_file_of_a_study_is_a_download_as_well(server: DashboardServer, place: Home, study: optuna.Study) -> None:
    name = "0123abcd"
    (place.artifacts / name).write_bytes(PAGE)
    said = {"artifact_id": name, "filename": "page.html", "mimetype": "text/html", "encoding": None}
    study._storage.set_study_system_attr(study._study_id, f"artifacts:{name}", json.dumps(said))
    answered = answer(server, "GET", f"/artifacts/{study._study_id}/{name}")
    assert (answered.status, answered.content) == (200, PAGE)
    assert answered.headers["content-type"] == "application/octet-stream"


def test_an_address_that_only_the_dashboard_takes_for_a_file_is_none(
    server: DashboardServer, place: Home, study: optuna.Study
) -> None:
    """It leaves out of an address the bytes that are no text."""
    address = added(place, study, "page.html", PAGE)
    for path in ("/arti%fffacts", "/%ffartifacts", "/artifacts%ff", "/api/../artifacts", "/api;/artifacts"):
        answered = answer(server, "GET", address.replace("/artifacts", path))
        assert answered.status == 404
        assert SCRIPT not in answered.content


def test_a_file_that_is_gone_is_a_sentence(server: DashboardServer, place: Home, study: optuna.Study) -> None:
    address = added(place, study, "image.png", picture("PNG"))
    (place.artifacts / address.rpartition("/")[2]).unlink()
    for path in (address, "/artifacts/1/1/abc", "/artifacts/99/99/abc", "/artifacts", "/artifacts/1"):
        answered = answer(server, "GET", path)
        assert answered.status == 404
        assert answered.headers["content-type"].startswith("text/plain")
        assert answered.content.startswith(b"There is no such file")


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", {}),
        ("GET", "/dashboard", {}),
        ("GET", "/dashboard/studies/1", {}),
        ("GET", "/static/bundle.js", {}),
        ("GET", "/favicon.ico", {}),
        ("GET", "/csv/1", {}),
        ("GET", "/api/meta", {}),
        ("GET", "/api/studies", {"Origin": "http://evil.example"}),
        ("GET", "/api/studies/99", {}),
        ("GET", "/nowhere", {}),
        ("GET", "/artifacts/1/1/abc", {}),
        ("GET", "/api/studies", {"Host": "evil.example"}),
        ("POST", "/api/studies", {"Origin": "http://evil.example"}),
        ("OPTIONS", "/api/studies", {"Origin": "http://evil.example"}),
    ],
)
def test_nothing_is_framed_or_read_by_another_site(
    server: DashboardServer, method: str, path: str, headers: dict[str, str]
) -> None:
    answered = answer(server, method, path, **headers)
    assert [name for name in answered.headers if name.startswith("access-control-")] == []
    assert answered.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in answered.headers["content-security-policy"]
    assert answered.headers["referrer-policy"] == "no-referrer"
    assert answered.headers["x-content-type-options"] == "nosniff"
    assert answered.headers["cross-origin-resource-policy"] == "same-origin"


def test_the_page_runs_its_own_scripts_alone(server: DashboardServer) -> None:
    policy = answer(server, "GET", "/dashboard").headers["content-security-policy"]
    assert "script-src 'self' 'unsafe-eval'" in policy
    script = answer(server, "GET", "/static/bundle.js")
    assert script.status == 200
    assert script.headers["content-type"].partition(";")[0] in ("text/javascript", "application/javascript")
    assert "default-src 'none'" in answer(server, "GET", "/api/studies").headers["content-security-policy"]
