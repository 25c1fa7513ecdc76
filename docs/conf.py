import importlib.metadata
import os
import sys
from pathlib import Path

# Cells of bash call the `flowlift` that is installed beside this Python.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["JAX_ENABLE_X64"] = "1"

project = "flowlift"
author = "the flowlift developers"
version = release = importlib.metadata.version("flowlift")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
exclude_patterns = ["_build", "jupyter_execute"]
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
