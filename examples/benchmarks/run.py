"""Benchmarks of sktransfer and its peers: one command, tables in Markdown.

    python examples/benchmarks/run.py                 # every part, some 30 minutes on 2 cores
    python examples/benchmarks/run.py codes_arrays codes_files --networks resnet18
    python examples/benchmarks/run.py --quick         # tiny settings: does it all still run?

Peers are measured where they are installed; see requirements-peers.txt beside this file. Ways are
timed in turns, and what counts are ratios within a turn: medians with the smallest and largest.
"""

import argparse
import importlib
import sys
import time

from parts import PARTS
from shared.machine import describe
from shared.settings import Settings


def parse(words):
    """Names of parts, and the settings."""
    plain = Settings()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help="of: " + ", ".join(PARTS))
    add("--quick", action="store_true", help="tiny settings without peers; figures mean nothing")
    add("--no-peers", dest="peers", action="store_false", help="leave other packages out")
    add("--networks", nargs="+", help="default: what each part asks for")
    add("--photos", help="folder with JPEG files; default: crops of two images")
    add("--size", type=int, default=plain.size, help="pixels that networks see (224)")
    add("--repeats", type=int, default=plain.repeats, help="turns (5)")
    add("--seconds", type=float, default=plain.seconds, help="about how long a way takes a turn")
    add("--images", type=int, default=plain.images, help="at most that many in a turn (512)")
    add("--many-files", type=int, default=plain.many_files, help="in many_files (20,000)")
    add("--search-images", type=int, default=plain.search_images, help="in grid_search (200)")
    add("--paths", type=int, nargs="+", default=plain.paths, help="numbers of files in memory")
    add("--rows", type=int, nargs="+", default=plain.rows, help="numbers of rows in the store")
    options = vars(parser.parse_args(words))
    parts = options.pop("parts") or PARTS
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    quick = options.pop("quick")
    return parts, Settings.quick() if quick else Settings(**options)


def main(words):
    """Print the tables of some parts, each as soon as it is there."""
    parts, settings = parse(words)
    print(describe(), flush=True)
    for name in parts:
        part = importlib.import_module(f"parts.{name}")
        print(f"\n## {name}\n\n{part.__doc__.strip()}", flush=True)
        start = time.perf_counter()
        for text in part.run(settings):
            print(f"\n{text}", flush=True)
        print(f"\n({name} took {time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
