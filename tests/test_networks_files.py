"""Weights in local files: whole, foreign, damaged and dangerous ones."""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from sktransfer import Preprocessing
from sktransfer.exceptions import (
    BackboneWarning,
    PreprocessingError,
    WeightsMismatchError,
    WeightsUnavailableError,
)
from sktransfer.networks import load_backbone
from sktransfer.networks._timm import TimmArchitecture
from sktransfer.networks._weights import check_finite, finish

NAME = "squeezenet1_1"
FACTS = Preprocessing(64, mean=0.5, std=0.25)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(7)
    return models.squeezenet1_1().eval()


@pytest.fixture(scope="module")
def expected(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "net.pth"
    torch.save(network.state_dict(), path)
    return load_backbone(NAME, weights=path, preprocessing=FACTS).fingerprint


def loaded(weights, name=NAME):
    return load_backbone(name, weights=weights, preprocessing=FACTS)


def check_same_codes(found, own):
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(found.module.features(images), own.features(images))


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


CONTAINERS = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"epoch": 3, "state_dict": s, "optimizer": {"state": {}}},
    "model": lambda s: {"model": s, "args": None},
    "model_state_dict": lambda s: {"model_state_dict": s},
    "ema": lambda s: {"ema": s, "model": {k: v + 1 for k, v in s.items()}},
    "data parallel": lambda s: prefixed(s, "module."),
    "compiled": lambda s: {"state_dict": prefixed(s, "_orig_mod.")},
    "compiled data parallel": lambda s: prefixed(s, "module._orig_mod."),
    "averaged": lambda s: {"n_averaged": torch.tensor(5), **prefixed(s, "module.")},
    "double": lambda s: {k: v.double() for k, v in s.items()},
    "lightning": lambda s: {"state_dict": prefixed(s, "net."), "optimizer_states": [OPTIMIZER]},
    "module": lambda s: {"module": s, "optimizer": OPTIMIZER},
    "net": lambda s: {"net": prefixed(s, "backbone.")},
    "nested": lambda s: {"model": {"state_dict": prefixed(s, "_orig_mod.module.")}},
    "dino": lambda s: {
        "student": prefixed(other(s), "module.backbone."),
        "teacher": {**prefixed(s, "backbone."), "head.mlp.0.weight": torch.zeros(2, 3)},
    },
    "moco": lambda s: {
        "state_dict": {
            **prefixed(other(s), "module.encoder_k."),
            **prefixed(s, "module.encoder_q."),
            "module.queue": torch.zeros(2, 3),
        }
    },
    "in a larger network": lambda s: {
        **prefixed(without_head(s), "odd_name.body."),
        "neck.weight": torch.zeros(3),
    },
    "under a name of one's own": lambda s: {"whatever": s},
    "twice the same": lambda s: {"a": s, "b": {k: v.clone() for k, v in s.items()}},
    "averaged beside plain": lambda s: {
        **prefixed(other(s), "model."),
        **prefixed(s, "ema_model."),
    },
    "beside a larger teacher": lambda s: {
        "student": s,
        "teacher": {**{k: v[:1] for k, v in s.items()}, "more.weight": torch.zeros(2)},
    },
    "head that was replaced": lambda s: {
        "model": {**without_head(s), "classifier.1.2.weight": torch.zeros(3, 512)}
    },
}
OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}


def other(state):
    return {k: v + 1 for k, v in state.items()}


def without_head(state):
    return {k: v for k, v in state.items() if not k.startswith("classifier.")}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_containers(kind, network, expected, tmp_path):
    torch.save(CONTAINERS[kind](network.state_dict()), tmp_path / "net.pt")
    found = loaded(tmp_path / "net.pt")
    check_same_codes(found, network)
    if kind not in ("in a larger network", "head that was replaced"):
        assert found.fingerprint == expected


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("efficientnet_lite0", lambda: timm.create_model("tf_efficientnet_lite0")),
        ("timm:test_vit", lambda: timm.create_model("test_vit", num_classes=5)),
    ],
)
def test_prefixes_of_other_sources(name, own, tmp_path):
    own = own().eval()
    save_file(prefixed(own.state_dict(), "model.backbone."), tmp_path / "net.safetensors")
    found, images = loaded(tmp_path / "net.safetensors", name).module, torch.randn(1, 3, 160, 160)
    with torch.inference_mode():
        assert torch.equal(found(images), own(images))


