"""Are the ranking and the advice right? Judged on photographs that were held back.

    python examples/benchmarks/advice.py --cifar10 cifar10.npz --folder chess --folder dogs_cats \
        --weights mobilenet_v2=mobilenet_v2.pth --weights dinov2=dinov2_vits14_reg4.pt

For every data set and network: accuracy on the test photographs of each strategy, fine-tuning
included, and of the one that `advise` chose without seeing them. For every data set: Kendall's
weighted tau between the scores of the networks and their test accuracies as probes and fine-tuned,
with the interval of a bootstrap over test photographs (90%). Prints tables in Markdown; losses are
in them.
"""

import argparse
import time
import warnings

import numpy as np
from scipy.stats import weightedtau
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sktransfer import CNNCodes, advise, load_image_folder, rank_backbones
from sktransfer.selection._strategies import fine_tuner, probe_pipeline

METRICS = ["logme", "h_score", "transrate", "cv"]
DINOV2 = "timm:vit_small_patch14_reg4_dinov2"


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cifar10", help="file with X_train, y_train, X_test, y_test")
    add("--cifar10-sizes", type=int, nargs="+", default=[100, 1000])
    add("--fashion", help="file with X and y: Fashion-MNIST")
    add("--fashion-sizes", type=int, nargs="*", default=[100, 1000])
    add("--digits", type=int, nargs="*", default=[400])
    add("--folder", action="append", default=[], help="one folder for each class in it")
    add("--weights", action="append", default=[], help="mobilenet_v2=FILE or dinov2=FILE")
    add("--image-size", type=int, default=96)
    add("--most", type=int, default=800, help="photographs of a folder, test ones included")
    add("--test", type=int, default=1000, help="test photographs of CIFAR-10")
    add("--fine-tune", nargs="*", help="networks to fine-tune in part; default: all")
    add("--fine-tune-all", nargs="*", default=[], help="networks to fine-tune as a whole too")
    add("--cache", default="memory", help="folder that keeps codes")
    add("--epochs", type=int, default=10)
    return parser.parse_args()


def data_sets(args):
    """Name, photographs and labels to learn from, the same to test on, parameters."""
    if args.cifar10:
        kept = np.load(args.cifar10)
        order = np.random.default_rng(0).permutation(len(kept["y_train"]))
        for n in args.cifar10_sizes:
            learn = order[:n]
            yield (f"CIFAR-10, {n:,}", kept["X_train"][learn], kept["y_train"][learn],
                   kept["X_test"][: args.test], kept["y_test"][: args.test], {})  # fmt: skip
    if args.fashion:
        kept = np.load(args.fashion)
        X_test, y_test = kept["X"][-args.test :], kept["y"][-args.test :]
        for n in args.fashion_sizes:
            yield f"Fashion-MNIST, {n:,}", kept["X"][:n], kept["y"][:n], X_test, y_test, {}
    digits = load_digits()
    X, y, params = digits.data, digits.target, {"value_range": (0, 16), "image_shape": (8, 8)}
    for n in args.digits:
        yield f"digits, {n}", X[:n], y[:n], X[-500:], y[-500:], params
    for folder in args.folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = load_image_folder(folder)
        paths, y = np.asarray(found.data), np.asarray(found.target)
        if len(y) > args.most:
            paths, _, y, _ = train_test_split(
                paths, y, train_size=args.most, stratify=y, random_state=0
            )
        parts = train_test_split(paths, y, test_size=0.4, stratify=y, random_state=0)
        name = f"{folder.rstrip('/').rsplit('/', 1)[-1]}, {len(parts[0]):,}"
        yield name, parts[0], parts[2], parts[1], parts[3], {}


def networks(args, params):
    """Every network with real weights at hand, and random ones as the control."""
    size, params = args.image_size, {**params, "cache": args.cache}
    files = dict(pair.split("=", 1) for pair in args.weights)
    found = {f"efficientnet_lite{i}": CNNCodes(f"efficientnet_lite{i}", image_size=size, **params)
             for i in range(3)}  # fmt: skip
    if "mobilenet_v2" in files:
        found["mobilenet_v2"] = CNNCodes(
            "mobilenet_v2", weights=files["mobilenet_v2"], image_size=size, **params
        )
    if "dinov2" in files:  # patches of 14 pixels
        found["DINOv2 ViT-S"] = CNNCodes(
            DINOV2,
            weights=files["dinov2"],
            preprocessing="default",
            image_size=size // 14 * 14,
            **params,
        )
    found["random weights"] = CNNCodes(
        "efficientnet_lite0", weights=None, image_size=size, **params
    )
    return found


def hits(estimator, data):
    """Which of the test photographs an estimator tells."""
    _, X, y, X_test, y_test, _ = data
    return clone(estimator).fit(X, y).predict(X_test) == y_test


