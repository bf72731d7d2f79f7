"""One image, or a few, on all cores: the same codes, and never more threads than cores."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from common import relative

from sktransfer import CNNCodes, count_computed
from sktransfer.compute import _engine, available_cores
from sktransfer.compute._threads import CPU, Turns
from sktransfer.networks import load_backbone
from sktransfer.networks._layers import trace_cuts


@pytest.fixture
def cores():
    """Two threads, also beside other processes of tests, where torch has been given one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    if available_cores() == 1:
        torch.set_num_threads(threads)
        pytest.skip("needs two cores")
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_engines():
    _engine._engines.clear()


@pytest.fixture
def on_all_cores(monkeypatch):
    """Shapes of the batches that ran on all cores."""
    shapes = []

    def watch(kind):
        real = kind.run_on_all_cores

        def run(self, batch, *, exact):
            found = real(self, batch, exact=exact)
            if found is not None:
                shapes.append(batch.shape)
            return found

        monkeypatch.setattr(kind, "run_on_all_cores", run)

    from sktransfer.compute._openvino import OpenVinoEngine
    from sktransfer.compute._torch import TorchEngine

    watch(OpenVinoEngine)
    watch(TorchEngine)
    return shapes


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize("cache", [None, "memory"])
@pytest.mark.parametrize("layer", [None, ["blocks.1", "blocks.4"]])
def test_one_image_has_the_bits_it_has_among_others(cache, layer, sample, on_all_cores):
    pytest.importorskip("openvino")
    X = sample.data[:9]
    codes = CNNCodes(image_size=96, engine="openvino", layer=layer, cache=None).fit(X)
    together = codes.transform(X)
    assert not on_all_cores
    codes.set_params(cache=cache)
    for number in range(3):
        np.testing.assert_array_equal(codes.transform(X[number : number + 1])[0], together[number])
    assert on_all_cores == [(1, 96, 96, 3)] * 3


@pytest.mark.usefixtures("cores")
def test_torch_has_all_cores_where_nothing_is_kept(sample, on_all_cores):
    """Its last digits hang on the number of threads: they are in no cache, and in no long call."""
    X = sample.data[:9]
    codes = CNNCodes(image_size=96, engine="torch", cache="memory").fit(X)
    together = codes.transform(X)
    again = CNNCodes(image_size=96, engine="torch", cache="memory").fit(X[:1])
    np.testing.assert_array_equal(again.transform(X[:1])[0], together[0])
    assert not on_all_cores
    codes.set_params(cache=None)
    np.testing.assert_array_equal(codes.transform(X), together)
    assert not on_all_cores
    assert relative(codes.transform(X[:1])[0], together[0]) < 1e-5
    assert on_all_cores == [(1, 96, 96, 3)]


@pytest.mark.usefixtures("cores")
def test_other_bits_stay_out_of_the_cache(sample, monkeypatch):
    """On a processor where all cores give other bits than one, one core computes what is kept."""
    pytest.importorskip("openvino")
    from sktransfer.compute import _openvino

    X = sample.data[:2]
    codes = CNNCodes(image_size=32, engine="openvino", cache="memory").fit(X)
    expected = CNNCodes(image_size=32, engine="openvino", cache=None).fit_transform(X)
    infer = _openvino._infer

    def off_by_a_bit(request, batch):
        rows = infer(request, batch)
        wide = request in [one._wide for one in _engine._engines._kept.values()]
        return tuple(np.nextafter(one, np.inf) for one in rows) if wide else rows

    monkeypatch.setattr(_openvino, "_infer", off_by_a_bit)
    np.testing.assert_array_equal(codes.transform(X[:1])[0], expected[0])
    codes.set_params(cache=None)
    assert (codes.transform(X[:1])[0] != expected[0]).all()


@pytest.mark.usefixtures("cores")
def test_n_jobs_bounds_cores(sample, on_all_cores):
    codes = CNNCodes(image_size=32, cache=None, n_jobs=1).fit(sample.data[:1])
    codes.transform(sample.data[:1])
    assert not on_all_cores


