"""`transform_to`: the file is the array, whatever happens on the way."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sktransfer import CNNCodes
from sktransfer.codes._to_file import CodeFile, Journal
from sktransfer.exceptions import CodesFileError, ImageError, ImageSkippedWarning


@pytest.fixture
def paths(sample, tmp_path):
    """Twelve images on disk."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        Image.fromarray(sample.data[number]).save(folder / f"{number:02}.png")
    return sorted(map(str, folder.iterdir()))


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "codes"
    folder.mkdir()
    return folder / "codes.npy"


def fitted(X, **parameters):
    return CNNCodes(**{"image_size": 32, "cache": None, "engine": "torch", **parameters}).fit(X)


def names(place):
    return sorted(path.name for path in place.parent.iterdir())


@pytest.mark.parametrize("how", [None, "l2", "power"])
def test_file_is_what_numpy_saves_of_transform(paths, place, how):
    codes = fitted(paths, normalize=how, batch_size=5)
    report = codes.transform_to(place, paths)
    saved = io.BytesIO()
    np.save(saved, codes.transform(paths))
    assert place.read_bytes() == saved.getvalue()
    assert names(place) == ["codes.npy", "codes.npy.journal"]
    assert (report.path, report.shape, report.dtype) == (place, (12, 1280), np.float32)
    assert (report.n_new, report.n_known, report.skipped) == (12, 0, ())
    assert isinstance(report.load(), np.memmap) and not report.load().flags.writeable
    assert "12 rows new, 0 known, 0 skipped" in repr(report)


def test_arrays_maps_and_rows_that_are_there_twice(sample, place):
    X = np.concatenate([sample.data[:3], sample.data[:2]])
    codes = fitted(X, layer="blocks", pooling=None, cache="memory")
    report = codes.transform_to(str(place), X)
    assert report.shape == (5, 320, 1, 1)
    np.testing.assert_array_equal(report.load(), codes.transform(X))


def test_float16(paths, place):
    codes = fitted(paths)
    report = codes.transform_to(place, paths, dtype="float16")
    np.testing.assert_array_equal(report.load(), codes.transform(paths).astype(np.float16))
    with pytest.raises(CodesFileError, match="dtype 'float16', now 'float32'"):
        codes.transform_to(place, paths)


def test_numbers_beyond_float16_are_an_error(paths, place, monkeypatch):
    from sktransfer.compute._torch import TorchEngine

    plain = TorchEngine.run
    monkeypatch.setattr(TorchEngine, "run", lambda *a: tuple(1e6 * c for c in plain(*a)))
    with pytest.raises(OverflowError, match=r"image \d+ reaches .*more than float16"):
        fitted(paths).transform_to(place, paths, dtype="float16")
    assert not place.exists()


def test_finished_file_costs_nothing(paths, place, passes):
    codes = fitted(paths)
    codes.transform_to(place, paths)
    before = place.read_bytes(), place.stat().st_mtime_ns
    report = fitted(paths).transform_to(place, paths)
    assert passes["images"] == 12 and (report.n_new, report.n_known) == (0, 12)
    assert (place.read_bytes(), place.stat().st_mtime_ns) == before


def test_progress_counts_known_rows_too(paths, place, capsys):
    codes = fitted(paths, verbose=1)
    for _ in range(2):
        codes.transform_to(place, paths)
        assert "12.0/12.0" in capsys.readouterr().err


def test_cache_keeps_all_layers_and_the_file_one(paths, place, passes):
    codes = fitted(paths, cache="memory", cache_layers="all", layer="blocks.2")
    report = codes.transform_to(place, paths)
    np.testing.assert_array_equal(report.load(), codes.transform(paths))
    other = fitted(paths, layer="blocks.2")  # another way to the same codes
    assert other.transform_to(place, paths).n_known == 12 and passes["images"] == 12


def test_unreadable_image_stops_and_the_rest_is_kept(paths, place, passes):
    codes = fitted(paths)
    whole = open(paths[7], "rb").read()
    open(paths[7], "wb").write(whole[:100])
    with pytest.raises(ImageError, match=r"image 7 .*codes\.npy\.partial: call again"):
        codes.transform_to(place, paths)
    assert passes["images"] == 11 and not place.exists()
    open(paths[7], "wb").write(whole)
    report = codes.transform_to(place, paths)
    assert passes["images"] == 12 and (report.n_new, report.n_known) == (1, 11)
    np.testing.assert_allclose(report.load(), codes.transform(paths), rtol=1e-5, atol=1e-6)


