"""Networks in memory: shared, always the same, never changed."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn
from torchvision import models

from sktransfer import Preprocessing
from sktransfer._lru import LRU
from sktransfer.exceptions import BackboneError, PreprocessingError, WeightsMismatchError
from sktransfer.networks import load_backbone
from sktransfer.networks._fingerprint import fingerprint
from sktransfer.networks._load import CACHE, Loaded, bytes_of_modules
from sktransfer.networks._weights import build_random, build_structure, finish

FACTS = Preprocessing(32, mean=0.5, std=0.25)


class Small(nn.Module):
    """A network of one's own, with a setting that no state dict holds."""

    def __init__(self, scale=1.0, stride=2):
        super().__init__()
        self.scale = scale
        self.convolution = nn.Conv2d(3, 4, 3, stride)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, image):
        maps = self.norm(self.convolution(image)) * self.scale
        return self.head(maps.mean((2, 3)))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small()


def test_clones_share_one_network():
    first, second = (load_backbone("squeezenet1_1", weights=None) for _ in range(2))
    assert first.module is second.module and first.fingerprint == second.fingerprint
    other = load_backbone("torchvision:squeezenet1_1", weights=None, preprocessing=FACTS)
    assert other.module is first.module and other.preprocessing == FACTS
    assert first.preprocessing.image_size == (224, 224)


def test_threads_share_one_network():
    CACHE.clear()
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(load_backbone("efficientnet_lite0")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(backbone.module) for backbone in found}) == 1 and len(found) == 4


def test_only_a_few_networks_are_kept():
    cache = LRU(2, 1000, lambda kept: bytes_of_modules(one.module for one in kept))
    built = []

    def ask(name, n_floats=10):
        def load():
            built.append(name)
            module = nn.Linear(n_floats, 1, bias=False)
            return Loaded(module, None, None, name, True)

        assert cache.get(name, load).fingerprint == name

    for name in "ababcab":
        ask(name)
    assert built == list("abcab")
    ask("large", 1000)  # more than all, and still kept as the newest
    ask("large", 1000)
    ask("a")
    assert built == [*"abcab", "large", "a"]


@pytest.mark.slow
def test_random_networks_are_the_same_everywhere():
    """In this process, in another, after other random numbers, whatever was loaded before."""
    own = load_backbone("squeezenet1_1", weights=None)
    CACHE.clear()
    torch.manual_seed(99)
    assert load_backbone("squeezenet1_1", weights=None).fingerprint == own.fingerprint
    script = (
        "import torch; torch.manual_seed(5); from sktransfer.networks import load_backbone; "
        "print(load_backbone('squeezenet1_1', weights=None).fingerprint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == own.fingerprint
    # Only with one version of torch, so a pickle must hold them.
    assert own.weights is None and not own.portable


def test_random_numbers_of_the_caller_are_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    CACHE.clear()
    load_backbone("squeezenet1_1", weights=None)
    load_backbone("efficientnet_lite0")
    assert torch.equal(torch.rand(3), expected)


def test_networks_are_random_and_finite():
    """As their authors draw them, not as memory happens to be."""
    for name in ["googlenet", "timm:test_vit"]:
        module = load_backbone(name, weights=None).module
        for key, tensor in module.state_dict().items():
            assert torch.isfinite(tensor).all(), key
        with torch.inference_mode():
            assert module(torch.randn(2, 3, 160, 160)).std() > 0


def test_structures_that_compute_are_built_in_full():
    """A Swin keeps an index that no state dict holds; a RegNet computes its widths."""
    import timm

    swin = build_structure(
        lambda: timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1))
    )
    assert not any(t.is_meta for t in (*swin.parameters(), *swin.buffers()))
    assert build_structure(models.regnet_x_400mf).state_dict()
    assert all(p.is_meta for p in build_structure(models.vgg16).parameters())


def test_the_same_file_gives_the_same_numbers(tmp_path):
    """To the last digit, however the weights lie in the file."""
    from safetensors.torch import save_file

    own = build_random(models.mobilenet_v3_small)
    state = own.state_dict()
    torch.save(state, tmp_path / "net.pth")
    save_file(state, tmp_path / "net.safetensors")
    last = {
        k: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in state.items()
    }
    torch.save(last, tmp_path / "last.pth")
    images = torch.randn(2, 3, 64, 64)
    finish(own)
    with torch.inference_mode():
        for name in ["net.pth", "net.safetensors", "last.pth"]:
            found = load_backbone(
                "mobilenet_v3_small", weights=tmp_path / name, preprocessing=FACTS
            )
            assert torch.equal(found.module(images), own(images)), name


