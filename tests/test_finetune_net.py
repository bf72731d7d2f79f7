"""What skorch gives: history, callbacks and parameters of the net; and the ways to train less."""

from __future__ import annotations

import warnings
from collections import Counter

import joblib
import numpy as np
import pytest
import torch
from common import learnt
from skorch.callbacks import Callback, EpochScoring, Freezer, GradientNormClipping, LRScheduler
from torch import nn

from sktransfer import FineTuneClassifier, FineTuneRegressor
from sktransfer.exceptions import DivergenceWarning, SktransferWarning, TrainingError

QUICK = {"image_size": 32, "max_epochs": 2, "batch_size": 10, "random_state": 0}


def test_history(thirty):
    """Losses, accuracies and rates are those of an independent count."""
    X, y = thirty
    parameters = {**QUICK, "schedule": "constant", "warmup": 0, "trainable": 1, "lr": 1e-2}
    clf = FineTuneClassifier(**parameters).fit(X, y, validation_data=(X, y))
    for row in clf.history_:
        assert row["images_per_second"] == pytest.approx(30 / row["dur"])
        losses = [batch["train_loss"] for batch in row["batches"] if "train_loss" in batch]
        assert row["train_loss"] == pytest.approx(np.mean(losses))
        assert row["lr head"] == 1e-2 and row["lr blocks.6"] == pytest.approx(1e-3)
    assert clf.history_[-1]["valid_acc"] == clf.score(X, y)
    right = clf.predict_proba(X)[np.arange(30), y]
    assert clf.history_[-1]["valid_loss"] == pytest.approx(-np.log(right).mean(), abs=1e-3)


def test_rates_are_means_over_the_batches(thirty):
    seen = []

    class Rates(Callback):
        def on_batch_begin(self, net, training, **_):
            if training:
                seen.append(net.optimizer_.param_groups[0]["lr"])

    clf = FineTuneClassifier(**{**QUICK, "batch_size": 8}, callbacks=[Rates()]).fit(*thirty)
    rates = np.reshape(seen, (len(clf.history_), 4))
    assert len(np.unique(rates)) > 4
    np.testing.assert_allclose(clf.history_[:, "lr head"], rates.mean(1))
    np.testing.assert_allclose(clf.history_[:, "lr blocks.6"], 0.1 * rates.mean(1))


def test_training_accuracy_is_that_of_the_batches(thirty):
    """With a rate next to zero the network stays, and both accuracies agree."""
    clf = FineTuneClassifier(**{**QUICK, "lr": 1e-12}, trainable="head").fit(*thirty)
    assert clf.history_[-1]["train_acc"] == clf.score(*thirty)


def test_verbose(thirty, capsys):
    clf = FineTuneClassifier(**QUICK, trainable=2, verbose=1).fit(*thirty)
    printed = capsys.readouterr().out
    assert "train_loss" in printed and "images_per_second" in printed
    assert "blocks" not in printed.split("Frozen")[0] and "lr head" not in printed
    assert all(len(line) < 100 for line in printed.splitlines())
    assert "\x1b" not in printed  # this is no terminal
    assert "lr blocks.5" in clf.history_[-1]
    FineTuneClassifier(**QUICK, early_stopping=True).fit(*thirty)
    FineTuneRegressor(**QUICK).fit(*thirty)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_rates_that_are_too_large_are_told(thirty):
    X, y = thirty
    with pytest.warns(DivergenceWarning, match="smaller lr than 1 "):
        clf = FineTuneClassifier(**QUICK, lr=1.0).fit(X, y)
    assert np.isfinite(clf.predict_proba(X)).all()
    with pytest.warns(DivergenceWarning, match="guessing gives 1"):
        FineTuneRegressor(**QUICK, lr=1e3).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DivergenceWarning)
        FineTuneClassifier(**QUICK).fit(X, y)
        FineTuneRegressor(**QUICK).fit(X, y)


