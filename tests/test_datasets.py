"""The data that ships, the data that is fetched, and folders of images."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import threading
import warnings
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_files

from sktransfer.datasets import fetch_cifar10, load_cifar10_sample, load_image_folder
from sktransfer.datasets._cifar10 import decode_sheet
from sktransfer.datasets._make_cifar10_sample import make_sample
from sktransfer.exceptions import DatasetUnavailableError, InputError, SktransferWarning

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()

# ---------------------------------------------------------------- the sample that ships

# Of the pixels, and of (source_indices, target), as they were checked against the whole set.
PIXELS_SHA256 = "a0a50391f299bfc0b10fc8ec91af5176ec0273322b6f0884840ef7c5f7ac39a0"
LABELS_SHA256 = "4c9446f5289e06c1ca27bffc88f23848451f7faab39fa34fc33d4266fd2c3570"


@pytest.fixture(scope="module")
def sample():
    return load_cifar10_sample()


def test_sample_is_what_was_checked_against_the_real_set(sample):
    assert sample.data.shape == (2000, 32, 32, 3) and sample.data.dtype == np.uint8
    assert hashlib.sha256(sample.data.tobytes()).hexdigest() == PIXELS_SHA256
    labels = np.stack([sample.source_indices, sample.target])
    assert labels.dtype == np.int64
    assert hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest() == LABELS_SHA256


def test_sample_has_the_published_mean_colour_of_cifar10(sample):
    published = 255 * np.array([0.4914, 0.4822, 0.4465])  # of the 50,000 training images
    np.testing.assert_allclose(sample.data.mean(axis=(0, 1, 2)), published, atol=2)


@pytest.mark.parametrize(("part", "size"), [("train_indices", 50_000), ("test_indices", 10_000)])
def test_each_part_of_the_sample_is_balanced_and_mixed(sample, part, size):
    rows = sample[part]
    target, source = sample.target[rows], sample.source_indices[rows]
    assert np.bincount(target).tolist() == [100] * 10
    assert len(np.unique(source)) == 1000 and source.min() >= 0 and source.max() < size
    assert len(np.unique(target[:50])) == 10  # sorted ones would show one class


def test_parts_of_the_sample_are_the_two_halves(sample):
    assert sample.train_indices.tolist() == list(range(1000))
    assert sample.test_indices.tolist() == list(range(1000, 2000))
    assert sample.target_names.tolist() == CIFAR10


def test_sample_says_where_it_comes_from(sample):
    for text in (sample.DESCR, load_cifar10_sample.__doc__):
        assert "Krizhevsky" in text and "2009" in text and "licence" in text
    assert Path(sample.filename).stat().st_size < 5_000_000


def test_sample_as_X_y_is_writable_and_fresh(sample):
    X, y = load_cifar10_sample(return_X_y=True)
    np.testing.assert_array_equal(X, sample.data)
    np.testing.assert_array_equal(y, sample.target)
    X[:] = 0
    assert load_cifar10_sample().data.any()


def test_maintainers_script_draws_the_same_sample_again(tmp_path):
    rng = np.random.default_rng(0)
    full = {
        "X_train": rng.integers(0, 256, (1500, 32, 32, 3), dtype=np.uint8),
        "y_train": np.arange(1500) % 10,
        "X_test": rng.integers(0, 256, (1200, 32, 32, 3), dtype=np.uint8),
        "y_test": np.arange(1200) % 10,
    }
    np.savez(tmp_path / "full.npz", **full)
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        make_sample(tmp_path / "full.npz", folder)
    first, again = ([path.read_bytes() for path in sorted(f.iterdir())] for f in folders)
    assert first == again

    data = decode_sheet((folders[0] / "cifar10_sample.png").read_bytes())
    lines = (folders[0] / "cifar10_sample.csv").read_text().split()[1:]
    assert len(data) == len(lines) == 2000
    for image, line in zip(data, lines, strict=True):
        part, index, label = line.split(",")
        np.testing.assert_array_equal(image, full[f"X_{part}"][int(index)])
        assert full[f"y_{part}"][int(index)] == int(label)


# ---------------------------------------------------------------- the whole set, fetched


class Python2Dtype:
    """Pickles as Python 2 pickled ``dtype('uint8')`` in the real archive."""

    def __reduce__(self):
        return np.dtype, ("u1", 0, 1), (3, "|", None, None, None, -1, -1, 0)


class Python2Array:
    def __init__(self, array):
        self.array = array

    def __reduce__(self):
        reconstruct, arguments, _ = self.array.__reduce__()
        state = (1, self.array.shape, Python2Dtype(), False, self.array.tobytes())
        return reconstruct, arguments, state


class StandIn:
    """A tiny CIFAR-10 of 24 images, its archive, and the server that has it."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.data = rng.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
        self.target = rng.integers(0, 10, 24)
        names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
        self.files = {name: self._batch(4 * i) for i, name in enumerate(names)}
        self.files["batches.meta"] = pickle.dumps({"label_names": CIFAR10}, protocol=2)
        self.archive = self._tar()
        self.status, self.sent = 200, self.archive
        self.requests = 0

    def _batch(self, first):
        rows = self.data[first : first + 4].transpose(0, 3, 1, 2).reshape(4, -1)
        labels = self.target[first : first + 4].tolist()
        return pickle.dumps({"data": Python2Array(rows), "labels": labels}, protocol=2)

    def _tar(self):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:gz") as tar:
            for name, content in self.files.items():
                member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return file.getvalue()

    def handler(stand_in):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                stand_in.requests += 1
                self.send_response(stand_in.status)
                self.send_header("Content-Length", str(len(stand_in.archive)))
                self.end_headers()
                self.wfile.write(stand_in.sent)

            def log_message(self, *args):
                pass

        return Handler


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def cifar(monkeypatch):
    """Point torchvision's CIFAR10 at a local server that has a tiny archive of the same form."""
    from torchvision.datasets import CIFAR10 as real

    stand_in = StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), stand_in.handler())
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    hashes = [[name, md5(content)] for name, content in stand_in.files.items()]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    stand_in.url = f"http://127.0.0.1:{server.server_port}/cifar-10-python.tar.gz"
    monkeypatch.setattr(real, "url", stand_in.url)
    monkeypatch.setattr(real, "tgz_md5", md5(stand_in.archive))
    monkeypatch.setattr(real, "train_list", hashes[:5])
    monkeypatch.setattr(real, "test_list", hashes[5:6])
    monkeypatch.setattr(real, "meta", {**real.meta, "md5": hashes[6][1]})
    yield stand_in
    server.shutdown()
    server.server_close()


