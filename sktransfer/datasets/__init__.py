"""Small real data that ships, larger data that is fetched, and your own images and boxes."""

from sktransfer.datasets._box_tables import boxes_by_image, boxes_to_frame
from sktransfer.datasets._boxes import load_boxes
from sktransfer.datasets._cifar10 import fetch_cifar10, load_cifar10_sample
from sktransfer.datasets._folder import list_images, load_image_folder, part_named
from sktransfer.datasets._mask_folder import load_mask_folder
from sktransfer.datasets._tables import load_image_table
from sktransfer.datasets._texts import load_addresses_sample, load_film_sentences_sample
from sktransfer.datasets._torch import load_torch_dataset
from sktransfer.datasets._video import load_video_frames

__all__ = [
    "boxes_by_image",
    "boxes_to_frame",
    "fetch_cifar10",
    "list_images",
    "load_addresses_sample",
    "load_boxes",
    "load_cifar10_sample",
    "load_film_sentences_sample",
    "load_image_folder",
    "load_image_table",
    "load_mask_folder",
    "load_torch_dataset",
    "load_video_frames",
    "part_named",
]
