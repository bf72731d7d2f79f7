"""Decoders of segmentation_models_pytorch, trained as its own examples train them."""

import numpy as np
import torch
from segmentation_models_pytorch import FPN, Unet
from torch.nn.functional import cross_entropy, pad

from sktransfer.networks import load_backbone

WAYS = {"smp Unet": Unet, "smp FPN": FPN}
EPOCHS, BATCH, LEARNING_RATE = 40, 4, 3e-4


def fit(way, X, y, draw, unlabeled):
    """A function that predicts the mask of an image; all weights are trained.

    The encoder is the packaged efficientnet_lite0, in channels_last; images are mirrored at random;
    Adam with a cosine schedule, cross-entropy. Of the rates 1e-4 to 1e-3 and of 20 and 40 epochs
    these were the best on the first draw of 5 frames of CamVid.
    """
    torch.manual_seed(draw)
    rng = np.random.default_rng(draw)
    classes, numbers = np.unique(np.stack(y), return_inverse=True)
    keep = classes != (-1 if unlabeled is None else unlabeled)
    lookup = np.where(keep, np.cumsum(keep) - 1, -100)
    target = torch.from_numpy(lookup[numbers.reshape(np.stack(y).shape)])
    classes = classes[keep]
    backbone = load_backbone("efficientnet_lite0")
    net = WAYS[way]("tu-tf_efficientnet_lite0", encoder_weights=None, classes=len(classes))
    missing = net.encoder.model.load_state_dict(backbone.module.state_dict(), strict=False)
    if missing.missing_keys:
        raise ValueError(f"The encoder must have weights for all of it, {missing.missing_keys}.")
    net = net.to(memory_format=torch.channels_last)
    prepared = torch.cat([prepare(image, backbone.preprocessing) for image in X])
    optimizer = torch.optim.Adam(net.parameters(), LEARNING_RATE)
    steps = EPOCHS * -(-len(X) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        order = rng.permutation(len(X))
        for begin in range(0, len(X), BATCH):
            some = order[begin : begin + BATCH]
            batch, true = prepared[some], target[some]
            if rng.random() < 0.5:
                batch, true = batch.flip(3), true.flip(2)
            if len(some) == 1:  # batch norm needs two values
                batch, true = batch.repeat(2, 1, 1, 1), true.repeat(2, 1, 1)
            scores = net(batch.contiguous(memory_format=torch.channels_last))
            loss = cross_entropy(scores[..., : true.shape[1], : true.shape[2]], true)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()

    def predict(image):
        with torch.inference_mode():
            scores = net(prepare(image, backbone.preprocessing))
        height, width = image.shape[:2]
        return classes[scores[0, :, :height, :width].argmax(0).numpy()]

    return predict


def prepare(image, preprocessing):
    """An image as the network expects it, with sides that 32 divides: (1, 3, h, w)."""
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    found = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    mean, std = torch.tensor([preprocessing.mean, preprocessing.std])[:, :, None, None]
    height, width = image.shape[:2]
    right, below = -width % 32, -height % 32
    return pad((found - mean) / std, (0, right, 0, below))
