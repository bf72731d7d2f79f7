"""Which kinds of files are images here, and what a file that is none says it is.

Pillow goes by content, whatever a file is called, and knows kinds that start other programs (EPS:
Ghostscript), that hold files of any other kind (IPTC), or that are no images. So the kinds that are
opened are listed here.
"""

from __future__ import annotations

import io
import re
import sys
from functools import lru_cache
from typing import Any

from PIL import Image

from ..exceptions import ImageError

__all__ = ["HINTS", "file_of", "readable_formats", "what_it_is"]


# Of Pillow's own, those that people keep images in and that it decodes itself; the commonest first.
_OPENED = (
    "JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "AVIF", "JPEG2000", "PPM", "TGA", "ICO",
    "ICNS", "PSD", "DDS", "PCX", "QOI", "SGI", "SUN",
)  # fmt: skip

# Small reads of a decoder, which Pillow makes in Python: an image has some dozens or thousands.
_MOST_READS, _SMALL = 200_000, 64


def readable_formats() -> tuple[str, ...]:
    """List Pillow's names of the kinds of files that are opened.

    These are the kinds of images that Pillow decodes itself, and all that other packages
    registered with Pillow, such as pillow-heif.
    """
    Image.init()
    return _readable(tuple(Image.ID))


@lru_cache(maxsize=4)
def _readable(known: tuple[str, ...]) -> tuple[str, ...]:
    own = {name for name in known if Image.OPEN[name][0].__module__.startswith("PIL.")}
    return (
        *(name for name in _OPENED if name in own),
        *(name for name in known if name not in own),
    )


def file_of(data: bytes) -> Any:
    """Give bytes as a file for decoders that must come to an end.

    A long comment of a PPM, or a PNG of millions of empty parts, is read in tiny pieces by Python,
    and would hold a core for as long as the file is made to.
    """
    return _Counting(data) if len(data) > _MOST_READS else io.BytesIO(data)


class _Counting(io.BytesIO):
    _reads = 0
    pixels = 0  # of the image: some kinds are read one by one

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and 0 <= size <= _SMALL:
            self._reads += 1
            if self._reads > _MOST_READS + 4 * self.pixels:
                raise ImageError(
                    f"is made of more than {_MOST_READS} parts, as no image is, and could take "
                    "minutes to decode. If you trust it, save a new copy"
                )
        return super().read(size)


_HEIF = (
    "a HEIF file, which Pillow reads with a plugin: pip install pillow-heif, then "
    "pillow_heif.register_heif_opener()"
)
_AVIF = (
    "an AVIF file, which Pillow reads from version 11.3 on, or with a plugin: "
    "pip install pillow-avif-plugin, then import pillow_avif"
)
_JXL = (
    "a JPEG XL file, which Pillow reads with a plugin: pip install pillow-jxl-plugin, then "
    "import pillow_jxl"
)
_RAW = (
    "a raw file of a camera; develop it, for instance with rawpy.imread(path).postprocess(), and "
    "pass the array"
)

_DICOM = (
    "a DICOM file; pass pydicom.dcmread(path).pixel_array, and say what black and white are: "
    "value_range=(low, high)"
)
_RADIANCE = (
    "a Radiance HDR file; read it into an array, and say what black and white are: "
    "value_range=(low, high)"
)
_META_IMAGE = (
    "a MetaImage file; pass slices of SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))"
)
_NPY = "a NumPy array; pass numpy.load(path)"
_VIDEO = "a video; take images out of it, for instance with ffmpeg or imageio, and pass these"
_SOUND = "a sound file"
_ARCHIVE = "; unpack it and pass the images in it"
_HTML = "an HTML page, as a failed download leaves it; download the image again"
_VECTOR = "a drawing for other programs to render; convert it to PNG first"
_POSTSCRIPT = (
    "a PostScript file (EPS), which is never opened, since another program, Ghostscript, would run "
    "it; convert it to PNG first"
)
_HDF5 = "an HDF5 file; pass the arrays in it, which h5py.File(path) reads"
_DAMAGED = (
    ", but its header is damaged or of a variant that Pillow does not read. If a viewer shows it, "
    "save a new copy from there"
)

# What to do about files with these extensions, if no registered plugin reads them.
HINTS = {
    **dict.fromkeys((".heic", ".heif", ".hif"), _HEIF),
    ".avif": _AVIF,
    ".jxl": _JXL,
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2"), _RAW),
    **dict.fromkeys((".dcm", ".dicom"), _DICOM),
    ".npy": _NPY,
}

