"""What searches cost, counted in images that go through the network."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed, parallel_config
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC
from torch import nn

from sktransfer import CNNCodes
from sktransfer.exceptions import EngineError
from sktransfer.inputs import as_images
from sktransfer.store import DiskStore, MemoryStore, Store


@pytest.fixture
def photos(sample):
    return sample.data[:60], sample.target[:60]


def image_key(pixels):
    return as_images(pixels[None]).open(0).digest


def search(grid, cv=3, **parameters):
    pipe = Pipeline([("cnn", CNNCodes(image_size=32, **parameters)), ("svm", LinearSVC())])
    return GridSearchCV(pipe, grid, cv=cv)


def test_a_grid_search_costs_one_pass(photos, passes):
    X, y = photos
    search({"svm__C": [1e-4, 1e-3, 1e-2]}, cv=5).fit(X, y)
    assert passes["images"] == len(X)


def test_without_a_cache_it_costs_sixteen(photos, passes):
    """3 candidates of 5 folds put each image through 15 times, and the refit once more."""
    X, y = photos
    search({"svm__C": [1e-4, 1e-3, 1e-2]}, cv=5, cache=None).fit(X, y)
    assert passes["images"] == 16 * len(X)


# -3 is conv_head.
LAYERS = ["blocks.2", "blocks", None, ["blocks.4", "conv_head"], -3, "classifier"]


@pytest.mark.parametrize(("cache_layers", "bound"), [("auto", 2), ("all", 1), ("asked", 5)])
def test_a_search_over_layers_costs_two_passes_at_most(photos, passes, cache_layers, bound):
    X, y = photos
    grid = {"cnn__layer": LAYERS, "svm__C": [1e-3, 1e-2]}
    found = search(grid, cv=2, cache_layers=cache_layers).fit(X, y)
    assert passes["images"] == bound * len(X)
    # The codes that came out of the store are those of a fresh computation.
    for layer in LAYERS:
        kept = CNNCodes(image_size=32, layer=layer).fit_transform(X[:9])
        fresh = CNNCodes(image_size=32, layer=layer, cache=None).fit_transform(X[:9])
        np.testing.assert_allclose(kept, fresh, rtol=1e-3, atol=1e-4)
    assert found.best_estimator_.predict(X).shape == y.shape
    assert passes["images"] == bound * len(X) + 9 * len(LAYERS)


def test_candidates_may_be_whole_estimators(photos, passes, tmp_path):
    X, y = photos
    candidates = [CNNCodes(image_size=32, layer=one, cache=tmp_path) for one in LAYERS]
    search({"cnn": candidates}, cv=2).fit(X, y)
    assert passes["images"] == 2 * len(X)


def test_layers_that_have_no_number_cost_two_passes(sample, passes):
    """Sums within residual blocks are reached by name."""
    X = sample.data[:4]
    mine = {"backbone": "resnet18", "weights": None, "preprocessing": "default", "image_size": 32}
    for layer in ("layer1.0.add", "layer2.0.add", "layer3", "layer4.1.add", None):
        CNNCodes(**mine, layer=layer).fit_transform(X)
    assert passes["images"] == 2 * len(X)


@pytest.fixture
def convolutions():
    """The convolutions that ran, in torch."""
    ran = []

    def note(module, args):
        if isinstance(module, nn.Conv2d):
            ran.append(module)

    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    yield ran
    hook.remove()


@pytest.mark.parametrize("layers", [["blocks.1"], ["blocks.1", None]])
def test_what_a_search_chose_computes_nothing_behind_its_layer(photos, convolutions, layers):
    X, y = photos
    found = search({"cnn__layer": layers}, cv=2, engine="torch").fit(X[:40], y[:40])
    best = found.best_estimator_.set_params(cnn__layer="blocks.1").fit(X[:40], y[:40])
    alike = CNNCodes(image_size=32, engine="torch", layer="blocks.1")
    assert vars(clone(best["cnn"])) == vars(alike)
    convolutions.clear()
    best.predict(X[40:48])
    searched = len(convolutions)
    convolutions.clear()
    alike.set_params(cache=None).fit(X).transform(X[48:56])
    assert searched == len(convolutions) > 0
    restored = pickle.loads(pickle.dumps(best))
    convolutions.clear()
    restored.predict(X[56:])
    # A batch of the half size: the same number of convolutions.
    assert len(convolutions) in (searched // 2, searched)


def test_all_layers_are_kept_only_where_the_store_can_hold_them(photos, passes):
    X = photos[0][:8]
    store = MemoryStore(8 * 4 * 10_000)  # all layers of an image are some 18,000 numbers
    for layer in (None, "blocks", "blocks.2"):
        CNNCodes(image_size=32, layer=layer, cache=store).fit_transform(X)
    assert passes["images"] == 3 * len(X)


def test_a_store_of_ones_own_needs_nothing_new(photos, passes):
    """`knows` and `discard` are there for stores that had been written before them."""

    class Plain(Store):
        def __init__(self):
            self.rows = {}

        def get_many(self, space, keys):
            return [self.rows.get((space, key)) for key in keys]

        def put_many(self, space, keys, rows):
            self.rows.update({(space, key): row for key, row in zip(keys, rows, strict=True)})

        def claim(self, space, keys):
            return [True] * len(keys)

        def release(self, space, keys): ...

        def wait(self, space, keys, timeout=None):
            return True

        def clear(self, space=None): ...

        def info(self): ...

    X, store = photos[0][:8], Plain()
    for layer in LAYERS:
        CNNCodes(image_size=32, layer=layer, cache=store).fit_transform(X)
    assert passes["images"] == 2 * len(X)


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize(
    "wrong",
    [
        np.float32(0.5),
        np.zeros(1, np.float32),
        np.zeros(640, np.float32),
        np.zeros((1280, 1), np.float32),
        np.zeros(1280, np.float64),
        np.zeros(1280, np.float16),
        np.zeros(1280, bool),
        np.full(1280, np.nan, np.float32),
        np.append(np.zeros(1279, np.float32), np.float32(np.inf)),
    ],
    ids=lambda row: f"{row.dtype}-{row.shape}-{row.ravel()[-1]}",
)
@pytest.mark.filterwarnings("ignore:.*not codes of this network")
def test_rows_that_are_no_codes_are_computed_again(sample, passes, tmp_path, cache, wrong):
    X = sample.data[:2]
    store = DiskStore(tmp_path) if cache == "disk" else MemoryStore()
    codes = CNNCodes(image_size=32, cache=store).fit(X)
    right = codes.transform(X)
    (space,) = store.info().spaces
    rows = store.get_many(space, keys := [image_key(one) for one in X])
    assert all(row is not None for row in rows)
    store.clear()
    store.put_many(space, keys, [np.asarray(wrong)] * 2)
    for _ in range(2):
        np.testing.assert_array_equal(codes.transform(X), right)
        assert passes["images"] == 4


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize(
    ("first", "then"),
    [
        (None, ["blocks.4", None]),
        ("blocks.4", ["blocks.4", None]),
        (["blocks.3", "blocks.4"], ["blocks.4", "blocks.3"]),
        (["blocks.3", "blocks.4"], ["blocks.2", "blocks.4"]),
    ],
)
def test_layers_of_which_some_are_known(sample, tmp_path, cache, first, then):
    """Codes of one layer are in the store, those of the other are not."""
    store = tmp_path if cache == "disk" else "memory"
    X = sample.data[:6]
    CNNCodes(image_size=32, layer=first, cache=store).fit_transform(X[:4])
    found = CNNCodes(image_size=32, layer=then, cache=store).fit_transform(X)
    fresh = CNNCodes(image_size=32, layer=then, cache=None).fit_transform(X)
    np.testing.assert_allclose(found, fresh, rtol=1e-4, atol=1e-5)


def test_a_store_that_grants_nothing_does_not_stop_the_work(sample, passes):
    class Stubborn(MemoryStore):
        def claim(self, space, keys):
            return [False] * len(keys)

    X = sample.data[:6]
    store = Stubborn(2**20)
    found = CNNCodes(image_size=32, cache=store).fit_transform(X)
    assert passes["images"] == len(X)
    fresh = CNNCodes(image_size=32, cache=None).fit_transform(X)
    np.testing.assert_allclose(found, fresh, rtol=1e-4, atol=1e-5)


def test_one_layer_asked_for_in_the_constructor_does_not_run_later_ones(photos):
    from sktransfer.compute._torch import TorchEngine

    codes = CNNCodes(image_size=32, layer="blocks.2", engine="torch").fit(photos[0])
    widths = []
    plain = TorchEngine.run

    def run(self, pixels):
        outputs = plain(self, pixels)
        widths.append([out.shape[1] for out in outputs])
        return outputs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TorchEngine, "run", run)
        codes.transform(photos[0][:8])
        clone(codes).set_params(cache_layers="asked").fit_transform(photos[0][8:16])
        assert widths and all(found == [40] for found in widths)
        widths.clear()
        clone(codes).set_params(cache_layers="all").fit_transform(photos[0][16:24])
        assert all(len(found) > 20 for found in widths)


@pytest.mark.slow  # many networks
def test_resize_weights_and_pooling_are_not_mixed_up_in_the_store(sample, passes):
    X = sample.data[:3, :20]  # wide, so that resize modes differ
    seen = []
    for parameters in (
        {},
        {"image_size": 64},
        {"resize": "squash"},
        {"pooling": "max", "layer": "blocks"},
        {"layer": "blocks"},
        {"weights": None},
        {"resize": "crop"},
        {"resize": "crop", "crop_pct": 1.0},
        {"preprocessing": {"image_size": 224, "mean": 0.4, "std": 0.2}},
    ):
        seen.append(CNNCodes(**{"image_size": 96, **parameters}).fit_transform(X))
    assert passes["images"] == len(seen) * len(X)
    for i, one in enumerate(seen):
        for other in seen[i + 1 :]:
            assert one.shape != other.shape or not np.allclose(one, other)


def test_the_same_image_twice_is_computed_once(sample, passes):
    X = sample.data[[0, 1, 0, 0, 1]]
    codes = CNNCodes(image_size=32).fit_transform(X)
    assert passes["images"] == 2
    np.testing.assert_array_equal(codes[[0, 1]], codes[[3, 4]])


@pytest.mark.slow
def test_a_store_on_disk_serves_the_next_run(photos, passes, tmp_path):
    X, y = photos
    pipe = make_pipeline(CNNCodes(image_size=32, cache=tmp_path / "codes"), LinearSVC())
    cross_val_score(pipe, X, y, cv=3)
    assert passes["images"] == len(X)
    script = f"""
        import sys
        sys.path.insert(0, {os.fspath(os.getcwd())!r})
        from sktransfer import CNNCodes
        from sktransfer.datasets import load_cifar10_sample
        from sktransfer.compute._openvino import OpenVinoEngine
        from sktransfer.compute._torch import TorchEngine
        TorchEngine.run = OpenVinoEngine.run = None  # any pass through the network fails
        X = load_cifar10_sample().data[:60]
        codes = CNNCodes(image_size=32, cache={os.fspath(tmp_path / "codes")!r}).fit_transform(X)
        print(codes.shape, codes.sum())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(60, 1280)")


