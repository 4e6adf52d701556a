"""The page on which people review near-duplicates: what it shows, in which order, and that names do no harm."""

import csv
import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="needs the extra dedup")
pytest.importorskip("scipy", reason="needs the extra dedup")

from PIL import Image

from browsers import launched
from fasthash import _review_cards, _review_page
from fasthash._review_page import write_report
from fasthash._shown import in_bytes
from fasthash.dedup import find_duplicates, group_hashes


def picture(seed=0, size=(96, 80)):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def write(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    os.utime(path, (86400 * 365, 86400 * 365))
    return path


def page_of(tmp_path, *folders, **options):
    found = find_duplicates(list(folders), progress=False, **options)
    page, *_ = write_report(found, tmp_path / "report")
    return page.read_text(encoding="utf-8")


def cards(page):
    return re.findall(r"<figure.*?</figure>", page, re.DOTALL)


def listed(page):
    return [unquote_to_bytes(path) for path in re.findall(r'data-path="([^"]*)"', page)]


def test_sizes_dates_and_the_largest(tmp_path):
    write(tmp_path / "a/small.png", picture(1))
    write(tmp_path / "a/large.png", picture(1, (480, 400)))
    page = page_of(tmp_path, tmp_path / "a")
    large, small = cards(page)
    assert ">largest<" in large
    assert ">largest<" not in small
    assert "480 × 400 px" in large
    assert "96 × 80 px" in small
    for card, name in ((large, "large.png"), (small, "small.png")):
        assert in_bytes((tmp_path / "a" / name).stat().st_size) in card
        assert re.search(r"197[01]-\d\d-\d\d \d\d:\d\d", card)
    assert "data-kept" in large
    assert "data-kept" not in small


def test_equal_files_have_no_largest_but_one_is_kept(tmp_path):
    for name in ("a", "b", "c"):
        write(tmp_path / f"photos/{name}.png", picture(1))
    found = cards(page_of(tmp_path, tmp_path / "photos"))
    assert not any(">largest<" in card for card in found)
    assert ["data-kept" in card for card in found] == [True, False, False]


def test_of_several_largest_one_is_marked(tmp_path):
    for name, size in (("a", (96, 80)), ("b", (480, 400)), ("c", (480, 400))):
        write(tmp_path / f"photos/{name}.png", picture(1, size))
    page = page_of(tmp_path, tmp_path / "photos")
    assert [">largest<" in card for card in cards(page)] == [False, True, False]
    assert ["data-kept" in card for card in cards(page)] == [False, True, False]
    assert ">tick all but the largest<" in page


def test_the_button_says_what_it_keeps(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"equal/{name}.png", picture(1))
        write(tmp_path / f"sizes/{name}.png", picture(2, (96 + (name == "b"), 80)))
    write(tmp_path / "new/b.png", picture(2))
    page = page_of(tmp_path, tmp_path / "equal")
    assert ">Tick all but the first<" in page
    assert [">first<" in card for card in cards(page)] == [True, False]
    assert "the buttons keep the first of a group, in the order of paths." in page
    page = page_of(tmp_path, tmp_path / "equal", tmp_path / "sizes")
    assert re.findall(r">tick (all but the \w+)<", page) == ["all but the first", "all but the largest"]
    assert ">Tick all but the largest or first<" in page
    assert "in the order of folders and paths." in page
    page = page_of(tmp_path, tmp_path / "new", reference=tmp_path / "sizes")
    assert ">Tick all but the reference<" in page
    assert "first of a group" not in page


@pytest.mark.parametrize("n_references", [0, 1, 40])
def test_of_a_large_group_the_largest_and_those_to_tick_are_shown(tmp_path, monkeypatch, n_references):
    monkeypatch.setattr(_review_cards, "MAX_PER_GROUP", 4)
    (tmp_path / "old").mkdir()
    for number in range(n_references):
        write(tmp_path / f"old/{number:02}.png", picture(1, (32, 32)))
    for number in range(9):
        write(tmp_path / f"new/{number}.png", picture(1, (32, 32 + (number == 7))))
    page = page_of(tmp_path, tmp_path / "new", reference=tmp_path / "old")
    shown = [re.search(r">([^<>]*\.png)<", card)[1] for card in cards(page)]
    old = [str(tmp_path / "old/00.png")] * (n_references > 0)
    new = ["0.png", "1.png", "7.png"] if old else ["0.png", "1.png", "2.png", "7.png"]
    assert shown == [*old, *(str(tmp_path / "new" / name) for name in new)]
    assert ">largest<" in cards(page)[-1]
    assert f"4 of {9 + n_references} shown" in page
    with open(tmp_path / "report/duplicates.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows if row["largest"] == "1"] == [str(tmp_path / "new/7.png")]
    assert len(rows) == 9 + n_references


def test_references_cannot_be_ticked(tmp_path):
    write(tmp_path / "new/a.png", picture(1, (480, 400)))
    write(tmp_path / "old/a.png", picture(1))
    page = page_of(tmp_path, tmp_path / "new", reference=tmp_path / "old")
    reference, new = cards(page)
    assert "reference, kept" in reference
    assert "<input" not in reference
    assert listed(page) == [os.fsencode(tmp_path / "new/a.png")]
    assert "data-kept" not in new


def kept(tmp_path, *folders, **options):
    """Whether each file of the first group is left unticked, by its place in `tmp_path`; None for a reference."""
    found = {}
    for card in cards(page_of(tmp_path, *folders, **options)):
        place = folders[0] / re.search(r">([^<>]*\.png)<", card)[1]
        found[str(place.relative_to(tmp_path))] = "data-kept" in card if "<input" in card else None
    return found


def test_a_file_is_kept_rather_than_a_link_to_it(tmp_path):
    write(tmp_path / "photos/z.png", picture(1))
    (tmp_path / "photos/a.png").symlink_to("z.png")
    assert kept(tmp_path, tmp_path / "photos") == {"photos/a.png": False, "photos/z.png": True}
    page = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert [">link<" in card for card in cards(page)] == [True, False]
    assert "in the order of paths, links last." in page
    write(tmp_path / "photos/b.png", picture(1, (48, 40)))
    assert kept(tmp_path, tmp_path / "photos") == {"photos/a.png": False, "photos/b.png": False, "photos/z.png": True}


def test_a_file_that_a_kept_link_needs_is_kept(tmp_path, monkeypatch):
    """The buttons ticked the photo and kept the link to it."""
    write(tmp_path / "new/a.png", picture(1, (480, 400)))
    write(tmp_path / "new/b.png", picture(1))
    (tmp_path / "old").mkdir()
    (tmp_path / "new/via.png").symlink_to(tmp_path / "new/b.png")
    (tmp_path / "old/link.png").symlink_to("../new/via.png")
    expected = {"old/link.png": None, "new/a.png": False, "new/b.png": True, "new/via.png": True}
    assert kept(tmp_path, tmp_path / "new", reference=tmp_path / "old") == expected
    page = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert [">same file as a kept one<" in card for card in cards(page)] == [False, False, True, True]
    paths = ["b.png", "b.png", "a.png"]  # one twice, as in a table
    codes = np.zeros((3, 8), np.uint8)
    write_report(group_hashes(codes, paths, folder=tmp_path / "new"), tmp_path / "report")
    page = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert ["data-kept" in card for card in cards(page)] == [True, False, False]
    write_report(group_hashes(codes[:2], paths[:2], folder=tmp_path / "new"), tmp_path / "report")
    page = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert ["data-kept" in card for card in cards(page)] == [True, True]


def test_times_beyond_the_calendar_are_left_out():
    assert _review_cards.when_written(10**40) == ""


def test_the_surest_groups_come_first(tmp_path):
    write(tmp_path / "photos/a.png", picture(1))
    write(tmp_path / "photos/a again.jpg", picture(1).resize((31, 40)), quality=20)
    write(tmp_path / "photos/b.png", picture(2))
    write(tmp_path / "photos/b again.png", picture(2))
    page = page_of(tmp_path, tmp_path / "photos")
    headings = re.findall(r'<h2 id="group-\d">(.*?)</h2>', page)
    assert headings[0] == "Group 1: 2 photos, equal hashes"
    assert re.fullmatch(r"Group 2: 2 photos, up to \d+ bits apart", headings[1])
    assert [os.path.basename(path) for path in listed(page)] == [b"b again.png", b"b.png", b"a again.jpg", b"a.png"]


def test_the_size_of_a_photo_is_that_of_the_upright_one(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a", "b"):
        write(tmp_path / f"photos/{name}.jpg", picture(1, (120, 80)), exif=exif)
    for most in (0, 2000):
        monkeypatch.setattr(_review_page, "MAX_PREVIEWS", most)
        assert cards(page_of(tmp_path, tmp_path / "photos"))[0].count("80 × 120 px") == 1


def test_photos_that_browsers_do_not_show_have_no_picture_beyond_the_previews(tmp_path, monkeypatch):
    monkeypatch.setattr(_review_page, "MAX_PREVIEWS", 0)
    write(tmp_path / "photos/a.tif", picture(1))
    write(tmp_path / "photos/b.png", picture(1))
    page = page_of(tmp_path, tmp_path / "photos")
    first, second = cards(page)
    assert "<img" not in first
    assert '<a href="./../photos/a.tif" target="_blank">open</a>' in first
    assert 'src="./../photos/b.png"' in second
    assert 'class="rows"' not in page
    write(tmp_path / "photos/b.png", picture(2))
    write(tmp_path / "photos/c.tif", picture(1))
    assert 'class="rows"' in page_of(tmp_path, tmp_path / "photos")  # no group of pictures, but lines of text


@pytest.mark.skipif(os.name == "nt", reason="names that Windows refuses")
def test_names_are_text_and_the_list_has_their_bytes(tmp_path):
    names = [b"<img src=x onerror=alert(1)>.png", b'"><script>alert(1)<\\script>.png', b"\xff.png", b"a%41&amp;.png"]
    names += [b"two\nlines.png", b"\xe2\x80\xaegnp.png"]
    for name in names:
        try:
            write(tmp_path / "photos" / os.fsdecode(name), picture(1))
        except OSError:  # a file system that takes only UTF-8
            names = [other for other in names if other != name]
    page = page_of(tmp_path, tmp_path / "photos")
    folder = os.fsencode(tmp_path / "photos") + b"/"
    assert sorted(listed(page)) == sorted(folder + name for name in names if b"\n" not in name)
    assert page.count("<script>") == 1
    assert "<img src=x" not in page
    assert page.count("disabled title=") == 1  # a name of two lines is no line of a list
    assert "\u202e" not in page


def test_the_page_needs_nothing_else(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"photos/{name}.png", picture(1))
    page = page_of(tmp_path, tmp_path / "photos")
    assert not re.search(r"https?://|@import|url\(|<link", page)
    for needed in ("prefers-color-scheme: dark", "content-visibility: auto", 'loading="lazy"', "width=device-width"):
        assert needed in page
    assert "<script" not in page_of(tmp_path, write(tmp_path / "one/a.png", picture(1)).parent)


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as driver:
        browser = launched(driver)
        yield browser
        browser.close()


def ticked(browser, page):
    """What the page says once the button has ticked photos, the name of the list, and the list."""
    tab = browser.new_page(accept_downloads=True)
    errors = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(page.as_uri())
    tab.click("#all")
    count = tab.inner_text("#count")
    with tab.expect_download() as download:
        tab.click("#save")
    assert errors == []
    found = count, download.value.suggested_filename, Path(download.value.path()).read_text()
    tab.close()
    return found


def test_the_saved_list(browser, tmp_path):
    for name, size in (("a", (96, 80)), ("b", (480, 400)), ("c", (96, 80))):
        write(tmp_path / f"photos/{name}.png", picture(1, size))
    page, *_ = write_report(find_duplicates(tmp_path / "photos", progress=False), tmp_path / "report")
    size = round(2 * (tmp_path / "photos/a.png").stat().st_size / 1000)
    paths = "".join(f"{tmp_path / 'photos' / name}\n" for name in ("a.png", "c.png"))
    assert ticked(browser, page) == (f"2 ticked, {size} kB", "ticked.txt", paths)


def test_the_saved_list_of_hashes(browser, tmp_path):
    codes = np.zeros((3, 8), np.uint8)
    page, *_ = write_report(group_hashes(codes), tmp_path / "report")
    assert ticked(browser, page) == ("2 ticked", "ticked-rows.txt", "1\n2\n")
    page, *_ = write_report(group_hashes(codes, ["c", "-b", "a"]), tmp_path / "report")
    assert ticked(browser, page) == ("2 ticked", "ticked.txt", "a\nc\n")
    n_bytes = write(tmp_path / "b", picture(1), format="png").stat().st_size
    write(tmp_path / "a", picture(1, (480, 400)), format="png")
    page, *_ = write_report(group_hashes(codes, ["c", "b", "a"], folder=tmp_path), tmp_path / "report")
    count = f"2 ticked, {round(n_bytes / 1000)} kB, 1 of unknown size"
    assert ticked(browser, page) == (count, "ticked.txt", f"{tmp_path / 'b'}\n{tmp_path / 'c'}\n")


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (12_345_678, "12.3 MB"),
        (2_000_000_000, "2,000.0 MB"),
    ],
)
def test_sizes_as_people_read_them(n, text):
    assert in_bytes(n) == text
