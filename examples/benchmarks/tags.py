"""Several tags an image: one fine-tuned network for all, one for each, and codes.

    python examples/benchmarks/tags.py BCCD RESULTS

BCCD is the folder or the zip file of the 364 images of blood cells of BCCD_Dataset, whose boxes
are VOC XML files in a folder Annotations beside JPEGImages. Nearly every image has red (96%) and
white cells (98%), so that presence alone says little; the tags are platelets (55%), several
platelets (29%), more than 10 red cells (62%), more than 15 (12%) and several white cells (4%).
With --present they are which of the three kinds are there.

For each draw half of the images are trained on and the others tested. Every way begins with an
empty cache; the CPU seconds are those of fit and predict. Results are appended to the file RESULTS,
one line each, and what is there is not computed again. Printed is a table in Markdown: mean and
standard deviation over the draws.
"""

import argparse
import io
import json
import tempfile
import time
import warnings
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import train_test_split
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from shared.machine import describe
from shared.results import lines_of
from shared.tables import table
from sktransfer import CNNCodes, FineTuneClassifier

WAYS = ("all tags together", "one network a tag", "codes")
KINDS = ("RBC", "WBC", "Platelets")


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("data", help="folder or zip file of BCCD_Dataset")
    add("results", help="file of results, appended to")
    add("--present", action="store_true", help="tags are the kinds of cells that are there")
    add("--draws", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    add("--ways", nargs="+", choices=WAYS, default=WAYS)
    add("--images", type=int, help="so many, evenly, to try it")
    add("--size", type=int, nargs=2, default=[240, 320], help="height and width of the images")
    add("--epochs", type=int, default=10)
    add("--trainable", type=int, default=2, help="stages that are trained")
    add("--table", action="store_true", help="print what is in the file, and compute nothing")
    return parser.parse_args()


def files(data):
    """Names of files and a function that reads one."""
    if Path(data).is_dir():
        found = [str(path) for path in Path(data).rglob("*") if path.is_file()]
        return found, lambda name: Path(name).read_bytes()
    archive = zipfile.ZipFile(data)
    return archive.namelist(), archive.read


def load(data, n=None):
    """Images, and how many cells of each kind are in them."""
    names, read = files(data)
    images = {Path(name).stem: name for name in names if name.endswith(".jpg")}
    boxes = {Path(name).stem: name for name in names if name.endswith(".xml")}
    pixels, counts = [], []
    stems = sorted(images.keys() & boxes.keys())
    if n is not None:
        stems = [stems[i] for i in np.linspace(0, len(stems) - 1, n).astype(int)]
    for stem in stems:
        root = ElementTree.fromstring(read(boxes[stem]))
        found = [one.findtext("name") for one in root.iter("object")]
        counts.append([found.count(kind) for kind in KINDS])
        pixels.append(np.asarray(Image.open(io.BytesIO(read(images[stem]))).convert("RGB")))
    return np.stack(pixels), np.array(counts)


def tags_of(counts, *, present):
    """Names of the tags, and the matrix."""
    if present:
        return KINDS, (counts > 0).astype(int)
    red, white, platelets = counts.T
    found = {
        "platelets": platelets > 0,
        "several platelets": platelets > 1,
        "> 10 red": red > 10,
        "> 15 red": red > 15,
        "several white": white > 1,
    }
    return tuple(found), np.stack(list(found.values()), axis=1).astype(int)


def estimator(way, args, draw, cache):
    """One way, not fitted."""
    common = {"image_size": tuple(args.size), "cache": cache}
    tuner = FineTuneClassifier(
        **common, max_epochs=args.epochs, trainable=args.trainable, random_state=draw
    )
    if way == WAYS[0]:
        return tuner
    if way == WAYS[1]:
        return OneVsRestClassifier(tuner)
    linear = OneVsRestClassifier(LogisticRegression(C=1e-2, max_iter=1000))
    return make_pipeline(CNNCodes(**common), StandardScaler(), linear)


def judge(way, args, draw, train, test):
    """Average precision and F1, means over the tags; all tags right; CPU seconds."""
    with tempfile.TemporaryDirectory() as cache, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tags that are constant
        start = time.process_time()
        # OneVsRestClassifier does not take images where a tag is constant.
        asked = np.flatnonzero(np.ptp(train[1], axis=0))
        shares = np.tile(train[1].mean(axis=0), (len(test[1]), 1))
        fitted = estimator(way, args, draw, cache).fit(train[0], train[1][:, asked])
        shares[:, asked] = fitted.predict_proba(test[0])
        seconds = time.process_time() - start
    there = (shares > 0.5).astype(int)
    varies = [tag for tag in range(test[1].shape[1]) if 0 < test[1][:, tag].mean() < 1]
    precisions = [average_precision_score(test[1][:, tag], shares[:, tag]) for tag in varies]
    f1 = f1_score(test[1][:, varies], there[:, varies], average="macro", zero_division=0)
    right = (there == test[1]).all(axis=1).mean()
    return float(np.mean(precisions)), float(f1), float(right), seconds


def measure(args, known):
    """Compute what is not in the file of results yet."""
    X, counts = load(args.data, args.images)
    names, Y = tags_of(counts, present=args.present)
    shares = ", ".join(f"{one} {100 * part:.0f}%" for one, part in zip(names, Y.mean(0)))
    print(f"{len(X)} images: {shares}", flush=True)
    for draw in args.draws:
        train, test = train_test_split(np.arange(len(X)), test_size=0.5, random_state=draw)
        for way in args.ways:
            key = key_of(args, way, draw)
            if key in known:
                continue
            found = judge(way, args, draw, (X[train], Y[train]), (X[test], Y[test]))
            with open(args.results, "a") as file:
                file.write(json.dumps([*key, *found]) + "\n")
            print(way, draw, *(f"{one:.3f}" for one in found), flush=True)


def key_of(args, way, draw):
    """What a line of the file of results is of."""
    return [way, draw, args.present, args.images, list(args.size), args.epochs, args.trainable]


def print_table(args, lines):
    """A row for each way."""
    rows = []
    for way in WAYS:
        own = [one[7:] for one in lines if one[:7] == key_of(args, way, one[1])]
        if own:
            mean, std = np.mean(own, axis=0), np.std(own, axis=0)
            figures = [f"{m:.3f} ± {s:.3f}" for m, s in zip(mean[:3], std[:3])]
            rows.append([way, *figures, f"{mean[3]:.1f} ± {std[3]:.1f}", len(own)])
    print(table(["", "average precision", "F1", "all tags right", "CPU s", "draws"], rows))


def main():
    args = parse()
    if not args.table:
        print(describe())
        measure(args, [line[:7] for line in lines_of(args.results)])
    print_table(args, lines_of(args.results))


if __name__ == "__main__":
    main()