def assert_whole(bunch, cifar):
    np.testing.assert_array_equal(bunch.data, cifar.data)
    np.testing.assert_array_equal(bunch.target, cifar.target)
    assert bunch.data.flags.c_contiguous and bunch.target.dtype == np.int64


def leftovers(home):
    return sorted(path.name for path in (home / "cifar10").iterdir())


def test_fetch_downloads_once(cifar, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.VisibleDeprecationWarning)
        bunch = fetch_cifar10(data_home=tmp_path)
    assert_whole(bunch, cifar)
    assert bunch.train_indices.tolist() == list(range(20))
    assert bunch.test_indices.tolist() == list(range(20, 24))
    assert bunch.target_names.tolist() == CIFAR10
    assert "Krizhevsky" in bunch.DESCR and Path(bunch.filename).is_dir()
    assert leftovers(tmp_path) == ["cifar-10-batches-py"]

    requests = cifar.requests
    X, y = fetch_cifar10(data_home=tmp_path, download_if_missing=False, return_X_y=True)
    assert cifar.requests == requests > 0
    np.testing.assert_array_equal(X, cifar.data)
    np.testing.assert_array_equal(y, cifar.target)


def test_fetch_uses_scikit_learns_data_home(cifar, tmp_path, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "home"))
    fetch_cifar10()
    assert leftovers(tmp_path / "home") == ["cifar-10-batches-py"]


def test_fetch_without_leave_to_download_asks_no_server(cifar, tmp_path):
    with pytest.raises(OSError, match="download_if_missing is False"):
        fetch_cifar10(data_home=tmp_path, download_if_missing=False)
    assert cifar.requests == 0


def test_fetch_without_a_server_says_where_the_file_belongs(cifar, tmp_path):
    cifar.status = 404
    with pytest.raises(DatasetUnavailableError) as caught:
        fetch_cifar10(data_home=tmp_path)
    archive = tmp_path / "cifar10" / "cifar-10-python.tar.gz"
    for part in (cifar.url, str(archive), md5(cifar.archive), "404"):
        assert part in str(caught.value)

    # and a file put there by hand is taken, with no server and no leave to download
    requests = cifar.requests
    archive.write_bytes(cifar.archive)
    assert_whole(fetch_cifar10(data_home=tmp_path, download_if_missing=False), cifar)
    assert cifar.requests == requests


