"""Workers of dask and ray in processes of their own, one of them killed half-way."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import joblib
import numpy as np
import pytest
from joblib import parallel_config
from PIL import Image
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from sktransfer import CNNCodes
from sktransfer.exceptions import ImageError, ImageSkippedWarning
from sktransfer.inputs import as_images
from sktransfer.store import DiskStore

distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")
db = pytest.importorskip("dask.bag")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs kill -9")


class Log(distributed.WorkerPlugin):
    """Writes what a worker does to a file: images that it computes, rows that it has kept."""

    name = "log"

    def __init__(self, path, pause=0.0):
        self.path, self.pause = os.fspath(path), pause

    def setup(self, worker):
        from sktransfer._lru import LRU
        from sktransfer.compute._torch import TorchEngine
        from sktransfer.networks._bundle import Bundle
        from sktransfer.networks._load import CACHE

        self.plain = TorchEngine.run, DiskStore.put_many, LRU.get, Bundle.unpack
        run, put, get, unpack = self.plain

        def logged_run(engine, pixels):
            self.write("run", [hashlib.sha256(one.tobytes()).hexdigest() for one in pixels])
            time.sleep(self.pause)
            return run(engine, pixels)

        def logged_put(store, space, keys, rows):
            put(store, space, keys, rows)
            self.write("kept", [key.hex() for key in keys])

        def logged_get(cache, key, load):
            if cache is not CACHE:  # of layers
                return get(cache, key, load)
            return get(cache, key, lambda: self.write("load", ["name"]) or load())

        def logged_unpack(bundle):
            self.write("load", ["bundle"])
            return unpack(bundle)

        TorchEngine.run, DiskStore.put_many = logged_run, logged_put
        LRU.get, Bundle.unpack = logged_get, logged_unpack

    def teardown(self, worker):
        from sktransfer._lru import LRU
        from sktransfer.compute._torch import TorchEngine
        from sktransfer.networks._bundle import Bundle

        TorchEngine.run, DiskStore.put_many, LRU.get, Bundle.unpack = self.plain

    def write(self, what, names):
        lines = "".join(f"{os.getpid()} {what} {name} {threading.get_ident()}\n" for name in names)
        with open(self.path, "a") as file:
            file.write(lines)


def lines_of(path, what=None):
    lines = [tuple(line.split()) for line in path.read_text().splitlines()]
    return [line for line in lines if what in (None, line[1])]


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(import_all)  # at the same time, so that both take part
        yield client


def import_all():
    CNNCodes(image_size=32, engine="torch", cache=None).fit_transform(
        np.zeros((1, 8, 8, 3), np.uint8)
    )


@pytest.fixture
def log(client, tmp_path):
    """Logs on the workers; gives a function that starts it and returns the file."""
    path = tmp_path / "log"
    path.touch()

    def start(**options):
        client.register_plugin(Log(path, **options))
        return path

    yield start
    client.unregister_worker_plugin("log")


def search(cache):
    pipe = Pipeline(
        [("cnn", CNNCodes(image_size=32, engine="torch", cache=cache)), ("svm", LinearSVC())]
    )
    return GridSearchCV(pipe, {"svm__C": [1e-4, 1e-3, 1e-2]}, cv=4)


def same_search(found, expected):
    scores = "mean_test_score"
    np.testing.assert_allclose(found.cv_results_[scores], expected.cv_results_[scores])
    assert found.best_params_ == expected.best_params_


@pytest.mark.slow
def test_a_grid_search_on_dask_costs_one_pass(client, log, sample, tmp_path):
    X, y = sample.data[:120], sample.target[:120]
    path = log(pause=0.1)
    with parallel_config(backend="dask"):
        found = search(tmp_path / "codes").fit(X, y)
    computed = lines_of(path, "run")  # by which of the two workers is up to dask
    assert len(X) <= len(computed) <= 1.1 * len(X)
    same_search(found, search("memory").fit(X, y))


def test_codes_of_an_array_on_two_workers(client, log, sample, passes):
    X, path = sample.data[:64], log(pause=0.1)  # time for both to take a chunk
    estimator = CNNCodes(image_size=32, engine="torch", cache=None)
    found = estimator.fit_transform(da.from_array(X, chunks=(8, 32, 32, 3))).compute()
    computed = lines_of(path, "run")
    assert len(computed) == len(X) and passes["images"] == 0
    assert len({process for process, *_ in computed}) == 2
    assert len({(process, thread) for process, *_, thread in computed}) == 2, "a thread each"
    np.testing.assert_allclose(found, estimator.transform(X), rtol=1e-4, atol=1e-5)


def test_errors_and_warnings_of_workers_arrive(client, tmp_path, sample):
    paths = [os.fspath(tmp_path / f"{i}.png") for i in range(12)]
    for path, pixels in zip(paths, sample.data, strict=False):
        Image.fromarray(pixels).save(path)
    (tmp_path / "7.png").write_bytes(b"no image")
    estimator = CNNCodes(image_size=32, engine="torch", cache=None)
    bag = db.from_sequence(paths, partition_size=4)
    with pytest.raises(ImageError, match=r"7\.png\).*item 3 of partition 1"):
        estimator.fit_transform(bag).compute()
    with pytest.warns(ImageSkippedWarning, match=r"7\.png"):
        rows = estimator.set_params(on_error="nan").fit_transform(bag).compute()
        time.sleep(0.5)  # the warning comes another way than the result
    assert np.isnan(rows).any(axis=1).tolist() == [i == 7 for i in range(12)]


def threads():
    from sktransfer.compute import available_cores, worker_pool

    return available_cores(), worker_pool()._max_workers


@pytest.mark.slow  # a cluster of its own
def test_a_network_is_loaded_once_and_threads_share_the_cores(sample, tmp_path):
    """One process that runs four tasks at a time, on no more threads than there are cores."""
    path = tmp_path / "log"
    path.touch()
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=4, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.register_plugin(Log(path, pause=0.05))
        X = da.from_array(sample.data[:64], chunks=(4, 32, 32, 3))
        estimator = CNNCodes(image_size=32, engine="torch", cache=None)
        estimator.fit_transform(X).compute()
        assert [name for *_, name, _ in lines_of(path, "load")] == ["name"]
        cores = client.submit(threads).result()
        computing = {thread for *_, thread in lines_of(path, "run")}
        estimator.set_params(bundle_weights=True).transform(X).compute()
    assert cores == (min(4, joblib.cpu_count()),) * 2
    assert 1 <= len(computing) <= cores[0]
    assert [name for *_, name, _ in lines_of(path, "load")] == ["name", "bundle"]


@pytest.mark.slow
def test_a_worker_killed_half_way(client, log, sample, tmp_path):
    """The result is complete and right, and no row that was kept is computed again."""
    X, path = sample.data[:240], log(pause=0.05)
    folder = tmp_path / "codes"
    estimator = CNNCodes(image_size=32, engine="torch", cache=folder, batch_size=8)
    lazy = estimator.fit_transform(da.from_array(X, chunks=(16, 32, 32, 3)))
    future = client.compute(lazy)
    while len(lines_of(path, "kept")) < len(X) // 3:
        time.sleep(0.01)
        assert future.status == "pending"
    before = lines_of(path)
    victim = int(before[-1][0])
    os.kill(victim, signal.SIGKILL)
    found = future.result(timeout=120)
    client.wait_for_workers(2)
    np.testing.assert_allclose(
        found,
        CNNCodes(image_size=32, engine="torch", cache=None).fit_transform(X),
        rtol=1e-4,
        atol=1e-5,
    )
    lines = lines_of(path)
    assert {int(process) for process, *_ in lines[len(before) :]} - {victim}
    key_of = {
        hashlib.sha256(image.tobytes()).hexdigest(): as_images([image]).open(0).digest.hex()
        for image in X
    }
    kept, again = set(), Counter()
    for _, what, name, _ in lines:
        if what == "kept":
            kept.add(name)
        elif what == "run":  # a new worker also loads the network
            assert key_of[name] not in kept
            again[name] += 1
    assert len(again) == len(X)
    assert sum(again.values()) <= len(X) + 16, "what was under way, a batch at a time, at most"
    assert DiskStore(folder).info().rows == len(X)


def write_part(estimator, folder, number, part):
    """As on the page on many machines."""
    report = estimator.transform_to(folder / f"{number:05d}.npy", part)
    return report.n_new, report.n_known


@pytest.mark.slow
def test_a_file_for_each_part_where_a_worker_is_killed(client, log, sample, tmp_path):
    """Another resumes its part: no row that was noted is computed again."""
    parts = np.array_split(sample.data[:160], 4)
    estimator = CNNCodes(image_size=32, engine="torch", cache=None, batch_size=4).fit(parts[0][:1])
    path, folder = log(pause=0.1), tmp_path / "codes"
    folder.mkdir()
    asked = [client.submit(write_part, estimator, folder, *one) for one in enumerate(parts)]
    while len(lines_of(path, "run")) < 60:
        time.sleep(0.01)
    victim = int(lines_of(path, "run")[-1][0])
    os.kill(victim, signal.SIGKILL)
    reports = client.gather(asked)
    client.wait_for_workers(2)
    assert all(new + known == 40 for new, known in reports)
    assert any(known for _, known in reports), "a part was resumed"
    again = Counter(name for _, _, name, _ in lines_of(path, "run"))
    assert len(again) == 160 and sum(again.values()) <= 160 + 8, "a batch or two, at most"
    found = np.concatenate([np.load(file) for file in sorted(folder.glob("*.npy"))])
    np.testing.assert_allclose(found, estimator.transform(sample.data[:160]), rtol=1e-4, atol=1e-5)
    assert not list(folder.glob("*.partial"))


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("OMP_NUM_THREADS", raising=False)  # dask leaves it behind
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else it writes a token into the home folder
        ray = pytest.importorskip("ray")
        counts = tmp_path_factory.mktemp("ray") / "counts"
        counts.touch()
        variables = {
            "PYTHONPATH": os.pathsep.join([os.fspath(Path(__file__).parent), *sys.path]),
            "SKTRANSFER_TEST_COUNT": os.fspath(counts),
        }
        patch.setenv("SKTRANSFER_TEST_COUNT", variables["SKTRANSFER_TEST_COUNT"])
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=100 * 2**20,
            runtime_env={"env_vars": variables},
        )
        yield ray
        ray.shutdown()


@pytest.mark.slow  # a cluster takes seconds to start
def test_a_grid_search_on_ray_costs_one_pass(ray, sample, tmp_path, monkeypatch):
    from ray.util.joblib import register_ray
    from test_codes_search import CountingCodes

    from sktransfer.compute._torch import TorchEngine

    monkeypatch.setattr(TorchEngine, "run", TorchEngine.run)  # so that the counting ends here
    register_ray()
    X, y = sample.data[:120], sample.target[:120]
    found = search(tmp_path / "codes")
    found.estimator.set_params(
        cnn=CountingCodes(image_size=32, engine="torch", cache=tmp_path / "codes")
    )
    with parallel_config(backend="ray", n_jobs=-1):
        found.fit(X, y)
    counted = Path(os.environ["SKTRANSFER_TEST_COUNT"]).read_text().split()
    assert str(os.getpid()) not in counted[::2]
    assert len(X) <= sum(map(int, counted[1::2])) <= 1.1 * len(X)
    same_search(found, search("memory").fit(X, y))


@pytest.mark.slow
def test_a_file_for_each_part_by_tasks_of_ray(ray, sample, tmp_path):
    parts = np.array_split(sample.data[:60], 3)
    estimator = CNNCodes(image_size=32, engine="torch", cache=None).fit(parts[0][:1])
    write = ray.remote(write_part).options(num_cpus=1, max_retries=3)
    asked = [write.remote(estimator, tmp_path, *one) for one in enumerate(parts)]
    assert ray.get(asked) == [(20, 0)] * 3
    # Run again as after the loss of the whole cluster: all rows are there.
    asked = [write.remote(estimator, tmp_path, *one) for one in enumerate(parts)]
    assert ray.get(asked) == [(0, 20)] * 3
    found = np.concatenate([np.load(file) for file in sorted(tmp_path.glob("*.npy"))])
    np.testing.assert_allclose(found, estimator.transform(sample.data[:60]), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_threads_of_ray_are_its_share(ray):
    cores = ray.remote(threads)
    assert ray.get(cores.options(num_cpus=1).remote())[0] == 1
    assert ray.get(cores.options(num_cpus=2).remote())[0] == min(2, joblib.cpu_count())


@pytest.mark.slow
def test_the_page_on_many_machines_runs_on_ray(ray, sample, tmp_path, monkeypatch):
    page = Path(__file__).parents[1] / "docs" / "how_to" / "many_machines.md"
    (code,) = re.findall(r"^```py\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    paths = [os.fspath(tmp_path / f"{i}.png") for i in range(40)]
    for path, pixels in zip(paths, sample.data, strict=False):
        Image.fromarray(pixels).save(path)
    names = {"paths": paths}
    exec(compile(code, str(page), "exec"), names)
    import pandas

    rows = pandas.read_parquet(tmp_path / "codes_of_ray")
    expected = CNNCodes(cache=None).fit_transform(paths)
    order = np.argsort([paths.index(path) for path in rows["path"]])
    np.testing.assert_allclose(np.stack(rows["codes"])[order], expected, rtol=1e-4, atol=1e-5)