def test_a_network_that_is_there_twice_is_not_guessed(network, tmp_path):
    state = network.state_dict()
    torch.save({"left": state, "right": {"x": other(state)}}, tmp_path / "net.pth")
    with pytest.raises(WeightsMismatchError, match=r"twice, under 'left\.' and under 'right\.x\.'"):
        loaded(tmp_path / "net.pth")


def test_what_does_not_fit_is_told_without_the_prefix(network, tmp_path):
    state = prefixed(network.state_dict(), "model.")
    del state["model.features.3.squeeze.weight"]
    torch.save({"state_dict": state}, tmp_path / "net.pth")
    with pytest.raises(WeightsMismatchError) as caught:
        loaded(tmp_path / "net.pth")
    assert "without 'state_dict.model.': 1 of 52 weights are missing (features.3." in str(
        caught.value
    )


def spoilt(tensor, value):
    tensor = tensor.clone()
    tensor.view(-1)[-1] = value
    return tensor


def test_buffers_may_be_infinite():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    module.register_buffer("best", torch.tensor(torch.inf))
    module.register_buffer("limits", torch.tensor([-torch.inf, 1.0]))
    check_finite(module, "module")
    module.limits[1] = torch.nan
    with pytest.raises(WeightsMismatchError, match=r"limits holds NaN \(1 of 2"):
        check_finite(module, "module")
    del module.limits
    module[1].running_var[1] = torch.inf
    with pytest.raises(WeightsMismatchError, match="running_var holds infinite"):
        check_finite(module, "module")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (-float("inf"), "infinite")])
def test_weights_that_are_no_numbers(dtype, value, word, tmp_path):
    state = {k: v.to(dtype) for k, v in timm.create_model("test_efficientnet").state_dict().items()}
    for name in ["conv_stem.weight", "bn1.running_var"]:
        torch.save({**state, name: spoilt(state[name], value)}, tmp_path / "net.pth")
        with pytest.raises(WeightsMismatchError, match=rf"{name} holds {word}.*1 of ") as caught:
            loaded(tmp_path / "net.pth", "timm:test_efficientnet")
        assert str(tmp_path / "net.pth") in str(caught.value)
    overflowing = state["conv_stem.weight"].double() * 1e300
    torch.save({**state, "conv_stem.weight": overflowing}, tmp_path / "net.pth")
    with pytest.raises(WeightsMismatchError, match=r"conv_stem.weight holds infinite"):
        loaded(tmp_path / "net.pth", "timm:test_efficientnet")


def test_modules_with_weights_that_are_no_numbers():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    module[1].running_mean[2] = torch.nan
    with pytest.raises(WeightsMismatchError, match=r"Sequential.*1\.running_mean holds NaN"):
        load_backbone(module, preprocessing=FACTS)
    module[1].running_mean[2] = 0
    # What attention is masked with is no fault.
    module.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
    assert load_backbone(module, preprocessing=FACTS).source == "module"
    # Nor are large numbers whose sum is none.
    module[0].weight.data.fill_(3e38)
    assert load_backbone(module, preprocessing=FACTS).source == "module"