# (place, bytes there, what such a file is and what to do); the first that fits counts.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (128, b"DICM", _DICOM),
    (0, b"\x08\x00\x05\x00", _DICOM),  # without its preamble
    (0, b"\x08\x00\x08\x00", _DICOM),
    (0, b"\x08\x00\x16\x00", _DICOM),
    (0, b"\x08\x00\x18\x00", _DICOM),
    (0, b"\x08\x00\x00\x00UL", _DICOM),
    (0, b"\x08\x00\x00\x00\x04\x00\x00\x00", _DICOM),
    (0, b"\x02\x00\x00\x00UL", _DICOM),
    (0, b"\x93NUMPY", _NPY),
    (0, b"\x89HDF\r\n\x1a\n", _HDF5),
    (0, b"CDF\x01", "a NetCDF file; pass the arrays in it, which xarray.open_dataset(path) reads"),
    (0, b"MATLAB 5.0", "a MATLAB file; pass the arrays in it, which scipy.io.loadmat(path) reads"),
    (344, b"n+1\0", "a NIfTI file; pass slices of nibabel.load(path).get_fdata()"),
    (344, b"ni1\0", "a NIfTI file; pass slices of nibabel.load(path).get_fdata()"),
    (0, b"SIMPLE  =", "a FITS file; pass the arrays in it, which astropy.io.fits.open(path) reads"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR file; read it into an array, and say what black and white "
     "are: value_range=(low, high)"),
    (0, b"#?RADIANCE", _RADIANCE),
    (0, b"#?RGBE", _RADIANCE),
    (0, b"NRRD000", "an NRRD file; pass slices of the array that nrrd.read(path) gives first"),
    (0, b"ObjectType =", _META_IMAGE),
    (0, b"NDims =", _META_IMAGE),
    (0, b"ZISRAWFILE", "a CZI file of a microscope; pass the arrays that czifile reads"),
    (0, b"\xda\xce\xbe\x0a", "an ND2 file of a microscope; pass the arrays that nd2 reads"),
    (0, b"%PDF", "a PDF document; make images of its pages, for instance with pdf2image"),
    (0, b"%!PS", _POSTSCRIPT),
    (0, b"\xc5\xd0\xd3\xc6", _POSTSCRIPT),
    (0, b"\xd7\xcd\xc6\x9a", f"a Windows metafile: {_VECTOR}"),
    (40, b" EMF", f"a Windows metafile: {_VECTOR}"),
    (0, b"gimp xcf", "a GIMP file; export it as PNG"),
    (0, b"\xff\x0a", _JXL),
    (0, b"\0\0\0\x0cJXL ", _JXL),
    (0, b"FUJIFILMCCD-RAW", _RAW),
    (0, b"IIRO", _RAW),
    (0, b"IIRS", _RAW),
    (0, b"MMOR", _RAW),
    (0, b"IIU\0", _RAW),
    (0, b"FOVb", _RAW),
    (0, b"\x1aE\xdf\xa3", _VIDEO),  # Matroska, WebM
    (0, b"\0\0\x01\xba", _VIDEO),  # MPEG
    (0, b"\0\0\x01\xb3", _VIDEO),
    (0, b"FLV\x01", _VIDEO),
    (0, b"0&\xb2u\x8ef\xcf\x11", _VIDEO),  # WMV
    (0, b"OggS", _VIDEO),
    (8, b"AVI ", _VIDEO),
    (8, b"WAVE", _SOUND),
    (0, b"ID3", _SOUND),
    (0, b"fLaC", _SOUND),
    (0, b"\x1f\x8b", f"a gzip archive{_ARCHIVE}"),
    (0, b"BZh", f"a bzip2 archive{_ARCHIVE}"),
    (0, b"\xfd7zXZ\0", f"an xz archive{_ARCHIVE}"),
    (0, b"\x28\xb5\x2f\xfd", f"a zstd archive{_ARCHIVE}"),
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7z archive{_ARCHIVE}"),
    (0, b"Rar!\x1a\x07", f"a RAR archive{_ARCHIVE}"),
    (257, b"ustar", f"a tar archive{_ARCHIVE}"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"PAR1", "a Parquet table; pass the column of images or paths that pandas reads from it"),
    (0, b"ARROW1", "an Arrow table; pass the column of images or paths in it"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document of Microsoft Office, or a Thumbs.db"),
    (0, b"\x00\x05\x16\x07", "what macOS leaves beside a file; it can be removed"),
    (0, b"version https://git-lfs", "a pointer of Git LFS in place of the file; run git lfs pull"),
    (0, b"\x80\x02", "a Python pickle"),
    (0, b"\x80\x03", "a Python pickle"),
    (0, b"\x80\x04", "a Python pickle"),
    (0, b"\x80\x05", "a Python pickle"),
    (0, b"\xff\xd8\xff", f"a JPEG file{_DAMAGED}"),
    (0, b"\x89PNG", f"a PNG file{_DAMAGED}"),
    (0, b"GIF8", f"a GIF file{_DAMAGED}"),
    (8, b"WEBP", f"a WebP file{_DAMAGED}"),
    (0, b"8BPS", f"a Photoshop file{_DAMAGED}"),
    (6, b"\0\0\0\0\x36\0\0\0", f"a BMP file{_DAMAGED}"),
    (4, b"jP  \r\n\x87\n", f"a JPEG 2000 file{_DAMAGED}"),
)  # fmt: skip

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNREAD_TIFF = (
    "a TIFF file of a kind that Pillow does not read, or damaged. Read it into an array, for "
    "instance with tifffile.imread(path), and say what black and white are: value_range=(low, high)"
)
# What the first part of files in boxes (ISO base media, QuickTime) is called.
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"heif")


