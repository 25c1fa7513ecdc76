"""The command line: parse, call the library, print."""

from .main import main

__all__ = ["main"]
