"""What is promised of a GPU; run with ``pytest -m gpu`` on a machine that has one."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
import torch
from common import relative
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from sktransfer import CNNCodes, FineTuneClassifier
from sktransfer.compute import resolve_devices, resolve_precision
from sktransfer.exceptions import EngineWarning, TrainingError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not (torch.cuda.is_available() or torch.backends.mps.is_available()), reason="no GPU"
    ),
]
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")


def test_auto_takes_the_gpu():
    assert resolve_devices("auto")[0].type == ("cuda" if torch.cuda.is_available() else "mps")


@cuda
def test_auto_precision_is_half_on_cuda():
    assert resolve_precision("auto", torch.device("cuda")) == "float16"


@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-3), ("auto", 1e-2)])
def test_codes_are_those_of_the_cpu(sample, precision, bound):
    X = sample.data[:64]
    cpu = CNNCodes(device="cpu", precision="float32", cache=None).fit_transform(X)
    gpu = CNNCodes(device="auto", precision=precision, cache=None).fit_transform(X)
    assert gpu.dtype == np.float32
    assert relative(gpu, cpu, axis=1).max() < bound


def test_a_pipeline_fitted_on_a_gpu_loads_without_one(sample, monkeypatch):
    X = sample.data[:8]
    codes = CNNCodes(device=resolve_devices("auto")[0].type, precision="float32", cache=None).fit(X)
    expected = codes.transform(X)
    content = pickle.dumps(codes)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.warns(EngineWarning, match="CPU"):
        found = pickle.loads(content).transform(X)
    assert relative(found, expected, axis=1).max() < 1e-3


@cuda
def test_a_batch_too_large_for_the_memory_is_halved(sample):
    codes = CNNCodes(batch_size=4096, image_size=224, cache=None, precision="float32")
    codes.fit(sample.data)
    expected = CNNCodes(batch_size=32, cache=None, precision="float32").fit_transform(sample.data)
    share = 3e9 / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        with pytest.warns(EngineWarning, match="images at a time"):
            found = codes.transform(sample.data)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert relative(found, expected, axis=1).max() < 1e-3


def test_threads_at_the_same_time(sample):
    X = sample.data[:96]
    codes = CNNCodes(cache=None).fit(X)
    expected, found = codes.transform(X), {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: codes.transform(X)})) for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    for rows in found.values():
        assert relative(rows, expected, axis=1).max() < 1e-2


def test_a_search_in_processes(sample, tmp_path):
    """Worker processes start CUDA themselves; a forked one could not."""
    X, y = sample.data[:60], sample.target[:60]
    pipe = Pipeline([("cnn", CNNCodes(cache=tmp_path)), ("svm", LinearSVC())])
    search = GridSearchCV(pipe, {"svm__C": [1e-4, 1e-3]}, cv=2, n_jobs=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("amp", ["auto", "float32"])
def test_a_loss_that_is_no_number_is_an_error(sample, amp):
    X, y = sample.data[:60], sample.target[:60]
    for lr in (1e6, 1e30):
        clf = FineTuneClassifier(image_size=64, max_epochs=3, lr=lr, amp=amp)
        with pytest.raises(TrainingError, match="diverged"):
            clf.fit(X, y)
