"""The command line: one file a verb."""

from quadrate.cli.main import main

__all__ = ["main"]