def test_threads_share_one_pass(photos, passes):
    X, y = photos
    with parallel_config(backend="threading"):
        search({"svm__C": [1e-4, 1e-3, 1e-2]}).set_params(n_jobs=3).fit(X, y)
    assert passes["images"] == len(X)


@pytest.mark.slow
def test_ctrl_c_leaves_what_was_finished(tmp_path):
    """SIGINT after the third batch: the batches that were finished are in the store."""
    folder = os.fspath(tmp_path / "codes")
    script = f"""
        import os, signal
        from sktransfer import CNNCodes
        from sktransfer.datasets import load_cifar10_sample
        from sktransfer.compute._torch import TorchEngine
        plain, batches = TorchEngine.run, []
        def run(self, pixels):
            batches.append(len(pixels))
            if len(batches) == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return plain(self, pixels)
        TorchEngine.run = run
        X = load_cifar10_sample().data
        CNNCodes(image_size=32, batch_size=8, cache={folder!r}, engine="torch").fit_transform(X)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "KeyboardInterrupt" in done.stderr
    rows = DiskStore(folder).info().rows
    assert 16 <= rows < 400 and rows % 8 == 0


class CountingCodes(CNNCodes):
    """Writes the number of images of each batch to a file, from whichever process."""

    def transform(self, X):
        from sktransfer.compute._torch import TorchEngine

        plain = TorchEngine.run
        if not getattr(plain, "counts", False):

            def run(engine, pixels):
                if place := os.environ.get("SKTRANSFER_TEST_COUNT"):  # else its test is over
                    with open(place, "a") as file:
                        file.write(f"{os.getpid()} {len(pixels)}\n")
                return plain(engine, pixels)

            run.counts = True
            TorchEngine.run = run
        return super().transform(X)


def warm_up(seconds):
    """Load the network in a worker; say which worker it was."""
    CNNCodes(image_size=32, cache=None).fit_transform(np.zeros((1, 8, 8, 3), np.uint8))
    time.sleep(seconds)
    return os.getpid()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cache", "grid", "bound"),
    [
        ("disk", {"svm__C": [1e-4, 1e-3, 1e-2]}, 1.1),
        ("memory", {"svm__C": [1e-4, 1e-3, 1e-2]}, 2.0),
        ("disk", {"cnn__layer": [None, "blocks", "blocks.2", "blocks.4", "conv_head"]}, 2.1),
    ],
)
def test_two_processes(sample, tmp_path, monkeypatch, cache, grid, bound):
    """Both processes share a store on disk; in memory each makes passes of its own."""
    import joblib.externals.loky

    counts = tmp_path / "counts"
    monkeypatch.setenv("SKTRANSFER_TEST_COUNT", str(counts))
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)
    X, y = sample.data[:200], sample.target[:200]
    store = tmp_path / "codes" if cache == "disk" else "memory"
    # Both workers have torch imported before the search starts, so that both take part.
    assert len(set(Parallel(n_jobs=2)(delayed(warm_up)(1.0) for _ in range(8)))) == 2
    cnn = CountingCodes(image_size=32, cache=store, engine="torch")
    pipe = Pipeline([("cnn", cnn), ("svm", LinearSVC())])
    found = GridSearchCV(pipe, grid, cv=5, n_jobs=2, refit=False)
    found.fit(X, y)
    lines = [line.split() for line in counts.read_text().splitlines()]
    assert len({process for process, _ in lines}) == 2
    total = sum(int(number) for _, number in lines)
    assert len(X) <= total <= bound * len(X)
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_which_pass_came_first_shows_in_the_last_digits_alone(sample, engine):
    """What lies between two layers cannot be merged where both are wanted."""
    if engine == "openvino":
        pytest.importorskip("openvino")
    X = sample.data[:8]
    for layer in ("conv_stem", "blocks.1.0.conv_pw", "blocks.3", None):
        narrow, wide = (
            CNNCodes(
                image_size=32, layer=layer, engine=engine, cache=MemoryStore(), cache_layers=keep
            ).fit_transform(X)
            for keep in ("asked", "all")
        )
        assert np.linalg.norm(narrow - wide) <= 1e-5 * np.linalg.norm(wide)


def test_class_tokens_of_many_blocks_cost_two_passes(sample, passes):
    X = sample.data[:4]
    codes = CNNCodes(
        "timm:vit_tiny_patch16_224",
        weights=None,
        preprocessing="default",
        image_size=32,
        pooling="token",
        engine="torch",
    )
    for layer in ("blocks.0", "blocks.3", "blocks.7", "blocks.11"):
        found = clone(codes).set_params(layer=layer).fit_transform(X)
        fresh = clone(codes).set_params(layer=layer, cache=None).fit_transform(X)
        np.testing.assert_allclose(found, fresh, rtol=1e-4, atol=1e-5)
    assert passes["images"] == (2 + 4) * len(X)


class Windows(nn.Module):
    """Puts the windows of all images into one axis between two layers, as Swin does."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 4, 1)
        self.third, self.fc = nn.Conv2d(4, 6, 1), nn.Linear(6, 2)

    def forward(self, x):
        x = self.first(x)
        x = self.second(x.reshape(-1, 4, 4, 4))
        x = self.third(x.reshape(-1, 4, 8, 8))
        return self.fc(x.mean((2, 3)))


