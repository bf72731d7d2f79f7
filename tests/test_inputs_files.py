"""Files that are bad, and that say which they are and why; files of every kind."""

import gzip
import io
import os
import threading
import time
import warnings
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from common import encode
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin

from sktransfer.exceptions import ImageError, InputError
from sktransfer.inputs import as_images
from sktransfer.inputs._files import _Room

# Smooth, so that lossy formats stay close; not symmetric, so that turning shows.
Y, X_ = np.mgrid[0:40, 0:60]
SCENE = np.stack([4 * X_, 6 * Y, 255 - 2 * X_ - 3 * Y], axis=2).clip(0, 255).astype(np.uint8)


def picture(item):
    return as_images([item]).open(0).picture()


FORMATS = {
    "PNG": ({}, 0),
    "BMP": ({}, 0),
    "TIFF": ({}, 0),
    "PPM": ({}, 0),
    "GIF": ({}, 40),
    "JPEG": ({"quality": 95}, 12),
    "WEBP": ({"quality": 95}, 20),
}


@pytest.mark.parametrize("fmt", FORMATS)
def test_formats(fmt, tmp_path):
    options, tolerance = FORMATS[fmt]
    path = tmp_path / "scenario"  # told by content, not by name
    path.write_bytes(encode(Image.fromarray(SCENE), fmt, **options))
    got = picture(path)
    assert (got.mode, got.size) == ("RGB", (60, 40))
    assert np.abs(np.asarray(got).astype(int) - SCENE).max() <= tolerance
    np.testing.assert_array_equal(np.asarray(got), np.asarray(picture(path.read_bytes())))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(orientation, fmt):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(SCENE), fmt, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    for item in (data, Image.open(io.BytesIO(data))):
        got = picture(item)
        assert got.size == ((60, 40) if orientation < 5 else (40, 60))
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


def test_orientation_by_hand():
    exif = Image.Exif()
    exif[0x0112] = 6  # "the 0th row is the visual right-hand side": turn clockwise
    got = picture(encode(Image.fromarray(SCENE), "PNG", exif=exif))
    np.testing.assert_array_equal(np.asarray(got), np.rot90(SCENE, -1))