def test_fetch_says_that_a_file_put_by_hand_is_not_whole(cifar, tmp_path):
    archive = tmp_path / "cifar10" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(cifar.archive[:-100])
    with pytest.raises(DatasetUnavailableError, match="it is not whole"):
        fetch_cifar10(data_home=tmp_path, download_if_missing=False)


def test_half_an_archive_is_never_taken_for_whole(cifar, tmp_path):
    cifar.sent = cifar.archive[: len(cifar.archive) // 2]
    with pytest.raises(DatasetUnavailableError, match="could not be loaded"):
        fetch_cifar10(data_home=tmp_path)
    assert not any((tmp_path / "cifar10" / "cifar-10-batches-py").iterdir())
    assert leftovers(tmp_path) == ["cifar-10-batches-py"]  # half an archive is not kept

    cifar.sent = cifar.archive
    assert_whole(fetch_cifar10(data_home=tmp_path), cifar)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_damaged_file_is_fetched_again(cifar, tmp_path, name):
    damaged = Path(fetch_cifar10(data_home=tmp_path).filename) / name
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(DatasetUnavailableError):
        fetch_cifar10(data_home=tmp_path, download_if_missing=False)
    assert_whole(fetch_cifar10(data_home=tmp_path), cifar)


# ---------------------------------------------------------------- folders of images


def picture(path, **options):
    """Write a real image file in the format of its extension, or of ``format=``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def write(path, content=b"text"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    for name in ("dog/b.jpg", "dog/a.png", "cat/10.jpg", "cat/9.jpg", "Cow/x.jpeg"):
        picture(root / name)
    return root


def reasons(bunch):
    return {os.path.relpath(path): reason for path, reason in bunch.skipped}


def test_folder_agrees_with_load_files(photos):
    theirs = load_files(photos, load_content=False, shuffle=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = load_image_folder(photos)
    assert ours.data.tolist() == ours.filenames.tolist() == theirs.filenames.tolist()
    assert ours.target.tolist() == theirs.target.tolist()
    assert ours.target_names.tolist() == theirs.target_names == ["Cow", "cat", "dog"]
    assert ours.data.dtype == object and ours.target.dtype == np.int64
    assert ours.skipped == []
    assert "5 images of 3 classes" in ours.DESCR and "cat: 2" in ours.DESCR


def test_folder_may_be_relative_or_bytes_and_paths_are_absolute(photos, monkeypatch):
    absolute = load_image_folder(photos).data.tolist()
    monkeypatch.chdir(photos.parent)
    assert load_image_folder("photos/").data.tolist() == absolute
    assert load_image_folder(b"photos").data.tolist() == absolute
    monkeypatch.setenv("HOME", str(photos.parent))
    monkeypatch.setenv("USERPROFILE", str(photos.parent))
    assert load_image_folder("~/photos").data.tolist() == absolute
    assert all(type(path) is str and os.path.isabs(path) for path in absolute)


def test_folder_as_X_y_and_shuffled(photos):
    X, y = load_image_folder(photos, return_X_y=True)
    mixed = [load_image_folder(photos, shuffle=True, random_state=seed) for seed in (3, 3, 4)]
    orders = [bunch.data.tolist() for bunch in mixed]
    assert orders[0] == orders[1] and orders[0] != orders[2] and sorted(orders[0]) == sorted(X)
    label = dict(zip(X, y, strict=True))
    for bunch in mixed:
        assert [label[path] for path in bunch.filenames] == bunch.target.tolist()


def test_folder_of_chosen_categories(photos):
    bunch = load_image_folder(photos, categories=["dog", "Cow"])
    assert bunch.target_names.tolist() == ["Cow", "dog"]
    assert bunch.target.tolist() == [0, 1, 1]
    one = load_image_folder(photos, categories=["cat"])
    assert one.target.tolist() == [0, 0]


def test_files_within_folders_of_a_class_belong_to_it(photos):
    picture(photos / "cat" / "kittens" / "young" / "a.jpg")
    bunch = load_image_folder(photos, categories=["cat"])
    tails = [Path(path).relative_to(photos).as_posix() for path in bunch.data]
    assert tails == ["cat/10.jpg", "cat/9.jpg", "cat/kittens/young/a.jpg"]


def test_every_format_by_default_in_any_case(tmp_path):
    names = [f"a.{e}" for e in "JPG jpeg Jpe jfif png PNG gif bmp tif TIFF ppm tga jp2 ico".split()]
    for i, name in enumerate(names):
        picture(tmp_path / "one" / f"{i:02}{name}")
    bunch = load_image_folder(tmp_path, verify=True)
    assert len(bunch.data) == len(names) and not bunch.skipped


def test_what_is_passed_over_and_why(photos, monkeypatch):
    monkeypatch.chdir(photos)
    write(photos / "cat" / "notes.txt")
    write(photos / "cat" / "LICENCE")
    write(photos / "cat" / "film.mpg")
    write(photos / "cat" / "zero.jpg", b"")
    write(photos / "cat" / ".hidden.jpg")
    write(photos / "dog" / "Thumbs.db")
    write(photos / "__MACOSX" / "dog" / "._a.png")
    write(photos / ".git" / "a.jpg")
    picture(photos / "loose.jpg")
    (photos / "cat" / "deep" / "empty").mkdir(parents=True)
    (photos / "yak").mkdir()
    with pytest.warns(SktransferWarning) as caught:
        bunch = load_image_folder(photos)
    assert len(bunch.data) == 5 and bunch.target_names.tolist() == ["Cow", "cat", "dog"]
    assert reasons(bunch) == {
        os.path.join("cat", "notes.txt"): "not an image's extension: .txt",
        os.path.join("cat", "LICENCE"): "not an image's extension: none",
        os.path.join("cat", "film.mpg"): "not an image's extension: .mpg",
        os.path.join("cat", "zero.jpg"): "the file is empty (0 bytes)",
        os.path.join("cat", ".hidden.jpg"): "hidden",
        os.path.join("dog", "Thumbs.db"): "hidden",
        "__MACOSX": "hidden",
        ".git": "hidden",
        "loose.jpg": "directly under the root, not in the folder of a class",
        "yak": "a folder without images",
    }
    assert len(caught) == 1 and caught[0].filename == __file__
    message = str(caught[0].message)
    assert message.startswith("5 images were found") and "6 files or folders skipped" in message
    assert str(photos / "cat" / "zero.jpg") in message and "hidden" not in message


def test_hidden_files_alone_are_no_warning(photos):
    write(photos / "cat" / ".DS_Store")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [reason for _, reason in load_image_folder(photos).skipped] == ["hidden"]


def test_a_long_list_of_reasons_is_cut(photos):
    for i in range(9):
        write(photos / "cat" / f"a.x{i}")
    with pytest.warns(SktransferWarning, match="and 4 other reasons"):
        assert len(load_image_folder(photos).skipped) == 9


def test_extensions_may_be_chosen(photos):
    odd = picture(photos / "cat" / "served.FCGI", format="JPEG")
    with pytest.warns(SktransferWarning, match=r"not an image's extension: \.png"):
        bunch = load_image_folder(photos, extensions=["jpg", ".fcgi", ".JPEG"], verify=True)
    assert odd in bunch.data and len(bunch.data) == 5


def test_verify_passes_over_what_cannot_be_decoded(photos):
    cut = picture(photos / "cat" / "cut.jpg")
    write(photos / "cat" / "cut.jpg", Path(cut).read_bytes()[:-300])
    page = write(photos / "yak" / "page.png", b"<!DOCTYPE html> Not Found")
    assert len(load_image_folder(photos).data) == 7  # nothing was opened

    with pytest.warns(SktransferWarning):
        bunch = load_image_folder(photos, verify=True)
    assert len(bunch.data) == 5 and bunch.target_names.tolist() == ["Cow", "cat", "dog"]
    found = dict(bunch.skipped)
    assert "truncated" in found[cut] and "HTML page" in found[page]
    assert found[str(photos / "yak")] == "a folder without images"


def symlink(path, target):
    try:
        path.symlink_to(target, target_is_directory=Path(target).is_dir())
    except OSError as error:
        pytest.skip(f"no symbolic links here: {error}")


def test_links_are_followed_once(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    elsewhere = Path(picture(tmp_path / "elsewhere" / "z.jpg")).parent
    symlink(photos / "zebra", elsewhere)
    symlink(photos / "cat" / "more", elsewhere)
    symlink(photos / "cat" / "same", elsewhere)
    symlink(photos / "cat" / "up", photos)
    symlink(photos / "cat" / "itself", photos / "cat")
    symlink(photos / "cat" / "gone.jpg", photos / "nothing.jpg")
    symlink(photos / "cat" / "ring", "ring")
    symlink(elsewhere / "back", elsewhere)
    with pytest.warns(SktransferWarning):
        bunch = load_image_folder(photos)
    counts = Counter(bunch.target_names[bunch.target].tolist())
    assert counts == {"Cow": 1, "cat": 3, "dog": 2, "zebra": 1}
    found = {Path(path).as_posix(): reason for path, reason in reasons(bunch).items()}
    again = "a link to a folder that was already read"
    for path in ("cat/same", "cat/up", "cat/itself", "cat/more/back", "zebra/back"):
        assert found.pop(path) == again
    assert found.pop("cat/gone.jpg") == f"a broken link: {os.strerror(errno.ENOENT)}"
    assert found.pop("cat/ring") == f"a broken link: {os.strerror(errno.ELOOP)}"
    assert not found


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(photos):
    os.mkfifo(photos / "cat" / "pipe.jpg")
    with pytest.warns(SktransferWarning, match="a device or pipe"):
        assert len(load_image_folder(photos, verify=True).data) == 5


AS_NOBODY = """
import json, os, sys, warnings
from sktransfer import load_image_folder
folder = sys.argv[1]
load_image_folder(folder)  # imports what it needs while it still may
if os.geteuid() == 0:  # whom no permission stops
    os.seteuid(65534)
if not os.path.isdir(folder):
    sys.exit("private to root")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    bunch = load_image_folder(folder)
print(json.dumps([len(bunch.data), dict(bunch.skipped), [str(one.message) for one in caught]]))
"""


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no permissions of POSIX here")
def test_a_folder_that_may_not_be_read(photos):
    """In a process of its own: a change of user reaches all the threads of this one."""
    closed = photos / "dog" / "closed"
    picture(closed / "a.jpg")
    for folder in photos.parents[: 3 if os.geteuid() == 0 else 0]:  # pytest's own are private
        if folder.name.startswith(("pytest-", "test_")):
            folder.chmod(0o755)
    closed.chmod(0)
    command = [sys.executable, "-c", AS_NOBODY, os.fspath(photos)]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=100)
    finally:
        closed.chmod(0o755)
    if "private to root" in child.stderr:
        pytest.skip("the folder for temporary files is private to root")
    assert child.returncode == 0, child.stderr
    number, skipped, said = json.loads(child.stdout)
    assert number == 5
    assert skipped[str(closed)].endswith(os.strerror(errno.EACCES))
    assert any("the folder cannot be read" in message for message in said)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode here")
def test_names_that_are_not_unicode(photos):
    name = os.fsencode(photos) + b"/caf\xe9"
    os.mkdir(name)
    with open(name + b"/\xff.jpg", "wb") as file:
        file.write(Path(picture(photos / "cat" / "9.jpg")).read_bytes())
    bunch = load_image_folder(photos, verify=True)
    assert os.fsencode(bunch.data[0]).startswith(os.fsencode(photos)) and len(bunch.data) == 6
    assert os.fsencode(str(bunch.target_names[1])) == b"caf\xe9"


def test_parts_of_a_data_set_are_not_taken_for_classes_without_a_word(tmp_path):
    for part in ("Train", "val"):
        picture(tmp_path / part / "cats" / "a.jpg")
        picture(tmp_path / part / "dogs" / "a.jpg")
    with pytest.warns(SktransferWarning, match="look like parts of a data set"):
        assert load_image_folder(tmp_path).target_names.tolist() == ["Train", "val"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image_folder(tmp_path / "val").target_names.tolist() == ["cats", "dogs"]
        picture(tmp_path / "vehicles" / "train" / "a.jpg")  # which may be a locomotive
        assert len(load_image_folder(tmp_path / "vehicles").data) == 1


def test_folders_that_are_not_there(photos):
    with pytest.raises(InputError, match=r"nothing at .*missing"):
        load_image_folder(photos / "missing")
    with pytest.raises(InputError, match=r"a\.png is a file"):
        load_image_folder(photos / "dog" / "a.png")
    with pytest.raises(InputError, match="path of a folder, got 3"):
        load_image_folder(3)
    for url in ("https://example.com/cats.zip", " s3://bucket/cats"):
        with pytest.raises(InputError, match="is a URL, and nothing is downloaded"):
            load_image_folder(url)
    (photos / "two\nlines").write_bytes(b"file")
    for name in ("no\nfolder", "two\nlines", "x" * 3000):
        with pytest.raises(InputError, match="root must be a folder") as caught:
            load_image_folder(photos / name)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_folders_without_classes_or_images(photos, tmp_path):
    with pytest.raises(InputError, match="files but no folders"):
        load_image_folder(photos / "dog")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no images were found in .*root/<class>/<file>$"):
        load_image_folder(tmp_path / "empty")
    with pytest.raises(InputError, match=r"(?s)Skipped were:.*5 × not an image's extension"):
        picture(photos / "dog" / "c.png")
        picture(photos / "dog" / "d.png")
        picture(photos / "cat" / "e.png")
        picture(photos / "cat" / "f.png")
        load_image_folder(photos, extensions=[".gif"])


@pytest.mark.parametrize("name", ["categories", "extensions"])
@pytest.mark.parametrize("value", ["cat", [], [3], 7])
def test_lists_must_be_lists_of_str(photos, name, value):
    with pytest.raises(InputError, match=f"{name} must be a list of one or more str"):
        load_image_folder(photos, **{name: value})


@pytest.mark.parametrize("wrong", ["Dog", "dog ", "DOG"])
def test_categories_must_be_spelt_as_the_folders(photos, wrong):
    with pytest.raises(InputError, match=rf"\['Cow', 'cat', 'dog'\].*\['{wrong}'\]"):
        load_image_folder(photos, categories=["cat", wrong])
    with pytest.raises(InputError, match=r"\['Cow', 'cat', 'dog'\].*none of \['eel', 'fox'\]"):
        load_image_folder(photos, categories=["fox", "eel"])


@pytest.mark.parametrize("as_list", [list, np.array, tuple, lambda names: pd.Index(names)])
@pytest.mark.parametrize("left", ["nothing", "an empty folder", "a text"])
def test_a_class_without_images_keeps_its_number(photos, tmp_path, as_list, left):
    train = load_image_folder(photos)
    test = tmp_path / "test"
    for name in ("dog/b.jpg", "Cow/x.jpeg", "yak/y.jpg"):
        picture(test / name)
    if left != "nothing":
        (test / "cat").mkdir()
    if left == "a text":
        write(test / "cat" / "notes.txt")
    with pytest.warns(SktransferWarning) as caught:
        bunch = load_image_folder(test, categories=as_list(train.target_names))
    said = [str(w.message) for w in caught if "categories" in str(w.message)]
    assert len(said) == 1 and "no image of 1 of 3 categories: ['cat']" in said[0]
    assert "['yak'], which are not" in said[0]
    assert bunch.target_names.tolist() == train.target_names.tolist()
    assert bunch.target.tolist() == [0, 2]
    assert "cat: 0" in bunch.DESCR
    assert reasons(bunch)[os.path.relpath(test / "yak")] == "a folder that is not in categories"


def test_classes_whose_names_differ_by_next_to_nothing(photos):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_image_folder(photos)
    picture(photos / "cow " / "y.jpg")
    with pytest.warns(SktransferWarning, match=r"\['Cow', 'cow '\] differ by case or blanks"):
        load_image_folder(photos)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_image_folder(photos, categories=["cat", "Cow"])


def test_two_classes_that_are_one_folder(photos):
    symlink(photos / "hound", photos / "dog")
    with pytest.warns(SktransferWarning, match=r"\['dog', 'hound'\] are links to one folder"):
        bunch = load_image_folder(photos)
    assert len(bunch.data) == 7


def test_datasets_need_no_torch(photos):
    code = (
        "import sys; from sktransfer.datasets import load_cifar10_sample, load_image_folder;"
        "load_cifar10_sample(); load_image_folder(sys.argv[1], verify=True);"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(photos)], check=True)


def test_a_user_without_a_home(homeless):
    for given in (None, "~/data"):
        with pytest.raises(DatasetUnavailableError, match=r"no home folder.*data_home="):
            fetch_cifar10(data_home=given)
