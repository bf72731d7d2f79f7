"""One image at a time, float32, as a service asks: milliseconds of CNNCodes and of a Pipeline
with a scaler and a linear model, in turns with the engine by itself (OpenVINO with its hint
LATENCY for all cores, fed the prepared pixels) and with the same engine on one core. Ratios are to
the engine by itself, within a turn; medians (10th to 90th percentile)."""

import time

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from shared import ours
from shared.images import as_arrays
from shared.networks import NETWORKS, load_network
from shared.tables import table


def run(settings):
    """One table."""
    if not ours.installed("openvino"):
        yield "Skipped: OpenVINO is not installed."
        return
    photos = as_arrays(24, settings.size).items
    rows = []
    for name in settings.networks or NETWORKS:
        network = load_network(name, settings.size)
        took = turns(ways_of(network, photos), photos, 40 * settings.repeats)
        base = took["engine, all cores"]
        rows += [
            [name, way, f"{np.median(found):.2f}", spread(found / base)]
            for way, found in took.items()
        ]
    yield table(["network", "way", "ms", "ratio"], rows)


def ways_of(network, photos):
    """What takes a batch of one image."""
    codes = ours.make_codes(network, "openvino", "float32", crop_pct=1.0)
    pipe = make_pipeline(codes, StandardScaler(), LogisticRegression())
    pipe.fit(photos[:10], np.arange(10) % 2)
    codes = pipe[0]
    engine, _ = ours.look_at_engine(codes, photos[:1])
    codes.warm_up()
    engine._compile(on_all_cores=True)  # where there is one core, nothing else does
    request = engine._compiled[True].create_infer_request()  # with the hint LATENCY
    return {
        "engine, all cores": lambda batch: request.infer({0: batch}, share_inputs=True),
        "CNNCodes": codes.transform,
        "Pipeline": pipe.predict,
        "engine, one core": engine.run,
    }


def turns(ways, photos, number):
    """Milliseconds of each way in each turn."""
    took = {way: [] for way in ways}
    for turn in range(number + 5):
        place = turn % len(photos)
        for way, call in ways.items():
            start = time.perf_counter()
            call(photos[place : place + 1])
            if turn >= 5:
                took[way].append(1000 * (time.perf_counter() - start))
    return {way: np.array(found) for way, found in took.items()}


def spread(ratios):
    """Median and percentiles."""
    low, middle, high = np.percentile(ratios, [10, 50, 90])
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"
