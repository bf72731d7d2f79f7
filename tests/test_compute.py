"""The frozen pass, and the count of what was computed."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import threadpoolctl
import torch
from PIL import Image
from threadpoolctl import threadpool_info, threadpool_limits
from torch import nn

from sktransfer import (
    AutoTransferClassifier,
    CNNCodes,
    FineTuneClassifier,
    PixelClassifier,
    count_computed,
)
from sktransfer.compute import blas_on_one_core
from sktransfer.compute._base import as_batch
from sktransfer.compute._frozen_pass import FrozenPass
from sktransfer.exceptions import ImageError, LayerError
from sktransfer.inputs import Subset, as_images
from sktransfer.store import MemoryStore

ENGINES = ["torch", "openvino"]


@pytest.fixture(params=ENGINES)
def engine(request):
    if request.param == "openvino":
        pytest.importorskip("openvino")
    return request.param


def test_counts_what_went_through_a_network_and_nothing_else(engine, sample):
    X = sample.data[:20]
    codes = CNNCodes(image_size=32, engine=engine, batch_size=6).fit(X)
    with count_computed() as outer:
        codes.transform(X[:12])
        with count_computed() as inner:
            codes.transform(X)  # of which 12 are in the cache
            codes.transform(X)
        codes.set_params(cache=None).transform(X[:6])
    codes.transform(X[:6])
    assert (inner.n_items, inner.n_batches) == (8, 2)
    assert (outer.n_items, outer.n_batches) == (12 + 8 + 6, 2 + 2 + 1)
    assert repr(inner) == "<8 items in 2 batches>"


def test_counts_in_all_threads(sample):
    X = sample.data[:16]
    codes = CNNCodes(image_size=32, cache=None).fit(X)
    with count_computed() as counter:
        threads = [threading.Thread(target=codes.transform, args=(X,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counter.n_items == 4 * len(X)


class Small(nn.Module):
    """Two stages of maps, and a classifier."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.ReLU())
        self.classifier = nn.Linear(6, 2)

    def forward(self, x):
        return self.classifier(self.second(self.first(x)).mean((2, 3)))


FACTS = {"image_size": 16, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)


def frozen_of(layers, pooling, engine="torch", **changes) -> FrozenPass:
    codes = CNNCodes(Small().eval(), preprocessing=FACTS, engine=engine).fit(PIXELS)
    frozen = codes._frozen()
    layers = [frozen.network.resolve(name) for name in layers]
    return replace(frozen.at(layers, pooling), **changes)


def maps_of(pixels, *names) -> list[np.ndarray]:
    """What modules give, one image at a time, caught by hooks."""
    network, caught = Small().eval(), {name: [] for name in names}
    for name in names:
        module = network.get_submodule(name)
        module.register_forward_hook(lambda m, i, out, name=name: caught[name].append(out))
    with torch.no_grad():
        for image in pixels:
            x = (torch.tensor(image).permute(2, 0, 1)[None] / 255 - 0.5) / 0.25
            network(x)
    return [torch.cat(caught[name]).numpy() for name in names]


def test_maps_of_several_layers_are_arrays_of_their_own_from_one_pass(engine):
    frozen, images = frozen_of(["second", "first"], None, engine), as_images(PIXELS)
    with count_computed() as counter:
        found = frozen.rows(images)
        assert counter.n_items == len(PIXELS)
        # Each layer is kept by itself, whatever it was computed with.
        (alone,) = [frozen.at([frozen.layers[1]], None).rows(images)]
        again = frozen.rows(Subset(images, [3, 1]))
        assert counter.n_items == len(PIXELS)
    expected = maps_of(PIXELS, "second", "first")
    assert [one.shape for one in found] == [(7, 6, 7, 7), (7, 4, 16, 16)]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(alone, found[1])
    for one, other in zip(again, found, strict=True):
        np.testing.assert_array_equal(one, other[[3, 1]])
    with pytest.raises(LayerError, match="cannot stand side by side"):
        CNNCodes(Small(), preprocessing=FACTS, pooling=None, layer=["first", "second"]).fit(PIXELS)


def test_maps_of_what_cannot_be_read_are_nan_in_all_arrays():
    frozen = frozen_of(["first", "second"], None)
    images = as_images([PIXELS[0], None, PIXELS[1]])
    out = [np.zeros((3, *shape), np.float32) for shape in frozen.shapes]
    (error,) = frozen.fill(images, out, stop_at_error=False)
    assert error.index == 1
    for one, expected in zip(out, maps_of(PIXELS[:2], "first", "second"), strict=True):
        assert np.isnan(one[1]).all()
        np.testing.assert_allclose(one[[0, 2]], expected, rtol=1e-4, atol=1e-4)


@dataclass(frozen=True)
class AsTheyAre:
    """A preparation that leaves images as large as they are."""

    shape: tuple[int, ...] = (16, 16, 3)
    dtype: np.dtype = field(default=np.dtype(np.uint8))

    key, in_windows, counts_all = "as they are", False, False

    def __call__(self, item):
        return item.pixels()

    def probes(self):
        return [np.zeros((2, *self.shape), self.dtype)]


