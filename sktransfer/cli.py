"""The command line: ``sktransfer``, or ``python -m sktransfer``.

Each command is a function `_run_...` of its arguments that gives the exit code. What it needs is
imported when it runs, so that ``--help`` imports neither torch nor scikit-learn.

Exit codes: 0 all went well, 1 something is wrong with images or a model, 2 with the arguments.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["main"]

_PHOTOS = """PHOTOS is a folder with a folder of images for each class; or a folder with the folders
train, valid and test, which hold such folders; or a CSV file with a row for each image."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, default=None
        Its arguments; None takes those of the process.

    Returns
    -------
    code : int
        0 if all went well, 1 if something is wrong with images or a model, 130 if interrupted.

    Raises
    ------
    SystemExit
        With 2 if the arguments are wrong, with 0 after ``--help``.

    Examples
    --------
    >>> from sktransfer.cli import main
    >>> main(["networks", "resnet18", "--source", "torchvision"])
    resnet18
    0
    """
    args, unknown = _parser().parse_known_args(argv)
    if unknown:
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}{_nearest(unknown, args)}")
    try:
        with _plain_warnings(), _progress():
            return int(args.run(args))
    except _UsageError as error:
        args.parser.error(str(error))
        return 2  # not reached
    except KeyboardInterrupt:
        print(f"sktransfer {args.command}: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who reads our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if args.debug:
            raise
        if _is_about_arguments(error):
            args.parser.error(_in_a_line(error))
        print(f"sktransfer {args.command}: error: {_in_a_line(error)}", file=sys.stderr)
        return 1


class _UsageError(Exception):
    """Arguments that do not go together."""


def _in_a_line(error: Exception) -> str:
    from .exceptions import SktransferError

    text = _in_our_words(str(error))
    expected = (SktransferError, ValueError, OSError, ImportError)
    if text and isinstance(error, expected):
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"


def _is_about_arguments(error: Exception) -> bool:
    """Whether it is a name that was given: of a network, a layer, a column."""
    from .exceptions import ColumnError, LayerError, UnknownBackboneError

    return isinstance(error, (ColumnError, LayerError, UnknownBackboneError))


def _nearest(unknown: Sequence[str], args: argparse.Namespace) -> str:
    """A question with options that are like those that do not exist."""
    from .exceptions import did_you_mean

    options = list(args.parser._option_string_actions)
    asked = [did_you_mean(one.partition("=")[0], options) for one in unknown if one[:1] == "-"]
    return f". {' '.join(one for one in asked if one)}".rstrip(" .")


# What messages call things for callers in Python, and what they are here.
_WORDS = (
    (r"; `extensions=` replaces the list of extensions that are images", ""),
    (r"[;,.]? The attribute `skipped` of the Bunch lists them all", ""),
    (r"[;,]? load_image_folder\(\.\.\., verify=True\) skips such files", ""),
    (r"pass (root|suffix)=, the folder", r"pass --\1, the folder"),
    (r"pass suffix='([^']*)'", r"put \1 behind the names in the table"),
    (r"\broot must be the", "--root must be the"),
    (r"\bfile must name", "--file-column must name"),
    (r"\blabel must name", "--label-column must name"),
    (r"\btags must name", "--tag-columns must name"),
    (r"vote=False gives", "--no-vote gives"),
    (r"\bvalue must name", "--value-column must name"),
    (r"\bbackbone=", "--network "),
    (r"\blayer=", "--layer "),
    (r"\bimage_size=", "--image-size "),
    (r"\bcache=", "--cache "),
    (r'\bvalue_range must be "auto" or \(low, high\), (.*) low < high, got \(([^,]*), ([^)]*)\)',
     r"--value-range must be \1 BLACK < WHITE, got \2 \3"),
    (r"\bvalue_range=\(([^,()]*), ([^,()]*)\)", r"--value-range \1 \2"),
    (r"\bvalue_range=", "--value-range "),
    (r"\bgroups must name", "--group-column must name"),
    (r"Look at them: plot_suspects\(X, y\)", "Look at them"),
    (r"remove them before the estimator is fitted, too", "train skips them, too"),
)


def _in_our_words(text: str) -> str:
    """A message on one line, in the words of the command line."""
    text = " ".join(text.split())
    for theirs, ours in _WORDS:
        text = re.sub(theirs, ours, text)
    return text


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings for users, a line each on stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = lambda message, *_, **__: print(
            f"warning: {_in_our_words(str(message))}", file=sys.stderr
        )
        yield


@contextmanager
def _progress() -> Iterator[None]:
    """Bars in a terminal, a line a minute in logs."""
    from .config import config_context

    with config_context(progress=True if sys.stderr.isatty() else "lines"):
        yield


# Arguments.


class _Parser(argparse.ArgumentParser):
    """One that says what is wrong in a line, not below ten lines of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n{self.prog} --help tells what it takes.\n")


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = _Parser(
        prog="sktransfer",
        description="Transfer learning for images: clean, advise, train, predict, export.",
        epilog="sktransfer COMMAND --help describes a command, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"sktransfer {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_issues, _add_advise, _add_train, _add_predict, _add_evaluate, _add_codes,
                _add_export, _add_networks):  # fmt: skip
        add(commands)
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], what: str, examples: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=what, description=what, epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument("--debug", action="store_true", help="show where an error was raised")
    return parser


