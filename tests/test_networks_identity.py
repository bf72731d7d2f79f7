"""What makes a network what it is: no two that compute something else are taken for one."""

from __future__ import annotations

import enum
import functools
import math
import os
import pickle
import subprocess
import sys
import textwrap
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sktransfer import CNNCodes, FineTuneClassifier
from sktransfer.compute import _engine as _make
from sktransfer.compute import _openvino as _conversions
from sktransfer.exceptions import BackboneError, StoreWarning
from sktransfer.networks import _layers, load_backbone
from sktransfer.networks._fingerprint import is_private
from sktransfer.store import open_store

FACTS = {"image_size": 16, "mean": (0, 0, 0), "std": (1, 1, 1)}
X = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
FACTOR = 1.0


class Kind(enum.Enum):
    PLAIN = 1.0
    STRONG = 3.125


class Settings:
    """An object within an object."""

    def __init__(self, factor=1.0):
        self.inner = types.SimpleNamespace(factor=factor)


class Scaled(nn.Module):
    """A parametrization."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, weight):
        return weight * self.factor


class Net(nn.Module):
    """Computes with everything that Python code can compute with, and never shows it."""

    factor = 1.0

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.head = nn.Linear(4, 2)
        self.act = F.relu
        self.several, self.named = [1.0, [1.0]], {"factor": 1.0}
        self.tensor, self.tensors = torch.tensor(1.0), [torch.tensor(1.0)]
        self.number, self.numbers = np.float32(1), np.ones(4, "f4")
        self.kind, self.settings = Kind.PLAIN, Settings()
        self.function, self.part = (lambda x: x), functools.partial(torch.mul, other=1.0)
        self.register_buffer("kept", torch.tensor(1.0), persistent=False)

    @property
    def root(self):
        return math.sqrt(self.__dict__.get("square", 1.0))

    def more(self, maps, factor=1.0):
        return maps * factor

    def forward(self, image):
        maps = self.act(self.relu(self.norm(self.conv(image))))
        maps = maps * self.several[1][0] * self.named["factor"] * self.tensor * self.tensors[0]
        maps = maps * self.kept * float(self.number) * torch.from_numpy(self.numbers)[0]
        maps = maps * self.kind.value * self.settings.inner.factor
        maps = maps * FACTOR * self.factor * self.root
        return self.head(self.part(self.function(self.more(maps))).mean((2, 3)))


class Overridden(Net):
    def more(self, maps, factor=2.0):
        return super().more(maps, factor)


class OtherClassAttribute(Net):
    factor = 2.25


WAYS = {}


def way(change):
    """A way of changing what a network computes and not what its state dict holds."""
    WAYS[change.__name__] = change
    return change


def attribute(**values):
    def change(net):
        for name, value in values.items():
            setattr(net, name, value)
        return net

    (name,) = values
    WAYS[f"{name}_{len(WAYS)}"] = change


def times(factor):
    return lambda x: x * factor


way(lambda net: net)
attribute(act=torch.sin)
attribute(act=torch.zeros_like)
attribute(act=nn.functional.silu)
attribute(several=[1.0, [2.5]])
attribute(named={"factor": 2.75})
attribute(tensor=torch.tensor(3.0))
attribute(tensors=[torch.tensor(3.25)])
attribute(kept=torch.tensor(3.5))
attribute(number=np.float32(3.75))
attribute(numbers=np.full(4, 4, "f4"))
attribute(kind=Kind.STRONG)
attribute(settings=Settings(4.25))
attribute(square=4.5**2)
attribute(part=functools.partial(torch.mul, other=4.75))
attribute(function=lambda x: x * 5.0)
attribute(function=times(5.25))
attribute(function=times(5.5))
attribute(function=functools.lru_cache(times)(5.75))
attribute(relu=nn.Sigmoid())


@way
def overridden_method(net):
    return Overridden()


@way
def class_attribute(net):
    return OtherClassAttribute()


@way
def bound_method(net):
    net.more = types.MethodType(lambda self, maps: maps * 6.0, net)
    return net


@way
def forward_of_the_object(net):
    old = net.forward
    net.forward = lambda image: old(image * 6.25)
    return net


@way
def forward_of_a_layer(net):
    net.relu.forward = torch.tanh
    return net


@way
def forward_around_that_of_a_layer(net):
    old = net.conv.forward
    net.conv.forward = lambda image: old(image) * 6.5
    return net


@way
def hook_of_a_layer(net):
    net.conv.register_forward_hook(lambda module, images, maps: maps * 6.75)
    return net


@way
def another_hook_of_a_layer(net):
    net.conv.register_forward_hook(lambda module, images, maps: maps * 7.0)
    return net


@way
def hook_before_a_layer(net):
    net.norm.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 7.25,))
    return net


@way
def hook_before_all(net):
    net.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 7.5,))
    return net


@way
def stride(net):
    net.conv.stride = (2, 2)
    return net


@way
def epsilon(net):
    net.norm.eps = 7.75
    return net


@way
def parametrized(net):
    nn.utils.parametrize.register_parametrization(net.conv, "weight", Scaled(8.0))
    return net


@way
def parametrized_otherwise(net):
    nn.utils.parametrize.register_parametrization(net.conv, "weight", Scaled(8.25))
    return net


@way
@pytest.mark.filterwarnings("ignore:.*weight_norm")
def weight_norm(net):
    nn.utils.weight_norm(net.conv)
    with torch.no_grad():
        net.conv.weight_g.mul_(8.5)
    return net


@way
def spectral_norm(net):
    return nn.utils.spectral_norm(net.conv) and net


def plain_codes(net):
    """What goes into the head of the network itself."""
    found = []
    handle = net.head.register_forward_pre_hook(lambda module, inputs: found.append(inputs[0]))
    with torch.no_grad():
        net.eval()(torch.from_numpy(X).permute(0, 3, 1, 2) / 255)
    handle.remove()
    return found[0].numpy()


def check(net, **params):
    codes = CNNCodes(net, preprocessing=FACTS, **params).fit(X)
    np.testing.assert_allclose(codes.transform(X), plain_codes(net), rtol=2e-4, atol=1e-5)
    return codes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.mark.filterwarnings("ignore:.*weight_norm", "ignore:The network cannot be identified")
@pytest.mark.parametrize("name", WAYS)
def test_codes_are_those_of_the_network(name, folder):
    """One after the other in one process, one store, and one folder of conversions."""
    net = WAYS[name](Net())
    check(net, engine="torch")  # keeps codes in memory
    for _ in range(2):
        check(net, cache=folder)
        _make._engines.clear()
        _layers._CUTS.clear()


def test_ways_compute_something_else():
    seen = [plain_codes(change(Net())).tobytes() for change in WAYS.values()]
    assert len(set(seen)) == len(seen) > 30


class Strong(nn.Parameter):
    """A weight that counts three times in a linear layer."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        result = super().__torch_function__(function, types, args, kwargs or {})
        return result * 3 if function is F.linear else result


