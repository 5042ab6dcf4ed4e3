"""A headless Chromium for tests marked `browser`, driven by Selenium.

Needs Debian's packages chromium and chromium-driver; without them such a test fails, because
only those who ask for it run it. Not a room of tests: rooms import the fixture.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # CI is root, whom Chromium does not let have one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
)


class Browser:
    """A window, its console and its requests.

    Attributes:
      driver: Selenium's.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, address: str) -> None:
        """Goes to an address; returns when the page is loaded."""
        self.driver.get(address)

    def wait_for(self, selector: str, seconds: float = 60) -> Any:
        """The first element of a CSS selector, once it is there."""
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(self.driver, seconds)
        return wait.until(lambda driver: driver.find_element(By.CSS_SELECTOR, selector))

    def errors(self) -> list[str]:
        """What the console has of errors since the last call."""
        return [
            line["message"] for line in self.driver.get_log("browser") if line["level"] == "SEVERE"
        ]

    def foreign_requests(self, own: str) -> list[str]:
        """Addresses that were asked for since the last call and do not begin with `own`."""
        messages = [json.loads(line["message"]) for line in self.driver.get_log("performance")]
        sent = [
            message["message"]["params"]["request"]["url"]
            for message in messages
            if message["message"]["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in sent if not url.startswith((own, "data:", "blob:"))]

    def resize(self, width: int, height: int) -> None:
        """Gives the page so many pixels."""
        self.driver.set_window_size(width, height)

    def overflows(self) -> bool:
        """Whether the page is wider than the window."""
        script = "return document.documentElement.scrollWidth > window.innerWidth"
        return bool(self.driver.execute_script(script))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Callable[[], Browser]]:
    """Opens windows; all are closed at the end."""
    with contextlib.ExitStack() as windows:
        yield lambda: windows.enter_context(open_window())


@contextlib.contextmanager
def open_window(*flags: str) -> Iterator[Browser]:
    """A window that is closed at the end; `flags` are added to Chromium's."""
    os.environ["SE_OFFLINE"] = "true"  # Selenium would look for a browser on the web
    paths = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        pytest.fail(
            f"expected chromium and chromedriver, found no {' and no '.join(missing)}: "
            "apt install chromium chromium-driver"
        )
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(paths["chromium"])
    for flag in (*FLAGS, *flags, "--window-size=1280,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(paths["chromedriver"]))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
