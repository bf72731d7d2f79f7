"""Networks on their way to other processes: what files hold, and what loading them may do."""

from __future__ import annotations

import copy
import os
import pickle
import pickletools
import subprocess
import sys
import textwrap
import threading
from functools import partial

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from torch import fx, nn

from sktransfer import AutoTransferClassifier, CNNCodes, FineTuneClassifier, FineTuneRegressor
from sktransfer.exceptions import BackboneError, SktransferWarning, UnknownBackboneError
from sktransfer.networks import _bundle, load_backbone, register_backbone
from sktransfer.networks._registry import REGISTERED, Registration, architecture_of
from sktransfer.networks._timm import HubArchitecture

FACTS = {"image_size": 32, "mean": 0.5, "std": 0.25}
QUICK = {"max_epochs": 1, "random_state": 0, "trainable": "head"}


class Small(nn.Module):
    """A network of one's own, with tensors in every place that a tensor may be in."""

    def __init__(self, factor=2.0):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 2)
        self.factors = [torch.full((1,), factor)]
        self.small = torch.ones(1, dtype=torch.bfloat16)
        self.register_buffer("shift", torch.ones(1), persistent=False)

    def forward(self, image):
        maps = self.norm(self.conv(image)) * self.factors[0] + self.shift
        return self.head(maps.mean((2, 3)))


def build():
    return Small()


def trebled():
    return Small(3.0)


@pytest.fixture(scope="module")
def photos(sample):
    return sample.data[:24], np.arange(24) % 2


def answers(estimator, X):
    method = "transform" if isinstance(estimator, CNNCodes) else "predict"
    return getattr(estimator, method)(X)


ESTIMATORS = {
    "named": lambda: CNNCodes(image_size=32),
    "bundled": lambda: CNNCodes("squeezenet1_1", weights=None, image_size=32, bundle_weights=True),
    "module": lambda: CNNCodes(Small(), preprocessing=FACTS),
    "half": lambda: CNNCodes(Small().half(), preprocessing=FACTS),
    "classifier": lambda: FineTuneClassifier(image_size=32, **QUICK),
    "of a module": lambda: FineTuneClassifier(Small(), preprocessing=FACTS, **QUICK),
    "bundled classifier": lambda: FineTuneClassifier(
        "squeezenet1_1", weights=None, image_size=32, bundle_weights=True, **QUICK
    ),
    "regressor": lambda: FineTuneRegressor(Small(), preprocessing=FACTS, **QUICK),
    "automatic": lambda: AutoTransferClassifier(image_size=32, time_budget=1, cv=2),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_are_the_same_in_every_format(name, photos):
    sio = pytest.importorskip("skops.io")
    X, y = photos
    estimator = ESTIMATORS[name]().fit(X, y)
    expected = answers(estimator, X)
    content = sio.dumps(estimator)
    types = sio.get_untrusted_types(data=content)
    # Each class is seen before it is loaded, and there is no pickle.
    assert ("torch.nn.modules.conv.Conv2d" in types) == ("module" in name or name in (
        "half", "regressor"))  # fmt: skip
    assert not any("pickle" in one for one in types)
    for loaded in (
        pickle.loads(pickle.dumps(estimator)),
        copy.deepcopy(estimator),
        sio.loads(content, trusted=types),
    ):
        np.testing.assert_array_equal(answers(loaded, X), expected)
        again = pickle.loads(pickle.dumps(copy.deepcopy(loaded)))
        np.testing.assert_array_equal(answers(again, X), expected)


def test_networks_by_name_are_arrays(photos):
    codes = ESTIMATORS["bundled"]().fit(photos[0])
    content = pickle.dumps(codes)
    names = {str(argument) for _, argument, _ in pickletools.genops(content)}
    assert not any(name.startswith(("torch.", "torchvision.", "timm.")) for name in names)


def test_graphs_travel_in_pickles(photos):
    codes = CNNCodes(fx.symbolic_trace(Small()), preprocessing=FACTS).fit(photos[0])
    loaded = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(codes))))
    np.testing.assert_array_equal(loaded.transform(photos[0]), codes.transform(photos[0]))
    with pytest.raises(BackboneError, match=r"program of torch\.fx"):
        codes.__getstate__()["_network"].network.__getstate__()


