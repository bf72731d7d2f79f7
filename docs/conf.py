"""Sphinx configuration."""

import re

import sktransfer

project = "sktransfer"
author = "the sktransfer developers"
copyright = "2026, " + author
version = release = sktransfer.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_title = "sktransfer"
templates_path: list[str] = []

autosummary_generate = True
numpydoc_show_class_members = False
autodoc_typehints = "none"
myst_heading_anchors = 3
nitpicky = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"benchmarks",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "show_memory": False,
    "min_reported_time": 1000,
}
suppress_warnings = ["config.cache"]


def without_foreign_labels(app, what, name, obj, options, lines):
    """Docstrings inherited from scikit-learn refer to labels of its own documentation."""
    lines[:] = [re.sub(r":ref:`([^<`]*) <[^>]*>`", r"\1", line) for line in lines]


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", without_foreign_labels)
