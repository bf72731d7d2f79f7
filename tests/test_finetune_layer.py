"""A network that ends at an earlier layer: its codes, what is trained of it, its pickle."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from sktransfer import CNNCodes, FineTuneClassifier, FineTuneRegressor
from sktransfer.exceptions import InputError, LayerError

QUICK = {"image_size": 64, "max_epochs": 1, "batch_size": 10, "random_state": 0}
RANDOM = {"weights": None, "preprocessing": "default"}
NETWORKS = [
    ("efficientnet_lite0", "blocks.4", {}),
    ("efficientnet_lite0", "conv_stem", {}),
    pytest.param("efficientnet_lite0", -3, {}, marks=pytest.mark.slow),
    ("resnet18", "layer2", RANDOM),
    pytest.param("timm:vit_tiny_patch16_224", "blocks.3", RANDOM, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "layer", "params"), NETWORKS)
def test_codes_are_those_of_the_layer(thirty, name, layer, params):
    X, y = thirty
    quick = {**QUICK, "max_epochs": 0, "trainable": 1}
    clf = FineTuneClassifier(name, layer=layer, **quick, **params).fit(X, y)
    codes = CNNCodes(name, layer=layer, image_size=64, **params).fit_transform(X)
    np.testing.assert_allclose(clf.transform(X), codes, rtol=1e-4, atol=1e-5)
    assert clf.get_feature_names_out().shape == (codes.shape[1],)


@pytest.mark.parametrize(("name", "layer", "params"), NETWORKS)
def test_the_last_stages_before_it_learn(thirty, name, layer, params):
    X, y = thirty
    clf = FineTuneClassifier(name, layer=layer, trainable=1, **QUICK, **params).fit(X, y)
    assert [state.learns for state in clf.layers_[-2:]] == [True, True]
    assert not any(state.learns for state in clf.layers_[:-2])
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))


def test_what_is_behind_it_is_left_out(thirty):
    X, y = thirty
    clf = FineTuneClassifier(layer="blocks.4", trainable=1, **QUICK).fit(X, y)
    whole = FineTuneClassifier(trainable=1, **QUICK).fit(X, y)
    behind = [state.name for state in whole.layers_[len(clf.layers_) - 1 : -1]]
    assert [state.name for state in clf.layers_[:-1]] == [
        state.name for state in whole.layers_[: len(clf.layers_) - 1]
    ]
    assert behind == ["blocks.5", "blocks.6"], behind
    assert len(pickle.dumps(clf)) < 4 * clf.n_trainable_parameters_ + 60_000


@pytest.mark.parametrize(
    ("layer", "trainable", "message"),
    [
        ("conv_stem", 2, r"trainable=2 .* 0 to 1: up to the layer 'conv_stem'.* layer= ends"),
        ("blocks.0", "blocks.4", r"trainable='blocks.4' .* up to 'blocks.0'.* layer= ends"),
    ],
)
def test_what_is_behind_the_layer_cannot_be_trained(thirty, layer, trainable, message):
    X, y = thirty
    with pytest.raises(LayerError, match=message):
        FineTuneClassifier(layer=layer, trainable=trainable, **QUICK).fit(X, y)


def test_as_a_loop_of_torch(thirty):
    """One step of SGD over layer1 of resnet18, the head behind its mean, computed by hand."""
    X, y = thirty
    clf = FineTuneClassifier(
        "resnet18", layer="layer1", trainable=1, optimizer="sgd", weight_decay=0.0, lr=0.1,
        backbone_lr_factor=1.0, schedule="constant", warmup=0, amp="float32",
        head_init="random", engine="torch", **{**QUICK, "batch_size": 30}, **RANDOM,
    )  # fmt: skip
    before = clf.set_params(max_epochs=0).fit(X, y)
    module = before._load_model().backbone.module
    head, names = before._load_model().module.head, before._load_model().names[-1]
    linear, scale = head[-1], head[0].by
    pixels = torch.from_numpy(_pixels(before, X))
    learning = {
        name: dict(module.named_parameters())[name].clone().requires_grad_() for name in names
    }
    weights = [
        *learning.values(),
        *(p.detach().clone().requires_grad_() for p in linear.parameters()),
    ]
    inner = {n.removeprefix("layer1."): p for n, p in learning.items() if n.startswith("layer1.")}
    with torch.no_grad():
        x = module.maxpool(module.relu(module.bn1(module.conv1(pixels))))
    codes = torch.func.functional_call(module.layer1.eval(), inner, (x,)).mean((2, 3))
    out = torch.nn.functional.linear(codes * scale, weights[-2], weights[-1])
    loss = torch.nn.functional.cross_entropy(out, torch.from_numpy(y))
    gradients = torch.autograd.grad(loss, list(inner.values()))
    clf.set_params(max_epochs=1).fit(X, y)
    learnt = dict(clf._load_model().module.tail.named_parameters())
    # The first step of Nesterov momentum is the gradient times 1.9.
    for (name, value), gradient in zip(inner.items(), gradients, strict=True):
        expected = value.detach() - 0.1 * 1.9 * gradient
        np.testing.assert_allclose(
            learnt[f"layer1.{name}"].detach(), expected, rtol=1e-3, atol=1e-5
        )


def _pixels(clf, X):
    from sktransfer.inputs import as_images

    images = as_images(X)
    framed = np.stack([clf._fitted.preparation(images.open(i)) for i in range(len(X))])
    facts = clf._load_model().backbone.preprocessing
    x = framed.transpose(0, 3, 1, 2) / 255
    mean, std = (np.reshape(part, (3, 1, 1)) for part in (facts.mean, facts.std))
    return ((x - mean) / std).astype(np.float32)


@pytest.mark.slow
def test_regression_search_and_going_on(thirty):
    from sklearn.model_selection import GridSearchCV

    X, y = thirty
    FineTuneRegressor(layer="blocks.3", **QUICK).fit(X, y.astype(float))
    grid = {"layer": ["blocks.3", None], "trainable": ["head", 1]}
    search = GridSearchCV(FineTuneClassifier(**QUICK), grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_["layer"] in grid["layer"]
    clf = FineTuneClassifier(layer="blocks.3", warm_start=True, **QUICK).fit(X, y)
    with pytest.raises(InputError, match=r"layer='blocks.3'.*got layer=None"):
        clf.set_params(layer=None).fit(X, y)
    clf.set_params(layer="blocks.3").unfreeze("all").fit(X, y)
    assert all(state.learns for state in clf.layers_)


def test_layers_that_are_not_there(thirty):
    with pytest.raises(LayerError, match=r"layer='blocks.44'.*Did you mean 'blocks.4"):
        FineTuneClassifier(layer="blocks.44", **QUICK).fit(*thirty)
    with pytest.raises(LayerError, match="number of stages from 0 to 4"):
        FineTuneClassifier(layer="blocks.3", trainable=5, **QUICK).fit(*thirty)