def test_layers_between_which_images_are_cut_into_windows_cost_two_passes(sample, passes):
    X = sample.data[:4]
    mine = CNNCodes(Windows(), preprocessing={"image_size": 32, "mean": 0.5, "std": 0.5},
                    engine="torch")  # fmt: skip
    for layer in ("first", "third", "fc", None):
        found = clone(mine).set_params(layer=layer).fit_transform(X)
        fresh = clone(mine).set_params(layer=layer, cache=None).fit_transform(X)
        np.testing.assert_allclose(found, fresh, rtol=1e-4, atol=1e-5)
    assert passes["images"] == (2 + 4) * len(X)


def test_numbers_that_are_none_in_a_layer_nobody_asked_for_stop_nothing(sample, passes):
    X = sample.data[:4]
    net = Windows()
    with torch.no_grad():
        net.fc.weight[0, 0] = 3e38
        net.third.bias[0] = 1e3
    mine = CNNCodes(net, preprocessing={"image_size": 32, "mean": 0.5, "std": 0.5},
                    engine="torch", cache_layers="all")  # fmt: skip
    for layer in ("first", "third"):
        assert np.isfinite(clone(mine).set_params(layer=layer).fit_transform(X)).all()
    assert passes["images"] == len(X)
    with pytest.raises(EngineError, match="layer 'output'"):
        clone(mine).set_params(layer="fc").fit_transform(X)