def test_damaged_metadata_do_not_spoil_the_pixels():
    data = encode(Image.fromarray(SCENE), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, about the metadata
        np.testing.assert_array_equal(np.asarray(picture(data)), SCENE)


@pytest.mark.parametrize("fmt", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_show_their_first_frame(fmt):
    first, second = Image.new("RGB", (8, 6), (200, 30, 40)), Image.new("RGB", (8, 6), (0, 0, 255))
    options = {"lossless": True} if fmt == "WEBP" else {}
    data = encode(first, fmt, save_all=True, append_images=[second, second], **options)
    assert Image.open(io.BytesIO(data)).n_frames > 1
    assert picture(data).getcolors() == [(48, (200, 30, 40))]


def truncated(fmt, **options):
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), fmt, **options)
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("fmt", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("WEBP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own
def test_truncated(fmt, options, tmp_path):
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    path = tmp_path / "half.jpg"
    path.write_bytes(truncated(fmt, **options))
    opened = as_images(["x", path]).open(1)
    with pytest.raises(ImageError, match=r"image 1 \(.*half.jpg\): ") as caught:
        opened.picture()
    assert (caught.value.index, caught.value.source) == (1, str(path))
    assert caught.value.__cause__ is not None


def test_who_asks_for_truncated_images_gets_them_under_another_digest(monkeypatch):
    data = truncated("JPEG")
    strict = as_images([data]).open(0).digest
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    opened = as_images([data]).open(0)
    assert opened.picture().size == (60, 40)
    assert opened.digest != strict


def test_no_image_at_all(tmp_path):
    noise = np.random.default_rng(0).bytes(99)
    what = "is no image of a kind that is read here"
    for content in (noise, b"\xf3\xa1\x99"):
        path = tmp_path / "text.jpg"
        path.write_bytes(content)
        with pytest.raises(ImageError, match=rf"image 0 \(.*text.jpg\): {what}") as err:
            picture(path)
        assert repr(content[:16]) in err.value.cause


PADDED = bytes(340)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"Dear user, this is text.", "text, not an image.*Dear user"),
        ("Grüße\n".encode() * 999, "text, not an image"),
        (b"/data/cats/a.png", r"text, not an image.*os\.fsdecode"),
        (b"<!DOCTYPE html>\n<html>404</html>", "HTML page.*download"),
        (b"\n<HTML><body>", "HTML page"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'>", "SVG.*cairosvg"),
        (b"\0" * 128 + b"DICM" + b"\0" * 500, "DICOM.*pydicom.*value_range"),
        (b"\x08\0\x16\0UI\x1a\x001.2.840.10008.5.1.4.1.1.2\0", "DICOM.*pydicom"),
        (b"#?RGBE\nFORMAT=32-bit_rle_rgbe\n", "Radiance.*value_range"),
        (b"NRRD0004\ntype: uchar\n", "NRRD.*nrrd.read"),
        (b"ObjectType = Image\nNDims = 2\n", "MetaImage.*SimpleITK"),
        ((b"G@\x11\x10" + bytes(range(184))) * 3, "video"),
        ((bytes(4) + b"G@\x11\x10" + bytes(range(184))) * 3, "video"),
        (b"\x93NUMPY\x01\0v\0{'descr'", "NumPy.*numpy.load"),
        (b"PK\x03\x04" + bytes(26) + b"arr_0.npy", "NumPy archive.*numpy.load"),
        (b"PK\x03\x04" + bytes(26) + b"word/document.xml", "zip archive.*unpack"),
        (b"\x1f\x8b\x08\0", "gzip.*unpack"),
        (b"\x89HDF\r\n\x1a\n" + bytes(9), "HDF5.*h5py"),
        (b"SIMPLE  =                    T", "FITS.*astropy"),
        (PADDED + b"\0\0\0\0n+1\0", "NIfTI.*nibabel"),
        (b"%PDF-1.7\n", "PDF.*pages"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript.*PNG"),
        (b"\0\0\0\x18ftypisom\0\0\2\0", "video.*ffmpeg"),
        (b"\0\0\0\x14ftypqt  \0\0\2\0", "video"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0", "video"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF.*pillow-heif"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL.*pillow-jxl"),
        (b"II*\0\x10\0\0\0CR\2\0", "raw file of a camera.*rawpy"),
        (b"FUJIFILMCCD-RAW 0201", "raw file of a camera.*rawpy"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS.*git lfs pull"),
        (b"/9j/4AAQSkZJRgABAQAAAQABAAD", "base64"),
        (bytes(999), "nothing but zeros.*again"),
        (b"\x89PNG\r\n\x1a\n", "PNG file.*damaged"),
        (b"GIF89a", "GIF file.*damaged"),
    ],
)
def test_files_say_what_they_are_and_what_to_do(content, says, tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    for item in (path, content):
        with pytest.raises(ImageError, match=rf"(?s)image 0.*: is .*{says}") as caught:
            picture(item)
        assert len(str(caught.value)) < 500


def test_no_program_is_started_by_a_file(tmp_path, monkeypatch):
    """Pillow draws PostScript with Ghostscript, whatever the file is called."""
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    record = b"\x1c%c%c\0%c"
    inside = record % (3, 60, 2) + b"\1\0" + record % (3, 65, 1) + b"\1"
    inside += record % (3, 120, 1) + b"\5" + record % (8, 10, len(eps)) + eps  # IPTC
    for data in (eps, b"\xc5\xd0\xd3\xc6" + (30).to_bytes(4, "little") + bytes(22) + eps, inside):
        path = tmp_path / "photo.jpg"
        path.write_bytes(data)
        with pytest.raises(ImageError):
            picture(path)
    (tmp_path / "photo.jpg").write_bytes(eps)
    with pytest.raises(ImageError, match=r"not read here.*EPS.*load"):
        as_images([Image.open(tmp_path / "photo.jpg")]).open(0)
    assert not (tmp_path / "started").exists()


def test_formats_of_plugins_are_read(monkeypatch):
    class Plugin(ImageFile.ImageFile):
        format = "OWN"

        def _open(self):
            self._mode, self._size = "L", (2, 2)
            self.tile = [("raw", (0, 0, 2, 2), 4, ("L", 0, 1))]

    Image.init()
    monkeypatch.setattr(Image, "ID", [*Image.ID])
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    with pytest.raises(ImageError, match="no image of a kind that is read here"):
        picture(b"OWN\0\7\7\7\7")
    Image.register_open("OWN", Plugin, lambda prefix: prefix.startswith(b"OWN"))
    assert picture(b"OWN\0\7\7\7\7").getcolors() == [(4, (7, 7, 7))]


@pytest.mark.parametrize("place", ["header", "end"])
def test_files_of_very_many_parts_are_refused_at_once(place):
    chunk = b"\0\0\0\0abCd" + zlib.crc32(b"abCd").to_bytes(4, "big")
    data = encode(Image.fromarray(SCENE), "PNG")
    at = data.index(b"IDAT" if place == "header" else b"IEND") - 4
    np.testing.assert_array_equal(np.asarray(picture(data[:at] + chunk * 999 + data[at:])), SCENE)
    files = [data[:at] + chunk * 300_000 + data[at:]]
    files += [b"P6\n#" + b"x" * 3_000_000 + b"\n1 1 255\n\0\0\0", b"P6" + b" " * 3_000_000]
    for bomb in files:
        with pytest.raises(ImageError, match="more than 200000 parts"):
            picture(bomb)


def test_checksums_of_pixels_in_png_files():
    data = bytearray(encode(Image.fromarray(SCENE), "PNG", compress_level=0))
    data[len(data) // 2] ^= 1
    with pytest.raises(ImageError, match="checksum"):
        picture(bytes(data))


def test_previews_in_raw_files_of_cameras_are_not_taken():
    def tiff(**tags):
        info = TiffImagePlugin.ImageFileDirectory_v2()
        for tag, value in tags.items():
            info[int(tag[1:])] = value
        return encode(Image.fromarray(SCENE), "TIFF", tiffinfo=info)

    assert picture(tiff(t254=0)).size == (60, 40)
    for preview in (tiff(t50706=b"\1\4\0\0"), tiff(t254=1, t330=8)):
        with pytest.raises(ImageError, match=r"raw file of a camera.*rawpy"):
            picture(preview)


@pytest.mark.parametrize("fails", ["load", "open"])
def test_memory_that_is_not_there_is_an_error_of_the_image(fails, monkeypatch, tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(encode(Image.fromarray(SCENE), "PNG"))

    def fail(*args, **options):
        raise MemoryError

    if fails == "load":
        monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    else:
        monkeypatch.setattr(Image, "open", fail)
    for make in ("picture", "pixels"):
        with pytest.raises(ImageError, match=r"image 0 \(.*large.png\): .*not enough memory"):
            getattr(as_images([path]).open(0), make)()


def test_large_images_wait_for_each_other():
    room, inside, most = _Room(100 * 2**20), [0], [0]
    lock = threading.Lock()

    def work(size):
        with room.taken(size), room.taken(size):  # who is inside does not wait for itself
            with lock:
                inside[0] += size
                most[0] = max(most[0], inside[0])
            time.sleep(0.002)
            with lock:
                inside[0] -= size

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [60 * 2**20, 90 * 2**20, 40 * 2**20, 300 * 2**20] * 8))
    assert most[0] == 300 * 2**20  # alone
    most[0] = 0
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [40 * 2**20] * 16))
    assert 40 * 2**20 <= most[0] <= 80 * 2**20


@pytest.mark.parametrize("is_read", [False, True])
def test_damaged_avif_is_not_told_to_wait_for_a_newer_pillow(is_read, monkeypatch):
    known = ["AVIF"] if is_read else []
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "AVIF"] + known)
    if is_read:
        opener = (lambda *_: None, lambda start: False)
        monkeypatch.setitem(Image.OPEN, "AVIF", opener)
    with pytest.raises(ImageError, match="damaged" if is_read else "pillow-avif-plugin"):
        picture(b"\0\0\0\x20ftypavif\0\0\0\0avifmif1")


