"""What is frozen stays as it was, to the bit; what is trained moves at the rate that was set."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sktransfer import CNNCodes, FineTuneClassifier
from sktransfer.exceptions import TrainingError

QUICK = {"image_size": 64, "max_epochs": 2, "lr": 1e-2, "warmup": 0.0, "random_state": 0}


def classifier(**changes):
    return FineTuneClassifier(**{**QUICK, **changes})


@pytest.fixture(scope="module")
def photos(sample):
    return sample.data[:24], np.arange(24) % 3


def weights_of(clf):
    """Every weight and statistic of the fine-tuned network, by its name in the pretrained one."""
    from sktransfer.finetune._parameter_groups import plain_name

    state = {plain_name(n): v for n, v in clf.net_.module_.state_dict().items()}
    return {n: v for n, v in state.items() if not n.startswith(("head.", "scale", "shift"))}


def learning_names(clf):
    from sktransfer.finetune._parameter_groups import plain_name

    every = clf.net_.module_.named_parameters()
    return {plain_name(n) for n, p in every if p.requires_grad and n.startswith("tail.")}


CASES = {
    "head": {"trainable": "head"},
    "last stage": {"trainable": 1},
    "two stages": {"trainable": 2},
    "live norms": {"trainable": 1, "batchnorm": "train"},
    "by name": {"trainable": ["blocks.6.*"], "batchnorm": "train"},
    "norms alone": {"trainable": ["*.bn2.weight", "*.bn2.bias"], "batchnorm": "train"},
    "biases": {"trainable": 2, "method": "bitfit", "batchnorm": "train"},
    "a rate of zero": {"trainable": 2, "backbone_lr_factor": 0.0},
    "resnet": {"backbone": "resnet18", "weights": None, "preprocessing": "default",
               "trainable": 1, "batchnorm": "train"},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_frozen_weights_and_statistics_are_equal_to_the_bit(photos, name):
    changes = CASES[name]
    clf = classifier(**changes).fit(*photos)
    before = clf._load_network().module.state_dict()
    after, learning = weights_of(clf), learning_names(clf)
    if changes.get("backbone_lr_factor") == 0:
        assert not learning
    owners = {n.rpartition(".")[0] for n in learning}
    live = changes.get("batchnorm") == "train"
    for key, value in after.items():
        statistic = key.endswith(("running_mean", "running_var", "num_batches_tracked"))
        may_move = key in learning or (statistic and live and key.rpartition(".")[0] in owners)
        if not may_move:
            assert value.equal(before[key]), key
        elif not key.endswith("running_var"):
            assert not value.equal(before[key]), key


@pytest.mark.parametrize("trainable", ["head", 1, 2])
def test_codes_of_the_frozen_part_are_equal_to_the_bit(photos, trainable):
    """Also of the layer at which the fine-tuned network was cut."""
    X, y = photos
    clf = classifier(trainable=trainable, batchnorm="train", cache=None)
    clf.fit(X, y)
    layer = clf._load_model().start.name
    codes = CNNCodes(layer=layer, image_size=64, pooling="avg", cache=None, n_jobs=1)
    before = codes.fit(X).transform(X)
    clf.fit(X, y)
    np.testing.assert_array_equal(codes.transform(X), before)
    np.testing.assert_array_equal(codes.fit(X).transform(X), before)
    if trainable == "head":
        frozen = CNNCodes(image_size=64, cache=None).fit(X).transform(X)
        np.testing.assert_allclose(clf.transform(X), frozen, rtol=1e-5, atol=1e-6)
    else:
        assert np.abs(clf.transform(X) - CNNCodes(image_size=64).fit(X).transform(X)).max() > 1e-3


def test_frozen_modules_stay_in_eval_mode_whatever_is_called(photos):
    clf = classifier(trainable=1, batchnorm="train").fit(*photos)
    module = clf.net_.module_
    learning = {n.rpartition(".")[0] for n, p in module.named_parameters() if p.requires_grad}
    module.train()
    for name, one in module.tail.named_modules():
        is_norm = isinstance(one, torch.nn.BatchNorm2d)
        assert one.training == (is_norm and f"tail.{name}" in learning), name


def normed(n_in, n_out):
    return torch.nn.Sequential(torch.nn.BatchNorm1d(n_in), torch.nn.Linear(n_in, n_out))


@pytest.mark.parametrize("changes", [{"batchnorm": "train", "trainable": 1}, {"head": normed}])
def test_one_image_that_is_left_joins_the_batch_before(photos, changes):
    """A batch norm that follows the batches has no statistics of one image."""
    X, y = photos
    changes |= {"head_init": "random", "max_epochs": 2}
    clf = classifier(**changes, batch_size=len(X) - 1).fit(X, y)
    assert len(clf.history_[-1]["batches"]) == 1
    if "head" in changes:  # of a map there are several values for each channel
        with pytest.raises(TrainingError, match=r"at least 2 samples in each, got 1\. Take a lar"):
            classifier(**changes, batch_size=1).fit(X, y)


@pytest.mark.parametrize(
    "optimizer", ["adamw", "sgd", torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad]
)
def test_the_groups_of_the_optimizer_hold_the_rates(photos, optimizer):
    clf = classifier(
        trainable=3,
        lr=1e-3,
        backbone_lr_factor=0.1,
        layer_decay=0.5,
        weight_decay=0.03,
        schedule="constant",
        optimizer=optimizer,
        max_epochs=1,
    ).fit(*photos)
    groups = clf.net_.optimizer_.param_groups
    rates = {}
    by_parameter = {id(p): n for n, p in clf.net_.module_.named_parameters()}
    stages = [stage.name for stage in clf.layers_]
    where = clf._load_model().stage_of
    for group in groups:
        for parameter in group["params"]:
            name = by_parameter.pop(id(parameter))
            owner = "head" if name.startswith("head.") else stages[where[name[len("tail.") :]]]
            rates.setdefault(owner, set()).add(group["lr"])
            assert group["weight_decay"] == (0.03 if parameter.ndim > 1 else 0.0), name
    # Each parameter that is trained is in one group, and no other.
    named = dict(clf.net_.module_.named_parameters())
    assert not any(named[name].requires_grad for name in by_parameter.values())
    expected = {"head": 1e-3, stages[-2]: 1e-4, stages[-3]: 5e-5, stages[-4]: 2.5e-5}
    assert set(rates) == set(expected)
    for owner, rate in expected.items():
        assert len(rates[owner]) == 1
        assert rates[owner].pop() == pytest.approx(rate, rel=1e-9)
    assert {one.name: one.lr for one in clf.layers_ if one.learns} == pytest.approx(expected)
    learnt = sum(p.numel() for p in named.values() if p.requires_grad)
    assert clf.n_trainable_parameters_ == sum(one.n_trainable for one in clf.layers_) == learnt


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.RMSprop])
def test_weights_move_in_proportion_to_their_rates(photos, optimizer):
    """One step: the step of each group is its rate times one common to all."""
    changes = {
        "trainable": 2, "optimizer": optimizer, "schedule": "constant", "weight_decay": 0.0,
        "max_epochs": 1, "layer_decay": 0.25, "lr": 1e-4,
    }  # fmt: skip
    moved = {}
    for factor in (1.0, 0.1):
        clf = classifier(backbone_lr_factor=factor, **changes).fit(*photos)
        before, after = clf._load_network().module.state_dict(), weights_of(clf)
        stage_of = clf._load_model().stage_of
        last = max(stage_of.values())
        for depth in (0, 1):
            names = [n for n in learning_names(clf) if stage_of[n] == last - depth]
            moved[factor, depth] = torch.cat(
                [(after[n].double() - before[n].double()).flatten() for n in names]
            )
    for depth in (0, 1):
        length = moved[0.1, depth].norm() / moved[1.0, depth].norm()
        assert float(length) == pytest.approx(0.1, rel=0.02)
    if optimizer is torch.optim.RMSprop:  # whose first step is as long for every weight
        longest = [float(moved[1.0, depth].abs().max()) for depth in (0, 1)]
        assert longest[1] / longest[0] == pytest.approx(0.25, rel=0.02)


def test_a_rate_of_zero_freezes_and_is_cut_off_nothing(photos):
    same = {"layer_decay": 1.0, "backbone_lr_factor": 0.0, "amp": "float32"}
    clf = classifier(trainable=2, **same).fit(*photos)
    head = classifier(trainable="head").fit(*photos)
    assert [one.learns for one in clf.layers_][-1:] == [True]
    assert not any(one.learns or one.lr for one in clf.layers_[:-1])
    assert clf.n_trainable_parameters_ == head.n_trainable_parameters_ == 3 * 1281
    np.testing.assert_allclose(
        clf.predict_proba(photos[0]), head.predict_proba(photos[0]), rtol=1e-3, atol=1e-4
    )