def _add_photos(parser: argparse.ArgumentParser, *, labelled: bool = True) -> None:
    parser.add_argument("photos", metavar="PHOTOS", help="a folder or a CSV file")
    table = parser.add_argument_group("images", _PHOTOS)
    table.add_argument("--file-column", metavar="NAME", help="column of paths in the CSV file")
    if labelled:
        what = table.add_mutually_exclusive_group()
        what.add_argument("--label-column", metavar="NAME", default="auto",
                          help="column of labels (label, class, category ...)")  # fmt: skip
        what.add_argument("--tag-columns", metavar="NAME", nargs="+", help="several tags an image: "
                          "a column of 0 and 1 for each, or one column of their names")  # fmt: skip
        what.add_argument("--value-column", metavar="NAME",
                          help="column of numbers to be predicted")  # fmt: skip
        table.add_argument("--split-column", metavar="NAME",
                           help="column that says train, valid or test")  # fmt: skip
        table.add_argument("--part", choices=("train", "valid", "test"),
                           help="part of the data set to take")  # fmt: skip
    table.add_argument("--root", metavar="FOLDER", help="where relative paths begin; "
                       "by default the folder of the CSV file")  # fmt: skip


def _add_network(parser: argparse.ArgumentParser) -> None:
    network = parser.add_argument_group("network")
    network.add_argument("--network", metavar="NAME", default="efficientnet_lite0",
                         help="see sktransfer networks (default: %(default)s)")  # fmt: skip
    network.add_argument("--image-size", metavar="PIXELS", type=_positive,
                         help="height and width of the network's input, in pixels")  # fmt: skip
    network.add_argument("--resize", choices=("pad", "squash", "crop"),
                         help="how images that are not square are resized")  # fmt: skip
    network.add_argument("--value-range", metavar=("BLACK", "WHITE"), type=float, nargs=2,
                         help="values of black and white in files of more than 8 bits, such as "
                         "0 4095")  # fmt: skip
    network.add_argument("--cache", metavar="FOLDER", default="memory",
                         help="folder that keeps codes for later runs")  # fmt: skip
    network.add_argument("--jobs", metavar="N", type=_positive, help="cores to use")


def _add_groups(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--group-column", metavar="NAME", help="column of a CSV file that says "
                        "what belongs together, such as patients or slides, and is kept in one "
                        "fold")  # fmt: skip


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be seconds, at least 0, got {text!r}")
    return value


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, got {text!r}")
    return value


def _output(*endings: str) -> Callable[[str], Path]:
    """A file that can be written; looked at before hours of work."""

    def check(text: str) -> Path:
        path = Path(text).expanduser().absolute()
        if path.suffix.lower() not in endings:
            raise argparse.ArgumentTypeError(f"must end in {', '.join(endings)}, got {text!r}")
        if path.is_dir() or not path.parent.is_dir():
            what = "is a folder" if path.is_dir() else "is in a folder that does not exist"
            raise argparse.ArgumentTypeError(f"{text!r} {what}")
        if not os.access(path.parent, os.W_OK):
            raise argparse.ArgumentTypeError(f"the folder of {text!r} may not be written to")
        return path

    return check


_TABLES = (".csv", ".tsv", ".json", ".jsonl")
_FIGURES = (".png", ".pdf", ".svg")


# Images.


@dataclass(frozen=True)
class _Known:
    """What is known of images.

    Attributes
    ----------
    X : ndarray of str
        Their paths.
    y : ndarray
        Labels; tags, a column each; or values.
    kind : {"labels", "tags", "values"}
    names : list of str
        Of the tags.
    groups : ndarray or None
        What belongs together, of a table that says it.
    """

    X: Any
    y: Any
    kind: str = "labels"
    names: Sequence[str] = ()
    groups: Any = None


def _kind_of(args: argparse.Namespace) -> str:
    if args.tag_columns:
        return "tags"
    return "values" if args.value_column else "labels"


def _targets_of(args: argparse.Namespace) -> dict[str, Any]:
    """The columns of a table that hold what is known."""
    if args.value_column:
        return {"value": args.value_column}
    if args.tag_columns:
        one = len(args.tag_columns) == 1
        return {"tags": args.tag_columns[0] if one else args.tag_columns}
    return {"label": args.label_column, "target_as": "name"}


def _labelled(args: argparse.Namespace, parts: Sequence[str]) -> _Known:
    """Images and labels; of a data set with parts the first of these that is there."""
    import numpy as np

    from .datasets import load_image_folder, load_image_table

    _check_there(args.photos)
    kind, names = _kind_of(args), []
    groups = getattr(args, "group_column", None)
    wanted = [args.part] if args.part else parts
    if not os.path.isdir(args.photos):
        if args.split_column is None and args.part:
            raise _UsageError("--part of a CSV file needs --split-column")
        found = load_image_table(
            args.photos, file=args.file_column, root=args.root, split=args.split_column,
            groups=groups, on_bad="drop", verify=True, **_targets_of(args),
        )  # fmt: skip
        names = [] if kind != "tags" else [str(one) for one in found.target_names]
        there = [] if args.split_column is None else [one for one in wanted if one in found]
        if args.split_column is not None and not there:
            raise _UsageError(f"{args.photos} has no rows of the part {' or '.join(wanted)}")
        found = found[there[0]] if there else found
    else:
        _check_labels(kind)
        if groups is not None:
            raise _UsageError("--group-column is of a CSV file, but PHOTOS is a folder")
        there = [one for one in _parts_of(args.photos) if one in wanted]
        if args.part and not there:
            raise _UsageError(f"{args.photos} has no folder of the part {args.part}")
        split = min(there, key=wanted.index) if there else None
        found = load_image_folder(args.photos, split=split, target_as="name", verify=True)
    print(found.DESCR.splitlines()[0], file=sys.stderr)
    paths = np.array(_as_given(found.data, args.photos))
    return _Known(paths, found.target, kind, names, None if groups is None else found.groups)


def _check_labels(kind: str) -> None:
    """A folder has labels alone."""
    if kind != "labels":
        option = "--tag-columns" if kind == "tags" else "--value-column"
        raise _UsageError(f"{option} is of a CSV file, but PHOTOS is a folder")


def _check_there(photos: str) -> None:
    if not os.path.exists(photos):
        raise _UsageError(f"PHOTOS must be a folder or a CSV file; there is nothing at {photos}")


