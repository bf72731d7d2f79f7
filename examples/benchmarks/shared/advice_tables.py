"""Tables of the advice and of the ranking, from the file of results."""

from collections import Counter, defaultdict

import numpy as np
from scipy.stats import weightedtau

from shared.strategies import RANDOM
from shared.tables import table

_FIXED = ["last layer", "stacked", "fine-tune last", "fine-tune earlier", "fine-tune all",
          "fine-tune all earlier", "vote"]  # fmt: skip


def print_tables(results, metrics):
    """All of them, and the share of rows that the advice gets right."""
    groups = defaultdict(list)
    for one in results:
        groups[one.data, one.network].append(one)
    rows = [(network, *_row(data, network, some)) for (data, network), some in groups.items()]
    head = ["data", "network", "scenarios", "expected", *_FIXED[:1], "earlier", *_FIXED[1:],
            "advised", "reached", "lost"]  # fmt: skip
    print(table(head, [cells for _, _, cells in rows]))
    real = np.array([loss for network, loss, _ in rows if network != RANDOM])
    print(f"\nWithin one point of the best: {np.mean(real <= 1):.0%} of {len(real)} rows with "
          f"real weights; worst {real.max():.1f} points.\n")  # fmt: skip
    apart = [_apart(some) for (_, network), some in groups.items() if network != RANDOM]
    print(f"Expected within three points of what was reached: {np.mean(np.abs(apart) <= 3):.0%} of "
          f"rows; {min(apart):.1f} to {max(apart):.1f} points.\n")  # fmt: skip
    print(table(["data", *metrics, *(f"{metric}, fine-tuned" for metric in metrics)],
                list(_taus(results, metrics))))  # fmt: skip


def _means(some):
    """Mean accuracy in per cent of each strategy that every draw has."""
    names = [name for name in some[0].hits if all(name in one.hits for one in some)]
    return {name: 100 * float(np.mean([one.accuracy(name) for one in some])) for name in names}


def _apart(some):
    """Points by which more was expected than reached."""
    return 100 * float(np.mean([one.expected - one.accuracy(one.advised) for one in some]))


def _row(data, network, some):
    means = _means(some)
    own = [100 * one.accuracy(one.advised) for one in some]
    best = max(means, key=means.get)
    loss = max(0.0, means[best] - float(np.mean(own)))
    earlier = max((n for n in means if n.startswith("layer ")), key=means.get)

    def cell(name):
        if name not in means:
            return ""
        told = f"**{means[name]:.1f}**" if name == best else f"{means[name]:.1f}"
        return told + (f" ({name[6:]})" if name.startswith("layer ") else "")

    cells = [f"{data} (×{len(some)})", network, _counted(one.scenario for one in some),
             f"{100 * np.mean([one.expected for one in some]):.1f}", cell("last layer"),
             cell(earlier), *map(cell, _FIXED[1:]), _counted(one.advised for one in some),
             f"{np.mean(own):.1f} ± {np.std(own):.1f}", f"{loss:.1f}"]  # fmt: skip
    return loss, cells


def _counted(words):
    return ", ".join(f"{word} ×{n}" if n > 1 else word for word, n in Counter(words).items())


def _taus(results, metrics):
    """Of each data set the mean over draws, and the bootstrap's interval of that mean."""
    by_data = defaultdict(lambda: defaultdict(list))
    for one in results:
        by_data[one.data][one.draw].append(one)
    for data, draws in by_data.items():
        full = [some for some in draws.values() if len(some) > 2]
        last = {metric: all(_random_last(some, metric) for some in full) for metric in metrics}
        cells = [_tau(full, metric, "last layer") + ("" if last[metric] else ", random not last")
                 for metric in metrics]  # fmt: skip
        yield [data, *cells, *(_tau(full, metric, "fine-tune") for metric in metrics)]


def _random_last(some, metric):
    worst = min(some, key=lambda one: one.scores[metric])
    return worst.network == RANDOM or all(one.network != RANDOM for one in some)


def _tau(full, metric, strategy, n_boot=300):
    rng = np.random.default_rng(0)
    found = []
    for some in full:
        some = [one for one in some if strategy in one.hits or strategy == "fine-tune"]
        names = [_tuned(one) if strategy == "fine-tune" else strategy for one in some]
        if len(some) < 3 or None in names:
            continue
        right = np.array([one.right(n) for one, n in zip(some, names, strict=True)], dtype=float)
        scores = [one.scores[metric] for one in some]
        parts = [rng.integers(right.shape[1], size=right.shape[1]) for _ in range(n_boot)]
        boot = [weightedtau(scores, right[:, part].mean(1)).statistic for part in parts]
        found.append([weightedtau(scores, right.mean(1)).statistic, *boot])
    if not found:
        return "–"
    means = np.mean(found, axis=0)
    low, high = np.quantile(means[1:], [0.05, 0.95])
    return f"{means[0]:.2f} ({low:.2f} to {high:.2f})"


def _tuned(one):
    if "fine-tune" in one.advised:
        return one.advised
    return "fine-tune earlier" if "fine-tune earlier" in one.hits else None
