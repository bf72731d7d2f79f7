"""Ten epochs of frozen training, ours against plain skorch doing the same; resnet18 on the CPU.

    python examples/benchmarks/finetune_speed.py [--images 64] [--size 224] [--turns 3]
        [--search-turns 1] [--precision auto] [--cuts head 1]

Both start from the same random weights (speed does not depend on them), learn with SGD and
momentum in batches of 8 from the same images, and end with the same accuracy on them. The
first pass is included. skorch: module with a new output layer, Freezer for the rest, batch norms
in eval mode so that both compute the same. Ours in float32 too, or as --precision says.
"""

import argparse
import time

import numpy as np
import torch
import torchvision
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from skorch.callbacks import Freezer

from sktransfer import FineTuneClassifier
from sktransfer.datasets import load_cifar10_sample
from sktransfer.inputs import ImagePreparation, as_images

CUTS = {"head": ("head", ("net.fc",), "head"), "1": ("last stage", ("net.fc", "net.layer4"), 1)}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Resnet(torch.nn.Module):
    """resnet18 with ten outputs, whose frozen batch norms do not drift."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = torchvision.models.resnet18(weights=None)
        self.net.fc = torch.nn.Linear(512, 10)

    def forward(self, x):
        return self.net(x)

    def train(self, mode=True):
        return super().train(False)


def tensors(X, size):
    """What the network takes, prepared beforehand: in skorch's favour."""
    preparation = ImagePreparation((size, size), "squash", (size, size), "bilinear", (0, 0, 0))
    images = as_images(X)
    pixels = np.stack([preparation.of(images.open(i).picture()) for i in range(len(X))])
    x = pixels.transpose(0, 3, 1, 2) / np.float32(255)
    return ((x - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))).astype(np.float32)


def plain(learns, epochs, lr=1e-2):
    """skorch's own way, as in its example of transfer learning."""
    return NeuralNetClassifier(
        Resnet,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        lr=lr,
        max_epochs=epochs,
        batch_size=8,
        train_split=None,
        callbacks=[Freezer(lambda name: not name.startswith(learns))],
        verbose=0,
    )


def ours(trainable):
    """The same with sktransfer; nothing is kept from one run to the next."""
    return FineTuneClassifier(
        "resnet18",
        weights=None,
        preprocessing="default",
        trainable=trainable,
        head_init="random",
        optimizer=torch.optim.SGD,
        net_params={"optimizer__momentum": 0.9},
        lr=1e-2,
        backbone_lr_factor=1.0,
        weight_decay=0.0,
        schedule="constant",
        warmup=0.0,
        max_epochs=args.epochs,
        batch_size=8,
        image_size=args.size,
        amp=args.precision,
        cache=None,
        random_state=0,
    )


def timed(run):
    """Seconds of a call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def row(what, ways, turns):
    """Ratios of the first way to the others, within each turn."""
    seconds = np.array([[timed(way) for way in ways] for _ in range(turns)])
    for ratios in (seconds[:, :1] / seconds[:, 1:]).T:
        print(
            f"| {what} | {np.median(ratios):.1f} | {ratios.min():.1f} to {ratios.max():.1f} |",
            flush=True,
        )


def main():
    """Print the table."""
    X, y = load_cifar10_sample(return_X_y=True)
    X, y = X[: args.images], y[: args.images]
    x = tensors(X, args.size)
    y = y.astype(np.int64)
    for cut in args.cuts:
        name, learns, trainable = CUTS[cut]
        row(
            f"{name}, {args.epochs} epochs",
            [
                lambda learns=learns: plain(learns, args.epochs).fit(x, y),
                lambda trainable=trainable: ours(trainable).fit(X, y),
            ],
            args.turns,
        )

        if not args.search_turns:
            continue

        def searched(trainable=trainable):
            est = ours(trainable).set_params(cache="memory")
            from sktransfer.store import open_store

            open_store("memory").clear()
            GridSearchCV(est, {"lr": [3e-3, 1e-2, 3e-2]}, cv=3, refit=False).fit(X, y)

        def plain_search(learns=learns):
            net = plain(learns, args.epochs)
            GridSearchCV(net, {"lr": [3e-3, 1e-2, 3e-2]}, cv=3, refit=False).fit(x, y)

        row(f"{name}, search of 3 rates × 3 folds", [plain_search, searched], args.search_turns)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--search-turns", type=int, default=1)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--cuts", nargs="+", choices=CUTS, default=list(CUTS))
    args = parser.parse_args()
    main()
