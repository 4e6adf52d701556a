"""What a save leaves beside the bytes: permissions, links, leftovers of killed processes; and folders that refuse."""

import multiprocessing
import os
import stat
import sys

import numpy as np
import pytest

import fasthash as fh
from galleries import uniform

FORK = multiprocessing.get_context("fork")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs permissions and links as POSIX has them")


@pytest.fixture(scope="module")
def index():
    return fh.HierIndex.from_arrays(uniform(np.random.default_rng(0), 20_000, 8))


@pytest.fixture
def path(tmp_path, index):
    index.save(tmp_path / "index.fh")
    return tmp_path / "index.fh"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def outcome(call):
    """What a call in a child process says: it may change its user and its limits."""
    receiver, sender = FORK.Pipe(duplex=False)

    def run():
        try:
            sender.send(call())
        except BaseException as error:
            sender.send(repr(error))

    process = FORK.Process(target=run)
    process.start()
    said = receiver.recv() if receiver.poll(60) else "nothing"
    process.join()
    return said


# ---- permissions ----


@pytest.mark.parametrize("before", [0o600, 0o640, 0o664, 0o400, 0o444])
def test_a_new_file_has_the_permissions_of_the_old_one(index, path, before):
    path.chmod(before)
    index.save(path)
    assert mode(path) == before


@pytest.mark.parametrize("before", [0o4755, 0o2755, 0o6711, 0o1644])
def test_special_bits_are_not_copied(index, path, before):
    path.chmod(before)
    index.save(path)
    assert mode(path) == before & 0o777


def test_a_group_that_the_new_file_cannot_have_gives_its_permissions_to_nobody(index, path):
    if os.getuid() != 0:
        pytest.skip("needs to change users")
    path.chmod(0o660)
    os.chown(path, 12345, 23456)
    path.parent.chmod(0o777)

    def save():
        os.chdir(path.parent)  # which this user cannot reach by its path
        os.setgroups([])
        os.setresgid(34567, 34567, 34567)
        os.setresuid(12345, 12345, 12345)
        index.save("index.fh")

    assert outcome(save) is None
    assert (mode(path), path.stat().st_gid) == (0o600, 34567)
    index.save(path)  # root may give it any group
    assert (mode(path), path.stat().st_gid) == (0o600, 34567)


# ---- folders ----


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_cannot_be_read(index, tmp_path, there):
    """It can be written to, so the save succeeds."""
    folder = tmp_path / "closed"
    folder.mkdir()
    if there:
        (folder / "index.fh").write_bytes(b"old")
        (folder / "index.fh").chmod(0o666)
    folder.chmod(0o333)

    def save():
        os.chdir(folder)
        if os.getuid() == 0:
            os.setresuid(12345, 12345, 12345)
        index.save("index.fh")
        return len(fh.load("index.fh"))

    assert outcome(save) == len(index)
    folder.chmod(0o755)
    assert [each.name for each in folder.iterdir()] == ["index.fh"]


# ---- links ----


@pytest.mark.parametrize("target", ["index.fh", "below/index.fh", "../{}/index.fh", "second"])
def test_a_link_to_nothing_is_followed(index, tmp_path, target):
    (tmp_path / "below").mkdir()
    (tmp_path / "second").symlink_to("below/last.fh")
    link = tmp_path / "link"
    link.symlink_to(target.format(tmp_path.name))
    index.save(link)
    assert link.is_symlink()
    assert link.resolve(strict=True).suffix == ".fh"
    assert not link.resolve().is_symlink()
    assert fh.load(link).to_bytes() == index.to_bytes()
    index.save(link)
    assert link.is_symlink()
    assert list(tmp_path.rglob(".fasthash-*")) == []


def test_a_link_with_a_full_path(index, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "index.fh")
    index.save(tmp_path / "link")
    assert len(fh.load(tmp_path / "index.fh")) == len(index)


def test_a_link_into_a_folder_that_is_missing(index, tmp_path):
    (tmp_path / "link").symlink_to("missing/index.fh")
    with pytest.raises(FileNotFoundError, match=r"cannot create a file to save to: .*missing/index\.fh"):
        index.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()


def test_links_in_a_ring_stay(index, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="cannot follow the path: Too many levels of symbolic links"):
        index.save(tmp_path / "a")
    assert (tmp_path / "a").is_symlink()


# ---- leftovers ----


def leftovers(folder):
    return [each.name for each in folder.iterdir() if each.name.startswith(".fasthash-")]


def test_a_later_save_removes_what_a_killed_one_left(index, path):
    (path.parent / ".fasthash-1-1.tmp").write_bytes(b"old")  # of a process that lives, but has not made this file
    (path.parent / ".fasthash-99999999-4294967295.tmp").write_bytes(b"")
    (path.parent / ".fasthash-5-5.tmp").write_bytes(b"read only")
    (path.parent / ".fasthash-5-5.tmp").chmod(0o400)
    index.save(path.with_name("another.fh"))
    assert leftovers(path.parent) == []


def test_other_files_stay(index, path):
    names = ["x.tmp", *(f".fasthash-{end}" for end in ("1.tmp", "1-1", "a-1.tmp", "1-1.tmp.txt", "-1.tmp", "1-.tmp"))]
    for name in names:
        (path.parent / name).write_bytes(b"")
    (path.parent / ".fasthash-1-2.tmp").mkdir()
    (path.parent / ".fasthash-1-3.tmp").symlink_to("x.tmp")
    index.save(path)
    assert {*names, ".fasthash-1-2.tmp", ".fasthash-1-3.tmp"} <= {each.name for each in path.parent.iterdir()}


def test_what_a_process_still_writes_stays(index, path):
    """Stopped in the midst of its save, it goes on afterwards."""
    import fcntl

    draft = path.parent / ".fasthash-1-1.tmp"
    with open(draft, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        index.save(path)
        assert leftovers(path.parent) == [draft.name]
    index.save(path)
    assert leftovers(path.parent) == []


def test_a_save_holds_its_file_until_it_is_in_place(path):
    """Many savers in one folder, each of which removes what others have abandoned: none fails."""
    index = fh.FlatIndex.from_arrays(uniform(np.random.default_rng(1), 300, 8))

    def save_often(number):
        for _ in range(300):
            index.save(path.with_name(f"{number}.fh"))

    def run(number):
        return FORK.Process(target=save_often, args=(number,))

    processes = [run(number) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert leftovers(path.parent) == []


# ---- memory ----


def test_no_room_to_map_a_file_is_a_memory_error(path):
    resource = pytest.importorskip("resource", reason="needs resource limits")
    large = path.with_name("large.fh")
    large.write_bytes(path.read_bytes())
    os.truncate(large, 1 << 40)  # takes no room on the disk

    def load():
        resource.setrlimit(resource.RLIMIT_AS, (1 << 36, resource.RLIM_INFINITY))
        with pytest.raises(MemoryError):
            fh.load(large, mmap=True)
        return len(fh.load(path, mmap=True))

    assert outcome(load) == 20_000