def _parts_of(folder: str) -> list[str]:
    """The parts that a folder holds, if it holds nothing else."""
    from .datasets import part_named

    inside = [one for one in os.scandir(folder) if one.is_dir() and not one.name.startswith(".")]
    parts = [part_named(one.name) for one in inside]
    nested = any(one.is_dir() for folder in inside for one in os.scandir(folder.path))
    return [one for one in parts if one] if nested and all(parts) else []


def _as_given(paths: Iterable[Any], place: str) -> list[str]:
    """Paths as people write them who write a relative `place`."""
    paths = map(str, paths)
    return list(paths) if os.path.isabs(place) else [os.path.relpath(path) for path in paths]


def _files(args: argparse.Namespace, places: Sequence[str]) -> list[str]:
    """Paths of images: files as they are, those in folders, and those of a CSV file."""
    from .datasets import list_images, load_image_table

    found: list[str] = []
    for place in places:
        if os.path.isdir(place):
            inside = list_images(place)
            if not inside:
                raise ValueError(f"The folder {place} must hold at least one image, and has none.")
            found += _as_given(inside, place)
        elif place.lower().endswith((".csv", ".tsv")):
            inside = load_image_table(place, file=args.file_column, root=args.root, on_bad="drop")
            found += _as_given(inside.data, place)
        else:
            found.append(place)
    return found


def _codes(args: argparse.Namespace, **params: Any) -> Any:
    from .codes import CNNCodes

    return CNNCodes(args.network, **_of_network(args), **params)


def _of_network(args: argparse.Namespace) -> dict[str, Any]:
    found = {"image_size": args.image_size, "cache": args.cache, "n_jobs": args.jobs}
    if args.resize is not None:
        found["resize"] = args.resize
    if args.value_range is not None:
        found["value_range"] = tuple(args.value_range)
    return found


def _asked_of_network(args: argparse.Namespace) -> dict[str, Any]:
    """What was said of it, without what is left to a function's own default."""
    return {key: value for key, value in _of_network(args).items() if value is not None}


# What is written.


def _write(path: Path, write: Callable[[Path], object]) -> None:
    from ._files import atomic_write

    with atomic_write(path) as draft:
        write(draft)
    print(f"wrote {path}", file=sys.stderr)


def _write_table(
    path: Path | None, rows: list[dict[str, Any]], names: Sequence[str] | None = None
) -> None:
    """A row each as CSV, TSV, JSON or lines of JSON; None prints CSV."""
    ending = ".csv" if path is None else path.suffix.lower()
    if ending == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    elif ending == ".json":
        text = json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
    else:
        stream = io.StringIO()
        writer = csv.DictWriter(stream, names or list(rows[0]), lineterminator="\n",
                                delimiter="\t" if ending == ".tsv" else ",")  # fmt: skip
        writer.writeheader()
        writer.writerows(rows)
        text = stream.getvalue()
    if path is None:
        print(text, end="")
    else:
        _write(path, lambda draft: draft.write_text(text, encoding="utf-8"))


# issues.


def _add_issues(commands: Any) -> None:
    parser = _command(
        commands, "issues", _run_issues,
        "Find duplicates, wrong labels, outliers, leaks between parts, and bad images.",
        "  sktransfer issues photos/\n"
        "  sktransfer issues photos/ -o issues.csv -o issues.html\n"
        "  sktransfer issues unsorted/ --no-labels -o issues.csv",
    )  # fmt: skip
    _add_photos(parser)
    _add_network(parser)
    parser.add_argument("--no-labels", action="store_true",
                        help="images without classes, in any folders")  # fmt: skip
    parser.add_argument("-o", "--output", type=_output(*_TABLES, ".html", *_FIGURES),
                        metavar="FILE", action="append", default=[], help="a table of all issues, "
                        "a page with thumbnails, or a figure; also several")  # fmt: skip


def _run_issues(args: argparse.Namespace) -> int:
    from .inspection import find_issues

    X, y, split, numbers = _with_parts(args)
    issues = find_issues(X, y, args.network, split=split, **_asked_of_network(args))
    print(_naming_files(str(issues), X))
    left_out = set(issues.drop.tolist())
    rows = [
        {"index": int(numbers[one.index]), "file": X[one.index], "issue": one.issue,
         "score": round(one.score, 4),
         "related": "" if one.related is None else X[one.related],
         "action": _naming_files(one.action, X),
         "drop": one.index in left_out}
        for one in issues.found
    ]  # fmt: skip
    names = ("index", "file", "issue", "score", "related", "action", "drop")
    for path in args.output:
        if path.suffix.lower() == ".html":
            _write(path, issues.to_html)
        elif path.suffix.lower() in _FIGURES:
            _write(path, lambda draft: issues.plot().savefig(draft))
        else:
            _write_table(path, rows, names)
    return 0


def _naming_files(text: str, files: Sequence[str]) -> str:
    """A text that names files instead of numbers of images, such as "image 3", "images [3, 4]"."""

    def named(found: re.Match[str]) -> str:
        numbers = [int(one) for one in re.findall(r"\d+", found[2])]
        if max(numbers) >= len(files):
            return found[0]
        return found[1] + ", ".join(str(files[one]) for one in numbers)

    text = re.sub(r"(\bimages,? |: |such as )\[(\d+(?:, \d+)*)\]", named, text)
    return re.sub(r"(\bimage )(\d+)\b", named, text)


