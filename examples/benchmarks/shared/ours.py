"""CNNCodes by engine and precision, and the parts of its time, each alone."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
import torch

from shared.machine import available_cores
from shared.networks import Network
from shared.timing import Absent, Way, WrongCodes
from sktransfer import CNNCodes
from sktransfer.compute import Engine, _torch  # noqa: F401  (its engine is watched as well)

ENGINES = [
    ("torch", "float32"),
    ("torch", "bfloat16"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
]
# Largest relative error (L2 norm) against the plain network: in float32 from arrays and from
# files, which may be decoded at reduced scale; bfloat16 is only kept from being nonsense.
TOLERANCE = {"arrays": 1e-3, "files": 1e-2, "bfloat16": 0.2}


def title(engine, precision):
    """Name of a row."""
    return f"CNNCodes, {engine} {precision}"


def installed(engine):
    """Whether this engine can be measured here."""
    return engine == "torch" or find_spec(engine) is not None


def make_codes(network: Network, engine, precision, cache=None, **parameters):
    """CNNCodes of a network on the CPU; images are resized as the transforms do it."""
    return CNNCodes(
        network.name,
        weights=network.weights,
        image_size=network.size,
        resize="crop",
        device="cpu",
        engine=engine,
        precision=precision,
        cache=cache,
        **parameters,
    )


def codes_way(network, photos, engine, precision):
    """CNNCodes as it is used, without a store."""
    name = title(engine, precision)
    if not installed(engine):
        return Absent(name, "not installed")
    # Arrays are framed already: nothing is cut off them.
    codes = make_codes(network, engine, precision, crop_pct=1.0 if photos.framed else None)
    codes.fit(photos.items[:1])
    return Way(
        name,
        lambda number: codes.transform(photos.items[:number]),
        most=len(photos),
        step=32,
        width=network.width,
        check=lambda found: agree(name, found, network, photos, precision),
    )


def agree(name, found, network, photos, precision):
    """Raise unless codes are those of the plain network."""
    transform = network.transform(photos.framed)
    batch = torch.stack([transform(photos.picture(index)) for index in range(len(found))])
    with torch.inference_mode():
        expected = network.module(batch).numpy()
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    bound = TOLERANCE.get(precision, TOLERANCE["arrays" if photos.framed else "files"])
    if not error <= bound:
        raise WrongCodes(f"{name} is {error:.1e} off the plain network; {bound:.0e} is allowed")


@contextmanager
def engines_run(make):
    """While this is open, engines run ``make(run)`` instead of their own, on one core each."""
    kinds = [kind for kind in Engine.__subclasses__() if "run" in vars(kind)]
    plain = {kind: (kind.run, kind.run_on_all_cores) for kind in kinds}
    try:
        for kind in kinds:
            kind.run = make(kind.run)
            kind.run_on_all_cores = lambda self, batch, *, exact: None
        yield
    finally:
        for kind, ways in plain.items():
            kind.run, kind.run_on_all_cores = ways


def look_at_engine(codes, item):
    """The engine that computes codes, and what it gives for one image."""
    seen = []

    def make(run):
        def watched(engine, pixels):
            seen.append((engine, found := run(engine, pixels)))
            return found

        return watched

    with engines_run(make):
        codes.transform(item)
    return seen[-1]


def reading_way(network, photos, engine="torch"):
    """Files to framed pixels: all that CNNCodes does but for the network."""
    codes = make_codes(network, engine, "float32").fit(photos.items[:1])
    _, outputs = look_at_engine(codes, photos.items[:1])

    def nothing(_):
        return lambda _, pixels: tuple(
            np.zeros((len(pixels), *output.shape[1:]), np.float32) for output in outputs
        )

    def run(number):
        with engines_run(nothing):
            codes.transform(photos.items[:number])

    return Way("reading alone", run, most=len(photos), step=32)


def raw_way(network, arrays, engine, precision):
    """The engine's own compiled network, fed prepared batches from memory by one thread a core."""
    name = f"raw {engine} {precision}"
    if not installed(engine):
        return Absent(name, "not installed")
    codes = make_codes(network, engine, precision, crop_pct=1.0).fit(arrays.items[:1])
    found, _ = look_at_engine(codes, arrays.items[:1])
    size = found.batch_size
    batches = [arrays.items[start : start + size] for start in range(0, len(arrays), size)]
    compute = _openvino_raw if found.name == "openvino-cpu" else _torch_raw
    run = compute(found, batches)
    step = size * available_cores()
    return Way(name, lambda number: run(-(-number // size))[:number], most=len(arrays),
               step=min(step, len(arrays)), width=network.width)  # fmt: skip


def _openvino_raw(engine, batches):
    """OpenVINO's own queue of requests, one for each core."""
    import openvino

    queue = openvino.AsyncInferQueue(engine._compiled[False], available_cores())

    def run(number):
        rows = [None] * number
        queue.set_callback(
            lambda request, index: rows.__setitem__(index, request.get_output_tensor(0).data.copy())
        )
        for index in range(number):
            queue.start_async({0: batches[index]}, userdata=index, share_inputs=True)
        queue.wait_all()
        return np.concatenate(rows)

    return run


def _torch_raw(engine, batches):
    """The folded module in a pool of threads, each of which computes on one core."""
    tensors = [torch.from_numpy(batch) for batch in batches]
    pool = ThreadPoolExecutor(available_cores(), initializer=torch.set_num_threads, initargs=(1,))

    def compute(tensor):
        with torch.inference_mode():
            return engine._network(tensor)[0].float()

    def run(number):
        return torch.cat(list(pool.map(compute, tensors[:number]))).numpy()

    return run
