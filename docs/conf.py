import importlib.metadata
import os
import sys
from pathlib import Path

# Cells of bash call the `flowlift` that is installed beside this Python.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["JAX_ENABLE_X64"] = "1"
# Pages are read when their cells have long ended: lines of progress, no bars.
os.environ["TQDM_DISABLE"] = "1"

project = "flowlift"
author = "the flowlift developers"
version = release = importlib.metadata.version("flowlift")

sys.path.insert(0, str(Path(__file__).parent))
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "study_pages",
]
html_math_renderer = "mathml"
html_theme = "furo"
# The gallery's sources, and what it writes beside its pages, are no pages.
exclude_patterns = ["_build", "jupyter_execute", "gallery", "auto_gallery/**/*.ipynb", "**/*.py"]
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "capture_repr": (),
    # Progress and tables are of the terminal: an example is its figure.
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "nested_sections": False,
}
# Prompts are no part of a command.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_merge_streams = True

# Docstrings write code in single backticks and |x| for norms, as Markdown would.
default_role = "literal"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# jaxtyping's shapes are no markup.
napoleon_attr_annotations = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "show-inheritance": True}


def _escape(app, what, name, obj, options, lines):
    lines[:] = [
        line.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*") for line in lines
    ]


def setup(app):
    # Before napoleon, which writes markup of its own.
    app.connect("autodoc-process-docstring", _escape, priority=400)
