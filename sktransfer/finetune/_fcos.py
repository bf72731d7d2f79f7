"""Where objects are, in maps of several resolutions: torchvision's FCOS, fed with our maps.

Heads, anchors, matching, losses and non-maximum suppression are torchvision's; what is here puts
maps in and takes one tensor out, which holds all that the loss and the answers are made of.

Reference: Z. Tian, C. Shen, H. Chen, T. He (2019). FCOS: Fully convolutional one-stage object
detection. ICCV. Sections 3.1 to 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from ._gradients import Dropout

__all__ = ["BoxHead", "Detections", "box_losses", "detections", "strides_of"]


# Behind the scores of the classes: distances to the four sides, centre-ness, and of the place x, y
# and stride, in pixels of what the network sees.
_BEHIND = 4 + 1 + 3
# Channels of the pyramid, and convolutions in each branch of the head; torchvision's own 256 and 4
# have twelve times the work of the network in front of them.
_WIDTH, _CONVS = 96, 2
# Strides from a place to the sides of the box around it, to begin with: the middle of what a level
# is for. From zero, where torchvision begins, half of the places have no gradient, and it takes
# three times as many steps.
_FIRST_SIDE = 4.0
# Of the places that are looked at before those that overlap are dropped, for each level.
_CANDIDATES = 1000


class BoxHead(nn.Module):
    """A feature pyramid and an FCOS head on maps of a network.

    Gives (n, places, n_classes + 8): of each place of each level of the pyramid scores of the
    classes, distances to the sides of the box around it in strides, centre-ness, and which place
    that is.

    Parameters
    ----------
    channels : sequence of int
        Of each map.
    strides : sequence of int
        Pixels between the places of each map, see `strides_of`.
    n_classes : int
    finest : int
        Pixels between the places of the finest level. Finer maps are not used; where there is none
        so fine the finest one is enlarged.
    dropout : float
        Share of the numbers of the maps that are left out in training.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        n_classes: int,
        finest: int = 8,
        dropout: float = 0.0,
    ):
        super().__init__()
        # Maps of one resolution are one level.
        of_level: dict[int, list[int]] = {}
        for number, stride in enumerate(strides):
            if stride >= finest or stride == max(strides):
                of_level.setdefault(stride, []).append(number)
        self._numbers = [of_level[stride] for stride in sorted(of_level)]
        first = min(of_level)
        self._enlarged = 0
        while first // 2 >= finest:
            first, self._enlarged = first // 2, self._enlarged + 1
        widths = [sum(channels[number] for number in level) for level in self._numbers]
        widths = widths[:1] * self._enlarged + widths
        self.pyramid = FeaturePyramidNetwork(widths, _WIDTH, _CoarseLevels(_WIDTH, _WIDTH))
        self.head = FCOSHead(_WIDTH, 1, n_classes, _CONVS)
        nn.init.constant_(self.head.regression_head.bbox_reg.bias, _FIRST_SIDE)
        self.dropout = Dropout(dropout)
        levels = [first * 2**i for i in range(self._enlarged)] + sorted(of_level)
        levels += [levels[-1] * 2, levels[-1] * 4]
        self._anchors = AnchorGenerator(tuple((one,) for one in levels), ((1.0,),) * len(levels))
        self._strides = levels

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        levels = [torch.cat([maps[number] for number in level], 1) for level in self._numbers]
        for _ in range(self._enlarged):
            finer = nn.functional.interpolate(levels[0], scale_factor=2.0, mode="bilinear")
            levels.insert(0, finer)
        levels = [self.dropout(one) for one in levels]
        levels = list(self.pyramid({str(i): one for i, one in enumerate(levels)}).values())
        found = self.head(levels)
        places = self._places(levels).expand(len(levels[0]), -1, -1)
        parts = (found["cls_logits"], found["bbox_regression"], found["bbox_ctrness"])
        return torch.cat([*(one.float() for one in parts), places], 2)

    def _places(self, levels: list[torch.Tensor]) -> torch.Tensor:
        device = levels[0].device
        self._anchors.set_cell_anchors(torch.float32, device)
        steps = [[torch.tensor(one, device=device)] * 2 for one in self._strides]
        grids = [list(one.shape[-2:]) for one in levels]
        anchors = torch.cat(self._anchors.grid_anchors(grids, steps))
        middle = (anchors[:, :2] + anchors[:, 2:]) / 2
        return torch.cat([middle, anchors[:, 2:3] - anchors[:, :1]], 1)


class _CoarseLevels(LastLevelP6P7):
    """Two more levels, always in float32.

    In bfloat16 on a CPU the gradients of a convolution with a stride are not numbers where its map
    is a single place, which is the rule for these levels of small images.
    """

    def forward(self, p: Any, c: Any, names: Any) -> Any:
        with torch.autocast(p[-1].device.type, enabled=False):
            p[-1] = p[-1].float()
            return super().forward(p, c, names)


