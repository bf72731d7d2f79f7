"""How good are codes of texts, and fine-tuning, on a thousand sentences? Beside what peers do.

    python examples/benchmarks/fetch_texts.py texts/
    python examples/benchmarks/texts.py texts/ RESULTS --sets film clear bbc

For every draw: accuracy on texts that were not drawn, and CPU seconds, of a bag of words (TF-IDF
of one and two words, a linear SVM whose C is chosen by cross-validation), of a linear probe on
the last layer, on the layer that cross-validation chooses and on all layers side by side, of
fine-tuning the last two thirds of the blocks and all of them, of the same network with random
weights trained from scratch, and, with --peers, of sentence-transformers with LogisticRegression,
setfit, skorch's transformer as its documentation has it, and transformers' Trainer. --network
takes a folder in the place of MiniLM. Results are appended to the file RESULTS, one line each,
and what is there is not computed again. Printed is a table in Markdown: mean and standard
deviation over the draws.
"""

import argparse
import json
import time
import warnings

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from shared import text_peers
from shared.results import lines_of
from shared.tables import table
from shared.texts import bbc_topics, film_sentiment, held_out
from sktransfer import FineTuneTextClassifier, TextCodes

SETS = {
    "film": lambda folder: film_sentiment(folder),
    "clear": lambda folder: film_sentiment(folder, beyond=1.5),
    "bbc": bbc_topics,
}
STRENGTHS = [1e-4, 1e-3, 1e-2, 1e-1]


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", help="as fetch_texts.py filled it")
    add("results", help="file of results, appended to")
    add("--sets", nargs="+", choices=SETS, default=["film"])
    add("--draws", type=int, nargs="+", default=[0, 1, 2])
    add("--learn", type=int, default=1000)
    add("--test", type=int, default=1000)
    add("--network", default="minilm_l6", help="name or folder")
    add("--ways", nargs="+", choices=[*WAYS, *text_peers.WAYS], default=list(WAYS))
    add("--peers", action="store_true", help="the peers, too")
    add("--cache", default="memory", help="folder that keeps codes")
    add("--table", action="store_true", help="print what is in the file, and compute nothing")
    return parser.parse_args()


def bag_of_words(args, drawn):
    pipe = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LinearSVC())
    search = GridSearchCV(pipe, {"linearsvc__C": [0.03, 0.1, 0.3, 1.0, 3.0]}, cv=3)
    return search.fit(drawn.X, drawn.y)


def last_layer(args, drawn):
    return _probe(args, drawn, [None])


def chosen_layer(args, drawn):
    names = [layer.name for layer in TextCodes(args.network).list_layers()]
    return _probe(args, drawn, names)


def all_layers(args, drawn):
    names = [layer.name for layer in TextCodes(args.network).list_layers()]
    return _probe(args, drawn, [names])


def _probe(args, drawn, layers):
    pipe = make_pipeline(
        TextCodes(args.network, cache=args.cache, cache_layers="all"),
        StandardScaler(),
        LogisticRegression(max_iter=1000),
    )
    grid = {"textcodes__layer": layers, "logisticregression__C": STRENGTHS}
    return GridSearchCV(pipe, grid, cv=3).fit(list(drawn.X), drawn.y)


def last_blocks(args, drawn):
    return _tune(args, drawn)


def all_blocks(args, drawn):
    return _tune(args, drawn, trainable="all")


def from_scratch(args, drawn):
    """Random weights, all trained, with a larger rate and more epochs."""
    return _tune(args, drawn, weights=None, trainable="all", max_epochs=10)


def _tune(args, drawn, **params):
    estimator = FineTuneTextClassifier(
        args.network, cache=args.cache, random_state=drawn.draw, **params
    )
    return estimator.fit(list(drawn.X), drawn.y)


WAYS = {
    "TF-IDF + LinearSVC": bag_of_words,
    "probe, last layer": last_layer,
    "probe, layer by CV": chosen_layer,
    "probe, all layers": all_layers,
    "fine-tune last blocks": last_blocks,
    "fine-tune all": all_blocks,
    "from scratch": from_scratch,
}


def measure(args, ways):
    known = {tuple(line["key"]) for line in lines_of(args.results)}
    for name in args.sets:
        texts, labels = SETS[name](args.folder)
        for draw in args.draws:
            drawn = held_out(name, texts, labels, draw, args.learn, args.test)
            for way in ways:
                key = (name, args.learn, draw, way, args.network)
                if key in known:
                    continue
                run = {**WAYS, **text_peers.WAYS}[way]
                began, cpu = time.perf_counter(), time.process_time()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    fitted = run(args, drawn)
                    fit = time.process_time() - cpu
                    predicted = fitted.predict(list(drawn.X_test))
                score = float(np.mean(np.asarray(predicted) == drawn.y_test))
                line = {
                    "key": key, "score": score, "fit_cpu": fit,
                    "cpu": time.process_time() - cpu, "wall": time.perf_counter() - began,
                    "chosen": str(getattr(fitted, "best_params_", "")),
                }  # fmt: skip
                print(*key, f"{score:.3f}", f"{fit:.1f} CPU s", line["chosen"], flush=True)
                with open(args.results, "a") as file:
                    file.write(json.dumps(line) + "\n")


def show(args):
    """Mean and standard deviation of each way on each set."""
    found = {}
    for line in lines_of(args.results):
        name, learn, _, way, network = line["key"]
        found.setdefault((network, f"{name}, {learn:,}"), {}).setdefault(way, []).append(line)
    for (network, name), ways in found.items():
        rows = [
            [
                way,
                str(len(lines)),
                f"{np.mean([one['score'] for one in lines]):.3f}"
                f" ± {np.std([one['score'] for one in lines]):.3f}",
                f"{np.mean([one['fit_cpu'] for one in lines]):.0f}",
            ]
            for way, lines in ways.items()
        ]
        print(f"\n{network}, {name}\n")
        print(table(["", "draws", "accuracy", "CPU seconds of the fit"], rows))


if __name__ == "__main__":
    arguments = parse()
    if not arguments.table:
        chosen = list(arguments.ways) + (list(text_peers.WAYS) if arguments.peers else [])
        measure(arguments, chosen)
    show(arguments)
