"""The main job on real images: accuracies that have to be reached."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

from sktransfer import CNNCodes

pytestmark = pytest.mark.slow


def scratch_accuracy(X, y, X_test, y_test, seed):
    """A small network trained on the 1,000 images alone, as tutorials do it."""
    torch.manual_seed(seed)
    blocks = []
    for c_in, c_out in [(3, 32), (32, 64), (64, 128)]:
        blocks += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU()]
        blocks += [nn.MaxPool2d(2)]
    net = nn.Sequential(*blocks, nn.Flatten(), nn.Dropout(0.5), nn.Linear(128 * 16, 10))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    pixels = torch.from_numpy(X.transpose(0, 3, 1, 2) / 127.5 - 1).float()
    labels = torch.from_numpy(y)
    for _ in range(25):
        for part in torch.randperm(len(X)).split(32):
            batch = pixels[part]
            flip = torch.rand(len(part)) < 0.5
            batch[flip] = batch[flip].flip(3)
            loss = nn.functional.cross_entropy(net(batch), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()
    with torch.inference_mode():
        test = torch.from_numpy(X_test.transpose(0, 3, 1, 2) / 127.5 - 1).float()
        return float(np.mean(net(test).argmax(1).numpy() == y_test))


def test_cifar10_sample(sample, capsys):
    X, y = sample.data, sample.target
    train, test = sample.train_indices, sample.test_indices

    def score(model, features):
        return model.fit(features[train], y[train]).score(features[test], y[test])

    svm = make_pipeline(CNNCodes(), StandardScaler(), LinearSVC(C=1e-3))
    codes = score(svm, X)
    logistic = make_pipeline(CNNCodes(), StandardScaler(), LogisticRegression(C=1e-3, max_iter=500))
    regression = score(logistic, X)
    raw = score(make_pipeline(StandardScaler(), LinearSVC(C=1e-5)), X.reshape(len(X), -1))
    scratch = scratch_accuracy(X[train], y[train], X[test], y[test], seed=0)
    with capsys.disabled():
        print(
            f"\nCIFAR-10 sample: codes and LinearSVC {codes:.3f}, and logistic regression "
            f"{regression:.3f}; raw pixels and LinearSVC {raw:.3f}; a small CNN from scratch "
            f"{scratch:.3f} (0.523 ± 0.018 with 3 seeds)"
        )
    assert codes >= 0.83
    assert regression >= 0.83
    assert raw < 0.45
    assert 0.4 < scratch < 0.65