def _with_parts(args: argparse.Namespace) -> tuple[list[str], Any, Any, Any]:
    """Images, also damaged ones, their labels and parts if they have some, and their numbers.

    The number is the row of the table, or the place among the files of a folder.
    """
    import numpy as np

    from .datasets import load_image_folder, load_image_table

    _check_there(args.photos)
    split: str | None = None
    if args.no_labels:
        files = _files(args, [args.photos])
        return files, None, None, range(len(files))
    if os.path.isdir(args.photos):
        _check_labels(_kind_of(args))
        parts = _parts_of(args.photos)
        if args.part and args.part not in parts:
            raise _UsageError(f"{args.photos} has no folder of the part {args.part}")
        split = "all" if parts and args.part is None else args.part
        found = load_image_folder(args.photos, split=split, target_as="name")
    else:
        if args.part and not args.split_column:
            raise _UsageError("--part of a CSV file needs --split-column")
        found = load_image_table(
            args.photos, file=args.file_column, root=args.root, split=args.split_column,
            on_bad="drop", **_targets_of(args),
        )  # fmt: skip
        split = args.split_column
        if args.part:
            if args.part not in found:
                raise _UsageError(f"{args.photos} has no rows of the part {args.part}")
            found, split = found[args.part], None
    if split is None or split == args.part:
        files = _as_given(found.data, args.photos)
        y = _named_tags(found.target, getattr(found, "target_names", ()), args)
        return files, y, None, getattr(found, "rows", range(len(files)))
    parts = [name for name in found if hasattr(found[name], "data")
             and hasattr(found[name], "target")]  # fmt: skip
    X = [path for name in parts for path in _as_given(found[name].data, args.photos)]
    sides = np.repeat(parts, [len(found[name].data) for name in parts])
    y = np.concatenate([found[name].target for name in parts])
    y = _named_tags(y, getattr(found[parts[0]], "target_names", ()), args)
    numbers: Any = range(len(X))
    if not os.path.isdir(args.photos):
        numbers = np.concatenate([found[name].rows for name in parts])
    return X, y, sides, numbers


def _named_tags(y: Any, names: Sequence[str], args: argparse.Namespace) -> Any:
    """A table of tags, where there is pandas: findings call them by their names."""
    if _kind_of(args) != "tags" or importlib.util.find_spec("pandas") is None:
        return y
    import pandas

    return pandas.DataFrame(y, columns=[str(one) for one in names])


# advise.


def _add_vote(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-vote", action="store_true",
                        help="one network instead of a vote of several")  # fmt: skip


def _add_advise(commands: Any) -> None:
    parser = _command(
        commands, "advise", _run_advise, "Say what to do with labelled images, and why.",
        "  sktransfer advise photos/\n"
        "  sktransfer advise photos.csv --file-column image --label-column species -o advice.txt\n"
        "  sktransfer advise photos/ -o advice.png",
    )  # fmt: skip
    _add_photos(parser)
    _add_network(parser)
    _add_groups(parser)
    _add_vote(parser)
    parser.add_argument("-o", "--output", type=_output(".txt", ".json", *_FIGURES), metavar="FILE",
                        action="append", default=[], help="advice as .txt or .json, or a figure "
                        "(.png, .pdf, .svg); may be given several times")  # fmt: skip


def _run_advise(args: argparse.Namespace) -> int:
    from .selection import advise

    known = _labelled(args, ("train",))
    X, y = known.X, known.y
    advice = advise(X, y, args.network, groups=known.groups, vote=not args.no_vote,
                    **_asked_of_network(args))  # fmt: skip
    text = "\n".join(_in_our_words_kept(_naming_files(one, X)) for one in str(advice).split("\n"))
    print(text)
    for path in args.output:
        _write(path, lambda draft: _draw_advice(advice, text, X, draft))
    return 0


def _in_our_words_kept(line: str) -> str:
    """A line in the words of the command line, its blanks at the beginning kept."""
    return line[: len(line) - len(line.lstrip())] + _in_our_words(line)


def _draw_advice(advice: Any, text: str, files: Sequence[str], path: Path) -> None:
    if path.suffix.lower() == ".txt":
        path.write_text(f"{text}\n", encoding="utf-8")
    elif path.suffix.lower() == ".json":
        names = ("scenario", "strategy", "layer", "resize", "measure", "expected_accuracy",
                 "accuracy_std", "minutes", "reasons", "warnings")  # fmt: skip
        facts = {"network": str(advice.backbone), **{n: getattr(advice, n) for n in names}}
        facts["warnings"] = [_in_our_words(_naming_files(one, files)) for one in advice.warnings]
        facts["suspects"] = [
            {"file": files[one], "seems": str(seems)}
            for one, seems in zip(advice.suspects, advice.suspected_of, strict=True)
        ]
        path.write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    else:
        advice.plot().savefig(path)


# train.


def _add_train(commands: Any) -> None:
    parser = _command(
        commands, "train", _run_train,
        "Train a classifier, of labels or tags, or a regressor, and save it for scikit-learn.",
        "  sktransfer train photos/ -o model.joblib\n"
        "  sktransfer train photos/ -o model.joblib --strategy auto --time 300\n"
        "  sktransfer train photos.csv --label-column species --root photos/ -o model.joblib\n"
        "  sktransfer train photos.csv --tag-columns cat dog indoors -o model.joblib\n"
        "  sktransfer train photos.csv --value-column age --strategy fine-tune -o model.joblib\n"
        "in Python:\n"
        '  joblib.load("model.joblib").predict(["new.jpg"])',
    )  # fmt: skip
    _add_photos(parser)
    _add_network(parser)
    parser.add_argument("-o", "--output", type=_output(".joblib"), metavar="FILE", required=True,
                        help="where the estimator is saved (.joblib)")  # fmt: skip
    strategies = ("probe", "advised", "fine-tune", "auto")
    parser.add_argument("--strategy", choices=strategies, default="probe", help=(
        "probe: a linear model on codes, in seconds; advised: what sktransfer advise names; "
        "fine-tune: train the last stages of the network; auto: try both and more, for --time "
        "seconds (default: %(default)s)"))  # fmt: skip
    _add_groups(parser)
    _add_vote(parser)
    parser.add_argument("--time", type=_seconds, metavar="SECONDS",
                        help="time limit of --strategy auto (default: 300)")  # fmt: skip
    parser.add_argument("--epochs", type=_positive, metavar="N",
                        help="epochs of fine-tuning (default: 10)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of fine-tuning (default: 0)")