KINDS = {
    "sparse": lambda t: t.to_sparse(),
    "complex": lambda t: t.to(torch.complex64),
    "quantised": lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
    "not floating-point": lambda t: t.to(torch.int8),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_numbers(kind, network, tmp_path):
    state = network.state_dict()
    name = "features.0.weight"
    torch.save({**state, name: KINDS[kind](state[name])}, tmp_path / "net.pth")
    with pytest.raises(WeightsMismatchError) as caught:
        loaded(tmp_path / "net.pth")
    assert kind in str(caught.value) and name in str(caught.value)


def test_safetensors(network, expected, tmp_path):
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    found = loaded(str(tmp_path / "net.safetensors"))
    assert found.fingerprint == expected and found.weights == str(tmp_path / "net.safetensors")
    check_same_codes(found, network)


def test_home_and_relative_paths(network, expected, tmp_path, monkeypatch):
    torch.save(network.state_dict(), tmp_path / "net.pth")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for path in ["~/net.pth", "net.pth", "./net.pth"]:
        assert loaded(path).fingerprint == expected


def test_a_file_written_anew_is_read_anew(network, expected, tmp_path):
    path = tmp_path / "net.pth"
    torch.save(dict(network.state_dict()), path)
    assert loaded(path).module is loaded(str(path)).module
    before = path.stat()
    torch.save({k: v + 1 for k, v in network.state_dict().items()}, path)
    # As a copy that keeps the time of the change, of a file of the same size.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert loaded(path).fingerprint != expected


@pytest.mark.parametrize("n", [1, 3, 1001])
def test_other_numbers_of_classes(n, tmp_path):
    own = models.squeezenet1_1(num_classes=n).eval()
    torch.save(own.state_dict(), tmp_path / "net.pth")
    found = loaded(tmp_path / "net.pth")
    check_same_codes(found, own)
    assert found.module(torch.zeros(1, 3, 64, 64)).shape == (1, n)


def test_classifier_taken_away(tmp_path):
    own = models.resnet18().eval()
    own.fc = nn.Identity()
    torch.save(own.state_dict(), tmp_path / "net.pth")
    module = loaded(tmp_path / "net.pth", "resnet18").module
    module.fc, images = nn.Identity(), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(module(images), own(images))


def test_timm_weights_with_another_classifier(tmp_path):
    own = timm.create_model("test_vit", num_classes=5).eval()
    save_file(own.state_dict(), tmp_path / "net.safetensors")
    found = loaded(tmp_path / "net.safetensors", "timm:test_vit").module
    images = torch.randn(1, 3, 160, 160)
    with torch.inference_mode():
        assert torch.equal(found(images), own(images))
    headless = timm.create_model("test_vit", num_classes=0)
    save_file(headless.state_dict(), tmp_path / "bare.safetensors")
    assert loaded(tmp_path / "bare.safetensors", "timm:test_vit").module.num_classes == 0


@pytest.mark.slow
def test_timm_weights_in_their_authors_names(tmp_path):
    """DINOv2's own file has a mask token and other names for register tokens."""
    name = "vit_small_patch14_reg4_dinov2"
    own = timm.create_model(name, img_size=56, depth=1).eval()
    state = own.state_dict()
    state["register_tokens"] = state.pop("reg_token")
    state["mask_token"] = torch.zeros(1, 384)
    # In theirs the class token has a position, which timm adds to the token itself.
    position = torch.randn(1, 1, 384)
    state["pos_embed"] = torch.cat([position, state["pos_embed"]], 1)
    state["cls_token"] = state["cls_token"] - position
    full = timm.create_model(name)
    assert set(full.state_dict()) > set(own.state_dict())
    torch.save(state, tmp_path / "dino.pth")
    with pytest.raises(WeightsMismatchError, match=r"of 1[0-9]{2} weights are missing"):
        loaded(tmp_path / "dino.pth", f"timm:{name}")
    deep = timm.create_model(name).state_dict()
    deep["register_tokens"] = deep.pop("reg_token")
    deep["mask_token"] = torch.zeros(1, 384)
    deep["cls_token"] = deep["cls_token"] - position
    deep["pos_embed"] = torch.cat([position, deep["pos_embed"]], 1)
    torch.save(deep, tmp_path / "whole.pth")
    found = loaded(tmp_path / "whole.pth", f"timm:{name}").module.state_dict()
    assert torch.allclose(found["reg_token"], deep["register_tokens"])
    assert found["pos_embed"].shape == (1, 37 * 37, 384)


def old_names_of_densenet(module):
    """Names that modules may no longer have, and no counters, which came later."""
    old = OrderedDict()
    for key, value in module.state_dict().items():
        for layer in ("norm1", "norm2", "conv1", "conv2"):
            key = key.replace(f".{layer}.", f".{layer[:-1]}.{layer[-1]}.")
        if not key.endswith("num_batches_tracked"):
            old[key] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    return old


@pytest.mark.slow
def test_named_timm_weights_that_only_timm_can_read(tmp_path, monkeypatch):
    """timm's DenseNets translate torchvision's old names in their constructor."""
    own = timm.create_model("densenet121").eval()
    path = tmp_path / "net.pth"
    torch.save(old_names_of_densenet(own), path)
    monkeypatch.setattr(TimmArchitecture, "_file", lambda *args: path)
    found = TimmArchitecture("densenet121.tv_in1k").pretrained("default")
    module, images = finish(found.module), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(module(images), own(images))
    assert found.weights == "tv_in1k" and "state_dict" not in module.pretrained_cfg
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsMismatchError, match="weights are missing"):
        TimmArchitecture("densenet121.tv_in1k").pretrained("default")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_inceptions_with_auxiliary_classifiers(name, tmp_path):
    """Published files hold them; the network computes what torchvision's own does."""
    own = models.get_model(name, weights=None, init_weights=False, aux_logits=True,
                           transform_input=True).eval()  # fmt: skip
    torch.save(own.state_dict(), tmp_path / "net.pth")
    found = loaded(tmp_path / "net.pth", name).module
    images = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        assert torch.equal(found(images), own(images))