def test_repositories_travel_with_their_description(monkeypatch):
    config = {"architecture": "test_vit", "num_classes": 3, "pretrained_cfg": {
        "input_size": [3, 160, 160], "mean": [0.5] * 3, "std": [0.5] * 3}}  # fmt: skip
    architecture = HubArchitecture("somebody/net", config)
    module = architecture.random()
    backbone = load_backbone("timm:test_vit", weights=None)
    facts = {"reference": architecture.reference, "architecture": architecture, "module": module}
    backbone = type(backbone)(**{**vars(backbone), **facts})
    bundle = pickle.loads(pickle.dumps(_bundle.Bundle.pack(backbone)))
    monkeypatch.setattr("sktransfer.networks._timm.hub_file", None)  # nothing is fetched
    found = bundle.unpack()
    assert found.architecture.describe() == architecture.describe()
    assert architecture_of(found.architecture.describe()).identity == architecture.identity
    for name, value in module.state_dict().items():
        assert value.equal(found.module.state_dict()[name])


class Evil:
    """Leaves a file behind wherever it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_files_that_were_looked_through_run_no_code(photos, tmp_path):
    """Honest types, but in one of them a pickle where earlier versions loaded one unseen."""
    sio = pytest.importorskip("skops.io")
    mark = tmp_path / "mark"
    codes = CNNCodes(Small(), preprocessing=FACTS).fit(photos[0])
    honest = set(sio.get_untrusted_types(data=sio.dumps(codes)))
    home = {"__module__": _bundle.__name__}
    hidden = type("PackedModule", (), home)()
    hidden.content = pickle.dumps(Evil(os.fspath(mark)))
    plainly = {"__getstate__": lambda self: dict(vars(self)), "__module__": CNNCodes.__module__}
    bundle = _bundle.Bundle.pack(codes._network)
    for change in (
        {"_network": _bundle.Bundle(bundle.facts, None, hidden)},
        {"_network": hidden},
        {"backbone": hidden},
        {"_registrations": [hidden]},
    ):
        bad = object.__new__(type("CNNCodes", (CNNCodes,), plainly))
        bad.__dict__.update({**vars(codes), "backbone": "resnet18", "_network": bundle, **change})
        content = sio.dumps(bad)
        types = sio.get_untrusted_types(data=content)
        assert set(types) <= honest
        if "_registrations" in change:
            sio.loads(content, trusted=types).transform(photos[0])
        else:
            with pytest.raises((BackboneError, AttributeError)):
                sio.loads(content, trusted=types).transform(photos[0])
        assert not mark.exists()


def hide_a_module_by_value(content):
    codes = CNNCodes(Small(), preprocessing=FACTS)
    codes.fit(np.zeros((2, 32, 32, 3), np.uint8))
    bundle = _bundle.Bundle.pack(codes._network)
    bundle.network.module.__dict__["extra"] = _bundle._ByValue(content)
    return bundle


def hide_a_registration(content):
    register_backbone("evil", build, preprocessing=FACTS)
    hidden = Registration("evil", content)
    bundle = hide_a_module_by_value(b"")
    bundle.network.module.__dict__["extra"] = hidden
    return bundle


@pytest.mark.parametrize("hide", [hide_a_module_by_value, hide_a_registration])
def test_nothing_holds_code_that_came_as_attributes(hide, registered, tmp_path, monkeypatch):
    """A writer may leave out every check; who reads sees honest types and must be safe."""
    sio = pytest.importorskip("skops.io")
    mark = tmp_path / "mark"
    bundle = hide(pickle.dumps(Evil(os.fspath(mark))))
    with monkeypatch.context() as writer:
        for kind in (_bundle._ByValue, Registration, _bundle.PackedModule):
            writer.setattr(kind, "__reduce__", object.__reduce__, raising=False)
            writer.setattr(kind, "__reduce_ex__", object.__reduce_ex__, raising=False)
            writer.setattr(kind, "__getstate__", attributes_of, raising=False)
        content = sio.dumps(bundle)
    types = sio.get_untrusted_types(data=content)
    assert all(one.startswith(("torch.", "sktransfer.", __name__)) for one in types)
    with pytest.raises(BackboneError, match="Do not load the file"):
        sio.loads(content, trusted=types).unpack()
    assert not mark.exists()


def attributes_of(value):
    names = ("_content", "name", "module")
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def test_programs_that_came_as_attributes_are_refused():
    net = Small()
    net.extra = {"one": [fx.symbolic_trace(nn.Sequential(nn.ReLU()))]}
    with pytest.raises(BackboneError, match="Do not load the file"):
        object.__new__(_bundle.PackedModule).__setstate__({"module": net})


def test_copies_load_nothing(registered, tmp_path):
    mark = tmp_path / "mark"
    content = pickle.dumps(Evil(os.fspath(mark)))
    register_backbone("evil", build, preprocessing=FACTS)
    for one in (_bundle._ByValue(content), Registration("evil", content)):
        assert copy.copy(one) is one and copy.deepcopy([one])[0] is one
    assert not mark.exists()


@pytest.mark.parametrize("where", ["attribute", "partial", "hook"])
def test_functions_without_a_name_are_no_part_of_files_without_pickles(where, photos):
    sio = pytest.importorskip("skops.io")
    net = Small()
    if where == "hook":
        net.conv.register_forward_hook(lambda module, given, result: result)
    else:
        net.act = (lambda x: x) if where == "attribute" else partial(lambda x: x)
    codes = CNNCodes(net, preprocessing=FACTS).fit(photos[0])
    pickle.loads(pickle.dumps(codes)).transform(photos[0])
    with pytest.raises(BackboneError, match=r"cannot be found by its name\. Define it at"):
        sio.dumps(codes)


def test_a_module_is_no_builder(registered):
    with pytest.raises(ValueError, match="Pass a function that builds it"):
        register_backbone("one", Small(), preprocessing=FACTS)


def test_names_that_are_code_are_refused(photos, tmp_path):
    """torch.fx writes them into a program, which it runs."""
    mark = tmp_path / "mark"
    code = f'x"), open({os.fspath(mark)!r}, "w'
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 900, 2))
    net._modules = {code: net[0], **dict(list(net._modules.items())[1:])}
    with pytest.raises(BackboneError, match="must hold no quotes"):
        CNNCodes(net, preprocessing=FACTS).fit(photos[0])
    backbone = load_backbone(Small(), preprocessing=FACTS)
    backbone.module.conv._buffers[code] = torch.ones(1)
    with pytest.raises(BackboneError, match="must hold no quotes"):
        _bundle.Bundle.pack(backbone).unpack()
    assert not mark.exists()


def test_modules_that_cannot_be_pickled(photos):
    for change, message in [
        (lambda net: setattr(net, "file", open(os.devnull)), "cannot be"),
        (lambda net: setattr(net, "lock", threading.Lock()), "cannot be"),
        (lambda net: nn.utils.parametrize.register_parametrization(net.conv, "weight", nn.ReLU()),
         "remove_parametrizations"),
    ]:  # fmt: skip
        net = Small()
        change(net)
        with pytest.raises(BackboneError, match=message):
            pickle.dumps(CNNCodes(net, preprocessing=FACTS))


def test_classes_without_an_importable_name(photos):
    class Local(Small):
        pass

    codes = CNNCodes(Local(), preprocessing=FACTS, cache=None).fit(photos[0])
    loaded = pickle.loads(pickle.dumps(codes))
    np.testing.assert_array_equal(loaded.transform(photos[0]), codes.transform(photos[0]))


def test_estimators_take_registered_networks_along(registered, photos):
    X, y = photos
    registered("mine", lambda: Small(2.0), preprocessing=FACTS)
    pipe = make_pipeline(CNNCodes("registered:mine", cache=None), RidgeClassifier())
    expected = clone(pipe).fit(X, y).decision_function(X)
    contents = [pickle.dumps(clone(pipe)), pickle.dumps(clone(pipe).fit(X, y))]
    for content in contents:
        REGISTERED.clear()
        found = clone(pickle.loads(content)).fit(X, y).decision_function(X)
        np.testing.assert_array_equal(found, expected)
    for kind in (FineTuneClassifier, FineTuneRegressor, AutoTransferClassifier):
        content = pickle.dumps(kind("mine"))
        REGISTERED.clear()
        assert pickle.loads(content).backbone in REGISTERED
    # Candidates of a search, whose names come beside the estimator, too.
    registered("other", trebled, preprocessing=FACTS)
    content = pickle.dumps(CNNCodes())
    REGISTERED.clear()
    pickle.loads(content)
    assert set(REGISTERED) == {"mine", "other"}


def test_a_name_is_given_away_anew(registered, photos):
    """Worker processes live on: they must not use the builder of an earlier call."""
    registered("mine", build, preprocessing=FACTS)
    first, plain = pickle.dumps(CNNCodes("mine")), CNNCodes("mine").fit_transform(photos[0])
    registered("mine", trebled, preprocessing=FACTS, overwrite=True)
    second, other = pickle.dumps(CNNCodes("mine")), CNNCodes("mine").fit_transform(photos[0])
    assert not np.allclose(plain, other)
    REGISTERED.clear()
    for content, expected in [(first, plain), (second, other), (first, plain)]:
        np.testing.assert_array_equal(pickle.loads(content).fit_transform(photos[0]), expected)
    # What this process has registered itself stays, and that is said where it differs.
    registered("mine", build, preprocessing=FACTS, overwrite=True)
    pickle.loads(first)
    with pytest.warns(SktransferWarning, match="'mine' .*another builder"):
        loaded = pickle.loads(second)
    np.testing.assert_array_equal(loaded.fit_transform(photos[0]), plain)


def test_builders_that_cannot_travel(registered, photos):
    lock = threading.Lock()
    registered("mine", lambda: lock and Small(), preprocessing=FACTS)
    codes = CNNCodes("mine", cache=None).fit(photos[0])
    expected, fitted, fresh = codes.transform(photos[0]), pickle.dumps(codes), CNNCodes("mine")
    fresh = pickle.dumps(fresh)
    REGISTERED.clear()
    np.testing.assert_array_equal(pickle.loads(fitted).transform(photos[0]), expected)
    with pytest.raises(UnknownBackboneError, match=r"builder cannot be pickled.*register"):
        pickle.loads(fresh).fit(photos[0])
    with pytest.raises(UnknownBackboneError, match="needs register_backbone"):
        CNNCodes("nothing_of_the_kind").fit(photos[0])


def test_a_builder_that_gives_one_module_again_and_again(registered, photos):
    net = Small().train()
    registered("mine", lambda: net, preprocessing=FACTS)
    first = CNNCodes("mine", cache=None).fit(photos[0])
    expected = first.transform(photos[0])
    assert net.training and all(p.requires_grad for p in net.parameters())
    with torch.no_grad():
        net.conv.weight.zero_()
    np.testing.assert_array_equal(first.transform(photos[0]), expected)


@pytest.mark.slow
def test_registered_networks_in_worker_processes(registered, photos, fresh_workers):
    from torchvision import models

    X, y = photos
    # Of what workers can import, wherever they were started.
    registered("mine", lambda: models.squeezenet1_1(num_classes=3), preprocessing=FACTS)
    registered("other", lambda: models.squeezenet1_0(num_classes=3), preprocessing=FACTS)
    pipe = make_pipeline(CNNCodes("mine", cache=None), RidgeClassifier())
    expected = cross_val_score(pipe, X, y, cv=2)
    for backend in ("loky", "multiprocessing"):
        with joblib.parallel_backend(backend):
            found = cross_val_score(pipe, X, y, cv=2, n_jobs=2, error_score="raise")
        np.testing.assert_array_equal(found, expected)
    grid = {"cnncodes__backbone": ["mine", "other"]}
    search = GridSearchCV(pipe, grid, cv=2, n_jobs=2, error_score="raise").fit(X, y)
    alone = GridSearchCV(pipe, grid, cv=2).fit(X, y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )


@pytest.mark.slow
def test_networks_typed_into_a_prompt(photos, tmp_path):
    """Their class is in no module that another process could import."""
    script = f"""
        import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
        import numpy as np, joblib
        from torch import nn
        from sklearn.linear_model import RidgeClassifier
        from sklearn.model_selection import cross_val_score
        from sklearn.pipeline import make_pipeline
        from sktransfer import CNNCodes
        import test_networks_travel as test

        class Typed(test.Small):
            pass

        X = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), dtype="uint8")
        codes = CNNCodes(Typed(), preprocessing=test.FACTS, cache=None)
        pipe = make_pipeline(codes, RidgeClassifier())
        cross_val_score(pipe, X, np.arange(12) % 2, cv=2, n_jobs=2, error_score="raise")
        joblib.dump((codes.fit(X), X, codes.transform(X)), {os.fspath(tmp_path / "codes")!r})
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)], check=True)
    codes, X, expected = joblib.load(tmp_path / "codes")
    np.testing.assert_array_equal(codes.transform(X), expected)


def test_another_file_of_the_same_size_and_time(tmp_path):
    from torchvision.models import squeezenet1_1

    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(squeezenet1_1(num_classes=2).state_dict(), tmp_path / "new.pth")
        os.utime(tmp_path / "new.pth", ns=(10**18, 10**18))
        os.replace(tmp_path / "new.pth", tmp_path / "net.pth")
        codes = CNNCodes("squeezenet1_1", weights=tmp_path / "net.pth", preprocessing=FACTS)
        found.append(codes.fit(np.zeros((1, 32, 32, 3), np.uint8)).backbone_.fingerprint)
    assert found[0] != found[1]
