"""Sphinx configuration."""

import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

import sktransfer
from sktransfer.store import open_store

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "sktransfer"
author = "the sktransfer developers"
copyright = "2026, " + author
version = release = sktransfer.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "code_outputs",
    "command_line_help",
    "own_members",
    "search_words",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

html_theme = "pydata_sphinx_theme"
html_title = f"sktransfer {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_logo = html_favicon = "_static/logo.svg"
html_theme_options = {
    "logo": {"text": f"sktransfer {version}", "alt_text": "sktransfer"},
    "header_links_before_dropdown": 7,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_toc_level": 2,
}
# The landing page has cards instead of a section of which it would be a part.
html_sidebars = {"index": []}
html_show_sourcelink = False

autosummary_generate = True
numpydoc_show_class_members = False  # the template lists and documents them
autodoc_typehints = "none"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nitpicky = False

# Prompts and outputs are not copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"
# What code prints is not meant to be copied.
copybutton_selector = ":not(.output) > div > div.highlight pre"


def _reachable(address: str) -> bool:
    """Whether an inventory can be fetched now."""
    try:
        with urllib.request.urlopen(f"{address}objects.inv", timeout=5):
            return True
    except (OSError, urllib.error.URLError, ValueError):
        return False


# Links into the documentation of others. Without a connection, as in CI, a fetch that fails would
# be a warning, and the build would fail: then the same words stand there without links.
intersphinx_mapping = {
    name: (address, None)
    for name, address in {
        "python": "https://docs.python.org/3/",
        "numpy": "https://numpy.org/doc/stable/",
        "sklearn": "https://scikit-learn.org/stable/",
        "torch": "https://docs.pytorch.org/docs/stable/",
        "skorch": "https://skorch.readthedocs.io/en/stable/",
        "pandas": "https://pandas.pydata.org/docs/",
        "matplotlib": "https://matplotlib.org/stable/",
        "PIL": "https://pillow.readthedocs.io/en/stable/",
    }.items()
    if _reachable(address)
}

# Types in docstrings are links: into this reference, and into those of others that can be reached.
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"  # words that are no types
numpydoc_xref_aliases = {name: f"sktransfer.{name}" for name in sktransfer.__all__}
for _room in ("codes", "deploy", "finetune", "inspection", "networks", "selection", "store"):
    for _name in getattr(sktransfer, _room).__all__:
        if _name[0].isupper() and not _name.isupper():
            numpydoc_xref_aliases.setdefault(_name, f"sktransfer.{_room}.{_name}")
for _project, _types in {
    "python": {
        **{name: name for name in ("str", "int", "float", "bool", "list", "tuple", "dict", "None")},
        "callable": "collections.abc.Callable",
        "iterable": "collections.abc.Iterable",
        "sequence": "collections.abc.Sequence",
        "generator": "collections.abc.Generator",
        "Path": "pathlib.Path",
    },
    "numpy": {
        **dict.fromkeys(("array", "ndarray"), "numpy.ndarray"),
        **dict.fromkeys(("array-like", "array_like"), "numpy.typing.ArrayLike"),
        "RandomState": "numpy.random.RandomState",
    },
    "pandas": {one: f"pandas.{one}" for one in ("DataFrame", "Series")},
    "sklearn": {"Bunch": "sklearn.utils.Bunch"},
    "matplotlib": {"Figure": "matplotlib.figure.Figure", "Axes": "matplotlib.axes.Axes"},
    "torch": {"Tensor": "torch.Tensor", "Module": "torch.nn.Module"},
    "skorch": {"NeuralNet": "skorch.NeuralNet", "History": "skorch.history.History"},
}.items():
    for _name, _target in _types.items():
        there = _project in intersphinx_mapping
        # One that is its own alias stays a word; the links of numpydoc itself are replaced so.
        for _one in (_name, _target):  # docstrings have both
            link = f":py:obj:`{_one} <{_target}>`" if there else _one
            numpydoc_xref_aliases[_one] = link


def empty_store(gallery_conf, name):
    """Codes that one example computed would be there in the next, whose speeds would be unknown."""
    open_store("memory").clear()


sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "subsection_order": [
        "../examples/images",
        "../examples/fine_tuning",
        "../examples/choosing",
        "../examples/texts",
        "../examples/masks_and_boxes",
        "../examples/look_and_clean",
    ],
    "within_subsection_order": "FileNameSortKey",
    "filename_pattern": r"/plot_",
    # Scripts of other kinds: what was measured, a service, a training on several GPUs.
    "ignore_pattern": r"benchmarks|serve_fastapi|several_gpus",
    "abort_on_example_error": True,
    "reset_modules": ("matplotlib", empty_store),
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("sktransfer",),
    "reference_url": {"sktransfer": None},
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "min_reported_time": 1000,
}
suppress_warnings = ["config.cache"]


def without_foreign_labels(app, what, name, obj, options, lines):
    """Docstrings inherited from scikit-learn refer to labels of its own documentation."""
    lines[:] = [re.sub(r":ref:`([^<`]*) <[^>]*>`", r"\1", line) for line in lines]


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", without_foreign_labels)