def strides_of(image_size: tuple[int, int], grids: Sequence[tuple[int, int]]) -> list[int]:
    """Pixels between the places of maps, the finest first.

    Of sizes that cannot be divided the quotient of the whole is not the stride: an image of 100
    pixels has 7 places with a stride of 16. There each map is taken to have half, a quarter, ... of
    the places of the one before.
    """
    strides, before, stride = [], image_size, 1
    for grid in grids:
        quotients = {old / new for old, new in zip(before, grid, strict=True)}
        quotient = quotients.pop()
        if quotients or not quotient.is_integer():
            quotient = 2 ** round(math.log2(max(before) / max(grid)))
        strides.append(stride := stride * int(quotient))
        before = grid
    return strides


class _Out(NamedTuple):
    """What a head gave, as torchvision has it."""

    found: dict[str, torch.Tensor]
    anchors: list[torch.Tensor]
    in_level: list[int]


def _parts_of(out: torch.Tensor) -> _Out:
    scores, sides, centre, place = out.split([out.shape[2] - _BEHIND, 4, 1, 3], 2)
    x, y, size = place.detach().unbind(2)
    half = size / 2
    anchors = torch.stack([x - half, y - half, x + half, y + half], 2)
    _, counts = torch.unique_consecutive(size[0], return_counts=True)
    found = {"cls_logits": scores, "bbox_regression": sides, "bbox_ctrness": centre}
    return _Out(found, list(anchors), counts.tolist())


class _Nothing(nn.Module):
    """In the place of the network that torchvision's detector wants."""

    out_channels = 1


class _OfEach(FCOSHead):
    """Sums of the losses of each image, in the place of their mean over all places that matter."""

    def __init__(self) -> None:
        super().__init__(1, 1, 1, 0)

    def compute_loss(
        self,
        targets: list[dict[str, torch.Tensor]],
        head_outputs: dict[str, torch.Tensor],
        anchors: list[torch.Tensor],
        matched_idxs: list[torch.Tensor],
    ) -> torch.Tensor:
        sums = []
        for i, matched in enumerate(matched_idxs):
            found = {name: one[i : i + 1] for name, one in head_outputs.items()}
            means = super().compute_loss(targets[i : i + 1], found, anchors[i : i + 1], [matched])
            sums.append(sum(means.values()) * (matched >= 0).sum().clamp(min=1))
        return torch.stack(sums)


def _fcos(head: FCOSHead, **others: Any) -> FCOS:
    anchors = AnchorGenerator(((1,),), ((1.0,),))
    return FCOS(_Nothing(), 1, anchor_generator=anchors, head=head, **others)


def box_losses(out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Focal loss, generalised IoU and centre-ness of each image, summed over its places.

    Parameters
    ----------
    out : Tensor of shape (n, places, n_classes + 8)
    target : Tensor of shape (n, k, 5)
        Boxes and the numbers of their classes, -1 behind the last.

    Returns
    -------
    losses : Tensor of shape (n,)
        Their sum, divided by the number of places that are inside a box of all images, is
        torchvision's loss.
    """
    parts = _parts_of(out)
    targets = [
        {"boxes": one[one[:, 4] >= 0, :4], "labels": one[one[:, 4] >= 0, 4].long()}
        for one in target
    ]
    losses = _fcos(_OfEach()).compute_loss(targets, parts.found, parts.anchors, parts.in_level)
    return losses


class Detections(NamedTuple):
    """What was found in an image, the most certain first.

    Attributes
    ----------
    boxes : ndarray of shape (k, 4), float32
        In pixels of what the network sees.
    labels : ndarray of shape (k,), int64
        Numbers of classes.
    scores : ndarray of shape (k,), float32
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


def detections(
    out: torch.Tensor,
    image_size: tuple[int, int],
    *,
    score_threshold: float,
    nms_threshold: float,
    max_detections: int,
) -> list[Detections]:
    """What was found in each image, without boxes that overlap another one of their class.

    Parameters
    ----------
    out : Tensor of shape (n, places, n_classes + 8)
    image_size : (int, int)
        Height and width that the network sees.
    score_threshold, nms_threshold, max_detections : float, float, int
        As in the estimator.
    """
    parts = _parts_of(out)
    detector = _fcos(
        _OfEach(), score_thresh=score_threshold, nms_thresh=nms_threshold,
        detections_per_img=max_detections, topk_candidates=_CANDIDATES,
    )  # fmt: skip
    found = {name: list(one.split(parts.in_level, 1)) for name, one in parts.found.items()}
    anchors = [list(one.split(parts.in_level)) for one in parts.anchors]
    answers = detector.postprocess_detections(found, anchors, [image_size] * len(out))
    return [
        Detections(*(one[name].cpu().numpy() for name in ("boxes", "labels", "scores")))
        for one in answers
    ]
