"""What people write by hand: the loop of tutorials, batches, a DataLoader, skorch."""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from shared.timing import Way

BATCH = 32
WORKERS = 2


class Transformed(Dataset):
    """Images through the transforms, one at a time; the label is skorch's wish."""

    def __init__(self, photos, transform):
        self.photos, self.transform = photos, transform

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        return self.transform(self.photos.picture(index)), 0


def tutorial_loop(network, photos, *, gradients):
    """PIL image, transforms, one image at a time; with gradients, as most tutorials have it."""
    transform, module = network.transform(photos.framed), network.learning()

    def run(number):
        with torch.set_grad_enabled(gradients):
            codes = [
                module(transform(photos.picture(index)).unsqueeze(0)).squeeze(0).detach().numpy()
                for index in range(number)
            ]
        return np.array(codes)

    name = f"tutorial loop, {'gradients on' if gradients else 'no_grad'}"
    return Way(name, run, most=len(photos), step=4, width=network.width)


def eager(network, photos):
    """Batches of 32 arrays under inference_mode; normalised as a whole batch."""

    @torch.inference_mode()
    def run(number):
        starts = range(0, number, BATCH)
        batches = (photos.items[start : min(start + BATCH, number)] for start in starts)
        return torch.cat([network.module(network.normalised(batch)) for batch in batches]).numpy()

    name = "torch eager float32, inference_mode, batches of 32"
    return Way(name, run, most=len(photos), step=BATCH, width=network.width)


def data_loader(network, photos):
    """A DataLoader with two workers and batches of 32."""
    dataset = Transformed(photos, network.transform(photos.framed))

    @torch.inference_mode()
    def run(number):
        loader = DataLoader(Subset(dataset, range(number)), batch_size=BATCH, num_workers=WORKERS)
        return torch.cat([network.module(batch) for batch, _ in loader]).numpy()

    # Workers are started for each run, so runs are long enough for that not to count.
    name = "torch DataLoader, 2 workers, inference_mode"
    return Way(name, run, most=len(photos), step=2 * BATCH, width=network.width)


def skorch_net(network, photos):
    """skorch: ``predict`` of a net, from an array in memory or from a Dataset of files."""
    from skorch import NeuralNet

    net = NeuralNet(
        network.module,
        criterion=torch.nn.MSELoss,  # never called
        batch_size=BATCH,
        iterator_valid__num_workers=0 if photos.framed else WORKERS,
        verbose=0,
    ).initialize()
    dataset = Transformed(photos, network.transform(photos.framed))

    def run(number):
        if photos.framed:
            return net.predict(network.normalised(photos.items[:number]).numpy())
        return net.predict(Subset(dataset, range(number)))

    step = BATCH if photos.framed else 2 * BATCH
    return Way("skorch, NeuralNet.predict", run, most=len(photos), step=step, width=network.width)