def test_a_few_images_are_one_batch(sample, monkeypatch, on_all_cores):
    """As on a machine of six cores."""
    monkeypatch.setattr("sktransfer.compute._runner.available_cores", lambda: 6)
    monkeypatch.setattr("sktransfer.compute._openvino.available_cores", lambda: 6)
    pytest.importorskip("openvino")
    X = list(sample.data[:5])
    codes = CNNCodes(image_size=32, engine="openvino", cache=None).fit(X)
    with count_computed() as counter:
        found = codes.transform(X)
    assert (counter.n_items, counter.n_batches) == (5, 1)
    assert on_all_cores == [(5, 32, 32, 3)]
    # What cannot be read is told as ever, and the others are computed.
    X[2] = b"no image"
    with pytest.warns(UserWarning, match="1 of 5"):
        again = codes.set_params(on_error="nan").transform(X)
    assert np.isnan(again[2]).all()
    np.testing.assert_array_equal(again[[0, 1, 3, 4]], found[[0, 1, 3, 4]])
    # With others at work, each goes its own way.
    del on_all_cores[:]
    with CPU.one_core(), count_computed() as counter:
        np.testing.assert_array_equal(codes.transform(X)[3], found[3])
    assert (counter.n_items, counter.n_batches) == (4, 4) and not on_all_cores


def test_a_warm_estimator_compiles_nothing_more(sample, monkeypatch):
    pytest.importorskip("openvino")
    from sktransfer.compute import _openvino

    codes = CNNCodes(image_size=32, engine="openvino", cache=None).fit(sample.data[:1])
    codes.warm_up()
    monkeypatch.setattr(_openvino, "_compile", None)
    codes.transform(sample.data[:1])
    codes.transform(sample.data[:9])
    codes.set_params(cache="memory").transform(sample.data[:1])


def test_never_more_at_work_than_cores():
    """Threads that want all cores or one, at random: all is alone, and nobody waits for ever."""
    turns, lock, at_work = Turns(), threading.Lock(), []
    met, wide = set(), []

    def work(seed):
        draw = np.random.default_rng(seed)
        for _ in range(200):
            alone = False
            if draw.random() < 0.5:
                with turns.all_cores() as alone:
                    if alone:
                        with lock:
                            at_work.append("all")
                            met.add(tuple(at_work))
                        with lock:
                            at_work.remove("all")
                        wide.append(seed)
            if not alone:
                with turns.one_core():
                    with lock:
                        at_work.append("one")
                        met.add(tuple(at_work))
                    with lock:
                        at_work.remove("one")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert turns.is_free and wide
    assert all(some == ("all",) or set(some) == {"one"} for some in met)


def test_requests_at_once_get_the_same(sample):
    """Cold, from eight threads, of which some have all cores for a moment."""
    pytest.importorskip("openvino")
    X = sample.data[:16]
    codes = CNNCodes(image_size=64, engine="openvino", cache=None).fit(X)
    expected = codes.transform(X)
    _engine._engines.clear()
    gate = threading.Barrier(8, timeout=60)

    def ask(number):
        gate.wait()
        return [codes.transform(X[i : i + 1])[0] for i in range(number, 16, 8)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    for number in range(8):
        np.testing.assert_array_equal(found[number], expected[number::8])


@pytest.mark.slow
@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize(
    "name", ["efficientnet_lite0", "resnet18", "mobilenet_v2", "vit_tiny_patch16_224"]
)
def test_bits_of_networks_at_their_own_size(name):
    """What is only kept where it is found true: sums are shared out whole."""
    pytest.importorskip("openvino")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), np.uint8)
    weights = "default" if name == "efficientnet_lite0" else None
    cuts = trace_cuts(load_backbone(name, weights=weights), (224, 224))
    network = cuts.prefix([cuts.resolve(None)], "avg")
    from sktransfer.compute._engine import make_openvino

    engine = make_openvino(lambda: network, lambda: [pixels[:2]], "float32", None)
    (together,) = engine.run(pixels)
    for n in (1, 3):
        found = engine.run_on_all_cores(pixels[:n], exact=True)
        assert found is not None
        np.testing.assert_array_equal(found[0], together[:n])
    assert torch.isfinite(torch.from_numpy(together)).all()