def test_heif_without_its_plugin_names_the_plugin():
    with pytest.raises(ImageError, match="pillow-heif"):
        picture(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")


@pytest.mark.parametrize("item", [b"", bytearray()])
def test_empty_bytes(item):
    with pytest.raises(ImageError, match=r"image 0: is empty \(0 bytes\)"):
        picture(item)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone")
    causes = {
        "empty.jpg": r"the file is empty \(0 bytes\)",
        "folder.jpg": "must be a file, is a folder; load_image_folder",
        "pipe.jpg": "must be a file, is a device or pipe",
        "dangling.jpg": "file not found",
        "missing.jpg": "file not found",
        "nul\0.jpg": "the file cannot be read",
        "x" * 300: "the file cannot be read",
    }
    images = as_images([str(tmp_path / name) for name in causes])
    for index, cause in enumerate(causes.values()):
        with pytest.raises(ImageError, match=f"(?s)image {index} \\(.*\\): {cause}") as caught:
            images.open(index)
        assert caught.value.index == index
        assert caught.value.source == images.source(index)


def test_vanished_file(tmp_path):
    path = tmp_path / "gone.png"
    Image.new("RGB", (3, 3)).save(path)
    images = as_images([path])
    path.unlink()
    with pytest.raises(ImageError, match=r"gone.png\): file not found"):
        images.open(0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission(tmp_path):
    path = tmp_path / "secret.png"
    Image.new("RGB", (3, 3)).save(path)
    path.chmod(0)
    with pytest.raises(ImageError, match=r"secret.png\): .*permission denied"):
        as_images([path]).open(0)


def test_decompression_bombs_name_the_remedy(monkeypatch):
    data = encode(Image.fromarray(SCENE), "PNG")  # 2400 pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1199)
    with pytest.raises(ImageError, match=r"2400 pixels.*PIL\.Image\.MAX_IMAGE_PIXELS") as caught:
        picture(data)
    assert ".." not in str(caught.value)


def test_images_that_pillow_warns_of_are_read(monkeypatch):
    data = encode(Image.fromarray(SCENE), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1200)
    with pytest.warns(Image.DecompressionBombWarning):
        assert picture(data).size == (60, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=r"2400 pixels.*PIL\.Image\.MAX_IMAGE_PIXELS"):
            picture(data)


@pytest.mark.parametrize("limit", [2400, None])
def test_images_within_the_limit(limit, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert picture(encode(Image.fromarray(SCENE), "PNG")).size == (60, 40)


def test_pil_images_that_cannot_be_decoded(tmp_path):
    path = tmp_path / "half.png"
    path.write_bytes(truncated("PNG"))
    closed = Image.open(io.BytesIO(encode(Image.fromarray(SCENE), "PNG")))
    closed.close()
    images = as_images([Image.open(path), closed, Image.new("RGB", (0, 4))])
    for index, cause in enumerate(["truncated", "closed|cannot be decoded", "no pixels"]):
        with pytest.raises(ImageError, match=f"image {index}.*: .*({cause})"):
            images.open(index)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_one_pixel_files_are_legal(size):
    assert picture(encode(Image.new("L", size, 77), "PNG")).getcolors() == [
        (size[0] * size[1], (77, 77, 77))
    ]


def test_names_with_spaces_and_accents(tmp_path):
    path = tmp_path / "Été à la plage #1 %20.png"
    Image.fromarray(SCENE).save(path)
    np.testing.assert_array_equal(np.asarray(picture(str(path))), SCENE)
    assert Path(as_images([path]).source(0)) == path


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("https://example.com/cat.jpg", r"is a URL.*Download it first.*urlretrieve"),
        ("HTTP://example.com/cat.jpg", r"is a URL.*Download"),
        (Path("https://example.com/cat.jpg"), r"is a URL.*Download"),  # one slash is left of two
        (" https://example.com/cat.jpg\n", r"is a URL.*Download"),
        ("'https://example.com/cat.jpg'", r"is a URL.*Download"),
        ("nan", r"the path is missing: 'nan' is what astype\(str\)"),
        ("None", r"the path is missing"),
        ("", r"the path is missing"),
        ("<NA>", r"the path is missing"),
        ("s3://bucket/cat.jpg", r"is a URL.*fsspec"),
        ("gs://bucket/cat.jpg", r"is a URL.*fsspec"),
        ("file:///data/my%20cat.jpg", r"is a URL.*'/data/my cat.jpg'"),
        ("data:image/png;base64," + "A" * 50_000, r"base64.*b64decode"),
        ("/9j/" + "4AAQSkZJ" * 5_000, r"base64.*b64decode"),
        ("iVBORw0KGgo" + "A" * 300, r"base64.*b64decode"),
        ("no/such/folder/cat.jpg", r"not found: there is no folder 'no' in the working directory"),
        ("/no/such/folder/cat.jpg", r"not found: there is no folder '/no'"),
        ("cat.jpg", r"not found in the working directory, '/"),
        ("two\nlines\n.jpg", r"not found in the working directory"),
        ("x" * 5_000, r"cannot be read: File name too long"),
        ("nul\0.jpg", r"cannot be read: .*null"),
    ],
)
def test_what_is_no_path_says_what_it_is(path, says):
    with pytest.raises(ImageError, match=says) as caught:
        as_images(["a.jpg", path]).open(1)
    message = str(caught.value)
    assert message.startswith("image 1 (") and message.endswith(".")
    assert len(message) < 700 and "\n" not in message and "\0" not in message


@pytest.mark.parametrize(
    "written", [" {}", "{}\n", "'{}'", '"{}"', "{}\t", "{up}", "{quoted}", "{windows}"]
)
def test_paths_that_are_nearly_right(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my cats").mkdir()
    path = "my cats/a.png"
    Image.fromarray(SCENE).save(path)
    spelt = written.format(
        path, up="my cats/a.PNG", quoted="my%20cats/a.png", windows="my cats\\a.png"
    )
    with pytest.raises(ImageError, match=rf"not found. There is '{path}': correct the path"):
        picture(spelt)
    assert picture(path).size == (60, 40)


def test_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.fromarray(SCENE).save(tmp_path / "a.png")
    for path in ("~/a.png", Path("~/a.png")):
        np.testing.assert_array_equal(np.asarray(picture(path)), SCENE)
    with pytest.raises(ImageError, match="not found"):
        picture("~/b.png")


def test_paths_of_every_class(tmp_path):
    class OfBytes:
        def __fspath__(self):
            return os.fsencode(tmp_path / "a.png")

    class Own(type(Path())):
        pass

    Image.fromarray(SCENE).save(tmp_path / "a.png")
    for path in (OfBytes(), Own(tmp_path / "a.png"), np.str_(tmp_path / "a.png")):
        np.testing.assert_array_equal(np.asarray(picture(path)), SCENE)


class Upload:
    """As web frameworks have them: not seekable, without a name."""

    def __init__(self, data):
        self.read = io.BytesIO(data).read


def test_open_files_are_read_from_their_beginning_and_left_open(tmp_path):
    data, path = encode(Image.fromarray(SCENE), "PNG"), tmp_path / "a.png"
    path.write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "in/a.png")
    memory = io.BytesIO(data)
    memory.seek(7)
    with open(path, "rb") as file, zipfile.ZipFile(tmp_path / "a.zip") as archive:
        member = zipfile.Path(archive, "in/a.png")
        hub = [{"bytes": data, "path": "a.png"}, {"bytes": None, "path": str(path)}]
        X = [memory, file, member, archive.open("in/a.png"), *hub, {"bytes": data}]
        column = np.empty(len(X), dtype=object)
        column[:] = X
        digest = as_images([data]).open(0).digest
        for images in (as_images(X), as_images(column), as_images(tuple(X)), as_images(X)):
            for index in range(len(X)):
                opened = images.open(index)
                assert opened.digest == digest
                np.testing.assert_array_equal(np.asarray(opened.picture()), SCENE)
        assert images.source(1) == str(path)
        assert not memory.closed and not file.closed
        np.testing.assert_array_equal(np.asarray(picture(Upload(data))), SCENE)


@pytest.mark.filterwarnings("error")
def test_names_of_open_files(tmp_path):
    data, path = encode(Image.fromarray(SCENE), "PNG"), tmp_path / "a.png.gz"
    path.write_bytes(gzip.compress(data))
    upload = Upload(data)
    upload.name, upload.filename = "field", "cat.png"
    with gzip.open(path) as file, gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(data))) as bare:
        images = as_images([file, bare, upload])
        assert [images.source(i) for i in range(3)] == [str(path), None, "cat.png"]
        for index in range(3):
            np.testing.assert_array_equal(np.asarray(images.open(index).picture()), SCENE)


def test_open_files_that_give_no_image(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(Image.fromarray(SCENE), "PNG"))
    closed = open(path, "rb")
    closed.close()
    stream, broken = Upload(path.read_bytes()), Upload(b"")
    stream.read()
    broken.read = lambda: 1 / 0

    class Awaited:
        async def read(self):
            return b""

    with open(path, encoding="latin-1") as text, open("/dev/zero", "rb") as endless:
        for item, says in [
            (closed, "closed file"),
            (text, 'mode "rb"'),
            (io.StringIO("x"), 'mode "rb"'),
            (stream, "read before"),
            (io.BytesIO(), "empty"),
            (broken, "division by zero"),
            (Awaited(), "gives coroutine"),
            (endless, "device or pipe"),
        ]:
            with pytest.raises(ImageError, match=f"image 0.*: .*{says}"):
                as_images([item]).open(0)


def test_one_open_file_alone_wants_a_list(tmp_path):
    for alone in (io.BytesIO(b"x"), {"bytes": b"x", "path": None}, Upload(b"x")):
        with pytest.raises(InputError, match=r"alone; pass \[X\]"):
            as_images(alone)
