"""Half precision: the gradients are those of float32, overflows are left out, what "auto" takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EpochScoring

from sktransfer import FineTuneClassifier

HALF = {
    "image_size": 32, "max_epochs": 1, "batch_size": 10, "random_state": 0, "device": "cpu",
    "engine": "torch", "trainable": 1, "schedule": "constant", "warmup": 0, "weight_decay": 0.0,
}  # fmt: skip


class Gradients(Callback):
    """Keeps the gradients of the first step as the optimizer meets them."""

    def __init__(self):
        self.first = []

    def on_grad_computed(self, net, **kwargs):
        if not self.first:
            learning = [p for group in net.optimizer_.param_groups for p in group["params"]]
            self.first = [p.grad.clone() for p in learning]


def first_gradients(sample, amp, label_smoothing=0.0, **changes):
    kept = Gradients()
    FineTuneClassifier(
        **HALF, amp=amp, label_smoothing=label_smoothing, callbacks=[("g", kept)],
        **changes,
    ).fit(sample.data[:30], sample.target[:30] % 3)  # fmt: skip
    return torch.cat([one.flatten() for one in kept.first])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "bound"), [({}, 0.12), ({"l2_sp": 1.0}, 0.12), ({"batchnorm": "train"}, 0.25)]
)
def test_gradients_are_those_of_float32(sample, changes, bound):
    exact = first_gradients(sample, "float32", **changes)
    half = first_gradients(sample, "float16", **changes)
    # ReLU6 turns at other places in 10 bits: bfloat16, with 7, is 19% off, float16 8%.
    assert torch.linalg.norm(half - exact) < bound * torch.linalg.norm(exact)
    assert torch.linalg.norm(half) == pytest.approx(torch.linalg.norm(exact).item(), rel=bound / 10)


@pytest.mark.slow
def test_small_gradients_do_not_vanish(sample, monkeypatch):
    """Without the scale float16 loses what float32 sees: this is what the scale is for."""
    exact = first_gradients(sample, "float32")
    scaled = first_gradients(sample, "float16")
    monkeypatch.setattr(torch.amp.GradScaler, "is_enabled", lambda self: False)
    monkeypatch.setattr(torch.amp.GradScaler, "scale", lambda self, loss: loss)
    monkeypatch.setattr(torch.amp.GradScaler, "unscale_", lambda self, optimizer: None)
    plain = first_gradients(sample, "float16")
    lost = [int(((one == 0) & (exact != 0)).sum()) for one in (plain, scaled)]
    assert lost[0] > 3 * lost[1]


@pytest.mark.filterwarnings(
    "ignore:Detected call of `lr_scheduler.step"
)  # torch, of a left-out step
@pytest.mark.slow
def test_a_step_that_overflows_is_left_out(sample):
    """The weights stay, the scale is halved, and the next step learns."""

    class Overflow(Callback):
        def on_train_begin(self, net, **kwargs):
            net.scaler_.load_state_dict({**net.scaler_.state_dict(), "scale": 2.0**40})
            self.seen = []

        def on_batch_end(self, net, training=True, **kwargs):
            parameters = net.module_.parameters()
            now = torch.cat([p.detach().flatten() for p in parameters if p.requires_grad])
            self.seen.append((net.scaler_.get_scale(), now.clone()))

    steps = Overflow()
    X, y = sample.data[:30], sample.target[:30] % 3
    longer = {**HALF, "max_epochs": 12}
    clf = FineTuneClassifier(**longer, amp="float16", callbacks=[("o", steps)]).fit(X, y)
    scales = [scale for scale, _ in steps.seen]
    assert scales[0] == 2.0**39 and torch.equal(steps.seen[0][1], steps.seen[1][1])
    assert scales[-1] < 2.0**30 and not torch.equal(steps.seen[-1][1], steps.seen[0][1])
    assert np.isfinite(clf.predict_proba(X)).all()


def test_float32_and_bfloat16_are_not_scaled(sample):
    for amp in ("float32", "bfloat16"):
        clf = FineTuneClassifier(**HALF, amp=amp)
        clf.fit(sample.data[:30], sample.target[:30] % 3)
        assert not clf.net_.scaler_.is_enabled()


@pytest.mark.parametrize("has", [True, False])
def test_auto_is_bfloat16_where_the_cpu_multiplies_in_it(sample, monkeypatch, has):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: has, raising=False)
    X, y = sample.data[:30], sample.target[:30] % 3
    clf = FineTuneClassifier(**HALF).fit(X, y)
    assert clf.net_.recipe.autocast is (torch.bfloat16 if has else None)
    assert {p.dtype for p in clf.net_.module_.parameters()} == {torch.float32}
    alone = FineTuneClassifier(**{**HALF, "trainable": "head"}).fit(X, y)
    assert alone.net_.recipe.autocast is None


def test_grouped_convolutions_stay_in_float32(sample):
    """The others compute in bfloat16; predictions, outside of learning, all in float32."""
    clf = FineTuneClassifier(**HALF, amp="bfloat16")
    clf.fit(sample.data[:30], sample.target[:30] % 3)
    found = {}

    def note(module, args, output):
        found[module] = output.dtype

    module = clf.net_.module_
    convs = [one for one in module.modules() if isinstance(one, torch.nn.Conv2d)]
    hooks = [one.register_forward_hook(note) for one in convs]
    # Also where a second net learns on the same module.
    clf.set_params(warm_start=True).fit(sample.data[:8], sample.target[:8] % 3)
    assert clf.net_.module_ is module
    assert {(conv.groups > 1, dtype) for conv, dtype in found.items()} == {
        (True, torch.float32), (False, torch.bfloat16),
    }  # fmt: skip
    found.clear()
    clf.predict_proba(sample.data[:8])
    assert set(found.values()) == {torch.float32}
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("amp", ["bfloat16", "float16"])
def test_scorers_of_skorch_get_numbers_that_numpy_knows(sample, amp):
    scores = EpochScoring("accuracy", lower_is_better=False, on_train=True, name="seen")
    clf = FineTuneClassifier(**HALF, amp=amp, callbacks=[scores])
    clf.fit(sample.data[:30], sample.target[:30] % 3)
    assert 0 <= clf.history_[-1, "seen"] <= 1
