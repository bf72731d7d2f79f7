"""The networks of the comparison, as plain torch modules."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from sktransfer.networks import load_backbone

NETWORKS = ["efficientnet_lite0", "resnet18", "resnet50", "mobilenet_v2"]


@dataclass
class Network:
    """A network without its classifier.

    `weights` is what CNNCodes takes: weights that come with the package where there are any, else
    random ones, which compute as fast. `size` is the number of pixels it sees.
    """

    name: str
    weights: str | None
    module: nn.Module
    mean: tuple
    std: tuple
    cover: int
    interpolation: str
    size: int
    width: int

    def learning(self):
        """A copy whose parameters have gradients, as a network that was just loaded."""
        return copy.deepcopy(self.module).requires_grad_(True)

    def transform(self, framed):
        """What tutorials do to a PIL image; the resizing is left out where it is framed already."""
        resize = [
            transforms.Resize(self.cover, InterpolationMode(self.interpolation)),
            transforms.CenterCrop(self.size),
        ]
        return transforms.Compose(
            [
                *([] if framed else resize),
                transforms.ToTensor(),
                transforms.Normalize(self.mean, self.std),
            ]
        )

    def normalised(self, pixels):
        """Float tensor (n, 3, h, w) of uint8 pixels (n, h, w, 3)."""
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)
        return batch.sub_(torch.tensor(self.mean).view(3, 1, 1)).div_(
            torch.tensor(self.std).view(3, 1, 1)
        )


def load_network(name, size):
    """A network by its name."""
    weights = "default" if name == "efficientnet_lite0" else None
    backbone = load_backbone(name, weights=weights)
    facts = backbone.preprocessing
    module = without_classifier(backbone.module)
    with torch.inference_mode():
        width = module(torch.zeros(1, 3, size, size)).shape[1]
    return Network(
        name=name,
        weights=weights,
        module=module,
        mean=facts.mean,
        std=facts.std,
        cover=int(size / facts.crop_pct),
        interpolation=facts.interpolation,
        size=size,
        width=width,
    )


def without_classifier(module):
    """A copy that ends with the codes, as tutorials cut it."""
    module = copy.deepcopy(module)
    if hasattr(module, "reset_classifier"):
        module.reset_classifier(0)
    else:
        setattr(module, "fc" if hasattr(module, "fc") else "classifier", nn.Identity())
    return module.eval()
