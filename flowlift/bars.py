"""A bar of tqdm where somebody looks: on a terminal, or in a notebook its own."""

import os
import sys
import warnings
from typing import Any


def bar(**options: Any) -> Any:
    """A bar of `tqdm.auto`, which knows notebooks; it is loaded here.

    Args:
        **options: as for tqdm.

    Returns:
        The bar.
    """
    with warnings.catch_warnings():
        # Without ipywidgets a notebook gets a bar of letters, which is no reason to warn.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

        return tqdm(**options)


def in_notebook() -> bool:
    """Whether this is a kernel of Jupyter, whose streams are no terminals though somebody looks.

    Returns:
        The verdict; False if the environment sets TQDM_DISABLE, as where notebooks are executed to
        be read later.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", {}) and not os.environ.get("TQDM_DISABLE")
