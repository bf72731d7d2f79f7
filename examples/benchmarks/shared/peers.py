"""Other packages that make codes, each fed what it takes, each as its documentation shows.

All but thingsvision insist on downloading weights, which would measure the network connection:
they are given random weights instead. Each adaptation is stated where it is made.
"""

import contextlib
import io
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torchvision

from shared.timing import Absent, Way, check_codes

BATCH = 32
IN_TIMM = {
    "efficientnet_lite0": "tf_efficientnet_lite0",
    "mobilenet_v2": "mobilenetv2_100",
    "resnet18": "resnet18",
    "resnet50": "resnet50",
}


class NotOffered(Exception):
    """A package does not have this network or does not take such input."""


def embetter(network, photos):
    """``TimmEncoder`` takes PIL images; ``ImageLoader`` makes them of paths."""
    import timm
    from embetter.vision import ImageLoader, TimmEncoder
    from sklearn.pipeline import make_pipeline

    plain = timm.create_model
    # Adaptation: random weights; it asks timm for published ones.
    timm.create_model = lambda name, **options: plain(name, **{**options, "pretrained": False})
    try:
        encoder = TimmEncoder(IN_TIMM[network.name])
    finally:
        timm.create_model = plain
    pipe = make_pipeline(ImageLoader(), encoder)

    def run(number):
        if photos.framed:
            return encoder.transform([photos.picture(index) for index in range(number)])
        return pipe.fit_transform(photos.items[:number])  # nothing is learnt

    return Way("embetter, TimmEncoder", run, most=len(photos), step=4, width=network.width)


def img2vec(network, photos):
    """``get_vec`` takes PIL images; it makes one batch of a list, so lists are kept short."""
    from img2vec_pytorch import Img2Vec

    if network.name not in ("resnet18", "resnet50"):
        raise NotOffered("has no such network")
    with random_checkpoint(network.name):
        encoder = Img2Vec(model=network.name)

    def run(number):
        starts = range(0, number, BATCH)
        lists = (range(start, min(start + BATCH, number)) for start in starts)
        return np.concatenate(
            [encoder.get_vec([photos.picture(index) for index in part]) for part in lists]
        )

    return Way("img2vec, get_vec of lists", run, most=len(photos), step=BATCH, width=network.width)


@contextlib.contextmanager
def random_checkpoint(name):
    """Adaptation: torch.hub finds random weights under the name of the published file."""
    weights = torchvision.models.get_model_weights(name).DEFAULT
    before = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "checkpoints", os.path.basename(weights.url))
        path.parent.mkdir()
        torch.save(torchvision.models.get_model(name, weights=None).state_dict(), path)
        torch.hub.set_dir(folder)
        try:
            yield
        finally:
            torch.hub.set_dir(before)


def thingsvision(network, photos):
    """``extract_features`` of a folder; from arrays, its ``batch_extraction``."""
    _before_thingsvision()
    from thingsvision import get_extractor
    from thingsvision.utils.data import DataLoader, ImageDataset

    timms = network.name == "efficientnet_lite0"
    layer = {"efficientnet_lite0": "global_pool", "mobilenet_v2": "classifier.0"}.get(
        network.name, "avgpool"
    )
    with quiet():
        extractor = get_extractor(
            model_name=IN_TIMM[network.name] if timms else network.name,
            source="timm" if timms else "torchvision",
            device="cpu",
            pretrained=False,
        )
    transform, out = extractor.get_transformations(), tempfile.mkdtemp()

    def from_arrays(number):
        parts = []
        with extractor.batch_extraction(layer, output_type="ndarray") as extraction:
            for start in range(0, number, BATCH):
                part = range(start, min(start + BATCH, number))
                batch = torch.stack([transform(photos.picture(index)) for index in part])
                parts.append(extraction.extract_batch(batch=batch, flatten_acts=True))
        return np.concatenate(parts)

    def from_files(number):
        names = [os.path.basename(path) for path in photos.items[:number]]
        backend = extractor.get_backend()
        with quiet():
            dataset = ImageDataset(str(photos.folder), out, backend,
                                   file_names=names, transforms=transform)  # fmt: skip
            return extractor.extract_features(
                DataLoader(dataset, BATCH, backend), layer, flatten_acts=True
            )

    # It reads the first batch twice, so runs from files are longer.
    run, step = (from_arrays, BATCH) if photos.framed else (from_files, 2 * BATCH)
    return Way("thingsvision", run, most=len(photos), step=step, width=network.width)


def _before_thingsvision():
    """Adaptations to newer releases of what it needs than it asks for."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # numpy 2 moved it.
    np.AxisError = np.exceptions.AxisError
    # Loaded after TensorFlow, Triton ends the process: both bring an LLVM.
    with contextlib.suppress(ImportError):
        import triton._C.libtriton  # noqa: F401


def orange(network, photos):
    """Orange's local embedder: SqueezeNet at 227 px in numpy, from paths alone."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from Orange.misc.utils.embedder_utils import EmbedderCache
    from orangecontrib.imageanalytics.image_embedder import ImageEmbedder

    if photos.framed:
        raise NotOffered("takes files only")
    embedder = ImageEmbedder(model="squeezenet")

    def run(number):
        # Adaptation: it keeps codes of images in a file; without this, only the first run computes.
        EmbedderCache("squeezenet").clear_cache()
        return np.array(embedder(photos.items[:number]))

    return Way("Orange, local SqueezeNet", run, most=len(photos), step=4, width=1000)


PEERS = [
    ("embetter, TimmEncoder", "embetter", embetter),
    ("img2vec, get_vec of lists", "img2vec_pytorch", img2vec),
    ("thingsvision", "thingsvision", thingsvision),
    ("Orange, local SqueezeNet", "orangecontrib", orange),
]


def peer_ways(network, photos):
    """All of them; one that is not installed, or does not run, says so in its row."""
    return [_one(name, package, make, network, photos) for name, package, make in PEERS]


def _one(name, package, make, network, photos):
    if find_spec(package) is None:
        return Absent(name, "not installed")
    try:
        way = make(network, photos)
        few = min(way.step, way.most)
        check_codes(way.name, way.run(few), (few, way.width))
        return way
    except NotOffered as reason:
        return Absent(name, str(reason))
    except Exception as error:  # other people's code on other people's machines
        return Absent(name, f"does not run: {type(error).__name__}: {str(error).strip()[:80]}")


@contextlib.contextmanager
def quiet():
    """Without what packages print."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