def test_skipped_images_are_nan_reported_and_tried_again(paths, place, passes):
    codes = fitted(paths, on_error="nan")
    whole = open(paths[7], "rb").read()
    open(paths[7], "wb").write(whole[:100])
    os.rename(paths[2], paths[2] + ".away")
    for n_new in (10, 0):
        with pytest.warns(ImageSkippedWarning, match="2 of 12"):
            report = codes.transform_to(place, paths)
        assert [error.index for error in report.skipped] == [2, 7]
        assert [error.source for error in report.skipped] == [paths[2], paths[7]]
        assert (report.n_new, report.n_known) == (n_new, 10 - n_new)
        assert "file not found" in report.skipped[0].cause and "file not found" in repr(report)
        nothing = np.isnan(report.load()).all(axis=1)
        np.testing.assert_array_equal(np.flatnonzero(nothing), [2, 7])
    os.rename(paths[2] + ".away", paths[2])
    open(paths[7], "wb").write(whole)
    report = codes.transform_to(place, paths)
    assert passes["images"] == 12 and report.n_new == 2 and not report.skipped
    np.testing.assert_allclose(report.load(), codes.transform(paths), rtol=1e-5, atol=1e-6)


def test_changed_image_alone_is_computed_again(paths, place, passes, sample):
    codes = fitted(paths)
    codes.transform_to(place, paths)
    Image.fromarray(sample.data[50]).save(paths[3])
    report = codes.transform_to(place, paths)
    assert passes["images"] == 13 and (report.n_new, report.n_known) == (1, 11)
    np.testing.assert_allclose(report.load(), codes.transform(paths), rtol=1e-5, atol=1e-6)
    open(paths[3], "wb").write(b"no image")
    with pytest.warns(ImageSkippedWarning):
        report = fitted(paths, on_error="nan").transform_to(place, paths)
    assert np.isnan(report.load()[3]).all()


