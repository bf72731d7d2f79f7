"""How good are labels for every word: entities in tweets, and the parts of addresses?

    python examples/benchmarks/fetch_texts.py texts/
    python examples/benchmarks/words.py texts/ RESULTS

For every draw, on sentences that were not drawn: F1 of entities (as seqeval has it), or the share
of words that are right, of a linear classifier on the shapes of three words, on codes of the last
layer, on codes of the layer that cross-validation on the drawn part chooses, alone and beside those
of both neighbours, decided word by word and by Viterbi. Results are appended to the file RESULTS,
one line each, and what is there is not computed again. Printed is a table in Markdown: mean and
standard deviation over the draws.
"""

import argparse
import json

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from shared.results import lines_of
from shared.tables import table
from shared.texts import addresses, held_out, tweets
from shared.words import WordShapes
from sktransfer import TokenCodes, TokenLabeller, entity_f1

# Reader, and sentences to learn from and to test on.
SETS = {"tweets": (tweets, 1000, None), "addresses": (addresses, 0.6, None)}


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", help="as fetch_texts.py filled it")
    add("results", help="file of results, appended to")
    add("--sets", nargs="+", choices=SETS, default=list(SETS))
    add("--draws", type=int, nargs="+", default=[0, 1, 2])
    add("--network", default="minilm_l6", help="name or folder")
    add("--layers", nargs="+", default=["block.2", "block.3", "block.4", "block.5"])
    add("--cache", default="memory", help="folder that keeps codes")
    add("--table", action="store_true", help="print what is in the file, and compute nothing")
    return parser.parse_args()


def word_by_word(fitted, X):
    """The likeliest label of each word by itself."""
    return [fitted.classes_[shares.argmax(axis=1)] for shares in fitted.predict_proba(X)]


def linear(C):
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-3, max_iter=500))


def shapes(args, drawn):
    """A labeller without a network."""
    encode = OneHotEncoder(handle_unknown="ignore")
    estimator = make_pipeline(encode, LogisticRegression(C=10.0, tol=1e-3, max_iter=500))
    return TokenLabeller(WordShapes(), estimator).fit(drawn.X, drawn.y)


def codes(args, drawn, layer, **params):
    """A labeller on codes of a layer, or of the best of several."""
    made = TokenLabeller(
        TokenCodes(args.network, layer=layer, cache=args.cache, cache_layers="all"),
        linear(1e-2),
        **params,
    )
    if not isinstance(layer, list):
        return made.fit(drawn.X, drawn.y)
    splits = ShuffleSplit(2, test_size=0.3, random_state=drawn.draw)
    return GridSearchCV(made, {"codes__layer": layer}, cv=splits).fit(drawn.X, drawn.y)


def answers(args, drawn):
    """What each way finds, with a remark."""
    fitted = shapes(args, drawn)
    yield "word shapes", word_by_word(fitted, drawn.X_test), ""
    yield "word shapes, Viterbi", fitted.predict(drawn.X_test), ""
    fitted = codes(args, drawn, None, neighbours=0)
    yield "last layer, word alone", word_by_word(fitted, drawn.X_test), ""
    search = codes(args, drawn, args.layers)
    layer = search.best_params_["codes__layer"]
    fitted = codes(args, drawn, layer, neighbours=0)
    yield "layer by CV, word alone", word_by_word(fitted, drawn.X_test), layer
    yield "layer by CV, word alone, Viterbi", fitted.predict(drawn.X_test), layer
    fitted = search.best_estimator_
    yield "layer by CV, neighbours", word_by_word(fitted, drawn.X_test), layer
    yield "layer by CV, neighbours, Viterbi", fitted.predict(drawn.X_test), layer


def judge(name, true, found):
    """F1 of entities or None, and the share of words that are right."""
    right = np.concatenate([np.asarray(a) == b for a, b in zip(true, found)]).mean()
    return entity_f1(true, found) if name == "tweets" else None, float(right)


def measure(args):
    known = {tuple(line["key"][:2]) for line in lines_of(args.results)}
    for name in args.sets:
        read, learn, test = SETS[name]
        sentences, labels = read(args.folder)
        for draw in args.draws:
            if (name, draw) in known:
                continue
            drawn = held_out(name, sentences, labels, draw, learn, test)
            for way, found, remark in answers(args, drawn):
                f1, right = judge(name, drawn.y_test, found)
                line = {"key": [name, draw, way], "f1": f1, "accuracy": right, "remark": remark}
                with open(args.results, "a") as file:
                    file.write(json.dumps(line) + "\n")
                print(name, draw, way, f1 and f"{f1:.3f}", f"{right:.3f}", remark, flush=True)


def print_table(args):
    lines, rows = lines_of(args.results), []
    for way in dict.fromkeys(line["key"][2] for line in lines):
        row = [way]
        for name, figure in (("tweets", "f1"), ("tweets", "accuracy"), ("addresses", "accuracy")):
            own = [one[figure] for one in lines if [one["key"][0], one["key"][2]] == [name, way]]
            row.append(f"{np.mean(own):.3f} ± {np.std(own):.3f}" if own else "")
        rows.append(row)
    header = ["", "tweets, F1 of entities", "tweets, words", "addresses, words"]
    print(table(header, rows))


def main():
    args = parse()
    if not args.table:
        measure(args)
    print_table(args)


if __name__ == "__main__":
    main()
