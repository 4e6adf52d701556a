"""Near-duplicate videos in folders: found by a function and by the command, whatever codec, size and container."""

import csv
import json
import os
import re
import shutil
from fractions import Fraction
from urllib.parse import unquote_to_bytes

import pytest

av = pytest.importorskip("av", reason="needs the extra video")
pytest.importorskip("jinja2", reason="needs the extra dedup")
typer_testing = pytest.importorskip("typer.testing", reason="needs the extra dedup")

import numpy as np
from PIL import Image, ImageOps

from fasthash import _review_cards, _video_page, _videos
from fasthash._hashed_files import Run
from fasthash._video_frames import VideoLimits, open_video
from fasthash._video_hashes import VideoHashes, hash_video
from fasthash.dedup import find_duplicate_videos
from videos import RATE, frames, write, write_sound

LIMITS = VideoLimits(1 << 20, 100)


def find(*arguments, **options):
    return find_duplicate_videos(*arguments, **{"progress": False} | options)


def pairs(found):
    """The names of each pair with their offset."""
    return {(pair.first.path, pair.second.path): pair.offset for pair in found.pairs}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A video in several versions, and two others. Tests only read them."""
    folder = tmp_path_factory.mktemp("videos")
    original = frames(1)
    write(folder / "a.mp4", original)
    write(folder / "a small.avi", original, "mjpeg", size=(80, 48), pix_fmt="yuvj420p")
    write(folder / "a 3 s later.mkv", original[3 * RATE :], bit_rate=200_000)
    write(folder / "below" / "a excerpt.mov", original[RATE : 4 * RATE - 3])
    write(folder / "a.gif", original, "gif", size=(80, 48), pix_fmt="rgb8")
    write(folder / "mirrored.mp4", [ImageOps.mirror(picture) for picture in original])
    write(folder / "b.mp4", frames(2))
    return folder


EXCERPT = os.path.join("below", "a excerpt.mov")


def test_copies_of_all_sorts(made):
    found = find(made)
    assert [[video.path for video in group] for group in found.groups] == [
        ["a 3 s later.mkv", "a small.avi", "a.gif", "a.mp4", EXCERPT]
    ]
    offsets = pairs(found)
    assert offsets["a small.avi", "a.mp4"] == offsets["a.gif", "a.mp4"] == 0
    assert offsets["a 3 s later.mkv", "a.mp4"] == -3
    assert offsets["a.mp4", EXCERPT] == 1
    assert ("a 3 s later.mkv", EXCERPT) not in offsets  # they share .75 s of 2: less than the least share
    assert (found.n_videos, found.n_hashed, found.n_others, found.broken) == (7, 7, 0, [])
    copy = next(pair for pair in found.pairs if (pair.first.path, pair.second.path) == ("a small.avi", "a.mp4"))
    assert (copy.share, copy.matched) == (1, 20)
    assert copy.distance < 10
    assert (copy.second.width, copy.second.height, copy.second.seconds) == (160, 96, 5)
    assert copy.second.n_bytes == (made / "a.mp4").stat().st_size


def test_the_settings_count(made):
    assert pairs(find(made, min_share=0.3))["a 3 s later.mkv", EXCERPT] == -2
    assert set(pairs(find(made, 0))) < set(pairs(find(made)))
    assert find(made, every=1).every == 1
    assert pairs(find(made, every=0.5))["a 3 s later.mkv", "a.mp4"] == -3


def test_a_trim_by_less_than_a_step(tmp_path):
    original = frames(3)
    write(tmp_path / "a.mp4", original)
    for n in (1, 2, 5):
        write(tmp_path / f"trimmed {n}.mp4", original[n:])
    found = find(tmp_path)
    assert len(found.groups[0]) == 4
    for n in (1, 2, 5):
        assert abs(pairs(found)["a.mp4", f"trimmed {n}.mp4"] - n / RATE) <= found.every


def test_references(made, tmp_path):
    (tmp_path / "archive").mkdir()
    (tmp_path / "new").mkdir()
    for name in ("a.mp4", "a.gif"):
        shutil.copy(made / name, tmp_path / "archive")
    shutil.copy(made / "a small.avi", tmp_path / "new")
    found = find(tmp_path / "new", reference=tmp_path / "archive")
    assert pairs(found) == {("a.gif", "a small.avi"): 0, ("a.mp4", "a small.avi"): 0}
    assert [[video.is_reference for video in group] for group in found.groups] == [[True, True, False]]
    os.remove(tmp_path / "new" / "a small.avi")
    assert find(tmp_path / "new", reference=tmp_path / "archive").groups == []


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9", "libx265"])
def test_other_codecs(codec, tmp_path):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    original = frames(4, seconds=2)
    write(tmp_path / "a.mp4", original)
    options = {"libvpx-vp9": {"deadline": "realtime"}, "libx265": {"x265-params": "log-level=none"}}
    write(tmp_path / "b.mkv", original, codec, **options.get(codec, {}))
    assert pairs(find(tmp_path)) == {("a.mp4", "b.mkv"): 0}


# Frames


def test_frames_are_the_first_of_each_step(tmp_path):
    path = write(tmp_path / "a.mp4", frames(1))
    with open_video(path, LIMITS) as video:
        every = [np.asarray(image) for _, image in video.sampled(Fraction(1, 1000))]
    assert len(every) == 5 * RATE
    with open_video(path, LIMITS) as video:
        steps, images = zip(*video.sampled(Fraction("0.4")), strict=True)
        assert (video.size, video.seconds) == ((160, 96), 5)
    assert steps == tuple(range(13))
    for step, image in zip(steps, images, strict=True):
        assert (np.asarray(image) == every[-(-step * 2 * RATE // 5)]).all()
    for moment in (0, 1.7, 4.9):
        with open_video(path, LIMITS) as video:
            assert (np.asarray(video.frame_at(moment)) == every[min(int(np.ceil(moment * RATE)), 59)]).all()


def test_turned_videos_are_upright(tmp_path):
    original = frames(1)
    path = write(tmp_path / "a.mp4", original)
    turned = tmp_path / "turned.mp4"
    with av.open(str(path)) as old, av.open(str(turned), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV cannot write the rotation")
        stream.set_display_rotation(90)
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    with open_video(turned, LIMITS) as video:
        image = next(video.sampled(Fraction(1)))[1]
        assert video.size == image.size == (96, 160)
    with open_video(path, LIMITS) as video:
        upright = next(video.sampled(Fraction(1)))[1]
    assert (np.asarray(image) == np.rot90(np.asarray(upright))).all()


def test_pictures_that_stand_still_are_one_frame_and_blank_ones_none(tmp_path):
    slides = [picture for seed in (5, 6, 7) for picture in frames(seed, seconds=1)[:1] * (3 * RATE)]
    black = [Image.new("RGB", (160, 96))] * RATE
    video = hash_video(write(tmp_path / "a.mp4", [*black, *slides]), Fraction("0.25"), LIMITS)
    assert (video.n_frames, video.n_blank, len(video.timeline.codes)) == (40, 4, 3)
    assert video.timeline.first.tolist() == [4, 16, 28]
    assert video.timeline.last.tolist() == [15, 27, 39]


def test_still_videos(tmp_path):
    still = frames(5, seconds=1)[:1] * (4 * RATE)
    write(tmp_path / "a.mp4", still)
    write(tmp_path / "again.avi", still, size=(80, 48))
    write(tmp_path / "shows it, too.mp4", still + frames(6))
    assert pairs(find(tmp_path)) == {("a.mp4", "again.avi"): 0}


# Files that cannot be compared, and names


def test_broken_files_are_listed(tmp_path):
    path = write(tmp_path / "good.mkv", frames(1))
    whole = path.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    whole = write(tmp_path / "good.mp4", frames(2)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.webm").write_bytes(b"")
    (tmp_path / "playlist.avi").write_text("#EXTM3U\n#EXTINF:1,\ngood.mkv\n")
    (tmp_path / "source.ts").write_text("export {};\n" * 100)
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.gif")
    frames(1)[0].save(tmp_path / "photo.mov", format="jpeg")
    write_sound(tmp_path / "sound.mp4")
    write(tmp_path / "black.mp4", [Image.new("RGB", (160, 96))] * RATE)
    os.mkfifo(tmp_path / "pipe.mp4") if hasattr(os, "mkfifo") else None
    found = find(tmp_path)
    damaged = "ValueError: no video of a known format, or damaged"
    expected = {
        "black.mp4": "ValueError: every frame is blank, of nearly one shade, so that there is nothing to compare",
        "cut.mp4": damaged,
        "empty.webm": "ValueError: the file is empty",
        "photo.mov": damaged,
        "pipe.mp4": "ValueError: not a regular file",
        "playlist.avi": damaged,
        "sound.mp4": "ValueError: no video in it, only sound or pictures",
        "text.mp4": damaged,
    }
    broken = {path: re.sub(f"({damaged}): .+", r"\1", why) for path, why in found.broken}
    assert re.fullmatch(r"ValueError: the file ends after [1-4]\.\d of 5\.0 s", broken.pop("cut.mkv"))
    assert broken == {name: why for name, why in expected.items() if (tmp_path / name).exists()}
    assert (found.n_videos, found.n_others) == (2, 2)


def test_damage_within_a_file_does_no_harm(tmp_path):
    """Whatever the bytes, a file is compared or listed."""
    whole = write(tmp_path / "whole.mkv", frames(1, seconds=2)).read_bytes()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, len(whole), rng.integers(1, 200))
        damaged[places] = rng.integers(0, 256, len(places))
        (tmp_path / f"{seed}.mkv").write_bytes(damaged.tobytes())
    found = find(tmp_path)
    assert found.n_videos + len(found.broken) == 41


def test_videos_without_the_name_of_one(tmp_path):
    write(tmp_path / "VID 1", frames(1, seconds=2))
    write(tmp_path / "b.ts", frames(1, seconds=2), "mpeg2video", rate=25)
    (tmp_path / "notes").write_text("no video")
    found = find(tmp_path)
    assert (found.n_videos, found.n_others) == (2, 1)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_pixels": 160 * 96 - 1}, "ValueError: 160 x 96 px are more than max_pixels=15359"),
        ({"max_seconds": 4}, "ValueError: 5 s are more than max_seconds=4"),
    ],
)
def test_limits(options, reason, tmp_path):
    write(tmp_path / "a.mp4", frames(1))
    assert find(tmp_path, **options).broken == [("a.mp4", reason)]


def test_the_limit_of_pixels_is_exact(tmp_path):
    """FFmpeg counts the padding of a frame, too."""
    write(tmp_path / "a.mkv", frames(1, size=(160, 90)), "libx264", pix_fmt="yuv420p")
    assert find(tmp_path, max_pixels=160 * 90).broken == []
    assert find(tmp_path, max_pixels=2**40).broken == []


def test_a_gif_of_too_many_pixels_for_pillow_is_listed(tmp_path, monkeypatch, recwarn):
    write(tmp_path / "a.gif", frames(1, seconds=2), "gif", pix_fmt="rgb8")
    for most in (160 * 96 - 1, 160 * 96 // 2 - 1):  # a warning, and an error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        found = find(tmp_path, max_pixels=10_000)
        assert found.broken == [("a.gif", "ValueError: 160 x 96 px are more than max_pixels=10000")]
    assert not recwarn.list


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"radius": -1}, ValueError, "radius must be at least 0, got -1"),
        ({"radius": 257}, ValueError, "radius must be at most 256, got 257"),
        ({"every": 0}, ValueError, "every must be positive and finite, got 0"),
        ({"every": 1e-9}, ValueError, "every must be at least 0.001, got 1e-09"),
        ({"every": "1"}, TypeError, "every must be a number, got '1'"),
        ({"min_share": 0}, ValueError, "min_share must be above 0 and at most 1, got 0"),
        ({"max_seconds": 0}, ValueError, "max_seconds must be at least 1, got 0"),
        ({"progress": 1}, TypeError, "progress must be True or False, got 1"),
        ({"folder": "nowhere"}, FileNotFoundError, "folder='nowhere' is not a folder; it does not exist"),
        ({"folder": []}, ValueError, "folder must name at least one folder, got none"),
    ],
)
def test_bad_arguments(options, error, message, tmp_path):
    with pytest.raises(error) as caught:
        find_duplicate_videos(**{"folder": tmp_path} | options)
    assert str(caught.value) == message


# Between runs


def test_hashes_are_kept(made, tmp_path, monkeypatch):
    folder, state = tmp_path / "videos", tmp_path / "state"
    shutil.copytree(made, folder)
    first = find(folder, state=state)
    again = find(folder, state=state)
    assert again == first._replace(n_hashed=0)
    os.remove(folder / "a.mp4")
    write(folder / "c.mp4", frames(9))
    later = find(folder, state=state)
    assert (later.n_videos, later.n_hashed) == (7, 1)
    assert later._replace(n_hashed=7) == find(folder)
    with pytest.raises(ValueError, match=r"every must be 1/4, as in the state .*, got 1; such hashes need a state"):
        find(folder, state=state, every=1)
    with pytest.raises(ValueError, match="each folder needs a state of its own"):
        find(made, state=state)


def test_videos_of_any_time_are_kept(tmp_path):
    path = write(tmp_path / "videos/a.mp4", frames(1, seconds=2))
    os.utime(path, ns=(10**19, 10**19))
    for n_hashed in (1, 0):
        assert find(tmp_path / "videos", state=tmp_path / "state").n_hashed == n_hashed


def test_a_run_that_is_stopped_does_not_wait_for_the_end_of_a_video(tmp_path):
    path = write(tmp_path / "a.mp4", frames(1))
    run = Run()
    run.stopped = True
    with pytest.raises(InterruptedError):
        hash_video(path, Fraction(1), LIMITS, run=run)


def test_ctrl_c_keeps_the_hashes(tmp_path, monkeypatch):
    for name in "abc":
        write(tmp_path / "videos" / f"{name}.mp4", frames(1, seconds=1))
    real = VideoHashes.put

    def put(self, path, stamp, hashed):
        if path == "c.mp4":
            raise KeyboardInterrupt
        real(self, path, stamp, hashed)

    monkeypatch.setattr(VideoHashes, "put", put)
    with pytest.raises(KeyboardInterrupt):
        find(tmp_path / "videos", state=tmp_path / "state")
    monkeypatch.setattr(VideoHashes, "put", real)
    assert find(tmp_path / "videos", state=tmp_path / "state").n_hashed == 1


# The command and the page


@pytest.fixture
def run(tmp_path):
    from fasthash.cli import app

    def run(*arguments):
        command = ["dedup-videos", "--output", str(tmp_path / "report"), *map(str, arguments)]
        return typer_testing.CliRunner().invoke(app, command)

    return run


def test_the_command(made, run, tmp_path):
    result = run(made, "--index", tmp_path / "state")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:2] == [
        "7 videos, 7 of them hashed now, 0 files skipped, 0 other files passed over",
        f"1 group of near-duplicates, 5 videos in them; open {tmp_path / 'report' / 'index.html'}",
    ]
    with open(tmp_path / "report" / "duplicates.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = ["a 3 s later.mkv", "a small.avi", "a.gif", "a.mp4", EXCERPT]
    assert [row["path"] for row in rows] == [str(made / name) for name in names]
    assert [row["largest"] for row in rows] == ["0", "0", "0", "1", "0"]
    assert (rows[3]["offset"], rows[3]["share"], rows[3]["seconds"]) == ("-3.0", "1.0", "5.0")
    assert rows[0]["offset"] == ""
    result = run(made, "--index", tmp_path / "state", "--json")
    shown = json.loads(result.stdout)
    assert shown == json.loads((tmp_path / "report" / "duplicates.json").read_text(encoding="utf-8"))
    assert (shown["n_hashed"], len(shown["groups"][0]), shown["every"]) == (0, 5, 0.25)
    assert {"first", "second", "share", "offset", "matched", "distance"} == set(shown["pairs"][0])


def test_errors_of_the_command(run, tmp_path):
    for arguments, message in (
        ([tmp_path, "--every", "0"], "--every must be positive and finite, got 0.0"),
        ([tmp_path / "nowhere"], f"folder={str(tmp_path / 'nowhere')!r} is not a folder; it does not exist"),
        ([tmp_path, "--max-pixels", "0"], "--max-pixels must be at least 1, got 0"),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stderr) == (1, f"fasthash: {message}\n")


def cards(tmp_path):
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    return page, dict(re.findall(r"<figure.*?<span>([^<]*)</span></label>(.*?)</figure>", page, re.DOTALL))


def test_the_page(made, run, tmp_path):
    assert run(made).exit_code == 0
    page, shown = cards(tmp_path)
    assert page.count('src="data:image/jpeg;base64,') == 5 * 5  # a strip of five for each
    whole = shown["a.mp4"]
    for text in (">largest<", "5.0 s", "160 × 96 px", "100% of the frames", "starts 3 s before it"):
        assert text in whole
    assert "what is in the largest" in page
    assert not re.search(r"https?://|@import|url\(|<link", page)


def test_the_buttons_tick_no_video_with_more_than_the_largest_has(tmp_path, run):
    a, b = frames(1), frames(2)
    write(tmp_path / "videos/a.mp4", a, size=(320, 192))
    write(tmp_path / "videos/a small.mp4", a)
    write(tmp_path / "videos/both.mp4", a + b, size=(80, 48))
    write(tmp_path / "videos/b.mp4", b)
    assert run(tmp_path / "videos").exit_code == 0
    page, _ = cards(tmp_path)
    labels = re.findall(r"<input[^>]*>", page)
    names = [unquote_to_bytes(re.search('data-path="([^"]*)"', label)[1]).rpartition(b"/")[2] for label in labels]
    kept = {name: "data-kept" in label for name, label in zip(names, labels, strict=True)}
    assert kept == {b"a.mp4": True, b"a small.mp4": False, b"both.mp4": True, b"b.mp4": True}


def test_a_video_is_kept_rather_than_a_link_to_it(tmp_path, run):
    write(tmp_path / "videos/z.mp4", frames(1))
    (tmp_path / "videos/a.mp4").symlink_to("z.mp4")
    (tmp_path / "old").mkdir()
    assert run(tmp_path / "videos").exit_code == 0
    page, shown = cards(tmp_path)
    assert [">link<" in shown[name] for name in ("a.mp4", "z.mp4")] == [True, False]
    assert ["data-kept" in label for label in re.findall(r"<input[^>]*>", page)] == [False, True]
    os.rename(tmp_path / "videos/a.mp4", tmp_path / "old/a.mp4")
    (tmp_path / "old/a.mp4").unlink()
    (tmp_path / "old/a.mp4").symlink_to("../videos/z.mp4")
    assert run(tmp_path / "videos", "--reference", tmp_path / "old").exit_code == 0
    assert ["data-kept" in label for label in re.findall(r"<input[^>]*>", cards(tmp_path)[0])] == [True]


def test_a_foreign_page_is_not_replaced(tmp_path, run):
    (tmp_path / "report").mkdir()
    (tmp_path / "report/index.html").write_text("a page of another program")
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "choose another folder or remove the file" in result.stderr
    assert (tmp_path / "report/index.html").read_text() == "a page of another program"


@pytest.mark.skipif(os.name == "nt", reason="names that Windows refuses")
def test_names_of_all_sorts_do_no_harm(made, run, tmp_path):
    names = [b"<img src=x onerror=alert(1)>.mp4", b'"><script>alert(1)<\\script>.mp4', b"\xff.mp4", b"a%41&amp;.mp4"]
    names += [b"two\nlines.mp4", b"\xe2\x80\xaegnp.mp4", b"-rf.mp4", b"http:.mp4", b"pipe:0.mp4", b"=cmd.mp4"]
    folder = tmp_path / "videos"
    folder.mkdir()
    taken = []
    for name in names:
        try:
            shutil.copy(made / "a.mp4", folder / os.fsdecode(name))
        except OSError:  # a file system that takes only UTF-8
            continue
        taken.append(name)
    result = run(folder)
    assert result.exit_code == 0, result.output
    assert f"{len(taken)} videos in them" in result.stdout
    page, _ = cards(tmp_path)
    assert page.count("<script>") == 1  # our own
    assert "<img src=x" not in page
    assert "\u202e" not in page
    listed = [unquote_to_bytes(path) for path in re.findall(r'data-path="([^"]*)"', page)]
    assert sorted(listed) == sorted(os.fsencode(folder) + b"/" + name for name in taken if b"\n" not in name)


def test_many_videos_stay_on_a_page_that_opens(made, run, tmp_path, monkeypatch):
    monkeypatch.setattr(_review_cards, "MAX_PER_GROUP", 3)
    monkeypatch.setattr(_video_page, "MAX_STRIPS", 2)
    assert run(made).exit_code == 0
    page, shown = cards(tmp_path)
    assert (len(shown), page.count("<img "), page.count('class="text"')) == (3, 10, 1)
    assert list(shown) == ["a 3 s later.mkv", "a small.avi", "a.mp4"]  # the largest is among them
    assert "3 of 5 shown, no others are ticked; duplicates.csv lists all" in page


def test_a_folder_without_videos_is_an_error(run, tmp_path, made):
    (tmp_path / "videos").mkdir()
    command = tmp_path / "videos", "--index", tmp_path / "state"
    result = run(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"fasthash: no videos below {str(tmp_path / 'videos')!r} (0 files)\n"
    assert not (tmp_path / "report").exists()
    copy = shutil.copy(made / "a.gif", tmp_path / "videos")
    assert run(*command).exit_code == 0
    page, _ = cards(tmp_path)
    assert "1 video in " in page
    assert ": no videos where at least 40% of the shorter one" in page
    os.remove(copy)  # those that were known have gone
    assert run(*command, "-o", tmp_path / "other").exit_code == 0


def test_the_defaults_of_the_command_are_those_of_the_function():
    import inspect

    from fasthash.cli.videos import dedup_videos

    command = inspect.signature(dedup_videos).parameters
    function = inspect.signature(find_duplicate_videos).parameters
    for name in ("every", "min_share", "max_pixels", "max_seconds"):
        assert command[name].default == function[name].default
    assert command["radius"].default == _videos.RADIUS
    assert _review_cards.REPORT_FILES[0] == "index.html"
