"""Issues that were planted in images: what find_issues finds of them, and what others do.

    python examples/benchmarks/find_issues.py
    python examples/benchmarks/find_issues.py --folders chess=FOLDER --peers PYTHON

Without folders it is the CIFAR images that ship with sktransfer; of a folder all images below it
are taken, with their folders as classes. In each draw images are chosen, and a twentieth of them
each is

- copied and saved anew as JPEG of quality 60, resized to 0.7 of both sides, cropped to 85% of both
  sides at a random place, or mirrored;
- given a label at random that is another one;
- darkened to a fifth, or blurred by a radius of 1% of the longer side (at least 1.2 pixels).

A twentieth more are strangers, with labels at random: half of them scanned digits, half pieces of
two photographs that scikit-learn has. They do not count where labels are judged.

PYTHON is an interpreter that has cleanlab[datalab], cleanvision and fastdup, as far as they are to
be compared; it needs nothing of sktransfer. Cleanlab is given the same codes, and probabilities of
the same probe by plain stratified folds; the others see the files. Duplicates are counted by pairs:
precision of all pairs that are told, recall by how the copy was made. Duplicates that were in the
data before count as false ones, for all alike. Printed are means over the draws, in Markdown.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits, load_sample_images

COPIES = ("re-encoded", "resized", "cropped", "mirrored")
KINDS = ("label", "dark", "blurred", "outlier")
PEERS = ("cleanlab", "cleanvision", "fastdup")
ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--folders", nargs="*", default=[], help="NAME=FOLDER, besides the CIFAR images")
    add("--peers", help="an interpreter that has them")
    add("--draws", type=int, nargs="+", default=[0, 1, 2])
    add("--images", type=int, default=240)
    add("--size", type=int, default=128, help="pixels that the network sees")
    add("--peer", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def encoded(image, quality=95):
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=quality)
    return file.getvalue()


def cropped(image, rng):
    width, height = (round(0.85 * side) for side in image.size)
    left = rng.integers(image.width - width + 1)
    top = rng.integers(image.height - height + 1)
    return image.crop((left, top, left + width, top + height))


def copied(image, way, rng):
    if way == "re-encoded":
        return encoded(image, 60)
    if way == "resized":
        return encoded(image.resize([max(1, round(0.7 * side)) for side in image.size]))
    return encoded(cropped(image, rng) if way == "cropped" else image.transpose(0))


def load(folder, n, rng):
    """Some images and their classes."""
    if folder is None:
        from sktransfer.datasets import load_cifar10_sample

        photos = load_cifar10_sample()
        chosen = rng.permutation(len(photos.data))[:n]
        return [Image.fromarray(photos.data[i]) for i in chosen], photos.target[chosen]
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in ENDINGS)
    images, names = [], []
    for at in rng.permutation(len(paths)):
        try:
            images.append(Image.open(paths[at]).convert("RGB"))
        except OSError:
            continue
        names.append(paths[at].parent.name)
        if len(images) == n:
            break
    return images, np.unique(names, return_inverse=True)[1]


def strangers(n, rng):
    """Images that belong to none of the sets: digits, and pieces of a temple and a flower."""
    digits, photos = load_digits().images, load_sample_images().images
    found = []
    for at in range(n):
        if at % 2:
            digit = digits[rng.integers(len(digits))]
            image = Image.fromarray((digit * 15.9).astype(np.uint8)).resize((96, 96))
        else:
            photo = photos[rng.integers(len(photos))]
            top, left = rng.integers(photo.shape[0] - 128), rng.integers(photo.shape[1] - 128)
            image = Image.fromarray(photo[top : top + 128, left : left + 128])
        found.append(image.convert("RGB"))
    return found


def plant(images, y, rng, folder):
    """Write files with issues, and what is wrong with them."""
    n, share = len(images), len(images) // 20
    order = rng.permutation(n)
    parts = [order[at * share : (at + 1) * share] for at in range(len(COPIES) + 3)]
    flipped, dark, blurred = parts[len(COPIES) :]
    files = []
    for index, image in enumerate(images):
        if index in dark:
            image = Image.fromarray((np.asarray(image) * 0.2).astype(np.uint8))
        if index in blurred:
            radius = max(1.2, 0.01 * max(image.size))
            image = image.filter(ImageFilter.GaussianBlur(radius))
        files.append(encoded(image))
    y = y.copy()
    y[flipped] = (y[flipped] + rng.integers(1, y.max() + 1, share)) % (y.max() + 1)
    strange = list(range(len(files), len(files) + share))
    files += [encoded(image) for image in strangers(share, rng)]
    labels, pairs = [*y.tolist(), *rng.integers(y.max() + 1, size=share).tolist()], {}
    for way, part in zip(COPIES, parts, strict=False):
        pairs[way] = [[int(index), len(files) + at] for at, index in enumerate(part)]
        files += [copied(images[index], way, rng) for index in part]
        labels += y[part].tolist()
    for index, data in enumerate(files):
        (folder / f"{index:05d}.jpg").write_bytes(data)
    rest = {"label": flipped.tolist(), "dark": dark.tolist(), "blurred": blurred.tolist(),
            "outlier": strange}  # fmt: skip
    (folder / "truth.json").write_text(json.dumps({"y": labels, "pairs": pairs, **rest}))


def files_of(folder):
    return [str(path) for path in sorted(Path(folder).glob("*.jpg"))]


def joined(links):
    """All pairs of what is linked, also through others."""
    owner = {}
    for a, b in links:
        group = owner.get(a, {a}) | owner.get(b, {b})
        owner.update(dict.fromkeys(group, group))
    groups = {frozenset(group) for group in owner.values()}
    return sorted(pair for group in groups for pair in combinations(sorted(group), 2))


# Each gives pairs, and numbers of images with other issues.


def ours(folder, size):
    from sktransfer import CNNCodes, find_issues

    y = json.loads((folder / "truth.json").read_text())["y"]
    codes = CNNCodes(image_size=size, cache=None).fit_transform(files_of(folder))
    np.save(folder / "codes.npy", codes)
    issues = find_issues(files_of(folder), y, codes=codes)
    links = [(one.related, one.index) for one in issues.found if one.issue.endswith("duplicate")]
    return {
        "pairs": joined(links),
        **{name: issues.indices(name).tolist() for name in KINDS},
    }


def cleanlab(folder):
    from cleanlab import Datalab
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    y = np.array(json.loads((folder / "truth.json").read_text())["y"])
    codes = np.load(folder / "codes.npy")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    likely = cross_val_predict(probe, codes, y, cv=folds, method="predict_proba")
    lab = Datalab({"y": y.tolist()}, label_name="y", verbosity=0)
    wanted = {"label": {}, "near_duplicate": {}, "outlier": {}}
    lab.find_issues(features=codes, pred_probs=likely, issue_types=wanted)
    found = lab.get_issues("near_duplicate")
    links = [(int(i), int(j)) for i in np.flatnonzero(found["is_near_duplicate_issue"])
             for j in found["near_duplicate_sets"].iloc[i]]  # fmt: skip
    return {
        "pairs": joined(links),
        "label": np.flatnonzero(lab.get_issues("label")["is_label_issue"]).tolist(),
        "outlier": np.flatnonzero(lab.get_issues("outlier")["is_outlier_issue"]).tolist(),
    }


def cleanvision(folder):
    from cleanvision import Imagelab

    lab = Imagelab(filepaths=files_of(folder))
    kinds = ("near_duplicates", "exact_duplicates", "dark", "blurry")
    lab.find_issues({kind: {} for kind in kinds}, n_jobs=1, verbose=False)
    sets = [group for kind in kinds[:2] for group in lab.info[kind]["sets"]]

    def flagged(name):
        paths = lab.issues.index[lab.issues[f"is_{name}_issue"]]
        return sorted(int(Path(path).stem) for path in paths)

    links = [(int(Path(a).stem), int(Path(b).stem)) for group in sets
             for a, b in combinations(group, 2)]  # fmt: skip
    return {"pairs": joined(links), "dark": flagged("dark"), "blurred": flagged("blurry")}


def fastdup(folder):
    import fastdup as package

    run = package.create(work_dir=str(folder / "fastdup"), input_dir=str(folder))
    run.run(overwrite=True, verbose=False)
    table = run.similarity()
    near = table[table["distance"] >= 0.96]  # its default for what is connected
    links = [(int(Path(a).stem), int(Path(b).stem))
             for a, b in zip(near["filename_from"], near["filename_to"], strict=True)]  # fmt: skip
    strange = run.outliers()
    strange = strange[strange["distance"] <= 0.68] if len(strange) else strange  # as its gallery
    numbers = sorted({int(Path(one).stem) for one in strange.get("filename_outlier", ())})
    return {"pairs": sorted({(min(link), max(link)) for link in links}), "outlier": numbers}


def by_peer(python, name, folder):
    """What a peer finds, in an interpreter of its own; None where it does not run."""
    words = [python, __file__, "--peer", name, str(folder)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=400)
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        told = done.stderr.strip().splitlines()[-1:] if "done" in locals() else ["no answer"]
        print(f"{name} does not run: {' '.join(told)}", file=sys.stderr)
        return None


def judge(found, truth):
    """Precision and recall of each kind, NaN where a tool does not look for it."""
    pairs = {tuple(pair) for pair in found["pairs"]}
    planted = {way: {tuple(pair) for pair in truth["pairs"][way]} for way in COPIES}
    every = set().union(*planted.values())
    row = {"duplicates, precision": len(pairs & every) / len(pairs) if pairs else np.nan}
    for way in COPIES:
        row[f"{way}, recall"] = len(pairs & planted[way]) / len(planted[way])
    for name in KINDS:
        told, wrong = set(found.get(name, ())), set(truth[name])
        if name != "outlier":  # of strangers nothing else is judged
            told -= set(truth["outlier"])
        right, looked = len(told & wrong), name in found
        row[f"{name}, precision"] = right / len(told) if told else np.nan
        row[f"{name}, recall"] = right / len(wrong) if looked else np.nan
    return row


def main():
    args = parse()
    if args.peer:
        name, folder = args.peer
        print(json.dumps(globals()[name](Path(folder))))
        return
    rows = {}
    folders = {"cifar": None, **dict(one.split("=", 1) for one in args.folders)}
    for data, source in folders.items():
        for draw in args.draws:
            rng = np.random.default_rng(draw)
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place)
                plant(*load(source, args.images, rng), rng, folder)
                truth = json.loads((folder / "truth.json").read_text())
                found = {"find_issues": ours(folder, args.size)}
                if args.peers:
                    found |= {name: by_peer(args.peers, name, folder) for name in PEERS}
            for name, answer in found.items():
                if answer is not None:
                    rows.setdefault((data, name), []).append(judge(answer, truth))
            print(data, draw, "done", file=sys.stderr, flush=True)
    columns = list(next(iter(rows.values()))[0])
    print("| data | tool |", " | ".join(columns), "|")
    print("| --- " * (2 + len(columns)) + "|")
    for (data, name), found in rows.items():
        values = [[one[column] for one in found] for column in columns]
        means = [np.nanmean(some) if not np.isnan(some).all() else np.nan for some in values]
        cells = ["" if np.isnan(mean) else f"{mean:.2f}" for mean in means]
        print(f"| {data} | {name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
