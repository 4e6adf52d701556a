"""A Chromium for tests of pages: the one that is installed, driven by playwright."""

import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
VARIABLE = "FASTHASH_CHROMIUM"


def installed_chromium(driver):
    """The program: that of the environment, one on the path, or playwright's own; None if there is none."""
    if given := os.environ.get(VARIABLE):
        return given
    found = next(filter(None, map(shutil.which, NAMES)), None)
    own = driver.chromium.executable_path
    return found or (own if os.path.exists(own) else None)


def launched(driver):
    """A browser, or the test is skipped with the reason."""
    program = installed_chromium(driver)
    if program is None:
        pytest.skip(f"needs Chromium: apt-get install chromium, playwright install chromium, or {VARIABLE}=PROGRAM")
    try:
        # Containers often run as root and without a large /dev/shm. Only pages of this machine are opened.
        return driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
    except Exception as error:
        pytest.skip(f"{program} does not start: {str(error).splitlines()[0]}")
