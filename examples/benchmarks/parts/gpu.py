"""CNNCodes on the graphics card against the network alone on random tensors that are there already,
in the same precision, and against a DataLoader loop. Ratios are within a turn, median
(smallest–largest)."""

import os
import tempfile

import torch
from torch.utils.data import DataLoader, Subset

from shared.images import as_arrays, as_files
from shared.loops import Transformed
from shared.networks import NETWORKS, load_network
from shared.tables import rates_table
from shared.timing import Way, measure
from sktransfer import CNNCodes

BATCH = 128
TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
FILES = 2_000


def run(settings):
    """One table for each network and precision; a line where there is no such device."""
    if not torch.cuda.is_available():
        yield "Skipped: torch finds no CUDA device here."
        return
    arrays = as_arrays(max(settings.images, 32 * BATCH), settings.size)
    with tempfile.TemporaryDirectory() as folder:
        files = as_files(folder, FILES)
        for name in settings.networks or NETWORKS:
            network = load_network(name, settings.size)
            for precision in TYPES:
                ways = [
                    raw(network, precision),
                    loader(network, arrays, precision, "arrays"),
                    loader(network, files, precision, "files"),
                    ours(network, arrays, precision, "arrays"),
                    ours(network, files, precision, "files"),
                ]
                rates = measure(ways, repeats=settings.repeats, seconds=settings.seconds)
                bases = {f"× {way.name}": way.name for way in ways[:3]}
                yield rates_table(f"{name}, {precision}", ways, rates, bases)


def on_device(network, precision):
    """The plain network on the card, laid out as convolutions like it."""
    module = network.learning().requires_grad_(False)
    return module.to("cuda", TYPES[precision], memory_format=torch.channels_last)


def raw(network, precision):
    """The forward pass alone."""
    module = on_device(network, precision)
    shape = (BATCH, 3, network.size, network.size)
    batch = torch.randn(shape, device="cuda", dtype=TYPES[precision])
    batch = batch.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run(number):
        for _ in range(number // BATCH):
            module(batch)
        torch.cuda.synchronize()

    return Way("forward pass alone", run, most=2**17, step=4 * BATCH)


def loader(network, photos, precision, title):
    """A DataLoader with a worker for each core and pinned memory."""
    module = on_device(network, precision)
    dataset = Transformed(photos, network.transform(photos.framed))

    @torch.inference_mode()
    def run(number):
        batches = DataLoader(
            Subset(dataset, range(number)),
            batch_size=BATCH,
            num_workers=os.cpu_count(),
            pin_memory=True,
        )
        found = [
            module(batch.to("cuda", TYPES[precision], non_blocking=True)).float().cpu()
            for batch, _ in batches
        ]
        return torch.cat(found).numpy()

    step = min(8 * BATCH, len(photos))
    return Way(f"DataLoader, {title}", run, most=len(photos), step=step, width=network.width)


def ours(network, photos, precision, title):
    """CNNCodes, without a store."""
    codes = CNNCodes(
        network.name,
        weights=network.weights,
        image_size=network.size,
        resize="crop",
        crop_pct=1.0 if photos.framed else None,
        device="cuda",
        precision=precision,
        cache=None,
    ).fit(photos.items[:1])

    def run(number):
        return codes.transform(photos.items[:number])

    step = min(4 * BATCH, len(photos))
    return Way(f"CNNCodes, {title}", run, most=len(photos), step=step, width=network.width)
