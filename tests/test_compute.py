"""The frozen pass, and the count of what was computed."""

from __future__ import annotations

import threading

import pytest

from sktransfer import CNNCodes, count_computed

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
