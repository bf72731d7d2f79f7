"""JPEG: in less time than Pillow takes where simplejpeg is installed, and whole or not at all.

libjpeg fills up what is missing of a JPEG file with grey, and only warns. Pillow hides its
warnings, simplejpeg makes errors of them. `load_jpeg` finds out without warnings: it feeds the
decoder of Pillow piece by piece, and sees from how much of a piece it takes whether it still waits
for pixels where their data end, or no longer waits where there is more.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile

from ..exceptions import ImageError

__all__ = ["check_scans", "decode_jpeg", "is_jpeg", "load_jpeg"]

_FORMATS = ("JPEG", "MPO")  # the second are images of telephones, with more images behind

# Encoders make up to some dozens. Each is a pass over all pixels, whatever its own size, so that a
# small file of many holds a core for minutes.
MAX_SCANS = 100
_MOST_SEGMENTS = 10_000  # between two scans, where there are a handful

_SOI, _EOI, _SOS, _TEM, _DRI = 0xD8, 0xD9, 0xDA, 0x01, 0xDD
_RESTARTS = re.compile(rb"\xff[\xd0-\xd7]")
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_ONE_PASS = {0xC0, 0xC1, 0xC9}  # if all components are in one scan
_PROGRESSIVE = {0xC2, 0xCA}
_FED = {0xC0, 0xC1, 0xC2}  # the decoder waits for more data only where these are Huffman coded

# What the decoder may read ahead of what it needs.
_AHEAD = 8
# Bits of no code: what is whole is done before it takes them for pixels.
_PADDING = b"\xff\x00" * _AHEAD

_MORE = "the JPEG data are damaged, they go on where the image is complete"
_LESS = "the file is truncated, its JPEG data end before the image is complete"
_MIXED = "the JPEG data are damaged, their parts are not in order"
_BROKEN = "the structure of the JPEG file is damaged"


class _Scan(NamedTuple):
    """Where the coded data of one pass over the pixels begin and end, and what they are of."""

    start: int
    stop: int
    components: bytes
    interval: int = 0  # of MCUs between two markers that restart the decoder
    first: int = 0  # the first and the last coefficient
    last: int = 63
    known: int = 0  # the lowest bit that earlier scans brought, where this one refines them
    low: int = 0  # the lowest bit of this one


class _Layout(NamedTuple):
    """The first image of a JPEG file.

    Attributes
    ----------
    frame : bytes
        The header that tells the kind of JPEG, the size, and how components are sampled.
    scans : list of _Scan
    one_pass : bool
        All components are in one scan, which makes the decoder go through it once.
    tidy : bool
        Nothing stands between the parts before the first scan.
    """

    frame: bytes
    scans: list[_Scan]
    one_pass: bool
    tidy: bool

    @property
    def kind(self) -> int:
        return _at(self.frame, 1)

    @property
    def n_components(self) -> int:
        return _at(self.frame, 9)

    def restarts(self, scan: _Scan) -> int:
        """How often the decoder is restarted in a scan."""
        if not scan.interval:
            return 0
        height, width = _two(self.frame, 5), _two(self.frame, 7)
        sampled = {one[0]: divmod(one[1], 16) for one in _by_component(self.frame[10:])}
        across = 8 * max(one[0] for one in sampled.values())
        down = 8 * max(one[1] for one in sampled.values())
        if len(scan.components) == 1:  # goes by its own blocks, which may be fewer
            wide, high = sampled.get(scan.components[0], (1, 1))
            width, height = -(-width * wide * 8 // across), -(-height * high * 8 // down)
            across = down = 8
        mcus = -(-width // across) * -(-height // down)
        return -(-mcus // scan.interval) - 1


def _by_component(components: bytes) -> list[bytes]:
    """The three bytes of each component."""
    return [components[i : i + 3] for i in range(0, len(components) - 2, 3)]


def is_jpeg(image: Image.Image) -> bool:
    """Tell whether an opened file is a JPEG."""
    return image.format in _FORMATS


def decode_jpeg(image: Image.Image, data: bytes) -> np.ndarray | None:
    """Decode a JPEG file of three colours or grey to its pixels, as they are stored.

    Simplejpeg has the same library as Pillow, libjpeg-turbo, and so gives the same pixels, but
    straight to where they are wanted. It is not needed; what is unusual is left to Pillow, which
    reads more.

    Parameters
    ----------
    image : PIL.Image.Image
        The file opened, not loaded.
    data : bytes
        The file.

    Returns
    -------
    ndarray of shape (height, width, 3) or (height, width), uint8, or None

    Raises
    ------
    OSError
        If the data of its pixels are damaged or end early.
    """
    if not is_jpeg(image) or image.mode not in ("RGB", "L"):
        return None
    if ImageFile.LOAD_TRUNCATED_IMAGES:  # a switch of Pillow's alone
        return None
    try:
        from simplejpeg import decode_jpeg as decode
    except ImportError:
        return None
    try:
        pixels: np.ndarray = decode(data, "RGB" if image.mode == "RGB" else "GRAY")
    except (ValueError, RuntimeError) as error:
        if _spoils_pixels(str(error), data):
            raise OSError(_LESS if "premature" in str(error).lower() else str(error)) from error
        return None  # unusual
    if image.mode == "L":
        pixels = pixels[:, :, 0]
    return pixels if pixels.shape[:2] == (image.height, image.width) else None


def _spoils_pixels(warning: str, data: bytes) -> bool:
    if not warning.startswith(("Corrupt JPEG data", "Premature end")):
        return False
    # Some programs leave bytes that nobody needs between the parts before the pixels.
    return "extraneous bytes" not in warning or _first_scan(data).tidy


def check_scans(image: Image.Image, data: bytes) -> None:
    """Refuse a JPEG of very many scans, and one whose scans leave out a part of the image.

    A progressive file that lost its last scans is a whole picture, only less sharp. All encoders
    end with the lowest bit of every coefficient.

    Raises
    ------
    ImageError
        If there are too many.
    OSError
        If there are too few.
    """
    layout = _first_scan(data)
    if layout.one_pass:
        return  # it ends with its only scan
    layout = _layout(data)
    if len(layout.scans) > MAX_SCANS:
        raise ImageError(
            f"is a JPEG file of more than {MAX_SCANS} scans, which could take minutes to decode. "
            "If you trust it, save a new copy with fewer"
        )
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        return
    found = {component for scan in layout.scans for component in scan.components}
    if len(found) < layout.n_components:
        raise OSError(f"{_LESS} ({layout.n_components - len(found)} of its colours are missing)")
    if layout.kind in _PROGRESSIVE and not _are_all_bits_there(layout.scans):
        raise OSError(f"{_LESS} (scans of the progressive file are missing)")


def _are_all_bits_there(scans: list[_Scan]) -> bool:
    """Tell whether scans bring every coefficient of each colour, down to its lowest bit."""
    nothing = 99
    lowest = {one: np.full(64, nothing) for scan in scans for one in scan.components}
    for scan in scans:
        for component in scan.components:
            part = lowest[component][scan.first : scan.last + 1]
            if scan.known and (part > scan.known).any():
                return False  # a scan between is missing
            np.minimum(part, scan.low, out=part)
    return not any(bits.any() for bits in lowest.values())


def load_jpeg(image: Image.Image, data: bytes) -> None:
    """Load a JPEG file that was opened by Pillow, if it is whole.

    Damage that leaves as many pixels as there should be cannot be seen; that the last two
    blocks of 8 x 8 pixels are missing may not be seen either.

    Raises
    ------
    OSError
        If the data of its pixels end early, or there are more than its pixels need.
    """
    layout = _layout(data)
    if ImageFile.LOAD_TRUNCATED_IMAGES or layout.kind not in _FED or not layout.scans:
        image.load()
        return
    image.load_prepare()  # type: ignore[attr-defined]
    name, extents, _, args = image.tile[0]  # type: ignore[attr-defined]
    decoder = Image._getdecoder(image.mode, name, args, image.decoderconfig)  # type: ignore[attr-defined]
    try:
        decoder.setimage(image.im, extents)
        feed = _Feed(decoder, data)
        if layout.one_pass:
            feed.only_scan(layout)
        else:
            feed.all_scans(layout)
    finally:
        decoder.cleanup()
    image.tile = []  # type: ignore[attr-defined]
    image.load()


class _Feed:
    """Gives a file to a decoder of Pillow piece by piece, and looks where it waits for more.

    A decoder that has all pixels of a scan looks for the next marker and takes whatever is before
    it. One that wants more takes nothing until it can go on.
    """

    def __init__(self, decoder: Any, data: bytes) -> None:
        self._decoder, self._data = decoder, data
        self._rest, self._fed = b"", 0  # what it did not take, and how much it was offered

    def only_scan(self, layout: _Layout) -> None:
        """Feed a file of one scan, with which the decoder is done when it has all pixels."""
        scan = layout.scans[0]
        self._check_restarts(layout, scan)
        if self._offer(max(scan.start, scan.stop - _AHEAD)):
            raise OSError(_MORE)
        if scan.stop == len(self._data) or not self._offer(scan.stop, _PADDING):
            raise OSError(_LESS)

    def all_scans(self, layout: _Layout) -> None:
        """Feed a file of several scans, with which the decoder is done at its end."""
        for scan in layout.scans:
            self._check_restarts(layout, scan)
            if scan.stop - _AHEAD > scan.start and self._is_complete(scan.stop - _AHEAD):
                raise OSError(_MORE)
            if not self._is_complete(scan.stop, _PADDING):
                raise OSError(_LESS)
        if not self._offer(len(self._data)):
            raise OSError(_LESS)

    def _check_restarts(self, layout: _Layout, scan: _Scan) -> None:
        """Compare the markers that restart the decoder with those that there should be.

        Where one is missing the decoder fills up what it lacks, or looks on behind the scan.
        """
        if not scan.interval:
            return
        found = list(_RESTARTS.finditer(self._data, scan.start, scan.stop))
        if found and found[-1].end() == scan.stop:
            found.pop()  # some encoders end with one
        expected = layout.restarts(scan)
        if len(found) != expected:
            raise OSError(_LESS if len(found) < expected else _MORE)
        if any(self._data[one.start() + 1] != 0xD0 + i % 8 for i, one in enumerate(found)):
            raise OSError(_MIXED)

    def _offer(self, stop: int, more: bytes = b"") -> bool:
        """Offer the file up to `stop`, and what is not in it; True if the decoder is done."""
        piece = self._rest + self._data[self._fed : stop] + more
        taken, error = self._decoder.decode(piece)
        if taken < 0 and error < 0:
            raise OSError(_BROKEN)
        self._fed, self._rest = stop, piece[taken:] if taken >= 0 else b""
        return taken < 0

    def _is_complete(self, stop: int, more: bytes = b"") -> bool:
        """Offer the file up to `stop`; True if the decoder has all pixels of a scan."""
        if self._offer(stop, more + b"\xff"):  # half a marker, which it can never take
            raise OSError(_BROKEN)
        waits, self._rest = self._rest != b"\xff", self._rest[:-1]
        # One byte is less than a decoder that waits for pixels can go on with.
        return not waits and self._decoder.decode(b"\x00\xff")[0] == 1


def _first_scan(data: bytes) -> _Layout:
    """Read the file up to its first scan."""
    frame, interval, tidy, place = b"", 0, True, 2
    while True:
        start, place = place, data.find(b"\xff", place)
        if not 0 <= place < len(data) - 3:
            break
        code = data[place + 1]
        if code in (0, 0xFF, _TEM) or 0xD0 <= code <= 0xD7:
            tidy, place = tidy and code == 0xFF, place + 1
            continue
        tidy = tidy and place == start
        if code in (_SOI, _EOI):
            break
        if code == _SOS:
            scan = _scan(data, place, interval)
            all_in_one = len(scan.components) == _at(frame, 9)
            return _Layout(frame, [scan], all_in_one and frame[1] in _ONE_PASS, tidy)
        segment = data[place : place + 2 + _two(data, place + 2)]
        if code in _FRAMES:
            frame = segment
        elif code == _DRI:
            interval = _two(segment, 4)
        place += max(len(segment), 2)
    return _Layout(frame, [], False, tidy)


def _scan(data: bytes, place: int, interval: int) -> _Scan:
    """The scan whose header is at `place`."""
    end = place + 5 + 2 * _at(data, place + 4)
    known, low = divmod(_at(data, end + 2), 16)
    return _Scan(
        start=place + 2 + _two(data, place + 2),
        stop=len(data),
        components=data[place + 5 : end : 2],
        interval=interval,
        first=_at(data, end),
        last=_at(data, end + 1),
        known=known,
        low=low,
    )


def _layout(data: bytes) -> _Layout:
    """Find the scans of the first image, up to one more than there may be."""
    first = _first_scan(data)
    if not first.scans:
        return first
    markers, codes = _markers(data, first.scans[0].start)
    scans, scan = [], first.scans[0]
    while True:
        number = bisect_left(markers, scan.start)
        stop = int(markers[number]) if number < len(markers) else len(data)
        scans.append(scan._replace(stop=stop))
        if first.one_pass or len(scans) > MAX_SCANS:
            break
        place, interval = stop, scan.interval
        for _ in range(_MOST_SEGMENTS):
            if number >= len(markers) or codes[number] in (_SOS, _EOI, _SOI):
                break
            if codes[number] == _DRI:
                interval = _two(data, place + 4)
            skip = 2 if codes[number] == _TEM else 2 + _two(data, place + 2)
            number = max(number + 1, bisect_left(markers, place + skip))
            place = int(markers[number]) if number < len(markers) else len(data)
        if number >= len(markers) or codes[number] != _SOS:
            break
        scan = _scan(data, place, interval)
    return first._replace(scans=scans)


def _markers(data: bytes, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and codes of the markers behind `start`, but for those that restart the decoder."""
    values = np.frombuffer(data, np.uint8)
    places = np.flatnonzero(values[start:-1] == 0xFF) + start
    codes = values[places + 1]
    real = (codes != 0) & (codes != 0xFF) & ((codes < 0xD0) | (codes > 0xD7))
    return places[real], codes[real]


def _two(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 2], "big")


def _at(data: bytes, place: int) -> int:
    return data[place] if place < len(data) else 0