def test_damaged_row_is_computed_again(paths, place, passes):
    codes = fitted(paths)
    codes.transform_to(place, paths)
    expected = np.load(place)
    with open(place, "r+b") as file:
        file.seek(-1280 * 4 * 5, os.SEEK_END)
        file.write(bytes(100))
    report = codes.transform_to(place, paths)
    assert passes["images"] == 13 and report.n_new == 1
    np.testing.assert_allclose(report.load(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "conv_head"}, r"layers \['global_pool'\], now \['conv_head'\]"),
        ({"pooling": "max"}, "pooling 'avg', now 'max'"),
        ({"normalize": "l2"}, "normalize None, now 'l2'"),
        ({"image_size": 40}, r"image size \[32, 32\], now \[40, 40\]"),
        ({"crop_pct": 0.5, "resize": "crop"}, "resize 'pad', now 'crop'"),
        ({"weights": None, "preprocessing": "default"}, "holds other codes: fingerprint"),
        ({"backbone": "efficientnet_lite1"}, "network 'efficientnet_lite0', now"),
    ],
)
def test_file_of_something_else_is_refused_or_replaced(paths, place, change, message):
    fitted(paths).transform_to(place, paths)
    before = place.read_bytes()
    other = fitted(paths, **change)
    with pytest.raises(CodesFileError, match=message):
        other.transform_to(place, paths)
    assert place.read_bytes() == before
    report = other.transform_to(place, paths, overwrite=True)
    assert report.n_new == 12
    np.testing.assert_allclose(report.load(), other.transform(paths), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("finished", [True, False])
def test_another_list_is_refused_or_replaced(paths, place, finished):
    codes = fitted(paths)
    if finished:
        codes.transform_to(place, paths)
    else:
        with pytest.raises(ImageError):
            codes.transform_to(place, [*paths[:-1], "none.png"])
    before = names(place)
    with pytest.raises(CodesFileError, match="other images, or of these in another order"):
        codes.transform_to(place, paths[::-1])
    with pytest.raises(CodesFileError, match=r"shape \[12, 1280\], now \[11, 1280\]"):
        codes.transform_to(place, paths[1:])
    assert names(place) == before
    report = codes.transform_to(place, paths[::-1], overwrite=True)
    np.testing.assert_allclose(report.load(), codes.transform(paths[::-1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("beside", [False, True])
def test_array_of_someone_else_is_never_replaced_unasked(paths, place, beside):
    codes = fitted(paths)
    if beside:  # the journal is there, but the array is another by now
        codes.transform_to(place, paths)
    np.save(place, np.ones((12, 1280), np.float32))
    with pytest.raises(CodesFileError, match="its content is not known"):
        codes.transform_to(place, paths)
    assert np.load(place).max() == 1
    codes.transform_to(place, paths, overwrite=True)
    np.testing.assert_allclose(np.load(place), codes.transform(paths), rtol=1e-5, atol=1e-6)


def test_replacing_keeps_the_old_file_until_the_end_and_is_resumed(paths, place, passes):
    fitted(paths, normalize="l2").transform_to(place, paths)
    before = place.read_bytes()
    codes = fitted(paths)
    os.rename(paths[-1], paths[-1] + ".away")
    with pytest.raises(ImageError):
        codes.transform_to(place, paths, overwrite=True)
    assert place.read_bytes() == before
    os.rename(paths[-1] + ".away", paths[-1])
    report = codes.transform_to(place, paths, overwrite=True)
    assert (report.n_new, report.n_known) == (1, 11) and passes["images"] == 24
    np.testing.assert_allclose(np.load(place), codes.transform(paths), rtol=1e-5, atol=1e-6)


def test_file_that_appears_meanwhile_is_not_lost(paths, place):
    codes = fitted(paths)
    with pytest.raises(ImageError):
        codes.transform_to(place, [*paths[:-1], "none.png"])
    place.write_bytes(b"precious")
    with pytest.raises(CodesFileError, match="created by another program meanwhile"):
        codes.transform_to(place, paths)
    assert place.read_bytes() == b"precious"
    place.unlink()
    assert codes.transform_to(place, paths).n_known == 12


def test_deleted_file_is_made_anew(paths, place, passes):
    codes = fitted(paths)
    codes.transform_to(place, paths)
    place.unlink()
    assert codes.transform_to(place, paths).n_new == 12 and passes["images"] == 24


def test_cache_serves_the_file_and_the_file_needs_no_cache(paths, place, passes, tmp_path):
    codes = fitted(paths, cache=tmp_path / "store")
    codes.transform(paths)
    report = codes.transform_to(place, paths)
    assert passes["images"] == 12 and report.n_new == 12
    shutil.rmtree(tmp_path / "store")
    assert fitted(paths).transform_to(place, paths).n_known == 12


def test_impossible_requests(paths, place):
    codes = fitted(paths)
    with pytest.raises(ValueError, match=r'must end in "\.npy"'):
        codes.transform_to(place.with_suffix(".npz"), paths)
    with pytest.raises(CodesFileError, match="was not found"):
        codes.transform_to(place.parent / "nowhere" / "codes.npy", paths)
    with pytest.raises(ValueError, match="dtype must be one of"):
        codes.transform_to(place, paths, dtype="int8")
    with pytest.raises(ValueError, match="dtype must be one of"):
        codes.transform_to(place, paths, dtype="nonsense")
    assert names(place) == []
    for odd in ("a\0b.npy", "~nobody-of-this-name/x.npy", "x" * 300 + ".npy"):
        with pytest.raises(CodesFileError, match=r"(?s)Give another path|was not found") as caught:
            codes.transform_to(place.parent / odd if odd[0] == "x" else odd, paths)
        assert len(str(caught.value)) < 1000 and "\0" not in str(caught.value)


def test_the_home_folder_and_paths_of_bytes(paths, place, monkeypatch):
    monkeypatch.setenv("HOME", str(place.parent))
    codes = fitted(paths[:1])
    assert codes.transform_to("~/codes.npy", paths[:1]).path == place
    assert codes.transform_to(os.fsencode(place), paths[:1]).n_known == 1


OURS = ["codes.npy", "codes.npy.partial", "codes.npy.journal"]


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_links_and_pipes_in_the_place_of_our_files_are_refused(
    paths, place, tmp_path, name, kind, overwrite
):
    victim, there = tmp_path / "victim", place.with_name(name)
    if kind == "link":
        victim.write_bytes(b"precious" * 1000)
    if kind == "pipe":
        os.mkfifo(there)
    elif kind == "folder":
        there.mkdir()
    else:
        there.symlink_to(victim)
    with pytest.raises(CodesFileError, match=r"must be a regular file, but is a|is a folder"):
        fitted(paths).transform_to(place, paths, overwrite=overwrite)
    assert victim.exists() == (kind == "link")
    assert kind != "link" or victim.read_bytes() == b"precious" * 1000


def test_a_folder_may_be_a_link(paths, place, tmp_path):
    (tmp_path / "other").symlink_to(place.parent)
    assert fitted(paths).transform_to(tmp_path / "other" / "codes.npy", paths).n_new == 12
    assert fitted(paths).transform_to(place, paths).n_known == 12


def damaged(rng, data: bytes) -> bytes:
    """Some bytes flipped, cut off, overwritten with garbage or with nothing."""
    changed = bytearray(data)
    start = int(rng.integers(len(data)))
    if rng.random() < 0.5:  # where headers are
        start = int(rng.integers(min(128, len(data))))
    length = int(rng.integers(1, 2 ** rng.integers(1, 12)))
    match rng.integers(4):
        case 0:
            for place in rng.integers(len(data), size=rng.integers(1, 30)):
                changed[place] ^= 1 << int(rng.integers(8))
            changed[start] ^= 1 << int(rng.integers(8))
        case 1:
            del changed[start:]
        case 2:
            changed[start : start + length] = rng.bytes(length)
        case 3:
            changed[start : start + length] = bytes(length)
    return bytes(changed)


@pytest.mark.parametrize("what", ["codes.npy", "codes.npy.partial", "codes.npy.journal"])
def test_no_damage_makes_a_wrong_row_or_an_error_of_another_kind(place, what):
    """Through the file alone, so that hundreds of damages take a second."""
    rng, shape = np.random.default_rng(0), (40, 6)
    rows = rng.random(shape, np.float32)
    facts = {"shape": list(shape), "layers": ["a"]}
    digests = [bytes([number]) * 16 for number in range(40)]

    def write_all(upto: int, overwrite: bool = False) -> CodeFile:
        file = CodeFile(place, shape, np.dtype("f4"), facts, overwrite=overwrite)
        try:
            file.is_of_others(lambda number: digests[number])
            for number in range(upto):
                if not file.holds(number, digests[number]):
                    file[number] = rows[number]
            if upto == len(rows):
                file.finish()
        finally:
            file.close()
        return file

    write_all(25 if what.endswith("partial") else 40)
    sound = {path: path.read_bytes() for path in place.parent.iterdir()}
    refused = 0
    for _ in range(250):
        for path in place.parent.iterdir():
            path.unlink()
        for path, data in sound.items():
            path.write_bytes(damaged(rng, data) if path.name == what else data)
        try:
            write_all(40)
        except CodesFileError as error:
            assert "codes.npy" in str(error) and str(error).rstrip()[-1] in ".'"
            refused += 1
            for path in place.parent.iterdir():  # what the message advises
                path.unlink()
            write_all(40)
        np.testing.assert_array_equal(np.load(place), rows)
    # A broken partial file is our own affair.
    assert refused == 0 if what.endswith("partial") else refused < 250


@pytest.mark.parametrize("header", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\0v\0{'descr': '<f4'", b"PK"])
def test_a_broken_partial_file_is_begun_anew(paths, place, passes, header):
    codes = fitted(paths)
    with pytest.raises(ImageError):
        codes.transform_to(place, [*paths[:-1], "none.png"])
    place.with_name("codes.npy.partial").write_bytes(header)
    assert codes.transform_to(place, paths).n_new == 12
    np.testing.assert_allclose(np.load(place), codes.transform(paths), rtol=1e-5, atol=1e-6)


def beside(place):
    return place.with_name("codes.npy.journal")


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line.replace(b"{", b"["),
        lambda line: line.replace(b"global_pool", b"global_poo1"),
        lambda line: line.replace(b"sktransfer", b"another one"),
        lambda line: b"\xff" + line[1:],
        lambda line: line[: len(line) // 2],
        lambda line: bytes(len(line)),
    ],
)
def test_a_journal_that_is_no_journal_is_an_error_that_names_it(paths, place, damage):
    codes = fitted(paths)
    codes.transform_to(place, paths)
    line, end, notes = beside(place).read_bytes().partition(b"\n")
    assert damage(line) != line
    beside(place).write_bytes(damage(line) + end + notes)
    with pytest.raises(CodesFileError, match=r"codes\.npy\.journal.*Delete it"):
        codes.transform_to(place, paths)


@pytest.mark.parametrize(
    "damage",
    [
        lambda notes: np.roll(notes, 1, axis=0),
        lambda notes: notes[::-1],
        lambda notes: notes ^ np.uint8(1),
        lambda notes: notes * np.r_[np.zeros(16, np.uint8), np.ones(8, np.uint8)],
        lambda notes: notes * np.r_[np.ones(16, np.uint8), np.zeros(8, np.uint8)],
        lambda notes: notes[:3],
        lambda notes: notes.ravel()[:50],
        lambda notes: np.concatenate([notes, notes]),
    ],
)
def test_rows_that_the_journal_does_not_know_are_written_again(paths, place, damage):
    codes = fitted(paths[:5])
    codes.transform_to(place, paths[:5])
    line, end, notes = beside(place).read_bytes().partition(b"\n")
    changed = damage(np.frombuffer(notes, np.uint8).reshape(5, 24))
    beside(place).write_bytes(line + end + changed.tobytes())
    report = codes.transform_to(place, paths[:5], overwrite=True)
    np.testing.assert_allclose(report.load(), codes.transform(paths[:5]), rtol=1e-5, atol=1e-6)


def test_a_journal_of_which_nothing_was_written_is_of_nothing(paths, place):
    """As after a kill right before its first line."""
    beside(place).touch()
    assert fitted(paths).transform_to(place, paths).n_new == 12


def test_damaged_journal_is_an_error_that_names_it(paths, place):
    codes = fitted(paths)
    codes.transform_to(place, paths)
    before = place.read_bytes()
    place.with_name("codes.npy.journal").write_bytes(b"nonsense" * 1000)
    with pytest.raises(CodesFileError, match=r"codes\.npy\.journal.*Delete it"):
        codes.transform_to(place, paths)
    assert place.read_bytes() == before


@pytest.mark.parametrize("free", [1000, 62_000])  # too little for the codes, or the journal
def test_disk_without_room_is_told_at_once(paths, place, monkeypatch, passes, free):
    usage = shutil.disk_usage(place.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))
    with pytest.raises(CodesFileError, match="need 61,440 bytes") as caught:
        fitted(paths).transform_to(place, paths)
    assert caught.value.errno == errno.ENOSPC and passes["images"] == 0
    assert not place.exists() and not place.with_name("codes.npy.partial").exists()


@pytest.mark.parametrize("limit", [100_000, 8_000])  # which the rows meet, or the journal
def test_disk_that_fills_up(paths, place, monkeypatch, limit):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    plain = CodeFile._open

    def full(self, path):
        """The hole is there; the disk fills up while rows are written."""
        opened = plain(self, path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        return opened

    # 32 KB a row: most goes to the file, little to the journal.
    codes = fitted(paths, layer="conv_stem", pooling="flatten", batch_size=2)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(CodeFile, "_open", full)
            with pytest.raises(CodesFileError, match="make room and call again"):
                codes.transform_to(place, paths)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not place.exists()
    report = codes.transform_to(place, paths)
    assert report.n_known == 3 if limit == 100_000 else report.n_new > 0
    np.testing.assert_allclose(report.load(), codes.transform(paths), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_two_writers(paths, place):
    """The second is refused, and the first continues."""
    script = (
        "import sys, time\n"
        "from sktransfer.codes._to_file import Journal\n"
        "from pathlib import Path\n"
        "journal = Journal(Path(sys.argv[1]), 12); print('open', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(beside(place))], stdout=subprocess.PIPE, text=True
    )
    codes = fitted(paths)
    try:
        assert child.stdout.readline() == "open\n"
        with pytest.raises(CodesFileError, match="Another process or thread is writing"):
            codes.transform_to(place, paths)
        assert not place.exists()
    finally:
        child.kill()
        child.wait()
    assert codes.transform_to(place, paths).n_new == 12  # the lock died with its process


def test_two_threads(paths, place):
    journal = Journal(beside(place), 12)
    with pytest.raises(CodesFileError, match="Another process or thread is writing"):
        fitted(paths).transform_to(place, paths)
    journal.close()
    assert fitted(paths).transform_to(place, paths).n_new == 12


def test_a_disk_that_knows_no_locks(paths, place, monkeypatch):
    """Two writers could not be kept apart there, so it is not written to."""

    def cannot(file):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patch:
        patch.setattr("sktransfer.codes._to_file.lock_file", cannot)
        with pytest.raises(CodesFileError, match=r"cannot be locked.*path on another disk"):
            fitted(paths).transform_to(place, paths)
    assert fitted(paths).transform_to(place, paths).n_new == 12