def test_classes_of_weights(folder):
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(768, 5), nn.ReLU(), nn.Linear(5, 3)]
    plain = nn.Sequential(*layers)
    strong = nn.Sequential(layers[0], nn.Linear(768, 5), *layers[2:])
    strong[1].bias = plain[1].bias
    strong[1].weight = Strong(plain[1].weight.data)
    assert load_backbone(plain, preprocessing=FACTS).fingerprint != (
        load_backbone(strong, preprocessing=FACTS).fingerprint
    )
    images = torch.from_numpy(X).permute(0, 3, 1, 2) / 255
    found = []
    for net in (plain, strong):
        codes = CNNCodes(net, layer="2", preprocessing=FACTS, engine="torch", cache=folder).fit(X)
        found.append(codes.transform(X))
        with torch.no_grad():
            np.testing.assert_allclose(found[-1], net[:3](images), rtol=1e-4, atol=1e-5)
    assert not np.allclose(*found)
    with pytest.raises(BackboneError, match="Strong cannot be saved"):
        pickle.dumps(codes)


class Counted(Net):
    """Has in its state dict what is no tensor."""

    def get_extra_state(self):
        return {"steps": self.steps, "name": "one"}

    def set_extra_state(self, state):
        self.steps = state["steps"]


def test_state_that_is_no_tensor():
    prints = []
    for steps in (1, 1, 2):
        torch.manual_seed(0)
        net = Counted()
        net.steps = steps
        prints.append(load_backbone(net, preprocessing=FACTS).fingerprint)
        codes = check(net, engine="torch", cache=None)
        again = pickle.loads(pickle.dumps(codes))
        np.testing.assert_array_equal(again.transform(X), codes.transform(X))
    assert prints[0] == prints[1] != prints[2]


def test_global_names(monkeypatch):
    for factor in (1.0, 2.0):
        monkeypatch.setitem(globals(), "FACTOR", factor)
        check(Net())


def test_a_search_over_networks():
    class Activated(nn.Module):
        def __init__(self, act):
            super().__init__()
            torch.manual_seed(1)
            self.act, self.conv, self.head = act, nn.Conv2d(3, 16, 3), nn.Linear(16, 2)

        def forward(self, image):
            return self.head(self.act(self.conv(image)).mean((2, 3)))

    images = np.random.default_rng(1).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    images[:20] //= 2
    y = np.arange(40) // 20
    y[::7] = 1 - y[::7]
    nets = [Activated(act) for act in (F.relu, torch.sin, torch.zeros_like)]
    pipe = make_pipeline(CNNCodes(preprocessing=FACTS), RidgeClassifier(alpha=1e-6))
    search = GridSearchCV(pipe, {"cnncodes__backbone": nets}, cv=2, scoring="r2").fit(images, y)
    assert len(set(search.cv_results_["mean_test_score"])) == 3
    for net in nets:
        check(net)


