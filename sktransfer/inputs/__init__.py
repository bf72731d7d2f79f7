"""What counts as an image: reading, EXIF orientation, colour, value range, checking.

Arrays, tensors, paths, PIL images, bytes, data frame columns and flattened rows all end as
upright 8-bit RGB images, one at a time, so that memory stays flat.

::

    as_images(X) ─► Images ── open(i) ─► OpenedImage ── picture() ─► PIL image, RGB
       _collect       _images   _files      .digest        _colour
       _kinds                   _formats, _jpeg
       _rows                    _arrays       _deep (more than 8 bits)
       _survey, _range (one range for the whole input)      pixels() ─► the same as an array
                                                             frame(pixels, framing)

What Pillow was told in the main process (`_process`) travels to workers with the estimators.
"""

from ._base import Item, Items, Preparation, Subset, skipped, unreadable
from ._formats import HINTS, readable_formats
from ._images import Images, OpenedImage, Reading, as_images, digest_of
from ._process import pack_settings, take_settings
from ._resize import READING, RESIZES, Framing, frame

__all__ = [
    "HINTS",
    "READING",
    "RESIZES",
    "Framing",
    "Images",
    "Item",
    "Items",
    "OpenedImage",
    "Preparation",
    "Reading",
    "Subset",
    "as_images",
    "digest_of",
    "frame",
    "pack_settings",
    "readable_formats",
    "skipped",
    "take_settings",
    "unreadable",
]
