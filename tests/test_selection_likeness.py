"""How far codes are from those of the source: against a source that we have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from sktransfer import CNNCodes, advise
from sktransfer.selection._features import _moments, pass_over

GREY = {"image_size": (32, 32), "mean": (0.5,) * 3, "std": (0.25,) * 3}


def trained_on(images):
    """A network whose norm has seen a source, with a bias and a weight of its own."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(24, momentum=None)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = nn.Sequential(nn.Conv2d(3, 24, 3), norm, nn.ReLU(), pool, nn.Linear(24, 5))
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias)
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.no_grad():
        net.train()(pixels.float())
    return net.eval()


def noise(seed, low=0):
    return np.random.default_rng(seed).integers(low, 256, (64, 32, 32, 3), np.uint8)


def distance(codes, images):
    return pass_over(codes, images).distance


def test_the_source_itself_is_near_and_others_are_far():
    codes = CNNCodes(trained_on(noise(0)), preprocessing=GREY, image_size=32)
    assert distance(codes, noise(1)) < 0.05
    assert distance(codes, noise(1, low=128)) > 0.5
    assert distance(codes, noise(1, low=200)) > distance(codes, noise(1, low=128))


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.SiLU(), nn.GELU()])
def test_moments_are_those_of_many_draws(activation):
    norm = nn.BatchNorm2d(3)
    norm.weight.data = torch.tensor([0.5, -2.0, 4.0])
    norm.bias.data = torch.tensor([0.3, -1.0, 5.0])
    draws = torch.randn(
        1_000_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    out = activation(draws * norm.weight.detach().double() + norm.bias.detach().double())
    mean, deviation = _moments(norm, [activation])
    np.testing.assert_allclose(mean, out.mean(0), atol=0.02)
    np.testing.assert_allclose(deviation, out.std(0), atol=0.04)


def test_photographs_are_nearer_than_digits(sample):
    codes = CNNCodes(image_size=96)
    digits = np.repeat(load_digits().images[:64, :, :, None] / 16, 3, axis=3).astype(np.float32)
    assert distance(codes, sample.data[:64]) < distance(codes, digits)


def test_where_it_cannot_be_told_there_is_none(sample):
    X, y = sample.data[:40], sample.target[:40] % 2
    residual = CNNCodes("resnet18", weights=None, image_size=32, preprocessing="default")
    assert distance(residual, X) is None
    largest = CNNCodes(image_size=32, pooling="max")
    assert distance(largest, X) is None and pass_over(largest, X).probabilities is None
    assert np.isnan(advise(X, y, residual, cv=2).source_distance)


def test_advice_tells_it(sample):
    X, y = sample.data[:40], sample.target[:40] % 2
    codes = CNNCodes(image_size=32)
    advice = advise(X, y, codes, cv=2)
    assert advice.source_distance == distance(codes, X)
    assert any(f"{advice.source_distance:.2f} standard" in reason for reason in advice.reasons)
    said = pass_over(codes, X).probabilities
    assert advice.source_confidence == pytest.approx(said.max(1).mean())
    entropies = [-sum(p * np.log(p) for p in row if p > 0) / np.log(1000) for row in said]
    assert advice.source_entropy == pytest.approx(np.mean(entropies), abs=1e-6)