@pytest.mark.slow
def test_densenets_old_names(tmp_path):
    """Published files of DenseNets have them."""
    own = models.densenet121().eval()
    torch.save(old_names_of_densenet(own), tmp_path / "net.pth")
    found = loaded(tmp_path / "net.pth", "densenet121").module
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(found(images), own(images))


@pytest.mark.slow
def test_vision_transformers_of_other_image_sizes(tmp_path):
    own = models.vit_b_32(image_size=64)
    torch.save(own.state_dict(), tmp_path / "net.pth")
    assert loaded(tmp_path / "net.pth", "vit_b_32").module.image_size == 64


def test_mnasnet_without_versions(tmp_path):
    save_file(models.mnasnet0_5().state_dict(), tmp_path / "net.safetensors")
    assert loaded(tmp_path / "net.safetensors", "mnasnet0_5").source == "torchvision"


def test_preprocessing_is_not_guessed(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "net.pth")
    with pytest.raises(PreprocessingError, match='preprocessing="default"') as caught:
        load_backbone(NAME, weights=tmp_path / "net.pth")
    assert "0.485" in str(caught.value)  # what "default" would be
    published = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.transforms()
    usual = load_backbone(NAME, weights=tmp_path / "net.pth", preprocessing="default")
    assert usual.preprocessing.mean == tuple(published.mean)
    given = load_backbone(NAME, weights=tmp_path / "net.pth", preprocessing=FACTS)
    assert given.preprocessing == FACTS and given.module is usual.module


def test_published_files_are_known_by_their_hash(network, tmp_path, monkeypatch):
    path = tmp_path / "whatever.pth"
    torch.save(network.state_dict(), path)
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    entry = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    url = f"https://example.org/squeezenet1_1-{digits}.pth"
    monkeypatch.setattr(entry.value, "url", url)
    found = load_backbone(NAME, weights=path)
    assert found.weights == "IMAGENET1K_V1" and not found.portable
    assert found.preprocessing.resize_size() == (256, 256)
    assert load_backbone(NAME, weights=path, preprocessing=FACTS).preprocessing == FACTS
    cut = tmp_path / f"squeezenet1_1-{digits}.pth"
    cut.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsMismatchError, match=f"{digits}.*{url}"):
        load_backbone(NAME, weights=cut)


PROJECTIONS = {
    "projection_head.0.weight": torch.zeros(8, 512),
    "projection_head.1.running_mean": torch.zeros(8),
    "prototypes.weight": torch.zeros(30, 8),
}