@pytest.mark.parametrize("kind", [FineTuneClassifier, FineTuneRegressor])
@pytest.mark.parametrize(
    ("steps", "lr"), [(6, 1e6), (6, 1e30), (6, 1e300), (1, 1e12), (1, 1e30), (1, 1e60)]
)
def test_absurd_rates_are_errors_and_leave_nothing(thirty, kind, steps, lr):
    """Also where only the last step spoils the weights, after which no loss was computed."""
    size = {"max_epochs": 1, "batch_size": 30} if steps == 1 else {}
    est = kind(**{**QUICK, "trainable": 1, "lr": lr, **size})
    with pytest.raises(TrainingError, match=r"diverged: the loss became .*smaller lr"):
        est.fit(*thirty)
    assert set(vars(est)) == set(est.get_params())


@pytest.mark.parametrize("kind", [FineTuneClassifier, FineTuneRegressor])
def test_a_rate_that_spoils_later_calls_leaves_what_was_learnt(thirty, kind):
    est = kind(**QUICK).fit(*thirty)
    before = est.predict(thirty[0])
    est.set_params(lr=1e6, warm_start=True)
    with pytest.raises(TrainingError):
        est.fit(*thirty)
    np.testing.assert_array_equal(est.predict(thirty[0]), before)


def test_losses_are_looked_at_after_each_epoch_on_every_device(thirty, monkeypatch):
    """What a GPU does: no look at the loss of a batch, which would wait for it."""
    from sktransfer.finetune._net import _Steps

    plain, seen = _Steps.loss_of, []

    def no_number(self, *args):
        seen.append(len(self.history))
        return plain(self, *args) * (float("nan") if len(self.history) == 2 else 1)

    monkeypatch.setattr(_Steps, "_check", lambda *_: None)
    monkeypatch.setattr(_Steps, "loss_of", no_number)
    with pytest.raises(TrainingError, match="became nan in epoch 2"):
        FineTuneClassifier(**{**QUICK, "max_epochs": 5}).fit(*thirty)
    assert max(seen) == 2


def test_outputs_that_are_no_numbers_are_never_given(thirty):
    clf = FineTuneClassifier(**QUICK).fit(*thirty)
    with torch.no_grad():
        clf._load_model().module.head[-1].weight.fill_(float("inf"))
    for call in (clf.predict, clf.predict_proba, clf.decision_function, clf.score):
        with pytest.raises(TrainingError, match="image 0 must be finite"):
            call(*(thirty if call == clf.score else thirty[:1]))


def test_callbacks(thirty):
    """Callbacks of skorch do as in skorch."""
    X, y = thirty
    seen = []

    class Sees(Callback):
        def on_grad_computed(self, net, named_parameters, **_):
            gradients = [p.grad for _, p in named_parameters if p.grad is not None]
            seen.append(float(torch.stack([g.norm() for g in gradients]).norm()))

    clf = FineTuneClassifier(
        **{**QUICK, "optimizer": "sgd", "max_epochs": 1},
        callbacks=[
            ("clip", GradientNormClipping(1e-3)),
            Freezer("head.2.bias"),
            Sees(),
            EpochScoring("accuracy", name="scored"),
        ],
    ).fit(X, y, validation_data=(X, y))
    assert len(seen) == 3 and max(seen) <= 1.01e-3
    assert "clip" in dict(clf.net_.callbacks_)
    untouched = FineTuneClassifier(**{**QUICK, "max_epochs": 0}).fit(X, y)
    np.testing.assert_array_equal(learnt(clf)["head.2.bias"], learnt(untouched)["head.2.bias"])
    assert not np.array_equal(learnt(clf)["head.2.weight"], learnt(untouched)["head.2.weight"])
    assert clf.history_[-1]["scored"] == clf.score(X, y)


def test_schedule_of_skorch(thirty):
    schedule = LRScheduler("StepLR", step_size=1, gamma=0.1)
    clf = FineTuneClassifier(**QUICK, schedule=schedule, trainable="head").fit(*thirty)
    np.testing.assert_allclose(clf.history_[:, "lr head"], [2e-3, 2e-4])


def test_net_params(thirty):
    params = {"optimizer__betas": (0.5, 0.6), "callbacks__epoch_timer": None, "lr": 5e-4}
    with pytest.warns(SktransferWarning, match="'lr': ...} changes nothing"):
        clf = FineTuneClassifier(**QUICK, net_params=params).fit(*thirty)
    assert {group["betas"] for group in clf.net_.optimizer_.param_groups} == {(0.5, 0.6)}
    assert "epoch_timer" not in dict(clf.net_.callbacks_)
    assert "dur" not in clf.history_[-1]
    with pytest.raises(ValueError, match="nonsense"):
        FineTuneClassifier(**QUICK, net_params={"nonsense": 1}).fit(*thirty)


