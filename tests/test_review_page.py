"""The page on which people review near-duplicates: what it shows, in which order, and that names do no harm."""

import os
import re
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="needs the extra dedup")
pytest.importorskip("scipy", reason="needs the extra dedup")

from PIL import Image

from fasthash import _review_page
from fasthash._review_page import write_report
from fasthash._shown import in_bytes
from fasthash.dedup import find_duplicates


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
    return re.findall(r"<figure>.*?</figure>", page, re.DOTALL)


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


def test_references_cannot_be_ticked(tmp_path):
    write(tmp_path / "new/a.png", picture(1, (480, 400)))
    write(tmp_path / "old/a.png", picture(1))
    page = page_of(tmp_path, tmp_path / "new", reference=tmp_path / "old")
    reference, new = cards(page)
    assert "reference, kept" in reference
    assert "<input" not in reference
    assert listed(page) == [os.fsencode(tmp_path / "new/a.png")]
    assert "data-kept" not in new


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
    first, second = cards(page_of(tmp_path, tmp_path / "photos"))
    assert "no preview" in first
    assert 'src="./../photos/b.png"' in second


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
