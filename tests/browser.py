"""A browser without a window, in which pages are opened as a person opens them: Chromium, driven by Selenium."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait

T = TypeVar("T")

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_DRIVER: Final = "chromedriver"

_OPTIONS: Final = (
    "--headless",
    "--no-sandbox",  # root has none, and nothing is opened but what the tests serve
    "--disable-dev-shm-usage",  # in a container that is small
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--use-angle=swiftshader",  # draws WebGL without a GPU
    "--enable-unsafe-swiftshader",
    # It asks nobody else for anything.
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


class NoBrowser(Exception):
    """There is none here, or it does not start."""


@contextmanager
def browser(width: int = 1280, height: int = 1000) -> Iterator[WebDriver]:
    """Yield a browser that knows no site yet.

    Args:
        width: of its window, in pixels.
        height: likewise.

    Raises:
        NoBrowser: there is none.
    """
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    driver = shutil.which(_DRIVER)
    if program is None or driver is None:
        raise NoBrowser("no Chromium with its driver is installed: .ci/browser does so, or your system's packages")
    options = ChromeOptions()
    options.binary_location = program
    with tempfile.TemporaryDirectory(prefix="browser") as profile:
        for option in (*_OPTIONS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        try:
            started = Chrome(options=options, service=Service(driver))
        except WebDriverException as error:
            raise NoBrowser(f"{program} does not start: {error.msg}") from error
        try:
            yield started
        finally:
            started.quit()


def until(page: WebDriver, found: Callable[[WebDriver], T | None], what: str, timeout_s: float = 60.0) -> T:
    """Return what is found on a page once it is there.

    Args:
        page: what the browser shows.
        found: looks for it.
        what: it is, in words.
        timeout_s: how long it may take.
    """
    wait = WebDriverWait(page, timeout_s, poll_frequency=0.1, ignored_exceptions=[WebDriverException])
    try:
        return wait.until(lambda page: found(page) or False)
    except TimeoutException as error:  # read only now: before, the page may be on its way to another one
        raise TimeoutException(f"{what} is not on the page: {text_of(page)[:500]!r}") from error


def text_of(page: WebDriver) -> str:
    """Return what can be read on a page."""
    return page.find_element(By.TAG_NAME, "body").text