def _run_train(args: argparse.Namespace) -> int:
    import joblib

    if args.time is not None and args.strategy != "auto":
        raise _UsageError("--time is for --strategy auto")
    if args.epochs is not None and args.strategy in ("probe", "advised"):
        raise _UsageError("--epochs is for --strategy fine-tune and auto")
    if args.no_vote and args.strategy not in ("advised", "auto"):
        raise _UsageError("--no-vote is for --strategy advised and auto")
    known = _labelled(args, ("train",))
    y = known.y
    if known.kind == "labels" and len(set(y.tolist())) < 2:
        raise ValueError(f"PHOTOS must have images of at least two classes, got only {y[0]!s}.")
    if known.kind == "values" and args.strategy == "auto":
        raise _UsageError("--strategy auto is for labels and tags; take advised or fine-tune")
    trainer = {"probe": _probe, "advised": _advised, "fine-tune": _fine_tuned, "auto": _best}[
        args.strategy
    ]
    model = trainer(args, known)
    if known.kind == "tags":
        model.tag_names_ = known.names
    _write(args.output, lambda draft: joblib.dump(model, draft))
    return 0


# R² of a model that is of no use.
_POOR = 0.1


def _probe(args: argparse.Namespace, known: _Known) -> Any:
    from .selection import kind_named, probe_pipeline

    model = probe_pipeline(_codes(args), kind_named(known.kind)).fit(known.X, known.y)
    print(_accuracy(model, known))
    return model


def _advised(args: argparse.Namespace, known: _Known) -> Any:
    from .selection import advise

    asked = _asked_of_network(args)
    advice = advise(known.X, known.y, args.network, groups=known.groups, vote=not args.no_vote,
                    **asked)  # fmt: skip
    print(repr(advice).split("\nReasons:")[0])
    return advice.estimator.fit(known.X, known.y)


def _accuracy(model: Any, known: _Known) -> str:
    """Cross-validated, in words."""
    import numpy as np
    from sklearn.base import clone

    from .inputs import as_images
    from .selection import digests, kind_named, together

    kind, X, y = kind_named(known.kind), known.X, known.y
    if known.kind == "labels" and min(kind.sizes(y)) < 2:
        return f"{kind.measure} not measured: a class has but one image"
    owners = together(digests(as_images(X), strict=True)[0], known.groups)
    scores = [
        kind.test(clone(model).fit(X[learn], y[learn]), X[test], y[test])
        for learn, test in kind.make_splits(y, 5, groups=owners)
    ]
    if np.isnan(scores).all():
        return f"{kind.measure} not measured: no fold has both answers of a tag"
    told = f"{np.nanmean(scores):.3f} ± {np.nanstd(scores):.3f}"
    if known.kind == "values" and np.nanmean(scores) < _POOR:
        told += ", hardly better than the mean of all: try --strategy advised"
    return f"{kind.measure} {told} ({len(scores)} folds)"


def _fine_tuned(args: argparse.Namespace, known: _Known) -> Any:
    from .finetune import FineTuneClassifier, FineTuneRegressor

    estimator: Any = FineTuneRegressor if known.kind == "values" else FineTuneClassifier
    model = estimator(
        args.network, max_epochs=args.epochs or 10, random_state=args.seed,
        verbose=int(sys.stderr.isatty()), **_of_network(args),
    )  # fmt: skip
    model.fit(known.X, known.y)
    print("score not measured: that would need a training for each fold. Hold out images and "
          "run sktransfer evaluate; --strategy probe prints one.")  # fmt: skip
    return model.set_params(verbose=0)


def _best(args: argparse.Namespace, known: _Known) -> Any:
    from ._parameters import STRATEGIES
    from .selection import AutoTransferClassifier

    strategies = [one for one in STRATEGIES if one != "vote" or not args.no_vote]
    auto = AutoTransferClassifier(
        args.network, strategies=strategies, time_budget=300.0 if args.time is None else args.time,
        max_epochs=args.epochs or 10, random_state=args.seed, verbose=1, **_of_network(args),
    ).fit(known.X, known.y, groups=known.groups)  # fmt: skip
    print(f"chosen: {auto.best_strategy_}, {auto.best_score_:.3f}")
    return auto.best_estimator_


# predict.

# Images that are predicted together: of those before an error nothing is lost.
_CHUNK = 64


def _add_predict(commands: Any) -> None:
    parser = _command(
        commands, "predict", _run_predict, "Predict the classes, tags or values of images.",
        "  sktransfer predict model.joblib new/*.jpg\n"
        "  sktransfer predict model.joblib new/ -o table.csv --threshold 0.8\n"
        "  sktransfer predict model.joblib new/ -o answers.jsonl --probabilities",
    )  # fmt: skip
    parser.add_argument("model", metavar="MODEL", help="a file that train has written; loading one "
                        "runs code in it, so take files that you trust")  # fmt: skip
    parser.add_argument("files", metavar="FILE", nargs="+", help="images, folders or CSV files")
    parser.add_argument("-o", "--output", type=_output(*_TABLES), metavar="TABLE",
                        help=".csv, .tsv, .json or .jsonl; by default CSV is printed")  # fmt: skip
    parser.add_argument("--threshold", type=_probability, metavar="P",
                        help="least probability: below it the label is left empty (default: none "
                        "is); tags are predicted from it on (default: 0.5)")  # fmt: skip
    parser.add_argument("--probabilities", action="store_true",
                        help="write the probabilities of all classes or tags")  # fmt: skip
    parser.add_argument("--file-column", metavar="NAME", help="column of paths in CSV files")
    parser.add_argument("--root", metavar="FOLDER", help="where paths in CSV files begin")


