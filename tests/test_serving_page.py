"""The page of a server in a real browser: searches, photos, the keyboard, small screens, hostile names."""

import contextlib
import socket
import threading
import time

import numpy as np
import pytest

import fasthash as fh

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("prometheus_client", reason="needs the extra serve")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
uvicorn = pytest.importorskip("uvicorn", reason="needs the extra serve")
image = pytest.importorskip("PIL.Image", reason="needs Pillow")

from browsers import launched
from fasthash.serving import make_app

pytestmark = pytest.mark.timeout(300)
N = 400
HOSTILE = [
    "<img src=x onerror=document.title='owned'>.png",
    '"><script>document.title="owned"</script>.png',
    "'&amp;.png",
]
SIZES = [(360, 640), (800, 600), (1600, 1000)]


@contextlib.contextmanager
def served(app):
    """The address of an application that runs on a thread."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as driver:
        browser = launched(driver)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory, browser):
    """A gallery in which the i-th photo has the i-th code, with i bits set; photos are searched by their red pixels."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "photos").mkdir()
    names = [*HOSTILE, *(f"{i:03d}.png" for i in range(len(HOSTILE), N))]
    codes = np.packbits(np.arange(512) < np.arange(N)[:, None], axis=1)
    for i in range(3, 20):
        image.new("RGB", (8, 8), (i, 0, 0)).save(folder / "photos" / names[i])
    with fh.Store(folder / "photos.fhs", "w", n_bits=512) as store:
        store.add(codes, keys=names)
        store.commit()
    reader = fh.Store(folder / "photos.fhs")
    app = make_app(reader, images=folder / "photos", make_codes=lambda photo: codes[[photo.getpixel((0, 0))[0]]])
    with served(app) as address:
        yield address


@pytest.fixture
def page(browser, address):
    """The page when it has shown its first entries. An error of its script or its policy fails the test."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda told: faults.append(told.text) if "Content Security Policy" in told.text else None)
    page.goto(address)
    page.wait_for_selector("#results li")
    yield page
    title = page.title()
    page.close()
    assert faults == []
    assert title == "fasthash"


ROWS = "all => all.map(row => ['.distance', '.name'].map(part => row.querySelector(part).textContent))"
COLOURS = "['body', '.name'].map(part => getComputedStyle(document.querySelector(part)).color)"


def rows(page):
    """(distance, name) of what the page shows."""
    shown = page.eval_on_selector_all("#results li", ROWS)
    return [(int(distance) if distance else None, name) for distance, name in shown]


def wait_until(page, expression):
    """Wait for the page; playwright's own way needs eval, which the page forbids."""
    while not page.evaluate(expression):
        page.wait_for_timeout(20)


def searched(page, act):
    """What the page shows after an action that makes it search."""
    page.evaluate("document.getElementById('status').textContent = ''")
    act()
    wait_until(page, r"/^\d+ in \d+ ms$/.test(document.getElementById('status').textContent)")
    return rows(page)


def test_the_first_view(page):
    assert page.text_content("#facts") == "400 codes of 512 bits"
    assert [name for _, name in rows(page)][:3] == HOSTILE  # as text: no script ran
    assert page.query_selector_all("#results li img[onerror], #results script") == []


def test_search_by_name_code_and_radius(page):
    page.fill("#wanted", "010.png")
    page.fill("#number", "5")
    found = searched(page, lambda: page.press("#wanted", "Enter"))
    assert found == [(0, "010.png"), (1, "009.png"), (1, "011.png"), (2, "008.png"), (2, "012.png")]
    page.select_option("#form-of", "hex")
    page.fill("#wanted", "ff" * 2 + "00" * 62)
    page.select_option("#by", "radius")
    page.fill("#number", "1")
    found = searched(page, lambda: page.click("form button"))
    assert found == [(0, "016.png"), (1, "015.png"), (1, "017.png")]


def test_an_error_is_shown_and_names_the_argument(page):
    page.fill("#wanted", "<b>nobody</b>")
    page.press("#wanted", "Enter")
    page.wait_for_selector("#error:not(:empty)")
    assert "does not hold '<b>nobody</b>'" in page.text_content("#error")
    assert page.query_selector("#error b") is None
    assert rows(page) == []


def test_a_click_searches_for_an_entry_also_with_a_hostile_name(page):
    for name in HOSTILE:
        page.reload()
        page.wait_for_selector("#results li")
        row = page.locator("#results li", has_text=name).first
        found = searched(page, lambda row=row: row.locator("button").click())
        assert found[0] == (0, name)
        assert page.input_value("#wanted") == name


def test_the_keyboard_walks_through_the_results(page):
    page.focus("#results li button")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.title") == HOSTILE[2]
    assert searched(page, lambda: page.keyboard.press("Enter"))[0] == (0, HOSTILE[2])


def test_photos_are_chosen_and_dropped(page, tmp_path):
    image.new("RGB", (30, 20), (7, 0, 0)).save(tmp_path / "mine.png")
    found = searched(page, lambda: page.set_input_files("#file", tmp_path / "mine.png"))
    assert found[0] == (0, "007.png")
    assert page.is_visible("#photo")
    # Of the pictures that are in view, those that exist are shown.
    wait_until(page, "document.querySelector('#results img').naturalWidth === 8")
    data = list((tmp_path / "mine.png").read_bytes())
    drop = """data => {
      const held = new DataTransfer();
      held.items.add(new File([new Uint8Array(data)], 'mine.png', {type: 'image/png'}));
      document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: held, bubbles: true, cancelable: true}));
    }"""
    assert searched(page, lambda: page.evaluate(drop, data))[0] == (0, "007.png")


def test_several_hundred_results_on_every_screen(page):
    page.fill("#wanted", "200.png")
    page.fill("#number", "400")
    assert len(searched(page, lambda: page.press("#wanted", "Enter"))) == N
    for width, height in SIZES:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing is cut off
            colours = page.evaluate(COLOURS)
            assert all(("255, 255, 255" in each) == (scheme == "dark") for each in colours)
            page.locator("#results li").last.scroll_into_view_if_needed()
            assert page.locator("#results li").last.is_visible()