def pretrained(clf):
    return dict(clf._load_model().table.network.module.named_parameters())


def test_bitfit(thirty, tmp_path):
    X, y = thirty
    clf = FineTuneClassifier(**QUICK, trainable="all", method="bitfit").fit(X, y)
    before = pretrained(clf)
    moved = set()
    for name, value in clf._load_model().module.tail.named_parameters():
        if not torch.equal(value, before[name]):
            moved.add(name)
    biases = {name for name in before if name.endswith("bias") and "classifier" not in name}
    assert moved == biases
    assert sum(layer.n_trainable for layer in clf.layers_[:-1]) == sum(
        before[name].numel() for name in biases
    )
    assert_pickle(clf, X, tmp_path, most=300_000)


def test_lora(thirty, tmp_path):
    pytest.importorskip("peft")
    X, y = thirty
    clf = FineTuneClassifier(**QUICK, trainable=1, method="lora", lr=1e-2).fit(X, y)
    before = pretrained(clf)
    targets = [
        name
        for name, layer in clf._load_model().table.network.module.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.groups == 1
        and clf._load_model().stage_of.get(f"{name}.weight") == len(clf._load_model().stages) - 1
    ]  # fmt: skip
    adapted, tail = set(), clf._load_model().module.tail
    for name, value in tail.named_parameters():
        if "lora_" in name:
            adapted.add(name.split(".lora_")[0])
            # B starts at zero, so it has moved where it is not.
            assert "lora_B" not in name or value.any()
        else:
            assert torch.equal(value, before[name.replace(".base_layer", "")]), name
            assert not value.requires_grad
    assert targets and adapted == set(targets)
    buffers = dict(clf._load_model().table.network.module.named_buffers())
    for name, value in tail.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            assert torch.equal(value, buffers[name.replace(".base_layer", "")])
    rank = {p.shape[0] for n, p in tail.named_parameters() if "lora_A" in n}
    assert rank == {8}
    assert_pickle(clf, X, tmp_path, most=200_000)


def test_lora_learns_at_the_rates_of_its_stages(thirty):
    pytest.importorskip("peft")
    same = {**QUICK, "trainable": 2, "method": "lora", "lr": 1e-2, "warmup": 0}
    clf = FineTuneClassifier(**same, layer_decay=0.5).fit(*thirty)
    states = {layer.name: layer for layer in clf.layers_}
    assert [states[name].lr for name in ("blocks.5", "blocks.6", "head")] == [5e-4, 1e-3, 1e-2]
    adapters = Counter()
    for name, value in clf._load_model().module.tail.named_parameters():
        if "lora_" in name:
            stage = name.split(".base_layer")[0].split(".lora_")[0] + ".weight"
            model = clf._load_model()
            adapters[model.stages[model.stage_of[stage]].name] += value.numel()
    assert {n: states[n].n_trainable for n in ("blocks.5", "blocks.6")} == adapters
    assert states["head"].n_trainable == states["head"].n_parameters == 3 * 1281
    groups = {group["name"]: group["lr"] for group in clf.net_.optimizer_.param_groups}
    assert set(groups) == {"blocks.5", "blocks.6", "head", "head, not decayed"}
    # A rate of zero freezes them.
    frozen = FineTuneClassifier(**same, backbone_lr_factor=0.0).fit(*thirty)
    assert not any(layer.learns for layer in frozen.layers_[:-1])
    assert all(
        not value.any()
        for n, value in frozen._load_model().module.tail.named_parameters()
        if "lora_B" in n
    )


def test_lora_without_peft_names_the_extra(thirty, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ImportError, match=r"sktransfer\[lora\]"):
        FineTuneClassifier(**QUICK, method="lora").fit(*thirty)


def assert_pickle(clf, X, folder, *, most):
    joblib.dump(clf, folder / "clf")
    assert (folder / "clf").stat().st_size < most
    loaded = joblib.load(folder / "clf")
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