def _run_predict(args: argparse.Namespace) -> int:
    model = _loaded(args.model)
    if (args.threshold is not None or args.probabilities) and not hasattr(model, "predict_proba"):
        raise _UsageError(
            f"--threshold and --probabilities need a model with predict_proba; {args.model} has "
            "none."
        )
    files = _files(args, args.files)
    answers = _predicted(model, files)
    classes = _classes_of(model)
    rows = [_row(file, one, classes, args) for file, one in zip(files, answers, strict=True)]
    if not rows:
        raise ValueError("There must be at least one image, got none.")
    _write_table(args.output, rows)
    return _tell_bad(files, answers)


def _classes_of(model: Any) -> list[Any]:
    """Labels, or names of tags; none where values are predicted."""
    tags = getattr(model, "tag_names_", None)
    if tags is not None:
        return list(tags)
    return model.classes_.tolist() if hasattr(model, "classes_") else []


def _row(file: str, answer: _Answer, classes: Sequence[Any], args: argparse.Namespace) -> dict:
    row: dict[str, Any] = {"file": file}
    in_json = args.output is not None and args.output.suffix.lower() in (".json", ".jsonl")
    if answer.kind == "values":
        row["value"] = answer.label
        return {**row, "error": answer.error or None}
    if answer.kind == "tags":
        at_least = 0.5 if args.threshold is None else args.threshold
        there = [name for name, p in answer.probabilities.items() if p >= at_least]
        row["tags"] = there if in_json else "|".join(map(str, there))
    else:
        likeliest = answer.probability
        sure = args.threshold is None or (likeliest is not None and likeliest >= args.threshold)
        row["label"] = answer.label if sure else None
        row["probability"] = None if likeliest is None else round(likeliest, 6)
    numbers = {name: round(p, 6) for name, p in answer.probabilities.items()}
    if args.probabilities and in_json:
        row["probabilities"] = {str(name): p for name, p in numbers.items()}
    elif args.probabilities:
        row.update({f"p_{name}": numbers.get(name) for name in classes})
    return {**row, "error": answer.error or None}  # null in JSON, an empty cell in CSV


@dataclass
class _Answer:
    """What a model says of an image, or why it says nothing."""

    kind: str = "labels"
    label: Any = None
    probabilities: dict[Any, float] = field(default_factory=dict)
    error: str = ""

    @property
    def probability(self) -> float | None:
        """Of the label."""
        return max(self.probabilities.values(), default=None)


def _loaded(path: str) -> Any:
    """The estimator in a file."""
    import joblib
    from sklearn.base import is_regressor

    if not os.path.isfile(path):
        raise _UsageError(f"MODEL must be a file that train has written; there is none at {path}")
    wanted = "MODEL must be a file that sktransfer train, or joblib.dump, has written (.joblib)."
    if (ending := os.path.splitext(path)[1].lower()) in _ELSEWHERE:
        raise ValueError(f"{path} {_ELSEWHERE[ending]} {wanted}")
    try:
        model = joblib.load(path)
    except (ImportError, OSError):
        raise
    except Exception as error:  # pickles fail in many ways
        raise ValueError(
            f"{path} cannot be loaded as a model: it is no file of joblib, or a damaged one "
            f"({type(error).__name__}). {wanted}"
        ) from error
    if _takes_texts(model):
        raise ValueError(
            f"{path} must hold a model of images, but {type(model).__name__} takes texts. Load it "
            "in Python with joblib.load, and pass it a list of texts."
        )
    if not hasattr(model, "predict") or not (hasattr(model, "classes_") or is_regressor(model)):
        raise ValueError(
            f"{path} must hold a classifier or a regressor, got a {type(model).__name__}."
        )
    return model


_EXPORTED = (
    "is what sktransfer export writes, which other programs run (see the page on export)."
)
# Files that are models, but not ours to load.
_ELSEWHERE = {
    **dict.fromkeys((".onnx", ".xml", ".bin", ".pt", ".ts", ".safetensors"), _EXPORTED),
    ".skops": "is a file of skops, which skops.io.load opens in Python.",
}


# Classes that read texts, told by their names: to import them takes longer than to predict.
_READ_TEXTS = {
    *("TextCodes", "TokenCodes", "TokenLabeller", "FineTuneTextClassifier"),
    *("FineTuneTextRegressor", "FineTuneTokenLabeller", "AutoTransferTextClassifier"),
    *("CountVectorizer", "HashingVectorizer"),
}


def _takes_texts(model: Any) -> bool:
    """Whether it, or what it is made of, reads texts."""
    parts = model.get_params(deep=True).values() if hasattr(model, "get_params") else ()
    return any(
        kind.__name__ in _READ_TEXTS and kind.__module__.startswith(("sktransfer.", "sklearn."))
        for one in (model, *parts)
        for kind in type(one).__mro__
    )


def _predicted(model: Any, files: Sequence[str]) -> list[_Answer]:
    """What a model says of each file; a bad one loses no other."""
    answers: list[_Answer] = []
    for begin in range(0, len(files), _CHUNK):
        answers += _predicted_together(model, list(files[begin : begin + _CHUNK]))
    return answers


def _predicted_together(model: Any, files: list[str]) -> list[_Answer]:
    import numpy as np

    from .exceptions import ItemError

    kind = _told_by(model)
    classes = _classes_of(model)
    answers = [_Answer(kind) for _ in files]
    while good := [n for n, one in enumerate(answers) if not one.error]:
        some = [files[n] for n in good]
        try:
            labels = np.asarray(model.predict(some))
            numbers = model.predict_proba(some) if hasattr(model, "predict_proba") else None
        except ItemError as error:
            if error.index is None:
                raise
            answers[good[error.index]].error = error.cause
            continue
        if labels.ndim != 1 and kind != "tags":
            raise ValueError("The model must give one answer an image, but gives several.")
        for row, n in enumerate(good):
            answers[n].label = labels.tolist()[row]
            if numbers is not None:
                answers[n].probabilities = dict(zip(classes, numbers[row].tolist(), strict=True))
        break
    return answers