def test_fingerprints_tell_networks_apart(small):
    """By every weight, name, shape and type, and by the architecture."""
    own = fingerprint("net", small)
    assert own == fingerprint("net", copy.deepcopy(small)) and len(own) == 32
    assert own != fingerprint("other", small)
    seen = {own}
    for change in [
        lambda m: m.head.bias.data[0].add_(1e-7),
        lambda m: m.norm.num_batches_tracked.add_(1),
        lambda m: m.head.half(),
        lambda m: setattr(m, "norm", nn.Identity()),
        lambda m: setattr(m.head, "weight", nn.Parameter(m.head.weight.data.reshape(4, 2))),
    ]:
        changed = copy.deepcopy(small)
        change(changed)
        seen.add(fingerprint("net", changed))
    assert len(seen) == 6


def test_fingerprints_are_the_same_in_all_versions():
    """A constant, because pickles and stores of older versions hold fingerprints."""
    module = nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -2.0]]))
        module.bias.fill_(0.5)
    assert fingerprint("net", module) == "17e20d4aa62205f1358eeb1f0f298625"


def test_a_module_is_copied(small):
    small.train()
    before = copy.deepcopy(small.state_dict())
    found = load_backbone(small, preprocessing=FACTS)
    assert (found.name, found.source, found.weights) == ("small", "module", None)
    assert found.reference is None and not found.portable
    assert found.preprocessing == FACTS
    assert small.training and all(p.requires_grad for p in small.parameters())
    assert all(torch.equal(before[k], v) for k, v in small.state_dict().items())
    assert not found.module.training and found.module is not small
    assert not any(p.requires_grad for p in found.module.parameters())
    with torch.no_grad():
        small.head.bias.add_(1)
    assert not torch.equal(small.head.bias, found.module.head.bias)


def test_modules_of_other_types_and_wrappers(small):
    own = load_backbone(small, preprocessing=FACTS).fingerprint
    assert load_backbone(nn.DataParallel(small), preprocessing=FACTS).fingerprint == own
    assert load_backbone(torch.compile(small), preprocessing=FACTS).fingerprint == own
    half = load_backbone(copy.deepcopy(small).half(), preprocessing=FACTS)
    assert {t.dtype for t in half.module.parameters()} == {torch.float32}


def test_modules_that_compute_otherwise_have_other_fingerprints(small):
    """Though their weights are the same."""
    seen = {load_backbone(small, preprocessing=FACTS).fingerprint}
    for other in [Small(scale=2.0), Small(stride=1), Recoded()]:
        other.load_state_dict(small.state_dict())
        seen.add(load_backbone(other, preprocessing=FACTS).fingerprint)
    assert len(seen) == 4
    again = pickle.loads(pickle.dumps(small))
    assert load_backbone(again, preprocessing=FACTS).fingerprint in seen


class Recoded(Small):
    def forward(self, image):
        return super().forward(image.flip(1))


@pytest.mark.parametrize("given", [None, "default"])
def test_modules_need_preprocessing(small, given):
    with pytest.raises(PreprocessingError, match=r"Small.*preprocessing=Preprocessing\("):
        load_backbone(small, preprocessing=given)


def test_mistakes_are_told_before_anything_is_loaded():
    with pytest.raises(PreprocessingError, match="preprocessing="):
        load_backbone("timm:resnet18", preprocessing=0.5)  # would be a download


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_modules_that_cannot_be_backbones(small):
    import timm

    for wrong, message in [
        (torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3))), "TorchScript"),
        (timm.create_model("test_efficientnet", features_only=True), "features_only"),
        (timm.create_model("resnet10t", features_only=True), "features_only"),
        (nn.Sequential(nn.LazyConv2d(4, 3)), "no weights yet"),
        (build_structure(models.squeezenet1_1), "no weights yet"),
    ]:
        with pytest.raises(BackboneError, match=message):
            load_backbone(wrong, preprocessing=FACTS)
    small.lock = threading.Lock()
    with pytest.raises(BackboneError, match="cannot be copied"):
        load_backbone(small, preprocessing=FACTS)
    del small.lock
    with pytest.raises(BackboneError, match="has its own weights"):
        load_backbone(small, weights="IMAGENET1K_V1", preprocessing=FACTS)


def test_networks_of_other_images():
    """timm's facts about a network for images of other channels."""
    from timm.models import PretrainedCfg

    from sktransfer.networks._timm import preprocessing_of

    facts = PretrainedCfg(input_size=(4, 28, 28), mean=(0.5,) * 4, std=(0.5,) * 4)
    with pytest.raises(BackboneError, match=r"4 channels; a backbone must take 3 .* or 1"):
        preprocessing_of(facts, "net")
    with pytest.raises(PreprocessingError, match="says nothing"):
        preprocessing_of(None, "net")


def test_weights_and_their_shapes_are_compared(tmp_path):
    # A classifier alone may be missing: its two weights do not count.
    torch.save({"weight": torch.zeros(3)}, tmp_path / "net.pth")
    with pytest.raises(WeightsMismatchError, match="50 of 52 weights are missing"):
        load_backbone("squeezenet1_1", weights=tmp_path / "net.pth", preprocessing=FACTS)
