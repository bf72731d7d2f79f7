"""What is computed otherwise while learning on a CPU: the same numbers."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sktransfer import FineTuneClassifier
from sktransfer.finetune._model import ImageModule, suit_images
from sktransfer.finetune._while_learning import AttentionByProducts, attention, while_learning
from sktransfer.networks import load_backbone
from sktransfer.networks._layers import trace_cuts


def tail_of(name, *, weights=None):
    """All of a network, with norms that scale and shift."""
    cuts = trace_cuts(load_backbone(name, weights=weights), (64, 64))
    tail = cuts.up_to(None).tail(None).eval()
    generator = torch.Generator().manual_seed(0)
    for module in tail.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            for tensor in (module.bias.data, module.running_mean):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.5)
    return tail.requires_grad_(True)


def gradients_of(network, tail, x):
    tail.zero_grad()
    out = network(x)
    (out * torch.linspace(0, 1, out.shape[1], dtype=x.dtype).view(1, -1, 1, 1)).sum().backward()
    return out.detach(), {name: p.grad.clone() for name, p in tail.named_parameters()}


@pytest.mark.parametrize(
    ("name", "n"),
    [("resnet18", 20), ("mobilenet_v2", 52), ("efficientnet_lite0", 49), ("densenet121", 59)],
)
def test_outputs_and_gradients_are_those_of_both(name, n):
    tail = tail_of(name, weights="default" if name == "efficientnet_lite0" else None).double()
    network = while_learning(tail)
    assert sum("convolution_and_norm" in str(node.target) for node in network.graph.nodes) == n
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected, of_both = gradients_of(tail, tail, x)
    found, of_one = gradients_of(network, tail, x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert of_one.keys() == of_both.keys()
    for key, gradient in of_both.items():
        assert (of_one[key] - gradient).norm() <= 1e-8 * gradient.norm() + 1e-10, key


def test_grouped_convolutions_stay_in_float32_beside_bfloat16():
    tail = tail_of("mobilenet_v2")
    suit_images(tail)
    network, seen = while_learning(tail), []
    real = nn.Conv2d._conv_forward

    def watch(self, x, weight, bias):
        seen.append((self.groups > 1, torch.is_autocast_enabled("cpu")))
        return real(self, x, weight, bias)

    x = torch.randn(2, 3, 64, 64)
    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
        patch.setattr(nn.Conv2d, "_conv_forward", watch)
        found = network(x)
        plain = tail(x)
    assert len(seen) == 2 * 52 and all(grouped != half for grouped, half in seen)
    assert (found - plain).norm() < 0.05 * plain.norm()


def test_norms_that_learn_from_batches_are_left(monkeypatch):
    tail = tail_of("resnet18")
    network = while_learning(tail)
    norm = tail.get_submodule("layer1.0.bn1").train()
    x, expected = torch.randn(4, 3, 64, 64), copy.deepcopy(tail)
    found = network(x)
    torch.testing.assert_close(found, expected(x), rtol=1e-3, atol=1e-4)
    assert norm.num_batches_tracked == 1
    torch.testing.assert_close(
        norm.running_mean, expected.get_submodule("layer1.0.bn1").running_mean
    )


def test_hooks_see_what_they_are_put_on():
    tail = tail_of("resnet18")
    network, seen = while_learning(tail), []
    x = torch.randn(2, 3, 64, 64)
    network(x)
    convolution = tail.get_submodule("conv1")
    handle = convolution.register_forward_hook(lambda *args: seen.append(args[2].detach()))
    network(x)
    expected = torch.conv2d(x, convolution.weight, stride=2, padding=3)
    torch.testing.assert_close(seen, [expected])
    handle.remove()
    convolution.register_full_backward_hook(lambda *args: seen.append(args[2][0]))
    network(x).sum().backward()
    assert len(seen) == 2 and seen[1].shape == expected.shape


def test_only_steps_of_training_are_computed_so():
    tail = tail_of("resnet18")
    module = ImageModule(tail, nn.Identity(), nn.Identity(), ((0, 0, 0), (1, 1, 1)),
                         live_norms=False).train()  # fmt: skip
    assert module.tail_now is not tail and module.tail_now is module.tail_now
    with torch.no_grad():
        assert module.tail_now is tail
    names = {name for name, _ in module.named_parameters()}
    assert names == {f"tail.{name}" for name, _ in tail.named_parameters()}
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert copied.tail_now is not module.tail_now
        weights = copied.tail_now.convolution_and_norm_0.convolution.weight
        assert weights is copied.tail.get_submodule("conv1").weight
    assert module.eval().tail_now is tail


def test_a_fit_without_batch_norms_computes_none(sample):
    X, y = sample.data[:32], sample.target[:32] % 3
    est = FineTuneClassifier("resnet18", weights=None, preprocessing="default", trainable="all",
                             image_size=64, max_epochs=1, batch_size=16, amp="float32",
                             random_state=0)  # fmt: skip
    counts = {}
    for batchnorm in ("frozen", "train"):
        with torch.profiler.profile() as profile:
            est.set_params(batchnorm=batchnorm).fit(X, y)
        names = [event.name for event in profile.events()]
        counts[batchnorm] = names.count("aten::native_batch_norm_backward")
    assert counts == {"frozen": 0, "train": 2 * 20}


def test_it_learns_what_a_plain_loop_learns(sample, monkeypatch):
    X, y = sample.data[:48], sample.target[:48] % 3
    est = FineTuneClassifier(trainable="all", image_size=64, max_epochs=2, batch_size=16,
                             amp="float32", cache=None, random_state=0)  # fmt: skip
    found = est.fit(X, y).predict_proba(X)
    monkeypatch.setattr("sktransfer.finetune._model.while_learning", lambda tail: tail)
    np.testing.assert_allclose(est.fit(X, y).predict_proba(X), found, atol=2e-3)


@pytest.mark.parametrize(
    ("optimizer", "net_params"),
    [
        ("adamw", {"optimizer__foreach": True}),
        ("adamw", {"optimizer__fused": False}),
        ("sgd", {"optimizer__differentiable": False}),
        (torch.optim.RAdam, {}),
    ],
)
def test_the_optimizer_is_as_the_user_has_it(optimizer, net_params, sample):
    est = FineTuneClassifier(trainable="head", image_size=32, max_epochs=1, optimizer=optimizer,
                             net_params=net_params)  # fmt: skip
    est.fit(sample.data[:16], sample.target[:16] % 2)
    group = est.net_.optimizer_.param_groups[0]
    assert not group.get("fused")
    assert group.get("foreach") == net_params.get("optimizer__foreach")


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_fused_optimizer_learns_what_the_plain_one_does(optimizer, sample):
    X, y = sample.data[:32], sample.target[:32] % 3
    est = FineTuneClassifier(trainable=1, image_size=64, max_epochs=2, batch_size=8, cache=None,
                             optimizer=optimizer, amp="float32", random_state=0)  # fmt: skip
    fused = est.fit(X, y)
    assert fused.net_.optimizer_.param_groups[0]["fused"]
    found = fused.predict_proba(X)
    plain = est.set_params(net_params={"optimizer__fused": False}).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(found, plain, atol=2e-3)


def masks(kind):
    """(2, 1, 7, 7) of 2 items, 3 heads, 7 tokens."""
    if kind is None:
        return None
    mask = torch.rand(2, 1, 7, 7, generator=torch.Generator().manual_seed(2)) < 0.6
    mask[..., 0] = True
    if kind == "a row of nothing":
        mask[1, 0, 3] = False
    return mask


@pytest.mark.parametrize("kind", [None, "bool", "a row of nothing"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_is_that_of_torch(kind, scale):
    generator, mask = torch.Generator().manual_seed(0), masks(kind)
    parts = [torch.randn(2, 3, 7, 4, dtype=torch.float64, generator=generator) for _ in range(3)]
    results = []
    for way in (F.scaled_dot_product_attention, attention):
        own = [part.clone().requires_grad_(True) for part in parts]
        out = way(*own, attn_mask=mask, scale=scale)
        (out * torch.arange(4.0)).sum().backward()
        results.append([out.detach(), *(part.grad for part in own)])
    for found, expected in zip(results[1], results[0], strict=True):
        assert torch.isfinite(found).all()
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_other_attention_is_left_to_torch(monkeypatch):
    q = torch.randn(1, 2, 6, 4)
    calls = []
    real = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, **k: calls.append(k) or real(*a, **k)
    )
    for options in ({"is_causal": True}, {"attn_mask": torch.zeros(6, 6)}, {"dropout_p": 0.5}):
        attention(q, q, q, **options)
    assert len(calls) == 3
    monkeypatch.setattr("sktransfer.finetune._while_learning._MOST_SCORES", 71)
    attention(q, q, q)
    assert len(calls) == 4


def test_a_vit_attends_by_products_and_learns_the_same():
    cuts = trace_cuts(load_backbone("vit_tiny_patch16_224", weights=None), (64, 64))
    tail = cuts.up_to(None).tail(None).eval().requires_grad_(True).double()
    network = while_learning(tail)
    assert sum(node.target is attention for node in network.graph.nodes) == 12
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    gradients = []
    for way in (tail, network):
        tail.zero_grad()
        (way(x) ** 2).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in tail.named_parameters()})
    for name, gradient in gradients[0].items():
        assert (gradients[1][name] - gradient).norm() <= 1e-8 * gradient.norm() + 1e-10, name


def test_texts_attend_by_products(monkeypatch):
    pytest.importorskip("transformers")
    from sktransfer import FineTuneTextClassifier
    from sktransfer.datasets import load_film_sentences_sample
    from sktransfer.finetune import _while_learning

    X, y = load_film_sentences_sample(return_X_y=True)
    shapes, real = [], attention
    monkeypatch.setattr(
        _while_learning, "attention", lambda q, *a, **k: shapes.append(len(q)) or real(q, *a, **k)
    )
    est = FineTuneTextClassifier(trainable=1, max_epochs=1, batch_size=16, random_state=0)
    est.fit(X[:32], y[:32])
    n = len(shapes)
    assert n >= 2 and sum(shapes) >= 32
    est.predict(X[:32])
    assert len(shapes) == n


def test_attention_is_changed_in_its_thread_alone(monkeypatch):
    q, calls = torch.randn(1, 1, 4, 2), []
    monkeypatch.setattr(
        "sktransfer.finetune._while_learning.attention", lambda *args: calls.append(args)
    )
    with AttentionByProducts(), ThreadPoolExecutor(1) as pool:
        pool.submit(F.scaled_dot_product_attention, q, q, q).result()
        assert not calls
        F.scaled_dot_product_attention(q, q, q)
    assert len(calls) == 1
