"""The head of detectors, against torchvision's FCOS run whole on the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator

from sktransfer.finetune._fcos import BoxHead, box_losses, detections, strides_of

# Divisible by all strides: where they are not, torchvision takes others than those of the network.
SIZE, GRIDS, STRIDES = (128, 256), [(16, 32), (8, 16), (4, 8)], [8, 16, 32]
CHANNELS, N_CLASSES = [5, 7, 9], 3
TARGETS = [
    [[10, 10, 60, 40, 0], [100, 20, 220, 120, 2], [12, 12, 30, 30, 1], [20, 50, 27, 58, 1]],
    [],
    [[0, 0, 256, 128, 1]],
]


@pytest.fixture
def head():
    torch.manual_seed(0)
    made = BoxHead(CHANNELS, STRIDES, N_CLASSES)
    for parameter in made.parameters():  # its first weights say the same of all places
        parameter.data += 0.03 * torch.randn_like(parameter)
    return made.eval()


@pytest.fixture
def maps():
    torch.manual_seed(1)
    return [torch.randn(3, c, *grid) for c, grid in zip(CHANNELS, GRIDS, strict=True)]


def as_rows(targets):
    rows = np.full((len(targets), 5, 5), -1.0, np.float32)
    for row, boxes in zip(rows, targets, strict=True):
        row[: len(boxes)] = np.reshape(boxes, (-1, 5))
    return torch.from_numpy(rows)


def whole(head, maps, **others):
    """torchvision's detector with the same pyramid and head behind a network that gives `maps`."""

    class Network(nn.Module):
        out_channels = 96

        def forward(self, images):
            return head.pyramid({str(i): one for i, one in enumerate(maps)})

    sizes = tuple((one,) for one in (8, 16, 32, 64, 128))
    return FCOS(
        Network(), N_CLASSES, min_size=SIZE[0], max_size=SIZE[1], head=head.head,
        anchor_generator=AnchorGenerator(sizes, ((1.0,),) * 5), **others,
    )  # fmt: skip


def n_inside(targets):
    """Places that must find a box, by a plain loop over section 3.1 and centre sampling."""
    found = 0
    for i, stride in enumerate((8, 16, 32, 64, 128)):
        low, high = (0 if i == 0 else 4 * stride), (np.inf if i == 4 else 8 * stride)
        for y in range(0, SIZE[0], stride):
            for x in range(0, SIZE[1], stride):
                for x1, y1, x2, y2, _ in targets:
                    sides = [x - x1, y - y1, x2 - x, y2 - y]
                    off = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
                    if min(sides) > 0 and low < max(sides) < high and off < 1.5 * stride:
                        found += 1
                        break
    return found


def test_losses_are_those_of_torchvision(head, maps):
    losses = box_losses(head(maps), as_rows(TARGETS))
    targets = [
        {"boxes": torch.tensor(one).reshape(-1, 5)[:, :4].float(),
         "labels": torch.tensor(one).reshape(-1, 5)[:, 4].long()}
        for one in TARGETS
    ]  # fmt: skip
    images = [torch.zeros(3, *SIZE)] * 3
    theirs = whole(head, maps).train()(images, targets)
    counts = [n_inside(one) for one in TARGETS]
    assert counts[0] > 5 and counts[1] == 0 and counts[2] > 5
    expected = sum(theirs.values()) * sum(counts)
    torch.testing.assert_close(losses.sum(), expected, rtol=1e-4, atol=1e-4)
    for number in range(3):
        alone = whole(head, [one[number : number + 1] for one in maps]).train()
        expected = sum(alone(images[:1], targets[number : number + 1]).values())
        torch.testing.assert_close(losses[number], expected * max(1, counts[number]))


