"""Detectors in a few minutes of one core: a frozen network, last stages, from scratch, and peers.

    python examples/benchmarks/boxes.py bccd BCCD RESULTS
    python examples/benchmarks/boxes.py trees TREES RESULTS --size 640 640 --minutes 6

BCCD is the folder of the 364 images of blood cells of BCCD_Dataset (3 classes; its own lists of
205 images to train on and 72 to test on). TREES is a folder of the four aerial images of deepforest
with VOC XML files beside them: tiles of 400 pixels of the one whose name ends with crop2 are
trained on, those of the others, which show other places, are tested on.

Every way has as many CPU seconds to learn, the pass through the frozen network included, and begins
with an empty cache; run it on one core (taskset -c 0, OMP_NUM_THREADS=1). Peers are torchvision's
own detectors with the same images, mirrored at random, and AdamW; they begin from scratch. Results
are appended to the file RESULTS, one line each, and what is there is not computed again. Printed is
a table in Markdown.
"""

import argparse
import json
import math
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.models import detection
from torchvision.transforms.v2.functional import horizontal_flip, pil_to_tensor

from shared.machine import describe
from shared.results import lines_of
from shared.tables import table
from sktransfer import FineTuneDetector, load_boxes
from sktransfer.metrics import average_precision_boxes

OURS = {
    "frozen": {},
    "last two stages": {"trainable": 2},
    "from scratch": {"trainable": "all", "weights": None, "backbone_lr_factor": 1.0},
}
PEERS = ("fcos_resnet50_fpn", "ssdlite320_mobilenet_v3_large")
TILE = 400


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("data", choices=("bccd", "trees"))
    add("folder")
    add("results", help="file of results, appended to")
    add("--minutes", type=float, default=3.0, help="CPU minutes of one core to learn in")
    add("--size", type=int, nargs=2, default=[288, 384], help="height and width of the images")
    add("--ways", nargs="+", choices=(*OURS, *PEERS), default=[*OURS, *PEERS])
    add("--draws", type=int, nargs="+", default=[0])
    add("--images", type=int, help="so many, to try it")
    add("--table", action="store_true", help="print what is in the file, and compute nothing")
    return parser.parse_args()


