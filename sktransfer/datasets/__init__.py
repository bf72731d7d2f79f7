"""Small real data that ships, larger data that is fetched, and folders of your own images."""

from sktransfer.datasets._cifar10 import fetch_cifar10, load_cifar10_sample
from sktransfer.datasets._folder import load_image_folder
from sktransfer.datasets._texts import load_addresses_sample, load_film_sentences_sample

__all__ = [
    "fetch_cifar10",
    "load_addresses_sample",
    "load_cifar10_sample",
    "load_film_sentences_sample",
    "load_image_folder",
]
