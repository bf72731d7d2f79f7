"""Tables in Markdown."""

import numpy as np

from shared.timing import Absent


def table(header, rows):
    """A table of strings."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def std(values, digits=1, unit=""):
    """Median, smallest and largest."""
    middle, low, high = np.median(values), np.min(values), np.max(values)
    return f"{middle:.{digits}f}{unit} ({low:.{digits}f}–{high:.{digits}f})"


def digits_for(ratio):
    """Two figures that count: 0.42, 4.2, 42."""
    return 0 if ratio >= 20 else 1 if ratio >= 2 else 2


def ratio(values, base):
    """Ratios within turns."""
    found = values / base
    return std(found, digits_for(np.median(found)))


def rates_table(title, ways, rates, bases):
    """One row a way: images/s, and the ratio to each base (title of column → name of way)."""
    rows = []
    for way in ways:
        if isinstance(way, Absent):
            rows.append([way.name, way.reason, *["" for _ in bases]])
            continue
        found = rates[way.name]
        ratios = [ratio(found, rates[base]) for base in bases.values()]
        rows.append([way.name, f"{np.median(found):.0f}", *ratios])
    return table([title, "images/s", *bases], rows)