@pytest.mark.parametrize("name", ["resnet18", "timm:resnet18", "timm:test_vit"])
@pytest.mark.parametrize("has_classifier", [True, False])
def test_heads_of_training_beside_a_whole_network(name, has_classifier, tmp_path):
    bare = name.removeprefix("timm:")
    torch.manual_seed(3)
    own = (timm.create_model(bare) if bare != name else models.resnet18()).state_dict()
    heads = {k: v for k, v in own.items() if k.startswith(("fc.", "head."))}
    trunk = {k: v for k, v in own.items() if k not in heads}
    plain = {**trunk, **heads} if has_classifier else trunk
    torch.save(plain, tmp_path / "plain.pth")
    with_heads = {**trunk, **PROJECTIONS, **(heads if has_classifier else {})}
    torch.save(prefixed(with_heads, "module."), tmp_path / "swav.pth")
    with pytest.warns(BackboneWarning, match=r"projection_head, prototypes \(3 weights\)"):
        found = loaded(tmp_path / "swav.pth", name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found.fingerprint == loaded(tmp_path / "plain.pth", name).fingerprint


STRANGERS = {
    "a module in the midst": lambda s: {"ca.fc.weight": torch.zeros(2), **s},
    "a deeper network": lambda s: {**s, "layer4.2.conv1.weight": torch.zeros(512, 512, 3, 3)},
    "a token": lambda s: {**s, "reg_token": torch.zeros(1, 4, 512)},
    "a part of another shape": lambda s: {
        **s, **PROJECTIONS, "conv1.weight": torch.zeros(64, 3, 3, 3)
    },
    "a part that is missing": lambda s: {
        **{k: v for k, v in s.items() if k != "layer3.0.bn1.weight"}, **PROJECTIONS
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", STRANGERS)
@pytest.mark.parametrize("name", ["resnet18", "timm:resnet18"])
def test_other_networks_are_no_networks_with_heads(kind, name, tmp_path):
    torch.save(STRANGERS[kind](models.resnet18().state_dict()), tmp_path / "net.pth")
    with pytest.raises(WeightsMismatchError, match=r"net\.pth"):
        loaded(tmp_path / "net.pth", name)


def test_a_part_that_a_network_was_built_without_is_no_head(tmp_path):
    own = timm.create_model("test_vit")
    norm = {f"norm_pre.{k}": torch.ones(own.embed_dim) for k in ("weight", "bias")}
    pool = {"attn_pool.q.weight": torch.ones(2, 2)}  # None in networks that have none
    for more in (norm, pool):
        torch.save({**own.state_dict(), **more}, tmp_path / "net.pth")
        with pytest.raises(WeightsMismatchError, match="unknown to the network"):
            loaded(tmp_path / "net.pth", "timm:test_vit")


def test_keys_that_do_not_fit(network, tmp_path):
    torch.save(models.squeezenet1_0().state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsMismatchError, match=r"have another shape \(features.0.weight"):
        loaded(tmp_path / "other.pth")
    with pytest.raises(WeightsMismatchError) as caught:
        loaded(tmp_path / "other.pth", "resnet18")
    for part in [
        f"{tmp_path / 'other.pth'} does not fit torchvision:resnet18",
        "missing (conv1.weight",
        "unknown to the network (features.0",
    ]:
        assert part in str(caught.value)
    state = network.state_dict()
    del state["features.3.squeeze.weight"]
    torch.save(state, tmp_path / "fewer.pth")
    with pytest.raises(WeightsMismatchError, match="1 of 52 weights are missing"):
        loaded(tmp_path / "fewer.pth")


class Dangerous:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def damaged_files(network, folder):
    """Each kind of bad file, and what its error must say."""
    plain = folder / "plain.pth"
    torch.save(network.state_dict(), plain)
    whole = plain.read_bytes()
    save_file(network.state_dict(), folder / "plain.safetensors")
    tensors = (folder / "plain.safetensors").read_bytes()
    old = folder / "old.pth"
    torch.save(network.state_dict(), old, _use_new_zipfile_serialization=False)
    for name, content, message in [
        ("empty.pth", b"", "is empty"),
        ("empty.safetensors", b"", "is empty"),
        ("half.pth", whole[: len(whole) // 2], "truncated"),
        ("half.safetensors", tensors[: len(tensors) // 2], "truncated"),
        ("half_old.pth", old.read_bytes()[:-50], "truncated"),
        ("page.pth", b"<!DOCTYPE html><html>Not found</html>", "Download or save it again"),
        ("page.safetensors", b"<!DOCTYPE html><html>Not found</html>", "Download or save it again"),
        ("numbers.pt", np.arange(100.0).tobytes(), "Download or save it again"),
    ]:
        (folder / name).write_bytes(content)
        yield folder / name, message
    for name, content, message in [
        ("list.pth", [1, 2, 3], "holds no weights but a list"),
        ("optimizer.pth", {"epoch": 1, "lr": 0.1}, "holds no weights but a dict with epoch, lr"),
        ("nothing.pth", {}, "holds no weights but an empty dict"),
        ("tensor.pth", torch.zeros(2, 3), r"a single tensor of shape \(2, 3\)"),
        ("strings.pth", {"conv.weight": "x"}, "a dict with conv.weight"),
        ("adam.pth", OPTIMIZER, "the state of an optimizer"),
        ("adam2.pth", {"optimizer": OPTIMIZER}, "the state of an optimizer"),
    ]:
        torch.save(content, folder / name)
        yield folder / name, message


def test_damaged_files(network, tmp_path):
    for path, message in damaged_files(network, tmp_path):
        with pytest.raises(WeightsMismatchError, match=message) as caught:
            loaded(path)
        assert str(path) in str(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nothing_is_unpickled_unsafely(network, tmp_path):
    mark = tmp_path / "this_code_was_run"
    torch.save({"state_dict": network.state_dict(), "x": Dangerous(mark)}, tmp_path / "zip.pth")
    torch.save(Dangerous(mark), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Dangerous(mark)))
    (tmp_path / "named.safetensors").write_bytes(pickle.dumps(Dangerous(mark)))
    for path in ["zip.pth", "old.pth", "bare.pt", "named.safetensors"]:
        with pytest.raises(WeightsMismatchError):
            loaded(tmp_path / path)
    assert not mark.exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("kind", ["whole", "script"])
def test_files_that_hold_programs(kind, network, tmp_path):
    path = tmp_path / "net.pt"
    if kind == "whole":
        torch.save(network, path)
    else:
        torch.jit.save(torch.jit.trace(network, torch.zeros(1, 3, 64, 64)), path)
    # Old versions of torch read programs; they are no weights either.
    said = r"(is refused|holds no weights).*state_dict\(\)"
    with pytest.raises(WeightsMismatchError, match=said):
        loaded(path)


@pytest.mark.parametrize("path", ["nowhere/net.pth", "./nowhere", "~/nowhere.safetensors"])
def test_missing_files(path):
    with pytest.raises(WeightsUnavailableError, match=r"cannot be read .*Check the path") as caught:
        loaded(path)
    assert "nowhere" in str(caught.value)


def test_folders_and_other_files(tmp_path):
    with pytest.raises(WeightsUnavailableError, match="cannot be read"):
        loaded(tmp_path)
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "endless.pth").symlink_to("/dev/zero")
    for name in ["pipe.pth", "endless.pth"]:
        with pytest.raises(WeightsUnavailableError, match="it is a device or pipe"):
            loaded(tmp_path / name)
    with pytest.raises(WeightsUnavailableError, match="null character"):
        loaded("\0.pth")
    with pytest.raises(WeightsUnavailableError, match="cannot be read"):
        loaded("~nobody_of_this_name/net.pth")
    (tmp_path / "net.onnx").write_bytes(b"onnx")
    with pytest.raises(WeightsUnavailableError, match=r"must end in \.pth"):
        loaded(tmp_path / "net.onnx")
