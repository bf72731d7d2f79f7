"""What goes into a store comes out again, whatever the store."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from sktransfer.exceptions import StoreError
from sktransfer.store import DiskStore, MemoryStore, Store, memory_store, open_store


def key(i: int) -> bytes:
    return hashlib.md5(str(i).encode()).digest()


@pytest.fixture(params=["memory", "disk"])
def store(request, tmp_path) -> Store:
    return MemoryStore() if request.param == "memory" else DiskStore(tmp_path / "store")


RNG = np.random.default_rng(0)
ROWS = {
    "float32": RNG.random(1280, np.float32),
    "map": RNG.random((64, 7, 7), np.float32),
    "megabytes": RNG.random((64, 112, 112), np.float32),
    "float16": RNG.random(100).astype(np.float16),
    "big-endian": np.arange(10, dtype=">f8"),
    "integers": np.array([[-(2**63), 2**63 - 1]]),
    "bytes": np.arange(256, dtype=np.uint8),
    "truth": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "a number": np.array(2.5, np.float32),
    "nothing": np.zeros((0, 7), np.float32),
    "strided": np.arange(24.0).reshape(4, 6)[::-2, 1::2],
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "not finite": np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 1e-45], np.float32),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_comes_back_bit_for_bit(store, name):
    row = ROWS[name]
    store.put_many("space", [key(0)], [row])
    (back,) = store.get_many("space", [key(0)])
    assert back is not None
    assert (back.dtype, back.shape) == (row.dtype, row.shape)
    assert back.tobytes() == row.tobytes()


def test_rows_keep_the_order_asked_for_and_leave_gaps(store):
    store.put_many("space", [key(i) for i in range(2000)], [np.full(3, i) for i in range(2000)])
    asked = [*RNG.permutation(2000)[:1500], 3000, 7, 7, 4000]
    back = store.get_many("space", [key(i) for i in asked])
    assert [None if row is None else int(row[0]) for row in back] == [
        i if i < 2000 else None for i in asked
    ]


def test_nobody_can_change_what_is_kept(store):
    mine = np.zeros(4)
    store.put_many("space", [key(0)], [mine])
    mine[:] = 1
    (back,) = store.get_many("space", [key(0)])
    with pytest.raises(ValueError, match="read-only"):
        back[0] = 2
    with pytest.raises(ValueError, match="WRITEABLE"):
        back.flags.writeable = True
    assert store.get_many("space", [key(0)])[0].tolist() == [0, 0, 0, 0]


def test_the_first_row_of_a_key_stays(store):
    store.put_many("space", [key(0)], [np.array([1.0])])
    store.put_many("space", [key(0), key(1)], [np.array([2.0]), np.array([3.0])])
    assert [row[0] for row in store.get_many("space", [key(0), key(1)])] == [1, 3]


def test_spaces_are_apart(store):
    for space in ("a", "b", "a'; DROP TABLE rows; --", "ü\0%"):
        store.put_many(space, [key(0)], [np.array([len(space)])])
    assert store.info().spaces == dict.fromkeys(["a", "b", "a'; DROP TABLE rows; --", "ü\0%"], 1)
    store.clear("a")
    assert store.get_many("a", [key(0)]) == [None]
    assert store.get_many("b", [key(0)])[0][0] == 1
    store.clear()
    assert store.info().rows == 0
    assert store.get_many("b", [key(0)]) == [None]
    store.put_many("b", [key(0)], [np.array([5])])
    assert store.get_many("b", [key(0)])[0][0] == 5


def test_info_counts(store):
    assert (store.info().rows, store.info().spaces) == (0, {})
    store.put_many("a", [key(i) for i in range(3)], [np.zeros(2**16, np.float32)] * 3)
    store.put_many("b", [key(0)], [np.zeros(2**16, np.float32)])
    info = store.info()
    assert (info.rows, info.spaces) == (4, {"a": 3, "b": 1})
    assert 2**20 <= info.bytes <= 1.3 * 2**20


def test_no_keys_are_no_trouble(store):
    assert store.get_many("a", []) == []
    store.put_many("a", [], [])
    assert store.claim("a", []) == []
    store.release("a", [])
    assert store.wait("a", [], timeout=0)


@pytest.mark.parametrize("method", ["get_many", "claim", "release", "wait"])
@pytest.mark.parametrize("wrong", ["0123456789abcdef", b"short", 7])
def test_a_key_must_be_a_digest(store, method, wrong):
    with pytest.raises(ValueError, match="A key must be 16 bytes"):
        getattr(store, method)("space", [key(0), wrong])


def test_what_is_no_row_is_refused(store):
    with pytest.raises(ValueError, match="equally many, got 2 and 1"):
        store.put_many("space", [key(0), key(1)], [np.zeros(1)])
    for row in (np.array(["text"]), np.array([None]), np.zeros(1, [("a", "f4")])):
        with pytest.raises(TypeError, match="A row must hold numbers"):
            store.put_many("space", [key(0)], [row])
    assert store.get_many("space", [key(0)]) == [None]


def test_open_store(tmp_path, monkeypatch):
    assert open_store(None) is None
    assert open_store("memory") is memory_store() is open_store("memory")
    mine = MemoryStore(1000)
    assert open_store(mine) is mine
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for cache, folder in [
        ("relative/deep", "relative/deep"),
        (tmp_path / "p a#th?%41", "p a#th?%41"),
        ("./memory", "memory"),
        ("~/codes", "home/codes"),
    ]:
        opened = open_store(cache)
        assert isinstance(opened, DiskStore)
        assert opened.path == tmp_path / folder
        assert opened.path.is_dir()


@pytest.mark.parametrize("cache", [True, 512, ["folder"], b"folder"])
def test_open_store_refuses_what_is_no_store(cache):
    with pytest.raises(TypeError, match="cache must be None, 'memory', the path of a folder"):
        open_store(cache)


def test_open_store_refuses_the_empty_string():
    with pytest.raises(ValueError, match="empty string"):
        open_store("")


@pytest.mark.parametrize(
    ("cache", "hint"),
    [
        ("memry", "Did you mean 'memory'?"),
        ("Memory", "Did you mean 'memory'?"),
        ("None", "None keeps nothing."),
        ("off", "None keeps nothing."),
        ("true", "'memory' is the default."),
        ("disk", "name a folder."),
    ],
)
def test_a_word_that_is_meant_as_a_switch_makes_no_folder(cache, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="the path of a folder") as caught:
        open_store(cache)
    assert hint in str(caught.value) and f"'./{cache}'" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    for meant in (f"./{cache}", tmp_path / cache):
        assert open_store(meant).path == tmp_path / cache


@pytest.mark.parametrize("cache", ["codes", "cache", "memories", "memory2", "memo", "a.b", "disk1"])
def test_ordinary_names_are_folders(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_store(cache).path == tmp_path / cache


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_text("precious")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match=r"must be a folder, but .*file.* is a file"):
            open_store(path)
    assert (tmp_path / "file").read_text() == "precious"
