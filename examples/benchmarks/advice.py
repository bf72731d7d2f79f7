"""Are the ranking and the advice right? Judged on images that were held back.

    python examples/benchmarks/advice.py advice.jsonl --cifar10 cifar10.npz --folder chess \
        --weights mobilenet_v2=mobilenet_v2.pth --weights dinov2=dinov2_vits14_reg4.pt

For every draw of every data set and every network: what `advise` chose without seeing the test
images, and which of these each strategy tells, fine-tuning included. Results are appended to
a file, one line each, and what is there is not computed again. From the file come tables in
Markdown: accuracies as means over the draws, with what the advice loses to the best of all
strategies; and for every data set Kendall's weighted tau between the scores of networks and their
test accuracies, with the interval of a bootstrap over test images (90%).
"""

import argparse
import time

from shared.advice_tables import print_tables
from shared.held_out import draws_of
from shared.judged import judge, load, save
from shared.strategies import networks
from sktransfer import rank_backbones

METRICS = ["logme", "h_score", "transrate", "cv"]


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("results", help="file of results, appended to")
    add("--draws", type=int, nargs="+", default=[0, 1, 2])
    add("--cifar10", help="file with X_train, y_train, X_test, y_test")
    add("--cifar10-sizes", type=int, nargs="+", default=[100, 1000])
    add("--fashion", help="file with X and y: Fashion-MNIST")
    add("--fashion-sizes", type=int, nargs="*", default=[400])
    add("--digits", type=int, nargs="*", default=[])
    add("--folder", action="append", default=[], help="one folder for each class in it")
    add("--weights", action="append", default=[], help="mobilenet_v2=FILE or dinov2=FILE")
    add("--metrics", nargs="+", default=METRICS, help="the first ranks; cv is slow with thousands")
    add("--networks", nargs="+", help="some of them; default: all")
    add("--image-size", type=int, default=96)
    add("--most", type=int, default=800, help="images of a folder, test ones included")
    add("--test", type=int, default=1000, help="test images of CIFAR-10 and Fashion-MNIST")
    add("--fine-tune", nargs="*", help="networks to fine-tune in part; default: all")
    add("--fine-tune-all", nargs="*", default=[], help="networks to fine-tune as a whole too")
    add("--epochs", type=int, default=10, help="of fine-tuning")
    add("--cache", default="memory", help="folder that keeps codes")
    return parser.parse_args()


def judge_draw(held, args):
    """Every network on one draw."""
    candidates = networks(args, held.params)
    known = {(one.data, one.draw, one.network) for one in load(args.results)}
    if all((held.name, held.draw, label) in known for label in candidates):
        return
    ranking = rank_backbones(held.X, held.y, candidates, metric=args.metrics)
    scores = {row.name: row.scores for row in ranking.rows}
    for label, codes in candidates.items():
        if (held.name, held.draw, label) in known:
            continue
        start = time.perf_counter()
        partly = args.fine_tune is None or label in args.fine_tune
        wholly = label in args.fine_tune_all
        found = judge(
            held, label, codes, scores[label], partly=partly, wholly=wholly, epochs=args.epochs
        )
        save(args.results, found)
        told = ", ".join(f"{key} {found.accuracy(key):.3f}" for key in found.hits)
        print(f"{held.name}, draw {held.draw}, {label}: advised {found.advised}; {told} "
              f"({time.perf_counter() - start:.0f} s)", flush=True)  # fmt: skip


def main():
    args = parse()
    for held in draws_of(args):
        judge_draw(held, args)
    print_tables(load(args.results), args.metrics)


if __name__ == "__main__":
    main()