@pytest.mark.parametrize("store", [None, MemoryStore(2**20)])
def test_items_that_are_prepared_to_several_shapes_go_through_side_by_side(store):
    rng = np.random.default_rng(1)
    pixels = [
        rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        for size in [(16, 16), (9, 20), (16, 16), (24, 8), (9, 20)]
    ]
    frozen = frozen_of(["first", "second"], "avg", preparation=AsTheyAre(), store=store)
    with count_computed() as counter:
        found = frozen.rows(as_images([*pixels, pixels[1]]))
        assert counter.n_items == (6 if store is None else 5)
    for row, image in zip(found, [*pixels, pixels[1]], strict=True):
        maps = maps_of([image], "first", "second")
        np.testing.assert_allclose(
            row, np.hstack([one.mean((2, 3))[0] for one in maps]), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("layers", [(), ("second",)])
@pytest.mark.parametrize("bad", ["missing", "damaged"])
def test_errors_of_a_subset_name_the_item_of_the_whole_input(layers, bad, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for path, image in zip(paths, PIXELS, strict=True):
        Image.fromarray(image).save(path)
    for number in (5, 2):
        paths[number].unlink() if bad == "missing" else paths[number].write_bytes(b"\x89PNG")
    some = Subset(Subset(as_images(paths), [6, 5, 4, 2]), [3, 0, 1])  # 2, 6 and 5
    with pytest.raises(ImageError, match=r"image 2 \(.*2\.png.*and 1 more.*Fix") as caught:
        frozen_of(layers, "avg").rows(some)
    assert caught.value.index == 2 and caught.value.source == os.fspath(paths[2])


def test_batches_of_neighbours_are_not_copied():
    """What lies side by side is one batch as it is; anything else is copied, in order."""
    X = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    for some in (range(6), range(2, 5), [3]):
        batch = as_batch([X[i] for i in some])
        np.testing.assert_array_equal(batch, X[list(some)])
        assert np.shares_memory(batch, X)
    other = X.copy()
    apart = [
        [X[i] for i in (0, 2, 4)],
        [X[1], X[0]],
        [X[0], other[1]],
        [X[0], X[0]],
        [one[:, ::-1] for one in X],
        [one[..., ::-1] for one in X],
        [one.copy() for one in X],
    ]
    X.flags.writeable = False
    for arrays in [*apart, list(X)]:
        batch = as_batch(arrays)
        np.testing.assert_array_equal(batch, np.stack(arrays))
        assert not np.shares_memory(batch, X)
    texts = [np.arange(12, dtype=np.int32).reshape(4, 3) + i for i in range(3)]
    np.testing.assert_array_equal(as_batch(texts), np.stack(texts))


def blas_threads():
    """Of each BLAS in this process."""
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


@pytest.fixture
def two_blas_threads():
    # Ended before the test begins: who has a limit of his own keeps it in other threads.
    original = threadpool_limits(2, user_api="blas")
    controller = getattr(threadpoolctl, "OpenBLASController", None)
    if hasattr(controller, "clear_controlling_thread"):
        controller.clear_controlling_thread(force=True)
    if blas_threads() != {2}:
        pytest.skip("a BLAS whose threads cannot be told")
    yield
    original.restore_original_limits()


def test_small_linear_models_leave_one_thread_to_blas(two_blas_threads):
    with blas_on_one_core(1e6):
        assert blas_threads() == {1}
        with blas_on_one_core(1e6):
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {2}
    with blas_on_one_core(1e12):
        assert blas_threads() == {2}
    with pytest.raises(ZeroDivisionError), blas_on_one_core(1e6):
        1 / 0  # noqa: B018
    assert blas_threads() == {2}


@pytest.mark.parametrize("order", ["first in, first out", "first in, last out"])
def test_blas_has_its_threads_back_after_several_at_a_time(order, two_blas_threads):
    begun, end = threading.Event(), threading.Event()

    def first():
        with blas_on_one_core(0):
            begun.set()
            end.wait(30)

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(30) and blas_threads() == {1}
    with blas_on_one_core(0):
        assert blas_threads() == {1}
        if order == "first in, first out":
            end.set()
            thread.join()
    end.set()
    thread.join()
    assert blas_threads() == {2}
    with blas_on_one_core(0):
        assert blas_threads() == {1}
    assert blas_threads() == {2}


@pytest.mark.parametrize("estimator", [
    FineTuneClassifier(image_size=32, max_epochs=1, random_state=0),
    AutoTransferClassifier(image_size=32, strategies=["probe", "layers"], cv=2),
    PixelClassifier(image_size=32),
])  # fmt: skip
def test_convex_fits_are_on_one_core(estimator, sample, two_blas_threads, monkeypatch):
    from sklearn.linear_model import LogisticRegression

    seen, real = [], LogisticRegression.fit

    def fit(self, *args, **kwargs):
        seen.append(blas_threads())
        return real(self, *args, **kwargs)

    monkeypatch.setattr(LogisticRegression, "fit", fit)
    some = np.flatnonzero(sample.target < 3)[:40]
    X, y = sample.data[some], sample.target[some]
    if isinstance(estimator, PixelClassifier):
        y = np.stack([np.full((32, 32), label % 3) for label in y])
    estimator.fit(X, y)
    assert seen and set().union(*seen) == {1} and blas_threads() == {2}
