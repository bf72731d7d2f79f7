"""What goes in: items with a digest each, and a preparation that makes an array of an item.

`_base` says what the rooms behind this one know of it. For images, arrays, tensors, paths, PIL
images, bytes, data frame columns and flattened rows all end as upright 8-bit RGB, one at a time, so
that memory stays flat::

    as_images(X) ─► Images ── open(i) ─► OpenedImage ── picture() ─► PIL image, RGB
       _collect       _images   _files      .digest        _colour, _deep (more than 8 bits)
       _range (one    _arrays   _formats
        range for the whole input)                      pixels() ─► the same as an array
                                                        ImagePreparation(opened) ─► what a
                                                           _resize                  network sees

Masks (`_masks`), a label for every pixel, become the numbers of their classes as the network sees
the image: `ImagePreparation.placement` says where an image stands in that, and the way back. So do
boxes (`_boxes`), which are checked beside their images.

Texts end as windows of tokens, all of one length for a text::

    as_texts(X) ─► Texts ── open(i) ─► OpenedText ─► TextPreparation(opened) ─► what a network sees
       _texts                 .digest                   _tokens

What Pillow was told in the main process (`_process`) travels to workers with the estimators.
"""

from ._base import OR_NAN, Item, Items, Preparation, Subset, skipped, unreadable
from ._boxes import NO_BOX, Boxes, as_boxes, bad_boxes, check_boxes, encode_boxes
from ._collect import is_missing, lazy_images, name_of
from ._formats import HINTS, readable_formats
from ._html import data_uri
from ._images import (
    Images,
    OpenedImage,
    Reading,
    as_images,
    as_whole_images,
    digest_of,
    float_extremes,
    float_range_of,
)
from ._masks import (
    NO_LABEL,
    Masks,
    as_masks,
    check_fits,
    encode_masks,
    fitting_masks,
    warn_of_other_labels,
)
from ._process import pack_settings, take_settings
from ._range import check_value_range, each_told_once
from ._resize import READING, RESIZES, ImagePreparation, Placement
from ._texts import OpenedText, TextReading, Texts, as_texts, look_like_texts
from ._tokens import LONG_TEXTS, TextPreparation, digest_of_tokenizer, frame_of

__all__ = [
    "HINTS",
    "LONG_TEXTS",
    "NO_BOX",
    "NO_LABEL",
    "OR_NAN",
    "READING",
    "RESIZES",
    "Boxes",
    "ImagePreparation",
    "Images",
    "Item",
    "Items",
    "Masks",
    "OpenedImage",
    "OpenedText",
    "Placement",
    "Preparation",
    "Reading",
    "Subset",
    "TextPreparation",
    "TextReading",
    "Texts",
    "as_boxes",
    "as_images",
    "as_masks",
    "as_texts",
    "as_whole_images",
    "bad_boxes",
    "check_boxes",
    "check_fits",
    "check_value_range",
    "data_uri",
    "digest_of",
    "digest_of_tokenizer",
    "each_told_once",
    "encode_boxes",
    "encode_masks",
    "fitting_masks",
    "float_extremes",
    "float_range_of",
    "frame_of",
    "is_missing",
    "lazy_images",
    "look_like_texts",
    "name_of",
    "pack_settings",
    "readable_formats",
    "skipped",
    "take_settings",
    "unreadable",
    "warn_of_other_labels",
]
