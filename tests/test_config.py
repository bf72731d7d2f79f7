"""Settings: what is set holds, in the threads that it is to hold in, and nowhere else."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sktransfer import CNNCodes, config_context, get_config, set_config
from sktransfer.compute._openvino import cache_folder
from sktransfer.compute._threads import worker_pool
from sktransfer.config import carried
from sktransfer.store import MemoryStore, memory_store


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    from sktransfer import config

    monkeypatch.setattr(config, "_process", dict(config._process))


def in_new_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_what_is_set_holds_in_all_threads():
    set_config(progress=True, cache_memory=1_000_000)
    assert get_config()["progress"] is True
    assert in_new_thread(lambda: get_config()["progress"]) is True
    assert memory_store().max_bytes == MemoryStore().max_bytes == 1_000_000
    set_config(progress="verbose")
    assert get_config()["progress"] == "verbose" and get_config()["cache_memory"] == 1_000_000


def test_a_context_is_of_one_thread_and_ends():
    inside, seen = threading.Event(), threading.Event()

    def other():
        with config_context(cache_memory=10, progress=False):
            inside.set()
            assert seen.wait(30)
            return memory_store().max_bytes

    before = get_config()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(other)
        assert inside.wait(30)
        assert get_config() == before
        seen.set()
        assert future.result() == 10
    with config_context(progress=False):
        with config_context(cache_folder="/a"):
            assert get_config() == {**before, "progress": False, "cache_folder": Path("/a")}
        with pytest.raises(ZeroDivisionError), config_context(progress=True):
            1 / 0  # noqa: B018
        assert get_config() == {**before, "progress": False}
    assert get_config() == before


def test_our_worker_threads_have_the_settings_of_whom_they_work_for():
    with config_context(progress=True):
        assert worker_pool().submit(lambda: get_config()["progress"]).result() is True
        assert list(worker_pool().map(lambda _: get_config()["progress"], range(9))) == [True] * 9
    seen = worker_pool().map(lambda _: get_config()["progress"], range(9))
    assert list(seen) == ["verbose"] * 9
    assert carried(len) is len  # nothing is wrapped where nothing is set


def test_codes_are_kept_within_the_memory_of_the_context(sample):
    codes = CNNCodes(image_size=64, cache="memory")
    with config_context(cache_memory=0):
        expected = codes.fit_transform(sample.data[:4])
        assert memory_store().info().rows == 0
    np.testing.assert_array_equal(codes.fit_transform(sample.data[:4]), expected)
    assert memory_store().info().rows == 4
    with config_context(cache_memory=0):
        assert memory_store().info().rows == 0  # at once


def test_the_folder_is_the_one_that_was_set(monkeypatch, tmp_path):
    monkeypatch.setenv("SKTRANSFER_CACHE", "/of-the-environment")
    assert get_config()["cache_folder"] == Path("/of-the-environment")
    set_config(cache_folder=tmp_path)
    assert get_config()["cache_folder"] == tmp_path
    assert cache_folder() == tmp_path / "openvino"
    with config_context(cache_folder="~/b"):
        monkeypatch.setenv("HOME", "/h")
        assert cache_folder() == Path("/h/b/openvino")


@pytest.mark.parametrize(
    ("progress", "verbose", "shown"),
    [("verbose", 0, False), ("verbose", 1, True), (True, 0, True), (False, 1, False)],
)
def test_bars_are_shown_as_set(progress, verbose, shown, sample, capsys):
    with config_context(progress=progress):
        CNNCodes(image_size=64, verbose=verbose).fit_transform(sample.data[:2])
    assert ("CNN codes" in capsys.readouterr().err) == shown


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cache_memory": -1}, "cache_memory must be a whole number of bytes, at least 0, got -1"),
        ({"cache_folder": ""}, "cache_folder must be the path of a folder"),
        ({"cache_folder": 3}, "cache_folder must be the path of a folder"),
        ({"progress": "yes"}, "progress must be True, False, .verbose. or .lines., got .yes"),
    ],
)
def test_what_is_wrong_is_refused_and_nothing_changes(wrong, message):
    before = get_config()
    with pytest.raises(ValueError, match=message):
        set_config(**{"progress": True, **wrong})
    with pytest.raises(ValueError, match=message), config_context(**wrong):
        pass
    assert get_config() == before


def test_a_file_is_no_folder_of_the_cache(tmp_path):
    before = get_config()
    (tmp_path / "file").write_text("precious")
    for wrong in (tmp_path / "file", str(tmp_path / "file" / "below")):
        with pytest.raises(ValueError, match=r"folder, got .*file.* is a file"):
            set_config(cache_folder=wrong)
        with pytest.raises(ValueError, match="is a file"), config_context(cache_folder=wrong):
            pass
    assert get_config() == before
    with config_context(cache_folder=tmp_path / "new"):  # made when something is kept there
        assert get_config()["cache_folder"] == tmp_path / "new"