def test_swin_with_other_shifts():
    """Its windows are moved by a list that no state dict and no repr holds."""
    from torchvision.models import SwinTransformer

    torch.manual_seed(0)
    facts = {**FACTS, "image_size": 32}
    net = SwinTransformer(patch_size=[2, 2], embed_dim=8, depths=[2], num_heads=[2],
                          window_size=[4, 4], num_classes=2).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:  # so that it looks at where things are
                parameter.copy_(torch.randn_like(parameter))
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    found = []
    for shift in (None, [0, 0], [1, 1]):
        for module in net.modules():
            if shift is not None and hasattr(module, "shift_size"):
                module.shift_size = shift
        with torch.no_grad():
            maps = net.features(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
            expected = net.flatten(net.avgpool(net.permute(net.norm(maps)))).numpy()
        codes = CNNCodes(net, preprocessing=facts, engine="torch")
        found.append(codes.fit_transform(images))
        np.testing.assert_allclose(found[-1], expected, rtol=1e-4, atol=1e-4)
    assert not np.allclose(found[0], found[1], atol=1e-2)
    assert not np.allclose(found[0], found[2], atol=1e-2)


def test_a_module_that_was_changed():
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    check(net)
    net(torch.ones(1, 3, 16, 16)).sum().backward()
    optimizer.step()
    check(net)
    net.named["factor"] = 2.0
    check(net)
    net.settings.inner.factor = 0.5
    check(net)


def test_a_layer_that_was_patched(monkeypatch):
    check(Net())
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, maps: maps.clamp(min=-9) * 2)
    check(Net())


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.SktransferWarning")
def test_settings_that_not_every_way_of_following_reaches():
    """Branches on the size of the image, loops over a batch, code that knows when it is run."""

    class Branching(Net):
        def change(self, image):
            return image * (self.setting if image.shape[-1] > 8 else 1.0)

        def forward(self, image):
            return super().forward(self.change(image))

    class Looping(Branching):
        def change(self, image):
            return torch.stack([one * self.setting for one in image])

    class Knowing(Branching):
        def change(self, image):
            return image * (1.0 if torch.is_grad_enabled() else self.setting)

    image = torch.from_numpy(X).permute(0, 3, 1, 2) / 255
    for kind in (Branching, Looping, Knowing):
        for setting in (2.0, 3.0):
            net = kind().eval()
            net.setting = setting
            codes = CNNCodes(net, preprocessing=FACTS, layer="output")
            with torch.no_grad():
                expected = net(image).numpy()
            np.testing.assert_allclose(codes.fit_transform(X), expected, rtol=2e-4, atol=1e-5)


def test_fine_tuning_tells_networks_apart():
    y = np.arange(len(X)) % 2
    probabilities = []
    for act in (F.relu, torch.sin):
        net = Net()
        net.act = act
        clf = FineTuneClassifier(net, preprocessing=FACTS, trainable="head", max_epochs=1,
                                 random_state=0)  # fmt: skip
        probabilities.append(clf.fit(X, y).predict_proba(X))
    assert not np.array_equal(*probabilities)


@pytest.mark.parametrize("untold", ["hook", "generator"])
def test_what_cannot_be_told_is_kept_nowhere_on_disk(untold, tmp_path, passes, monkeypatch):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path / "conversions"))
    net = Net()
    if untold == "hook":
        seen = []
        net.conv.register_forward_hook(lambda module, images, maps: seen.append(maps.shape))
    else:
        net.conv.generator = torch.Generator()
    with pytest.warns(StoreWarning, match="cannot be identified.*not kept on disk"):
        codes = check(net, cache=tmp_path / "store")
    assert is_private(codes.backbone_.fingerprint)
    assert open_store(tmp_path / "store").info().rows == 0
    assert not list((tmp_path / "conversions").rglob("*"))
    # In memory they are kept, for this network alone.
    codes.set_params(cache="memory").transform(X)
    before = passes["images"]
    codes.transform(X)
    assert passes["images"] == before
    assert load_backbone(net, preprocessing=FACTS).fingerprint != codes.backbone_.fingerprint or (
        untold == "hook"
    )


def test_what_can_be_told_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path / "conversions"))
    _make._engines.clear()
    codes = check(Net(), cache=tmp_path / "store")
    assert not is_private(codes.backbone_.fingerprint)
    assert open_store(tmp_path / "store").info().rows == len(X)
    assert list(_conversions.cache_folder().iterdir())


@pytest.mark.slow
def test_fingerprints_are_the_same_in_every_process():
    script = """
        import test_networks_identity as test
        for change in test.WAYS.values():
            net = change(test.Net())
            print(test.load_backbone(net, preprocessing=test.FACTS).fingerprint)
    """
    found = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=os.path.dirname(__file__),
            capture_output=True,
            text=True,
            check=True,
        )
        found.append([line for line in done.stdout.split() if not is_private(line)])
    assert found[0] == found[1] and len(found[0]) > 25


def test_another_version_of_a_library(monkeypatch):
    """It makes other operations of the same weights, under the same name."""
    from torchvision.models.squeezenet import Fire

    codes = CNNCodes("squeezenet1_1", weights=None, image_size=32).fit(X)
    before = codes.transform(X)
    plain = Fire.forward
    monkeypatch.setattr(Fire, "forward", lambda self, maps: plain(self, maps) * 2)
    _layers._CUTS.clear()
    after = codes.transform(X)
    assert np.abs(after).max() > 2 * np.abs(before).max()
    _layers._CUTS.clear()