def what_it_is(data: bytes) -> str:
    """Say what a file is that Pillow does not take for an image, and what to do.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    str
        What follows "is".
    """
    for place, signature, what in _SIGNATURES:
        if data.startswith(signature, place):
            return what
    if data[4:8] in _BOXES:
        return _in_boxes(data)
    if data.startswith(_TIFF):
        return _RAW if data[8:10] == b"CR" else _UNREAD_TIFF
    if data.startswith(b"PK\x03\x04"):
        if b".npy" in data[:256]:
            return "a NumPy archive; pass one of the arrays in it, numpy.load(path)[name]"
        return f"a zip archive (or a document that is one){_ARCHIVE}"
    if not data.strip(b"\0"):
        return (
            "nothing but zeros, as an interrupted copy or download leaves behind; copy or download "
            "it again"
        )
    if (text := _text(data)) is not None:
        return text
    if data[:377:188] == b"GGG" or data[4:389:192] == b"GGG":  # MPEG's transport stream
        return _VIDEO
    return f"no image of a kind that is read here; it begins with {data[:16]!r}"


def _in_boxes(data: bytes) -> str:
    brand = data[8:12]
    if data[4:8] != b"ftyp":
        return _VIDEO
    if brand in (b"avif", b"avis"):
        return f"an AVIF file{_DAMAGED}" if _is_read("AVIF") else _AVIF
    if brand in _HEIF_BRANDS:
        return f"a HEIF file{_DAMAGED}" if _is_read("HEIF") else _HEIF
    return _RAW if brand == b"crx " else _VIDEO


def _is_read(name: str) -> bool:
    """Tell whether files of a format are read; Pillow may know one without its decoder."""
    if name not in readable_formats():
        return False
    plugin = sys.modules.get(Image.OPEN[name][0].__module__)
    return bool(getattr(plugin, "SUPPORTED", True))


def _text(data: bytes) -> str | None:
    start = data[:2048]
    try:
        text = start.decode("utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 4:  # no letter that was cut in two
            return None
        text = start[: error.start].decode()
    if not text.strip() or not all(letter.isprintable() or letter.isspace() for letter in text):
        return None
    lower = text.lstrip("\ufeff \t\r\n").lower()
    if "<svg" in lower:
        return "an SVG drawing; convert it to PNG first, for instance with cairosvg"
    if lower.startswith(("<!doctype html", "<html", "<head", "<body")):
        return _HTML
    if re.match(r"data:|/9j/|ivborw0kgg|r0lgod|uklgr", lower):
        return "text in base64; pass base64.b64decode(text), without the part before the comma"
    what = f"text, not an image; it begins with {text.strip()[:40]!r}"
    if re.fullmatch(r"[^\n]{1,4000}\.\w{2,5}", data[:4096].decode("utf-8", "replace").strip()):
        what += ". If it is the path of an image, pass it as str: os.fsdecode(path)"
    return what