def bccd(folder):
    """Images and boxes to train on and to test on."""
    folder = Path(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two boxes of no area, which are counted
        every = load_boxes(folder / "Annotations", images=folder / "JPEGImages", on_bad="drop")
    number = {Path(file).stem: i for i, file in enumerate(every.data)}
    parts = []
    for name in ("train", "test"):
        stems = (folder / "ImageSets" / "Main" / f"{name}.txt").read_text().split()
        rows = [number[stem] for stem in stems]
        images = [np.asarray(Image.open(every.data[i]).convert("RGB")) for i in rows]
        parts.append((images, [every.target[i] for i in rows]))
    return parts


def trees(folder):
    """The same of tiles."""
    every = load_boxes(folder)
    parts = [([], []), ([], [])]
    for file, target in zip(every.data, every.target, strict=True):
        pixels = np.asarray(Image.open(file).convert("RGB"))
        images, boxes = parts[0 if Path(file).stem.endswith("crop2") else 1]
        for top in range(0, max(1, pixels.shape[0] - TILE // 2), TILE):
            for left in range(0, max(1, pixels.shape[1] - TILE // 2), TILE):
                tile = pixels[top : top + TILE, left : left + TILE]
                images.append(tile)
                boxes.append(within(target, left, top, *tile.shape[1::-1]))
    return parts


def within(target, left, top, width, height):
    """Boxes of which at least three tenths are in a tile."""
    corners = np.asarray(target["boxes"]) - [left, top, left, top]
    inside = np.clip(corners, 0, [width, height, width, height])
    area, left = (np.prod(one[:, 2:] - one[:, :2], 1) for one in (corners, inside))
    kept = left > 0.3 * area
    return {"boxes": inside[kept], "labels": np.asarray(target["labels"])[kept]}


def ours(way, images, boxes, seconds, size, draw):
    """A detector, and the epochs it had."""
    def made(folder, epochs):
        return FineTuneDetector(
            image_size=tuple(size), max_epochs=epochs, cache=folder, random_state=draw, n_jobs=1,
            augment="light", augment_views=2, **OURS[way],
        )  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:  # how long the pass takes, and an epoch
        trial = made(folder, 1)
        begin = time.process_time()
        trial.fit(images, boxes)
        first = time.process_time() - begin
        trial.partial_fit(images, boxes)
        each = time.process_time() - begin - first
    epochs = max(2, int((seconds - 2 * (first - each)) / each))
    with tempfile.TemporaryDirectory() as folder:
        return made(folder, epochs).fit(images, boxes), epochs


class Peer:
    """A detector of torchvision with a loop of training around it."""

    def __init__(self, name, classes, size, draw):
        torch.manual_seed(draw)
        self.classes, self.random = classes, np.random.default_rng(draw)
        options = {} if name.startswith("ssd") else {"min_size": min(size), "max_size": max(size)}
        # Its first class is the background, but for FCOS, where it is never used.
        self.model = getattr(detection, name)(
            weights=None, weights_backbone=None, num_classes=len(classes) + 1,
            **options,
        )  # fmt: skip

    def fit(self, images, boxes, seconds, batch=4):
        """Train until the time is over, with learning rates that fall to zero by then."""
        number = {label: i + 1 for i, label in enumerate(self.classes.tolist())}
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=1e-2)
        begin, shown = time.process_time(), 0
        self.model.train()
        while (done := (time.process_time() - begin) / seconds) < 1:
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * min(1, done / 0.1) * (1 + math.cos(math.pi * done)) / 2
            rows = self.random.choice(len(images), batch, replace=False)
            pixels, targets = [], []
            for row in rows:
                corners = torch.tensor(np.asarray(boxes[row]["boxes"]), dtype=torch.float32)
                labels = [number[label] for label in np.asarray(boxes[row]["labels"]).tolist()]
                pixel = tensor(images[row])
                if self.random.random() < 0.5:
                    pixel = horizontal_flip(pixel)
                    corners[:, [0, 2]] = pixel.shape[2] - corners[:, [2, 0]]
                pixels.append(pixel)
                targets.append({"boxes": corners.reshape(-1, 4), "labels": torch.tensor(labels)})
            optimizer.zero_grad()
            sum(self.model(pixels, targets).values()).backward()
            optimizer.step()
            shown += batch
        return shown / len(images)

    def predict(self, images):
        """Boxes as ours has them."""
        self.model.eval()
        found = []
        with torch.inference_mode():
            for image in images:
                one = {k: v.numpy() for k, v in self.model([tensor(image)])[0].items()}
                kept = one["labels"] > 0
                one = {name: values[kept] for name, values in one.items()}
                found.append({**one, "labels": self.classes[one["labels"] - 1]})
        return found


def tensor(image):
    return pil_to_tensor(Image.fromarray(image)).float() / 255


def measure(way, train, test, args, draw):
    """One line of results."""
    seconds = 60 * args.minutes
    begin = time.process_time()
    if way in OURS:
        detector, epochs = ours(way, *train, seconds, args.size, draw)
    else:
        classes = np.unique(np.concatenate([one["labels"] for one in train[1]]))
        detector = Peer(way, classes, args.size, draw)
        epochs = detector.fit(*train, seconds)
    learnt = time.process_time()
    found = detector.predict(test[0])
    return {
        "way": way, "draw": draw, "epochs": round(epochs, 1), "minutes": args.minutes,
        "measured": learnt - begin, "predict": (time.process_time() - learnt) / len(test[0]),
        "AP50": average_precision_boxes(test[1], found),
        "AP": average_precision_boxes(test[1], found, iou="coco"),
        "of each": np.round(average_precision_boxes(test[1], found, average=None), 3).tolist(),
    }  # fmt: skip


def main():
    args = parse()
    done = lines_of(args.results)
    if not args.table:
        train, test = (bccd if args.data == "bccd" else trees)(args.folder)
        if args.images is not None:
            train, test = ([one[: args.images] for one in part] for part in (train, test))
        for draw in args.draws:
            for way in args.ways:
                if any((one["way"], one["draw"]) == (way, draw) for one in done):
                    continue
                done.append(measure(way, train, test, args, draw))
                with open(args.results, "a", encoding="utf-8") as file:
                    file.write(json.dumps(done[-1]) + "\n")
    print(describe())
    rows = []
    for way in (*OURS, *PEERS):
        own = [one for one in done if one["way"] == way]
        if own:
            names = ("epochs", "AP50", "AP", "predict")
            epochs, ap50, ap, predict = (np.mean([one[k] for one in own]) for k in names)
            each = [f"{epochs:.1f}", f"{ap50:.3f}", f"{ap:.3f}", f"{1e3 * predict:.0f} ms"]
            rows.append([way, *each])
    print(table(["way", "epochs", "AP50", "AP", "predict an image"], rows))


if __name__ == "__main__":
    main()
