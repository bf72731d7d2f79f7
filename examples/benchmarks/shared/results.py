"""Files of results that a benchmark appends to, a line of JSON for each run."""

import json
from pathlib import Path


def lines_of(path):
    """The lines of the file of results; none before it is there."""
    try:
        return [json.loads(line) for line in Path(path).read_text().splitlines()]
    except FileNotFoundError:
        return []
