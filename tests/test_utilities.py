"""What many rooms use: files that appear whole, things that are kept, memory that is too small."""

from __future__ import annotations

import os
import stat
import threading
import time

import pytest
import torch

from sktransfer import _files
from sktransfer._files import atomic_write, lock_file, no_regular_file, open_regular, sweep
from sktransfer._lru import LRU
from sktransfer.compute import within_memory
from sktransfer.exceptions import EngineError, EngineWarning, did_you_mean


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "weights.pt"
    with atomic_write(path) as draft:
        assert draft.suffix == ".pt"
        draft.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    with pytest.raises(ZeroDivisionError), atomic_write(path) as draft:
        draft.write_text("other")
        1 / 0  # noqa: B018
    assert path.read_text() == "half"
    assert os.listdir(tmp_path) == ["weights.pt"]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "file"
    victim.write_text("precious")
    path.symlink_to(victim)
    with atomic_write(path) as draft:
        draft.write_text("new")
    assert victim.read_text() == "precious" and path.read_text() == "new"
    assert not path.is_symlink()


def test_drafts_of_killed_processes_go_once_nobody_can_be_at_them(tmp_path):
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(_files.shutil, "rmtree", lambda *_, **__: None)  # killed before it
        with atomic_write(tmp_path / "a"):
            raise KeyboardInterrupt
    (left,) = tmp_path.iterdir()
    assert stat.S_IMODE(left.stat().st_mode) == 0o700
    with atomic_write(tmp_path / "a") as draft:
        draft.touch()
    assert left.exists()
    long_ago = time.time() - 8 * 86_400
    os.utime(left, (long_ago, long_ago))
    with atomic_write(tmp_path / "a") as draft:
        draft.touch()
    assert os.listdir(tmp_path) == ["a"]
    left.mkdir()
    sweep(tmp_path)
    assert os.listdir(tmp_path) == ["a"]


def test_what_is_no_plain_file_is_named(tmp_path):
    plain, folder, link = tmp_path / "plain", tmp_path / "folder", tmp_path / "link"
    plain.write_text("x")
    folder.mkdir()
    link.symlink_to(plain)
    assert no_regular_file(plain, tmp_path / "nothing") is None
    assert no_regular_file(plain, folder).endswith("folder must be a regular file, but is a folder")
    assert "but is a link" in no_regular_file(link)
    assert open_regular(link).read() == b"x"
    with pytest.raises(OSError, match="folder"):
        open_regular(folder)
    with pytest.raises(OSError):
        open_regular(link, follow=False)


def test_a_file_is_locked_once_and_until_it_is_closed(tmp_path):
    with open(tmp_path / "file", "ab") as first, open(tmp_path / "file", "ab") as second:
        lock_file(first)
        with pytest.raises(BlockingIOError):
            lock_file(second)
        first.close()
        lock_file(second)


def test_what_was_used_longest_ago_is_forgotten_first():
    made = []

    def get(key):
        return lru.get(key, lambda: made.append(key) or key * 10)

    lru = LRU(2)
    assert [get(key) for key in (1, 2, 1, 3, 1, 2)] == [10, 20, 10, 30, 10, 20]
    assert made == [1, 2, 3, 2]
    assert lru.find(3) is None and lru.find(1) == 10
    lru.put(4, 40)
    assert lru.find(2) is None and lru.find(1) == 10
    lru.clear()
    assert lru.find(1) is None


def test_bytes_are_bounded_and_the_newest_stays():
    lru = LRU(9, 10, sum)
    for number in (4, 5, 6):
        lru.put(number, number)
    assert [lru.find(n) for n in (4, 5, 6)] == [None, None, 6]
    lru.put(99, 99)
    assert lru.find(6) is None and lru.find(99) == 99


def test_threads_wait_for_the_one_that_makes_it():
    lru, made, meeting = LRU(2), [], threading.Barrier(4)

    def ask():
        meeting.wait(10)
        found.append(lru.get("key", make))

    def make():
        time.sleep(0.05)
        made.append(object())
        return made[-1]

    found = []
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and found == made * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_while_something_is_made_does_not_hang():
    lru, inside, done = LRU(2), threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: lru.get(1, lambda: inside.set() or done.wait(30)))
    thread.start()
    assert inside.wait(30)
    child = os.fork()
    if child == 0:
        os._exit(0 if lru.get(2, lambda: "two") == "two" else 1)
    end = time.monotonic() + 10
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    done.set()
    thread.join()
    assert ended == (child, 0)


def test_as_many_at_a_time_as_memory_holds():
    tried = []

    def run(size):
        tried.append(size)
        if size > 3:
            raise torch.cuda.OutOfMemoryError("no room")
        return "done"

    with pytest.warns(EngineWarning, match="memory of cuda:0 does not hold the batch"):
        assert within_memory(run, 9, "cuda:0") == ("done", 3)
    assert tried == [9, 5, 3]
    assert within_memory(run, 2, "cuda:0") == ("done", 2)

    def too_large(size):
        raise torch.cuda.OutOfMemoryError("no room")

    with pytest.warns(EngineWarning), pytest.raises(EngineError, match="one item"):
        within_memory(too_large, 4, "cuda:0")


def test_did_you_mean():
    known = ["resnet50", "resnet18", "vgg16"]
    assert did_you_mean("ResNet-50", known).startswith("Did you mean 'resnet50'")
    assert did_you_mean("xyz", known) == ""
    assert did_you_mean("xyz", known, ["timm:xyz"]) == "Did you mean 'timm:xyz'? "
