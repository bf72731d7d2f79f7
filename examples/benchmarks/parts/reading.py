"""Reading alone: from JPEG files to the pixels of the network, all cores, against PIL and
torchvision's transforms in as many threads. Ratios are within a turn, median (smallest–largest)."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shared import ours
from shared.images import as_files
from shared.machine import available_cores
from shared.networks import load_network
from shared.tables import rates_table
from shared.timing import Way, measure

SIZES = [(500, 375), (2000, 1500)]
FILES = 128


def run(settings):
    """One table for each size."""
    network = load_network("resnet18", settings.size)
    number = min(FILES, settings.images)
    for width, height in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            files = as_files(Path(folder), number, width, height)
            with ThreadPoolExecutor(available_cores()) as pool:
                ways = [plain(network, files, pool), ours.reading_way(network, files)]
                rates = measure(ways, repeats=settings.repeats, seconds=settings.seconds)
        yield rates_table(f"{width}×{height}", ways, rates, {"× PIL": ways[0].name})


def plain(network, files, pool):
    """PIL and torchvision's transforms."""
    transform = network.transform(framed=False)

    def run(number):
        list(pool.map(lambda index: transform(files.picture(index)), range(number)))

    return Way("PIL and torchvision's transforms", run, most=len(files), step=16)
