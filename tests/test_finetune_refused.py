"""What `head`, `callbacks`, `schedule`, `optimizer`, `net_params` and `validation_data` must be."""

from __future__ import annotations

import copy
import pickle
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import (
    BatchScoring,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
)
from torch import nn

from sktransfer import FineTuneClassifier, FineTuneRegressor
from sktransfer.exceptions import SktransferWarning, TrainingError
from sktransfer.finetune import EMA
from sktransfer.finetune._checks import check_training

QUICK = {"image_size": 32, "max_epochs": 1, "trainable": "head", "random_state": 0}


@pytest.fixture(scope="module")
def sixteen(sample):
    return sample.data[:16], sample.target[:16] % 2


def refused(est, data, message, passes, error=ValueError, **more):
    with pytest.raises(error, match=message) as caught:
        est.fit(*data, **more)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000
    assert passes["images"] == 0
    assert not [name for name in vars(est) if name.endswith("_") or name.startswith("_")]


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # from torch 2.5 on it has a successor
    NO_COPY = nn.utils.weight_norm(nn.Linear(1280, 2))


HEADS = {
    "a module": (nn.Linear(1280, 2), r"head= must be 'linear', 'mlp' or a function.*got Linear"),
    "one argument": (lambda n: nn.Linear(n, 2), "head= failed with n_inputs=1280 and n_outputs=2"),
    "other outputs": (lambda a, b: nn.Linear(a, 7), r"head= .*n_outputs=2 .*shape \(2, 7\)"),
    "other inputs": (lambda a, b: nn.Linear(7, b), r"head= .*codes of shape \(n, 1280\)"),
    "nothing": (lambda a, b: None, r"head= must give a torch.nn.Module, gave None"),
    "a class": (lambda a, b: nn.Linear, "head= must give a torch.nn.Module"),
    "a tuple": (lambda a, b: nn.LSTM(a, b), "head= .*gave tuple"),
    "a list": ([nn.Linear(1280, 2)], "'head' parameter"),
    "no device": (lambda a, b: nn.Linear(a, b, device="meta"), "head= must make .*a real device"),
    "no copy": (lambda a, b: NO_COPY, "head= must make a new module at each call"),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_that_are_none(sixteen, passes, name):
    head, message = HEADS[name]
    refused(FineTuneClassifier(**QUICK, head=head), sixteen, message, passes)


def test_heads_of_a_regressor(sixteen, passes):
    for head in (nn.Linear(1280, 1), lambda a, b: nn.Linear(a, 3)):
        refused(FineTuneRegressor(**QUICK, head=head), sixteen, "head=", passes)


def test_a_module_that_is_given_twice_is_trained_once_each(sixteen):
    """Folds and clones call the function again, and it may hand out one and the same module."""
    shared = nn.Linear(1280, 2)
    before = shared.weight.detach().clone()
    clf = FineTuneClassifier(**QUICK, head=lambda a, b: shared).fit(*sixteen)
    assert torch.equal(shared.weight, before)
    assert not torch.equal(clf.net_.module_.head.weight, before)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", [FineTuneClassifier, FineTuneRegressor])
@pytest.mark.parametrize("name", ["no bias", "weight norm", "spectral norm"])
def test_linear_heads_that_are_not_the_usual_one(sixteen, kind, name):
    heads = {
        "no bias": lambda a, b: nn.Linear(a, b, bias=False),
        "weight norm": lambda a, b: nn.utils.weight_norm(nn.Linear(a, b)),
        "spectral norm": lambda a, b: nn.utils.spectral_norm(nn.Linear(a, b)),
    }
    est = kind(**QUICK, head=heads[name]).fit(*sixteen)
    out = est.predict(sixteen[0])
    assert np.corrcoef(out, sixteen[1])[0, 1] > 0.5
    np.testing.assert_allclose(copy.deepcopy(est).predict(sixteen[0]), out, rtol=1e-5, atol=1e-5)


class Permuted(nn.Module):
    """Holds an order of its inputs beside its state_dict, drawn again each time."""

    def __init__(self, n, outputs, kind):
        super().__init__()
        self.linear, self.kind = nn.Linear(n, outputs), kind
        order = np.random.default_rng().permutation(n)
        if kind == "buffer":
            self.register_buffer("order", torch.from_numpy(order), persistent=False)
        else:
            self.order = {
                "tensor": torch.from_numpy(order),
                "array": order,
                "list": order.tolist(),
                "global": np.random.permutation(n).tolist(),
            }[kind]
        self.times = float(np.random.default_rng().random())

    def forward(self, x):
        return self.linear(x[:, self.order]) * self.times


@pytest.mark.parametrize("kind", ["buffer", "tensor", "array", "global"])
def test_what_a_head_holds_beside_its_state_is_kept(sixteen, kind, tmp_path):
    before = np.random.get_state()[1].copy()
    options = {**QUICK, "checkpoint_dir": tmp_path, "head": partial(Permuted, kind=kind)}
    clf = FineTuneClassifier(**options).fit(*sixteen)
    out = clf.predict_proba(sixteen[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    again = FineTuneClassifier(**options).fit(*sixteen)  # from the finished checkpoint
    for one in (pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf), again):
        np.testing.assert_allclose(one.predict_proba(sixteen[0]), out, rtol=1e-5)


def test_a_head_that_cannot_be_built_again(sixteen, passes):
    head = partial(Permuted, kind="list")
    refused(
        FineTuneClassifier(**QUICK, head=head), sixteen, "head= must build the same .*order", passes
    )


def test_a_head_that_is_built_in_another_way_when_it_is_loaded(sixteen, monkeypatch):
    clf = FineTuneClassifier(**QUICK, head=partial(Permuted, kind="global")).fit(*sixteen)
    loaded = pickle.loads(pickle.dumps(clf))
    monkeypatch.setattr(np.random, "permutation", np.arange)
    with pytest.raises(ValueError, match="head= must build the same"):
        loaded.predict(sixteen[0])


def test_a_head_without_parameters_has_nothing_to_train(sixteen, passes):
    clf = FineTuneClassifier(**QUICK, head=lambda a, b: nn.AdaptiveAvgPool1d(b))
    with pytest.raises(ValueError, match="head= has no parameters"):
        clf.fit(*sixteen)


CALLBACKS = {
    "EarlyStopping": EarlyStopping(),
    "its class": EarlyStopping,
    "load_best": EarlyStopping(load_best=True, monitor="valid_acc", lower_is_better=False),
    "EpochScoring": EpochScoring("accuracy"),
    "without cache": EpochScoring("accuracy", use_caching=False),
    "BatchScoring": BatchScoring("accuracy"),
    "Checkpoint": Checkpoint(),
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_callbacks_that_need_validation(sixteen, passes, name):
    message = r"callbacks= holds .*, which needs .*early_stopping=True, or validation_data="
    for one in (CALLBACKS[name], ("named", CALLBACKS[name])):
        refused(FineTuneClassifier(**QUICK, callbacks=[one]), sixteen, message, passes)
        check_training(FineTuneClassifier(**QUICK, callbacks=[one]), validates=True)


@pytest.mark.parametrize("given", [LRScheduler("StepLR", step_size=1), LRScheduler])
@pytest.mark.parametrize("named", [True, False])
def test_there_is_one_schedule(sixteen, passes, given, named):
    """Two would multiply each other's learning rates."""
    clf = FineTuneClassifier(**QUICK, callbacks=[("steps", given) if named else given])
    refused(clf, sixteen, "callbacks= must not hold LRScheduler.*Pass it as schedule=", passes)


def test_a_schedule_that_needs_validation(sixteen, passes):
    plateau = LRScheduler("ReduceLROnPlateau", monitor="valid_loss")
    with pytest.raises(ValueError, match="schedule= holds LRScheduler, which needs 'valid_loss'"):
        FineTuneClassifier(**QUICK, schedule=plateau).fit(*sixteen)
    assert passes["images"] == 0
    clf = FineTuneClassifier(**QUICK, schedule=plateau)
    assert "valid_loss" in clf.fit(*sixteen, validation_data=sixteen).history_[-1]


def test_callbacks_that_need_nothing_held_out(sixteen):
    callbacks = [EarlyStopping("train_loss"), EpochScoring("accuracy", on_train=True)]
    FineTuneClassifier(**QUICK, callbacks=callbacks).fit(*sixteen)
    clf = FineTuneClassifier(**QUICK, callbacks=[EarlyStopping()])
    assert len(clf.lr_find(*sixteen, n_steps=3).lrs) == 3  # where nothing is held out


@pytest.mark.parametrize(
    "monitor", ["val_loss", lambda net: net.history[-1, "valid_loss"] < 1], ids=["name", "function"]
)
def test_what_the_history_does_not_hold(sixteen, monitor, tmp_path):
    clf = FineTuneClassifier(**QUICK, callbacks=[Checkpoint(monitor, dirname=str(tmp_path))])
    message = "A callback reads what the history does not hold.*train_loss.*validation_data="
    with pytest.raises(TrainingError, match=message):
        clf.fit(*sixteen)


@pytest.mark.parametrize("one", ["stop", 3, ("a", 3), torch.optim.SGD, nn.ReLU()], ids=repr)
def test_what_is_no_callback(sixteen, passes, one):
    refused(FineTuneClassifier(**QUICK, callbacks=[one]), sixteen, "callbacks= must hold", passes)
    taken = [("schedule", GradientNormClipping(1))]
    refused(FineTuneClassifier(**QUICK, callbacks=taken), sixteen, "'schedule', which is", passes)


@pytest.mark.parametrize(
    "schedule",
    [torch.optim.lr_scheduler.StepLR, "cosin", 3, None, lambda epoch: 1.0],
    ids=["class", "misspelt", "number", "None", "function"],  # alike in every process
)
def test_what_is_no_schedule(sixteen, passes, schedule):
    message = r"schedule= must be one of 'cosine', 'constant', 'step' or a .*LRScheduler\('StepLR'"
    refused(FineTuneClassifier(**QUICK, schedule=schedule), sixteen, message, passes)


def test_what_is_no_optimizer(sixteen, passes):
    clf = FineTuneClassifier(**QUICK, optimizer=nn.CrossEntropyLoss)
    refused(clf, sixteen, "optimizer= must be one of 'adamw', 'sgd' or a class of torch", passes)


@pytest.mark.parametrize("name", ["LBFGS", "SparseAdam", "Muon"])
def test_optimizers_that_cannot_train_here(sixteen, passes, name):
    if not hasattr(torch.optim, name):
        pytest.skip("this torch has none")
    own = type("Own", (getattr(torch.optim, name),), {})
    for optimizer in (getattr(torch.optim, name), own):
        clf = FineTuneClassifier(**QUICK, optimizer=optimizer)
        refused(clf, sixteen, f"optimizer= must not be {name}, which ", passes)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("callbacks__ema__decay", r'net_params={"callbacks__ema__decay": ...}, or callbacks= as a'),
        ("net_params__callbacks__ema__decay", r'net_params={"callbacks__ema__decay": ...}'),
        ("optimizer__momentum", r'net_params={"optimizer__momentum": ...}'),
        ("schedule__gamma", "Set schedule= as a whole"),
    ],
)
def test_names_within_parameters_lead_to_net_params(sixteen, key, hint):
    clf = FineTuneClassifier(**QUICK, callbacks=[("ema", EMA())])
    search = GridSearchCV(clf, {key: [0.5]}, cv=2, error_score="raise")
    for call in (lambda: clf.set_params(**{key: 0.5}), lambda: search.fit(*sixteen)):
        with pytest.raises(ValueError, match=f"{key} is no parameter") as caught:
            call()
        assert hint in str(caught.value)


def test_what_has_parameters_can_be_set_by_name(sixteen):
    clf = FineTuneClassifier(**QUICK, callbacks=[("ema", EMA())])
    clf.set_params(schedule=LRScheduler("StepLR", step_size=9), schedule__step_every="epoch")
    assert clf.schedule.step_every == "epoch"
    clf.set_params(net_params={"callbacks__ema__decay": 0.75}).fit(*sixteen)
    assert dict(clf.net_.callbacks_)["ema"].decay == 0.75


NET_PARAMS = {
    "criterion": "'criterion'. The loss is.*class_weight=.*another loss",
    "criterion__weight": "The loss is.*class_weight=",
    "module": "head=",
    "module__hidden": "head=",
    "optimizer": "Take optimizer=",
    "optimizer__lr": "Take lr=",
    "optimizer__weight_decay": "Take weight_decay=",
    "optimizer__beta": "AdamW takes betas",
    "iterator_train": "batch_size=",
    "iterator_train__shuffle": "batch_size=",
    "iterator_valid__num_workers": "batch_size=",
    "train_split": "early_stopping=.*validation_data=",
    "callbacks": "Take callbacks=",
    "callbacks__stop__patience": "no callback 'stop'",
    "max_epochs": "Take max_epochs=",
    "batch_size": "Take batch_size=",
    "device": "Take device=",
    "verbose": "Take verbose=",
    "warm_start": "Take warm_start=",
    "classes": "classes= of partial_fit",
    "momentum": "takes parameters of the optimizer.*got 'momentum'",
    3: "got 3",
}


@pytest.mark.parametrize("key", NET_PARAMS)
def test_parameters_of_the_net_that_are_ours(sixteen, passes, key):
    clf = FineTuneClassifier(**QUICK, net_params={key: nn.CrossEntropyLoss})
    refused(clf, sixteen, rf"net_params=.*{NET_PARAMS[key]}", passes)


@pytest.mark.parametrize(
    "taken",
    [{"compile": False}, {"use_caching": True}, {"predict_nonlinearity": None},
     {"torch_load_kwargs": {"weights_only": True}}],
    ids=repr,
)  # fmt: skip
def test_parameters_of_the_net_that_are_taken(sixteen, taken):
    clf = FineTuneClassifier(**QUICK, net_params=taken).fit(*sixteen)
    ((name, value),) = taken.items()
    assert getattr(clf.net_, name) == value


VALIDATION = {
    "an array": (lambda X, y: X, r"validation_data= must be a pair \(X, y\).*got ndarray"),
    "three": (lambda X, y: (X, y, y), r"must be a pair.*got tuple of 3; weights .* not taken"),
    "an unseen class": (
        lambda X, y: (X[:3], [0, 1, 7]),
        r"y of validation_data must hold the classes \[0, 1\], got 7 for sample 2",
    ),
    "text for numbers": (lambda X, y: (X[:2], ["0", "1"]), "validation_data .*got .0. for sample"),
    "missing": (lambda X, y: (X[:2], [0, None]), "y of validation_data .*is None for 1"),
    "too few": (lambda X, y: (X[:2], [0]), "X and y of validation_data.*2 samples and 1 labels"),
}


@pytest.mark.parametrize("name", VALIDATION)
def test_validation_data_is_named(sixteen, passes, name):
    make, message = VALIDATION[name]
    clf = FineTuneClassifier(**QUICK, early_stopping=True)
    refused(clf, sixteen, message, passes, validation_data=make(*sixteen))


def test_validation_data_with_fewer_classes(sixteen):
    X, y = sixteen
    clf = FineTuneClassifier(**QUICK).fit(X, y, validation_data=(X[y == 1], y[y == 1]))
    assert clf.history_[-1]["valid_acc"] == clf.score(X[y == 1], y[y == 1])


def test_targets_of_validation_and_of_later_calls(sixteen, passes):
    X, _ = sixteen
    wide = np.arange(32.0).reshape(16, 2)
    reg = FineTuneRegressor(**QUICK)
    message = "y of validation_data must have 2 value"
    refused(reg, (X, wide), message, passes, validation_data=(X, wide[:, :1]))
    reg.fit(X, wide)
    with pytest.raises(ValueError, match=r"y of partial_fit must have 2 value.*got 1"):
        reg.partial_fit(X, wide[:, 0])
    with pytest.raises(ValueError, match=r"of partial_fit must be finite.*NaN, first for sample 3"):
        reg.partial_fit(X, np.where(np.arange(32).reshape(16, 2) == 6, np.nan, wide))


def test_values_far_from_those_of_the_first_piece_are_told_of(sixteen):
    X, _ = sixteen
    y = np.linspace(0, 1, 16)
    reg = FineTuneRegressor(**QUICK).partial_fit(X, np.c_[y, y])
    message = r"y of partial_fit lies far .*in column 1, by whose mean \(0\.5\)"
    with pytest.warns(SktransferWarning, match=message):
        reg.partial_fit(X, np.c_[y, 1000 * y])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*lies far")
        reg.partial_fit(X[:2], [[2.0, -1.0], [0.5, 0.5]])


def test_unseen_classes_of_later_calls(sixteen):
    X, y = sixteen
    clf = FineTuneClassifier(**QUICK).partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"y of partial_fit must hold .*got 3 .*classes=\.\.\."):
        clf.partial_fit(X[:2], [1, 3])
    with pytest.raises(ValueError, match=r"classes must be those of the first call, \[0, 1, 2\]"):
        clf.partial_fit(X, y, classes=[0, 1])
    clf.partial_fit(X, y, classes=[2, 1, 0]).set_params(warm_start=True)
    with pytest.raises(ValueError, match=r"must hold .*got 3 for sample 1\. With warm_start=True"):
        clf.fit(X[:2], [1, 3])


def test_one_image_to_a_regressor(sample):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reg = FineTuneRegressor(**QUICK).fit(sample.data[:1], [3.5])
    assert reg.predict(sample.data[:1])[0] == pytest.approx(3.5, abs=0.5)