def strategies(codes, advice, args, *, partly, wholly):
    """Every strategy that is tried, by name."""
    found = {"last layer": probe_pipeline(codes, layer=None)}
    names = names_of(advice)
    for name in names[:-1][-3:]:
        found[f"layer {name}"] = probe_pipeline(codes, layer=name)
    found["stacked"] = probe_pipeline(codes, layer=[names[-2], names[-1]])
    if partly:
        found["fine-tune last"] = fine_tuner(codes, 2, max_epochs=args.epochs)
        if advice.layer != names[-1]:
            cut = fine_tuner(codes, 2, max_epochs=args.epochs, layer=advice.layer)
            found[f"fine-tune up to {advice.layer}"] = cut
    if wholly:
        found["fine-tune all"] = fine_tuner(codes, "all", max_epochs=args.epochs)
    return found


def names_of(advice):
    """Layers by depth."""
    return [name for name, *_ in advice.layer_scores]


def tau(scores, right, draws=500):
    """Weighted tau of scores and test accuracies, with the interval of a bootstrap."""
    right = np.asarray(right, dtype=float)
    rng = np.random.default_rng(0)
    value = weightedtau(scores, right.mean(1)).statistic
    parts = [right[:, rng.integers(right.shape[1], size=right.shape[1])] for _ in range(draws)]
    low, high = np.quantile([weightedtau(scores, p.mean(1)).statistic for p in parts], [0.05, 0.95])
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def judge(data, args, rows):
    """One data set: rows of the advice, and a row of the ranking."""
    name, X, y, _, _, params = data
    candidates = networks(args, params)
    ranking = rank_backbones(X, y, candidates, metric=METRICS)
    by_name = {row.name: row for row in ranking.rows}
    right, tuned_right = {}, {}
    for label, codes in candidates.items():
        if by_name[label].width is None:
            print(f"{name}, {label}: {by_name[label].error}", flush=True)
            continue
        start = time.perf_counter()
        partly = args.fine_tune is None or label in args.fine_tune
        wholly = label in args.fine_tune_all
        advice = advise(X, y, codes, fine_tune="auto" if partly else False)
        framed = CNNCodes(**{**codes.get_params(deep=False), "resize": advice.resize})
        asked = strategies(framed, advice, args, partly=partly, wholly=wholly)
        tried = {k: hits(e, data) for k, e in asked.items()}
        estimator = advice.estimator
        if advice.strategy != "probe":
            estimator.set_params(max_epochs=args.epochs)
        same = tried.get(advice.strategy)
        if advice.strategy == "fine-tune last":
            same = tried.get(f"fine-tune up to {advice.layer}", same)
        own = hits(estimator, data) if same is None else same
        right[label] = tried["last layer"]
        if partly:
            tuned_right[label] = tried["fine-tune last"]
        best = max(tried, key=lambda k: tried[k].mean())
        loss = tried[best].mean() - own.mean()
        advised = advice.layer if advice.strategy == "probe" else advice.strategy
        if advice.strategy == "fine-tune last" and advice.layer != names_of(advice)[-1]:
            advised = f"fine-tune up to {advice.layer}"
        row = [
            name,
            label,
            advice.scene,
            advised,
            advice.resize,
            f"{advice.expected_accuracy:.1%}",
            f"{own.mean():.1%}",
            f"{best} {tried[best].mean():.1%}",
            f"{100 * loss:+.1f}",
            " ".join(f"{k.removeprefix('layer ')} {v.mean():.3f}" for k, v in tried.items()),
        ]
        rows.append((label, loss, row))
        print("| " + " | ".join(row) + f" | ({time.perf_counter() - start:.0f} s)", flush=True)
    labels = list(right)
    order = [row.name for row in ranking.rows]
    cells = [name, ", ".join(order)]
    for metric in METRICS:
        scores = [by_name[label].scores[metric] for label in labels]
        cells.append(tau(scores, [right[label] for label in labels])
                     + (", random last" if np.argmin(scores) == labels.index("random weights")
                        else ", RANDOM NOT LAST"))  # fmt: skip
    for metric in ("logme", "cv"):
        scores = [by_name[label].scores[metric] for label in tuned_right]
        cells.append(tau(scores, list(tuned_right.values())) if len(tuned_right) > 2 else "–")
    return cells


def table(head, rows):
    print("\n" + "\n".join("| " + " | ".join(row) + " |" for row in
                           [head, ["---"] * len(head), *rows]), flush=True)  # fmt: skip


def main():
    args = parse()
    rows, rankings = [], []
    for data in data_sets(args):
        rankings.append(judge(data, args, rows))
        table(["data", "order by LogME", *METRICS], [rankings[-1]])
    head = ["data, photographs", "network", "scene", "advised", "framing", "expected", "test",
            "best tried", "lost, points", "all tried"]  # fmt: skip
    table(head, [row for *_, row in rows])
    tuned = [f"{metric}, fine-tuned" for metric in ("logme", "cv")]
    table(["data", "order by LogME", *METRICS, *tuned], rankings)
    real = [loss for label, loss, _ in rows if label != "random weights"]
    print(
        f"\nWithin 1 point of the best tried: {np.mean(np.array(real) <= 0.01):.0%} of "
        f"{len(real)} rows with real weights; worst loss {100 * max(real):.1f} points."
    )


if __name__ == "__main__":
    main()
