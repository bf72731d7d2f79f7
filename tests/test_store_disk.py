"""The store on disk: its file, other versions, damage, read-only folders, its bound."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import pickle
import shutil
import sqlite3
import stat
import subprocess
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone

from sktransfer.exceptions import StoreError, StoreWarning
from sktransfer.store import DiskStore
from sktransfer.store import _database as network
from sktransfer.store._disk import database

NAME = "codes-v3.sqlite"


def key(i: int) -> bytes:
    return hashlib.md5(str(i).encode()).digest()


def row(i: int, length: int = 1280) -> np.ndarray:
    return np.random.default_rng(i).random(length, np.float32)


def fill(store: DiskStore, n: int, length: int = 1280) -> DiskStore:
    for start in range(0, n, 16):
        some = range(start, min(start + 16, n))
        store.put_many("space", [key(i) for i in some], [row(i, length) for i in some])
    return store


def right(store: DiskStore, n: int, length: int = 1280) -> list[int]:
    """The rows that are there; none may be wrong."""
    found = store.get_many("space", [key(i) for i in range(n)])
    there = [i for i in range(n) if found[i] is not None]
    assert all(np.array_equal(found[i], row(i, length)) for i in there)
    return there


@contextlib.contextmanager
def sql(folder: Path, name: str = NAME):
    """The file as another program sees it."""
    base = sqlite3.connect(folder / name)
    with base:
        yield base
    base.close()


def edit_schema(folder: Path, text: str) -> None:
    with sql(folder) as base:
        base.execute("PRAGMA writable_schema = ON")
        base.execute(f"UPDATE sqlite_master SET sql = {text}")


def in_thread(function):
    result = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join(30)
    return result[0]


# The file


SCHEMA = """
CREATE TABLE spaces (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE rows (
    id INTEGER PRIMARY KEY, space INTEGER NOT NULL, key BLOB NOT NULL,
    dtype TEXT NOT NULL, shape TEXT NOT NULL, checksum BLOB NOT NULL, data BLOB NOT NULL,
    UNIQUE (space, key));
CREATE TABLE owners (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, renewed REAL NOT NULL);
CREATE TABLE claims (
    space TEXT NOT NULL, key BLOB NOT NULL, owner INTEGER NOT NULL,
    PRIMARY KEY (space, key)) WITHOUT ROWID;
PRAGMA application_id = 0x736B7466; PRAGMA user_version = 3;
"""


def test_the_format_is_what_the_version_says(folder):
    """A file of version 3, written here by hand, is read: who changes one changes both."""
    folder.mkdir()
    data = row(0, 6).reshape(2, 3).tobytes()
    text = f"|<f4|2,3|24|{zlib.crc32(data)}".encode()
    check = hashlib.blake2b(b"space\0" + key(0) + text, digest_size=8).digest()
    with sql(folder) as base:
        base.executescript(SCHEMA)
        base.execute("INSERT INTO spaces VALUES (5, 'space')")
        values = (key(0), "<f4", "2,3", check, data)
        base.execute("INSERT INTO rows VALUES (1, 5, ?, ?, ?, ?, ?)", values)
    found = DiskStore(folder).get_many("space", [key(0)])[0]
    np.testing.assert_array_equal(found, row(0, 6).reshape(2, 3))


@pytest.mark.parametrize("version", [0, 2, 99])
def test_a_file_of_another_version_is_left_alone(folder, version):
    folder.mkdir()
    with sql(folder) as base:
        base.execute("CREATE TABLE rows (what TEXT)")
        base.execute("INSERT INTO rows VALUES ('precious')")
        base.execute("PRAGMA application_id = 0x736B7466")
        base.execute(f"PRAGMA user_version = {version}")
    (folder / "codes-v4.sqlite").write_bytes(b"of a later sktransfer")
    before = (folder / NAME).read_bytes()
    assert right(fill(DiskStore(folder), 50), 60) == list(range(50))
    assert in_thread(lambda: right(DiskStore(folder), 60)) == list(range(50))
    assert (folder / NAME).read_bytes() == before
    assert (folder / "codes-v4.sqlite").read_bytes() == b"of a later sktransfer"
    with sql(folder, "codes-v3-1.sqlite") as base:
        assert base.execute("SELECT count(*) FROM rows").fetchone() == (50,)


def test_rows_outlive_the_connection_and_the_object(folder):
    fill(DiskStore(folder), 20).close()
    assert right(DiskStore(folder), 30) == list(range(20))


def test_copies_and_pickles_are_the_path_alone(folder):
    class Estimator(BaseEstimator):
        def __init__(self, cache=None):
            self.cache = cache

    store = fill(DiskStore(folder, max_bytes=10 * 2**20, lease=7), 20)
    assert copy.deepcopy(store) is store is clone(Estimator(store)).cache
    pickled = pickle.dumps(store)
    assert len(pickled) < 500
    back = pickle.loads(pickled)
    assert (back.path, back.max_bytes, back.lease) == (folder, 10 * 2**20, 7)
    assert right(back, 20) == list(range(20))


def test_a_folder_that_was_deleted_is_begun_anew(folder):
    store = fill(DiskStore(folder), 20)
    shutil.rmtree(folder)
    assert right(store, 20) == []
    fill(store, 10)
    assert in_thread(lambda: right(DiskStore(folder), 20)) == list(range(10))


def test_clear_gives_the_disk_space_back(folder):
    store = fill(DiskStore(folder), 1000)

    def size():
        return sum(file.stat().st_size for file in folder.iterdir())

    assert size() > 5 * 2**20
    store.clear()
    assert size() < 2**20
    assert right(fill(store, 10), 20) == list(range(10))


@pytest.mark.parametrize(
    ("length", "most"),
    [(384, 1.45), (512, 1.15), (768, 1.15), (1024, 1.1), (1280, 1.1), (2048, 1.05), (4096, 1.05)],
)
def test_a_row_takes_little_more_than_its_numbers(folder, length, most):
    store = fill(DiskStore(folder), 500, length)
    store.close()
    assert (folder / NAME).stat().st_size < most * 500 * length * 4 + 2**15


def test_the_bound_holds_and_the_oldest_rows_go(folder):
    bound = 2 * 2**20
    store = fill(DiskStore(folder, max_bytes=bound), 1500)
    there = right(store, 1500)
    assert there == list(range(there[0], 1500)), "the newest rows, without gaps"
    assert 0.8 * bound < len(there) * 1280 * 4 < bound
    store.close()
    assert (folder / NAME).stat().st_size < 1.15 * bound
    assert 0.8 * bound < store.info().bytes <= bound == store.info().max_bytes
    store.put_many("space", [key(-1)], [np.zeros(3 * 2**18, np.float32)])  # larger than the bound
    assert store.info().bytes <= bound


@pytest.mark.parametrize("wrong", [0, 1000, -1, "1GB"])
def test_a_bound_that_makes_no_sense_is_refused(folder, wrong):
    with pytest.raises(ValueError, match="max_bytes must be a whole number of bytes, at least"):
        DiskStore(folder, max_bytes=wrong)
    assert not folder.exists()


def test_reading_is_fast(folder):
    """Rows of 5 KB take 10 to 20 µs each on an idle machine; a network takes 5,000 and more."""
    store = fill(DiskStore(folder), 2000)
    keys = [key(int(i)) for i in np.random.default_rng(0).permutation(2000)]
    times = []
    for _ in range(5):
        start = time.process_time()  # not that of others who use the cores
        for i in range(0, 2000, 16):
            store.get_many("space", keys[i : i + 16])
        times.append((time.process_time() - start) / 2000)
    assert min(times) < 100e-6


# Damage


@pytest.mark.parametrize(
    "damage",
    [
        "data = x'00' || substr(data, 2)",
        "data = substr(data, 1, 5000)",
        "data = data || x'00'",
        "data = 'text'",
        "data = NULL",
        "dtype = '<i4'",
        "dtype = 'O'",
        "dtype = CAST(x'ff' AS TEXT)",
        "shape = '2,640'",
        "shape = '1280,'",
        "shape = '-1'",
        "checksum = x'0011223344556677'",
        "checksum = 7",
        "key = x'00112233445566778899aabbccddeeff'",
    ],
)
def test_a_damaged_row_is_missing_and_can_be_put_again(folder, damage):
    store = fill(DiskStore(folder), 20)
    # NOT NULL would refuse some of it; damage asks nobody.
    edit_schema(folder, "replace(sql, 'NOT NULL', 'NOT_NULL')")
    with sql(folder) as base:
        assert base.execute(f"UPDATE rows SET {damage} WHERE key = ?", (key(3),)).rowcount == 1
    edit_schema(folder, "replace(sql, 'NOT_NULL', 'NOT NULL')")
    store.close()
    moved = damage.startswith("key")  # such a row is found under neither key
    asked = bytes.fromhex("00112233445566778899aabbccddeeff") if moved else key(3)
    with pytest.warns(StoreWarning, match="damaged"):
        assert store.get_many("space", [asked]) == [None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert right(store, 20) == [i for i in range(20) if i != 3]
        assert store.claim("space", [key(3)]) == [True]
        store.put_many("space", [key(3)], [row(3)])
        assert right(store, 20) == list(range(20))


def test_rows_of_two_keys_cannot_be_exchanged(folder):
    store = fill(DiskStore(folder), 2)
    with sql(folder) as base:
        for old, new in ((key(0), b"aside"), (key(1), key(0)), (b"aside", key(1))):
            base.execute("UPDATE rows SET key = ? WHERE key = ?", (new, old))
    with pytest.warns(StoreWarning, match="2 rows are damaged"):
        assert right(store, 2) == []


@pytest.mark.parametrize("content", ["noise", "half", "head", "rows"])
def test_a_damaged_file_is_moved_aside_and_a_new_one_begun(folder, content):
    store = fill(DiskStore(folder), 500)
    store.close()
    file = folder / NAME
    sound = file.read_bytes()
    damaged = {
        "noise": np.random.default_rng(0).bytes(50_000),
        "half": sound[: len(sound) // 2],
        "rows": sound[:16384] + b"\xff" * (len(sound) - 16384),
        "head": sound[:100] + b"\xff" * 16384 + sound[16484:],
    }[content]
    file.write_bytes(damaged)
    with pytest.warns(StoreWarning, match=r"is damaged; it was moved to .*corrupt-2"):
        assert right(DiskStore(folder), 500) in ([], list(range(500)))
        fill(store, 500)
    (aside,) = [f for f in folder.iterdir() if "corrupt" in f.name and f.name[-1].isdigit()]
    assert aside.read_bytes() == damaged
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert right(store, 500) == list(range(500))
        assert in_thread(lambda: right(DiskStore(folder), 500)) == list(range(500))
    assert (folder / "codes-v3-1.sqlite").exists(), "who has the old file open keeps its name"
    assert not file.exists()


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.StoreWarning")
def test_bits_that_flip_anywhere_never_make_a_wrong_row(folder):
    rng = np.random.default_rng(0)
    store = fill(DiskStore(folder), 200)
    store.close()
    sound = (folder / NAME).read_bytes()
    survived = []
    for trial in range(40):
        shutil.rmtree(folder)
        folder.mkdir()
        damaged = bytearray(sound)
        for _ in range(1 + trial):
            damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        (folder / NAME).write_bytes(damaged)
        survived.append(len(right(store, 200)))
        assert right(fill(store, 200), 200) == list(range(200))
    assert 100 < np.mean(survived) < 200, "most rows of most files are still sound"


SPACES = ("of one network", "of another network")


def two_spaces(folder: Path) -> bytes:
    """The file of a store with the same keys in two spaces, whose rows differ."""
    store = DiskStore(folder)
    for number, space in enumerate(SPACES):
        store.put_many(space, KEYS, [np.full(8, 100 * number + i, np.float32) for i in range(12)])
    store.claim("another", KEYS)
    store.close()
    return (folder / NAME).read_bytes()


KEYS = [key(i) for i in range(12)]


def check_spaces(folder: Path, data: bytes) -> int:
    """Count the rows of the two spaces in a damaged file; none is wrong, all can be kept again."""
    for old in folder.iterdir():
        old.unlink()
    (folder / NAME).write_bytes(data)
    store, there = DiskStore(folder), 0
    for _ in range(2):  # the second time all are there
        for number, space in enumerate(SPACES):
            found = store.get_many(space, KEYS)
            for i, row in enumerate(found):
                assert row is None or np.array_equal(row, np.full(8, 100 * number + i, np.float32))
            there += sum(row is not None for row in found)
            store.wait(space, KEYS, timeout=1)
            missing = [i for i in range(12) if found[i] is None]
            store.claim(space, [KEYS[i] for i in missing])
            store.knows(SPACES, KEYS)
            rows = [np.full(8, 100 * number + i, np.float32) for i in missing]
            store.put_many(space, [KEYS[i] for i in missing], rows)
    # Where a file was set aside between the two, what the first had kept is gone with it.
    for space in SPACES:
        assert all(row is not None for row in store.get_many(space, KEYS)) or aside(folder)
    store.close()
    return there


def aside(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if "corrupt" in file.name and file.name[-1].isdigit()]


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.StoreWarning")
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_no_bit_of_the_names_of_spaces_makes_a_wrong_row(folder, step):
    sound = two_spaces(folder)
    named = [start for start in range(0, len(sound), 1024) if b"of one" in sound[start:][:1024]]
    assert len(named) >= 2, "the table and its index"
    used = [start + i for start in named for i in range(1024) if sound[start + i]]
    for bit in range(0, 8 * len(used), step):
        changed = bytearray(sound)
        changed[used[bit // 8]] ^= 1 << bit % 8
        check_spaces(folder, bytes(changed))


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.StoreWarning")
def test_three_hundred_damages_make_no_wrong_row(folder):
    rng = np.random.default_rng(0)
    sound = two_spaces(folder)
    there = []
    for _ in range(300):
        changed = bytearray(sound)
        start, length = int(rng.integers(len(sound))), int(rng.integers(1, 3000))
        match rng.integers(5):
            case 0:
                for place in rng.integers(len(sound), size=rng.integers(1, 40)):
                    changed[place] ^= 1 << int(rng.integers(8))
            case 1:
                del changed[start:]
            case 2:
                changed[start : start + length] = rng.bytes(length)
            case 3:
                changed[start : start + length] = bytes(length)
            case 4:  # a page in the place of another
                one, other = 1024 * rng.integers(len(sound) // 1024, size=2)
                changed[one : one + 1024] = sound[other : other + 1024]
        there.append(check_spaces(folder, bytes(changed)))
    assert np.mean(there) > 24, "most rows survive or can be put again"


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.StoreWarning")
def test_exchanged_spaces_are_not_believed(folder):
    two_spaces(folder)
    with sql(folder) as base:
        for old, new in ((SPACES[0], "aside"), (SPACES[1], SPACES[0]), ("aside", SPACES[1])):
            base.execute("UPDATE spaces SET name = ? WHERE name = ?", (new, old))
    store = DiskStore(folder)
    assert store.get_many(SPACES[0], KEYS) == [None] * 12 == store.get_many(SPACES[1], KEYS)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TRIGGER t AFTER INSERT ON rows BEGIN DELETE FROM rows; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE other (x)",
        "DROP TABLE owners",
        "DROP TABLE claims; CREATE TABLE claims (space, key)",
        "ALTER TABLE rows RENAME COLUMN data TO date",
        "ALTER TABLE owners ADD COLUMN more",
    ],
)
def test_a_changed_schema_is_damage(folder, change):
    fill(DiskStore(folder), 20).close()
    with sql(folder) as base:
        base.executescript(change)
    with pytest.warns(StoreWarning, match="is damaged; it was moved to") as caught:
        store = fill(DiskStore(folder), 20)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert right(store, 20) == list(range(20))
        assert store.claim("space", [key(0), key(30)]) == [False, True]


def test_a_schema_that_is_no_text_is_damage(folder):
    """SQLite quotes it in its message, which is then no text either."""
    fill(DiskStore(folder), 20).close()
    file = folder / NAME
    data = bytearray(file.read_bytes())
    data[data.index(b"CREATE TABLE rows") + 18] = 0xFF
    file.write_bytes(data)
    with pytest.warns(StoreWarning, match="is damaged; it was moved to"):
        assert right(fill(DiskStore(folder), 20), 20) == list(range(20))


# Where nothing can be written


@contextlib.contextmanager
def read_only(folder: Path):
    """Make a folder and its files read-only, also for root; skip where that cannot be done."""
    files = [*folder.iterdir(), folder]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        done = shutil.which("chattr") and not subprocess.call(
            ["chattr", "+i", *map(str, files)], stderr=subprocess.DEVNULL
        )
        if not done:
            pytest.skip("root may write everywhere, and this file system knows no chattr +i")
        undo = ["chattr", "-i", *map(str, files)]
    else:
        for file in files:
            file.chmod(stat.S_IREAD | (stat.S_IEXEC if file.is_dir() else 0))
        undo = ["chmod", "u+w", *map(str, files)]
    try:
        yield
    finally:
        subprocess.run(undo, check=True)


@pytest.mark.parametrize("path", ["a\0b", "x" * 300, "a\nb" * 200])
def test_what_is_no_path_is_an_error_in_one_line(tmp_path, path):
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        DiskStore(tmp_path / path)
    assert len(str(caught.value)) < 1000 and not {"\n", "\0"} & set(str(caught.value))


def test_an_empty_folder_that_cannot_be_written_is_an_error(folder):
    folder.mkdir()
    with read_only(folder):
        for path in (folder, folder / "below"):
            with pytest.raises(StoreError, match=r"cannot be opened .*make this folder writable"):
                DiskStore(path)


def test_a_store_that_cannot_be_written_is_read(folder, monkeypatch):
    monkeypatch.setattr("sktransfer.store._database.RETRY_SECONDS", 0.2)
    store = fill(DiskStore(folder), 20)
    store.close()
    with read_only(folder):
        store = DiskStore(folder)
        assert right(store, 30) == list(range(20))
        with pytest.warns(StoreWarning, match="could not be written") as caught:
            assert store.claim("space", [key(20), key(21)]) == [True, True]
            fill(store, 30)
            fill(store, 30)
            store.release("space", [key(20)])
            store.clear()
        assert len(caught) == 1, "once is enough"
        assert store.wait("space", [key(20)], timeout=0)
        assert right(store, 30) == list(range(20))
    time.sleep(0.3)
    assert right(fill(store, 30), 40) == list(range(30)), "it is noticed that it can be written"


@pytest.fixture
def hasty(monkeypatch):
    """Three seconds are a quarter of one."""
    for module in ("_database", "_disk"):
        monkeypatch.setattr(f"sktransfer.store.{module}.BUSY_SECONDS", 0.25)


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE", "exclusive mode"])
def test_the_lock_of_another_program_is_waited_for_once(folder, hasty, monkeypatch, lock):
    monkeypatch.setattr("sktransfer.store._disk.RETRY_SECONDS", 2)
    monkeypatch.setattr("sktransfer.store._database.RETRY_SECONDS", 2)
    fill(DiskStore(folder), 20).close()
    with contextlib.closing(sqlite3.connect(folder / NAME, isolation_level=None)) as other:
        if lock == "exclusive mode":
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE" if lock == "exclusive mode" else lock)
        other.execute("INSERT INTO spaces (name) VALUES ('theirs')")
        start = time.monotonic()
        with pytest.warns(StoreWarning, match="locked|readonly") as caught:
            store = DiskStore(folder)
            assert right(store, 30) == list(range(20))
            for _ in range(20):
                assert store.claim("space", [key(20)]) == [True]
                fill(store, 30)
                store.release("space", [key(20)])
                assert in_thread(lambda: right(store, 30)) == list(range(20))
        assert time.monotonic() - start < 1.9, "not at every call"
        assert len(caught) == 1
        other.execute("ROLLBACK")
    time.sleep(2.1)
    assert right(fill(store, 30), 40) == list(range(30))


@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
def test_links_and_pipes_in_the_place_of_our_files_are_refused(folder, tmp_path, kind, end):
    victim, there = tmp_path / "victim", folder / f"{NAME}{end}"
    folder.mkdir()
    if kind == "link":
        victim.write_bytes(b"")
    if kind == "pipe":
        os.mkfifo(there)
    elif kind == "folder":
        there.mkdir()
    else:
        there.symlink_to(victim)
    with pytest.raises(StoreError, match=f"{NAME}{end} must be a regular file, but is a"):
        DiskStore(folder)
    assert victim.exists() == (kind == "link") and not (victim.exists() and victim.stat().st_size)


def test_a_link_that_appears_meanwhile_is_not_followed(folder, tmp_path):
    store = fill(DiskStore(folder), 20)
    os.replace(folder / NAME, tmp_path / "moved")
    (folder / NAME).symlink_to(tmp_path / "moved")
    with pytest.warns(StoreWarning, match="must be a regular file, but is a link"):
        assert right(fill(store, 30), 30) == []


def test_the_folder_itself_may_be_a_link(folder, tmp_path):
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    fill(DiskStore(tmp_path / "link"), 20)
    assert in_thread(lambda: right(DiskStore(folder), 20)) == list(range(20))


# Other file systems, threads, forks


def test_the_type_of_a_file_system_is_read_from_the_mounts():
    mounts = (
        "/dev/vda / ext4 rw 0 0\n"
        "server:/home /home nfs4 rw 0 0\n"
        "/dev/sdb /home/local xfs rw 0 0\n"
        "me@there: /mnt/far\\040away fuse.sshfs rw 0 0\n"
        "tmpfs /tmp tmpfs rw 0 0\n"
        "server:/t /tmp nfs rw 0 0\n"
    )
    for folder, kind in [
        ("/data", "ext4"),
        ("/home/ann/codes", "nfs4"),
        ("/home/local/codes", "xfs"),
        ("/homes", "ext4"),
        ("/mnt/far away/codes", "fuse.sshfs"),
        ("/tmp/codes", "nfs"),
    ]:
        assert network.file_system_type(Path(folder), mounts) == kind


def journal(folder: Path) -> str:
    with sql(folder) as base:
        return base.execute("PRAGMA journal_mode").fetchone()[0]


def test_a_network_file_system_gets_no_write_ahead_log(folder, monkeypatch):
    fill(DiskStore(folder / "local"), 10).close()
    assert journal(folder / "local") == "wal"
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        pytest.skip("this system does not say what its file systems are")
    here = network.file_system_type(folder.resolve(), mounts.read_text())
    monkeypatch.setattr(network, "NETWORK_TYPES", frozenset([here]))
    for name in ("local", "far"):  # "local" was carried there
        store = fill(DiskStore(folder / name), 50)
        assert in_thread(lambda store=store: right(fill(store, 70), 90)) == list(range(70))
        assert store.claim("space", [key(0), key(70)]) == [False, True]
        assert not list((folder / name).glob("*-wal"))
        store.close()
        assert journal(folder / name) != "wal"


def test_threads_write_and_read_at_once(folder):
    store = DiskStore(folder)
    errors = []

    def work(first):
        try:
            for start in range(first, 400, 8):
                some = range(start, start + 8)
                store.put_many("space", [key(i) for i in some], [row(i) for i in some])
                right(store, 400)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 0, 200, 296)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert right(store, 500) == list(range(400))


def test_threads_make_the_same_store_at_once(tmp_path):
    barrier, errors = threading.Barrier(4), []

    def work(first):
        for trial in range(15):
            barrier.wait(30)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    fill(DiskStore(tmp_path / str(trial)), first)
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    for trial in range(15):
        assert right(DiskStore(tmp_path / str(trial)), 6) == [0, 1, 2, 3]
        assert len(list((tmp_path / str(trial)).glob("*.sqlite"))) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_goes_on_with_connections_of_its_own(folder):
    store = fill(DiskStore(folder), 20)
    inherited = database(folder).sql
    for child in range(5):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                fine = right(store, 20) == list(range(20))
                store.put_many("child", [key(child)], [row(child)])
                inherited.total_changes  # noqa: B018  (an error if it was closed)
                fine = fine and database(folder).sql is not inherited
                status = 0 if fine and store.claim("space", [key(child + 100)]) == [True] else 2
            finally:
                os._exit(status)
        fill(store, 40)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert right(store, 50) == list(range(40))
    assert store.info().spaces == {"space": 40, "child": 5}
    with sql(folder) as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_user_without_a_home(homeless):
    with pytest.raises(StoreError, match="cache=~/codes: this user has no home folder"):
        DiskStore("~/codes")
