"""Images that are arrays of the network's size already. Ratios are within a turn, median
(smallest–largest); "raw" is the engine's own compiled network, fed prepared batches from memory."""

from shared import loops, ours, peers
from shared.images import as_arrays
from shared.networks import NETWORKS, load_network
from shared.tables import rates_table, ratio, table
from shared.timing import Absent, measure


def run(settings):
    """Two tables for each network."""
    photos = as_arrays(settings.images, settings.size)
    for name in settings.networks or NETWORKS:
        network = load_network(name, settings.size)
        ways = all_ways(network, photos, settings)
        raw = [ours.raw_way(network, photos, *pair) for pair in ours.ENGINES]
        rates = measure([*ways, *raw], repeats=settings.repeats, seconds=settings.seconds)
        bases = {"× tutorial loop": ways[0].name, "× torch eager": ways[2].name}
        yield rates_table(name, ways, rates, bases)
        yield shares(name, raw, rates)


def all_ways(network, photos, settings):
    """The rows; the first and the third are what others are compared with."""
    return [
        loops.tutorial_loop(network, photos, gradients=True),
        loops.tutorial_loop(network, photos, gradients=False),
        loops.eager(network, photos),
        loops.data_loader(network, photos),
        loops.skorch_net(network, photos),
        *(peers.peer_ways(network, photos) if settings.peers else []),
        *(ours.codes_way(network, photos, *pair) for pair in ours.ENGINES),
    ]


def shares(name, raw, rates):
    """What CNNCodes gets of the raw rate of its engine."""
    rows = [
        [ours.title(*pair), ratio(rates[ours.title(*pair)], rates[way.name])]
        for pair, way in zip(ours.ENGINES, raw, strict=True)
        if not isinstance(way, Absent)
    ]
    return table([name, "share of the raw rate"], rows)
