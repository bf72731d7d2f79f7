"""JPEG files of 500×375 end to end. Ratios are within a turn, median (smallest–largest). "Ceiling"
is 1 / (1/forward + 1/decode): forward is the engine's compiled network fed from memory ("raw"),
decode is CNNCodes with its network left out, each on all cores; in images per core-second the
shares are the same."""

import tempfile

from shared import loops, ours, peers
from shared.images import as_arrays, as_files, found_in
from shared.networks import load_network
from shared.tables import rates_table, ratio, table
from shared.timing import Absent, measure

NETWORKS = ["efficientnet_lite0", "resnet18"]
FILES = 500


def run(settings):
    """Two tables for each network."""
    number = min(FILES, settings.images)
    arrays = as_arrays(settings.images, settings.size)
    with tempfile.TemporaryDirectory() as folder:
        given = settings.photos
        files = found_in(given, number) if given else as_files(folder, number)
        for name in settings.networks or NETWORKS:
            network = load_network(name, settings.size)
            ways = all_ways(network, files, settings)
            raw = [ours.raw_way(network, arrays, *pair) for pair in ours.ENGINES]
            alone = ours.reading_way(network, files)
            # Files are slower than arrays, and all cores should be busy for most of a turn.
            seconds = 2 * settings.seconds
            rates = measure([*ways, *raw, alone], repeats=settings.repeats, seconds=seconds)
            yield rates_table(name, ways, rates, {"× tutorial loop, no_grad": ways[0].name})
            yield shares(name, raw, alone, rates)


def all_ways(network, files, settings):
    """The rows; the first is what others are compared with."""
    return [
        loops.tutorial_loop(network, files, gradients=False),
        loops.data_loader(network, files),
        loops.skorch_net(network, files),
        *(peers.peer_ways(network, files) if settings.peers else []),
        *(ours.codes_way(network, files, *pair) for pair in ours.ENGINES),
    ]


def shares(name, raw, alone, rates):
    """What CNNCodes gets of the ceiling, and of the raw rate of its engine."""
    rows = []
    for pair, way in zip(ours.ENGINES, raw, strict=True):
        if isinstance(way, Absent):
            continue
        found, forward = rates[ours.title(*pair)], rates[way.name]
        ceiling = 1 / (1 / forward + 1 / rates[alone.name])
        rows.append([ours.title(*pair), ratio(found, ceiling), ratio(found, forward)])
    return table([name, "share of the ceiling", "share of the raw rate"], rows)
