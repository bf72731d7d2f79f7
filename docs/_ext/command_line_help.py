"""What ``sktransfer --help`` and that of each command print, as sections of a page."""

from __future__ import annotations

import argparse
import os

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sktransfer.cli import _parser


class CommandLineHelp(SphinxDirective):
    """A section for the command as a whole, and one for each of its commands."""

    def run(self) -> list[nodes.Node]:
        """Called by Sphinx."""
        os.environ["COLUMNS"] = "96"  # argparse breaks lines there, in whatever terminal
        parser = _parser()
        choices = next(
            action.choices
            for action in parser._actions
            if isinstance(action, argparse._SubParsersAction)
        )
        return [_section(one) for one in [parser, *choices.values()]]


def _section(parser: argparse.ArgumentParser) -> nodes.section:
    section = nodes.section(ids=[nodes.make_id(parser.prog)], names=[parser.prog])
    section += nodes.title("", parser.prog)
    section += nodes.literal_block("", parser.format_help().rstrip(), language="text")
    return section


def setup(app: Sphinx) -> dict[str, object]:
    """Called by Sphinx."""
    app.add_directive("command-line-help", CommandLineHelp)
    return {"version": "1", "parallel_read_safe": True}