def test_answers_are_those_of_torchvision(head, maps):
    options = {"score_thresh": 0.02, "nms_thresh": 0.4, "detections_per_img": 20}
    theirs = whole(head, maps, **options).eval()([torch.zeros(3, *SIZE)] * 3)
    with torch.no_grad():
        found = detections(
            head(maps), SIZE, score_threshold=0.02, nms_threshold=0.4, max_detections=20
        )
    for one, other in zip(found, theirs, strict=True):
        assert 0 < len(one.boxes) <= 20
        for name in ("boxes", "labels", "scores"):
            np.testing.assert_allclose(
                getattr(one, name), other[name].detach().numpy(), rtol=1e-4, atol=1e-4
            )


def test_without_boxes_the_loss_is_finite_and_learns(head, maps):
    out = head(maps)
    losses = box_losses(out, torch.full((3, 0, 5), -1.0))
    assert torch.isfinite(losses).all() and (losses > 0).all()
    losses.sum().backward()
    gradients = [one.grad for one in head.parameters() if one.grad is not None]
    assert all(torch.isfinite(one).all() for one in gradients)
    torch.testing.assert_close(losses, box_losses(out, torch.full((3, 4, 5), -1.0)))


def test_strides_are_those_of_the_network_where_sizes_cannot_be_divided():
    assert strides_of((128, 256), GRIDS) == STRIDES
    assert strides_of((50, 64), [(13, 16), (7, 8), (4, 4), (2, 2)]) == [4, 8, 16, 32]
    assert strides_of((100, 100), [(13, 13), (7, 7), (4, 4)]) == [8, 16, 32]
    assert strides_of((33, 97), [(5, 13), (3, 7), (2, 4)]) == [8, 16, 32]
    assert strides_of((98, 126), [(7, 9), (7, 9)]) == [14, 14]


@pytest.mark.parametrize("size", [(100, 75), (33, 97), (96, 96), (40, 40)])
def test_a_place_is_where_the_network_has_it(size):
    """Places are multiples of the stride, of all levels, for any size."""
    grids = [(-(-size[0] // s), -(-size[1] // s)) for s in STRIDES]
    head = BoxHead(CHANNELS, strides_of(size, grids), 1).eval()
    with torch.no_grad():
        out = head([torch.randn(1, c, *grid) for c, grid in zip(CHANNELS, grids, strict=True)])
    x, y, stride = out[0, :, -3:].T.numpy()
    for i, one in enumerate((8, 16, 32, 64, 128)):
        height, width = -(-size[0] // one), -(-size[1] // one)
        down, across = np.mgrid[:height, :width] * one
        assert (stride == one).sum() == height * width
        np.testing.assert_array_equal(x[stride == one], across.ravel(), err_msg=f"level {i}")
        np.testing.assert_array_equal(y[stride == one], down.ravel())


def test_maps_that_are_too_coarse_are_enlarged_and_too_fine_ones_left_out():
    tokens = BoxHead([4, 4], [16, 16], 2).eval()  # blocks of a vision transformer
    out = tokens([torch.randn(1, 4, 6, 6)] * 2)
    assert out[0, :, -1].unique().tolist() == [8, 16, 32, 64]
    fine = BoxHead([3, 4, 5], [2, 4, 8], 2, finest=4).eval()
    out = fine([torch.randn(1, c, 32 // s, 32 // s) for c, s in ((3, 2), (4, 4), (5, 8))])
    assert out[0, :, -1].unique().tolist() == [4, 8, 16, 32]
    assert out.shape == (1, 64 + 16 + 4 + 1, 2 + 8)


def test_gradients_of_small_images_are_numbers_in_half_precision():
    """Where a level is a single place."""
    torch.manual_seed(0)
    head = BoxHead(CHANNELS, STRIDES, 1)
    maps = [torch.randn(4, c, side, side) for c, side in zip(CHANNELS, (8, 4, 2), strict=True)]
    target = as_rows([[[8, 16, 32, 40, 0]]] * 4)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            out = head(maps)
        head.zero_grad()
        box_losses(out, target).sum().backward()
        for name, parameter in head.named_parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