def _told_by(model: Any) -> str:
    """What a model tells: labels, tags or values."""
    if not hasattr(model, "classes_"):
        return "values"
    return "tags" if hasattr(model, "tag_names_") else "labels"


def _tell_bad(files: Sequence[str], answers: Sequence[_Answer]) -> int:
    bad = [(file, one.error) for file, one in zip(files, answers, strict=True) if one.error]
    for file, error in bad:
        print(f"error: {file}: {error}", file=sys.stderr)
    return 1 if bad else 0


# evaluate.


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands, "evaluate", _run_evaluate,
        "Accuracy, scores of each class or tag, confusion matrix; R² of values.",
        "  sktransfer evaluate model.joblib test/\n"
        "  sktransfer evaluate model.joblib photos/ --part test -o scores.csv -o confusion.png",
    )  # fmt: skip
    parser.add_argument("model", metavar="MODEL", help="a file that train has written")
    _add_photos(parser)
    parser.add_argument("-o", "--output", type=_output(*_TABLES, *_FIGURES), metavar="FILE",
                        action="append", default=[], help="scores of each class as a table, or the "
                        "confusion matrix as a figure; may be given several times")  # fmt: skip


def _run_evaluate(args: argparse.Namespace) -> int:
    import numpy as np

    model = _loaded(args.model)
    known = _labelled(args, ("test", "valid"))
    if (told := _told_by(model)) != known.kind:
        option = {"tags": "--tag-columns", "values": "--value-column", "labels": "--label-column"}
        raise _UsageError(
            f"the model predicts {told}, but the images are read with {known.kind}; say in which "
            f"column of a CSV file the {told} are, with {option[told]}"
        )
    if told == "tags":
        known = replace(known, y=_aligned(model, known, args.tag_columns))
    answers = _predicted(model, known.X)
    good = np.array([not one.error for one in answers])
    said = [one for one in answers if not one.error]
    evaluate = {"labels": _evaluate_labels, "tags": _evaluate_tags, "values": _evaluate_values}
    rows = evaluate[told](model, known, known.y[good], said)
    for path in args.output:
        if path.suffix.lower() in _FIGURES:
            _write(path, lambda draft: _draw_answers(told, known.y[good], said, draft))
        else:
            _write_table(path, rows)
    return _tell_bad(known.X, answers)


def _aligned(model: Any, known: _Known, columns: Sequence[str]) -> Any:
    """Tags in the order of the model; what a column of names does not name is nowhere there."""
    import numpy as np

    wanted, of_names = _classes_of(model), list(known.names) != list(columns)
    missing = [one for one in wanted if str(one) not in known.names]
    if missing and not of_names:
        raise _UsageError(
            f"the model has the tags {', '.join(map(str, wanted))}; --tag-columns lacks "
            f"{', '.join(map(str, missing))}"
        )
    more = [one for one in known.names if one not in map(str, wanted)]
    if more:
        print(f"warning: tags that the model does not know are left out: {', '.join(more)}",
              file=sys.stderr)  # fmt: skip
    place = {name: number for number, name in enumerate(known.names)}
    none = np.zeros(len(known.y))
    parts = [none if one in missing else known.y[:, place[str(one)]] for one in wanted]
    return np.stack(parts, axis=1)


def _evaluate_labels(
    model: Any, known: _Known, true: Any, said: Sequence[_Answer]
) -> list[dict[str, Any]]:
    import numpy as np
    from sklearn.metrics import classification_report

    classes = set(model.classes_.tolist())
    if not classes & set(known.y.tolist()):
        raise ValueError(
            f"Labels must be among the classes of the model, {sorted(map(str, classes))[:5]}, got "
            f"{sorted(set(map(str, known.y)))[:5]}."
        )
    labels = np.array([one.label for one in said])
    report = classification_report(true, labels, output_dict=True, zero_division=0)
    print(f"accuracy {np.mean(true == labels):.3f} of {len(true)} images\n")
    print(classification_report(true, labels, zero_division=0))
    return _scores(report)


def _evaluate_tags(
    model: Any, known: _Known, true: Any, said: Sequence[_Answer]
) -> list[dict[str, Any]]:
    import numpy as np
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support

    rows = []
    for place, name in enumerate(_classes_of(model)):
        there = true[:, place].astype(float)
        sure = ~np.isnan(there)
        there = there[sure].astype(int)
        likely = np.array([one.probabilities[name] for one in said])[sure]
        precision, recall, f1, _ = precision_recall_fscore_support(
            there, likely >= 0.5, average="binary", zero_division=0
        )
        both = len(set(there.tolist())) == 2
        average = float(average_precision_score(there, likely)) if both else None
        rows.append({"tag": name, "average_precision": average, "precision": precision,
                     "recall": recall, "f1": f1, "images": int(there.sum())})  # fmt: skip
    found = [row["average_precision"] for row in rows if row["average_precision"] is not None]
    mean = f"{np.mean(found):.3f}" if found else "not known: no tag has both answers"
    print(f"mean average precision {mean} of {len(said)} images\n")
    for row in rows:
        average = row["average_precision"]
        told = "     -" if average is None else f"{average:6.3f}"
        print(f"{row['tag']!s:20s} average precision {told}   f1 {row['f1']:.3f}   "
              f"{row['images']} images")  # fmt: skip
    return rows


def _evaluate_values(
    model: Any, known: _Known, true: Any, said: Sequence[_Answer]
) -> list[dict[str, Any]]:
    import numpy as np
    from sklearn.metrics import mean_absolute_error, r2_score

    values = np.array([one.label for one in said])
    error = float(mean_absolute_error(true, values))
    r2 = float(r2_score(true, values)) if len(true) > 1 else float("nan")
    print(f"R² {r2:.3f}, mean absolute error {error:.4g}, of {len(true)} images")
    return [{"r2": r2, "mean_absolute_error": error, "images": len(true)}]


def _scores(report: dict[str, Any]) -> list[dict[str, Any]]:
    rows = [
        {"class": name, "precision": one["precision"], "recall": one["recall"],
         "f1": one["f1-score"], "images": int(one["support"])}
        for name, one in report.items() if isinstance(one, dict)
    ]  # fmt: skip
    n = rows[-1]["images"]
    accuracy = report.get("accuracy", rows[-1]["f1"])
    return [*rows, {"class": "accuracy", "precision": accuracy, "recall": accuracy,
                    "f1": accuracy, "images": n}]  # fmt: skip


def _draw_answers(told: str, true: Any, said: Sequence[_Answer], path: Path) -> None:
    """The confusion matrix, a curve of precision for each tag, or values against predictions."""
    import numpy as np
    from sklearn.metrics import (
        ConfusionMatrixDisplay,
        PrecisionRecallDisplay,
        PredictionErrorDisplay,
    )

    from ._optional import import_pyplot

    pyplot = import_pyplot("sktransfer evaluate -o FIGURE")
    if told == "labels":
        labels = np.array([one.label for one in said])
        n = len({*true.tolist(), *labels.tolist()})
        figure, ax = pyplot.subplots(figsize=(3 + n / 2, 2.5 + n / 2), layout="constrained")
        ConfusionMatrixDisplay.from_predictions(true, labels, ax=ax, xticks_rotation="vertical")
    elif told == "values":
        figure, ax = pyplot.subplots(layout="constrained")
        values = np.array([one.label for one in said])
        PredictionErrorDisplay.from_predictions(true, values, kind="actual_vs_predicted", ax=ax)
    else:
        figure, ax = pyplot.subplots(layout="constrained")
        for place, name in enumerate(said[0].probabilities):
            there = true[:, place].astype(float)
            sure = ~np.isnan(there)
            likely = np.array([one.probabilities[name] for one in said])[sure]
            PrecisionRecallDisplay.from_predictions(there[sure], likely, name=str(name), ax=ax)
    figure.savefig(path)
    pyplot.close(figure)


# codes.


def _add_codes(commands: Any) -> None:
    parser = _command(
        commands, "codes", _run_codes, "Write the codes (embeddings) of images to a file.",
        "  sktransfer codes photos/ -o codes.npy\n"
        "  sktransfer codes photos.csv --root photos/ --layer blocks.5 -o codes.npy\n"
        "the same command continues after it was killed; codes.csv says which file a row is of",
    )  # fmt: skip
    _add_photos(parser, labelled=False)
    _add_network(parser)
    parser.add_argument("-o", "--output", type=_output(".npy"), metavar="FILE", required=True,
                        help="where the codes are written (.npy)")  # fmt: skip
    parser.add_argument("--layer", metavar="NAME", help="where the network is cut")
    parser.add_argument("--overwrite", action="store_true",
                        help="replace a file of other images or another network")  # fmt: skip


def _run_codes(args: argparse.Namespace) -> int:
    from .exceptions import CodesFileError

    _check_there(args.photos)
    files = _files(args, [args.photos])
    if not files:
        raise ValueError(f"{args.photos} must hold at least one image, got none.")
    codes = _codes(args, layer=args.layer, on_error="nan").fit(files)
    try:
        report = codes.transform_to(args.output, files, overwrite=args.overwrite)
    except CodesFileError as error:
        raise ValueError(str(error).replace("overwrite=True", "--overwrite")) from error
    print(report, file=sys.stderr)
    rows = [{"row": row, "file": file} for row, file in enumerate(files)]
    _write_table(args.output.with_suffix(".csv"), rows)
    return 1 if report.skipped else 0


# export.


def _add_export(commands: Any) -> None:
    parser = _command(
        commands, "export", _run_export,
        "Write a model as a file that runs without sktransfer and scikit-learn.",
        "  sktransfer export model.joblib -o model.onnx\n"
        "  sktransfer export model.joblib -o model.pt",
    )  # fmt: skip
    parser.add_argument("model", metavar="MODEL", help="a file that train has written")
    endings = (".onnx", ".pt", ".ts", ".xml", ".safetensors")
    parser.add_argument("-o", "--output", type=_output(*endings), metavar="FILE", required=True,
                        help="ONNX (.onnx), TorchScript (.pt), OpenVINO (.xml) or "
                        ".safetensors")  # fmt: skip


def _run_export(args: argparse.Namespace) -> int:
    from .deploy import export

    print(f"wrote {export(_loaded(args.model), args.output)}", file=sys.stderr)
    return 0


# networks.


def _add_networks(commands: Any) -> None:
    parser = _command(
        commands, "networks", _run_networks, "List the names of networks.",
        "  sktransfer networks --source packaged\n"
        "  sktransfer networks 'resnet*' --source torchvision\n"
        "  sktransfer networks '*dinov2*' -o names.txt",
    )  # fmt: skip
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", help="with * and ?")
    sources = ("packaged", "registered", "torchvision", "timm", "text")
    parser.add_argument("--source", choices=sources, help="where to look")
    parser.add_argument("-o", "--output", type=_output(".txt"), metavar="FILE",
                        help="a name a line")  # fmt: skip


def _run_networks(args: argparse.Namespace) -> int:
    from .networks import list_backbones

    names = list_backbones(args.pattern, source=args.source)
    if not names:
        raise ValueError(f"No network has a name like {args.pattern!r}.")
    text = "\n".join(names) + "\n"
    if args.output is None:
        print(text, end="")
    else:
        _write(args.output, lambda draft: draft.write_text(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
