"""Where the command line prints tables."""

from __future__ import annotations

from rich.console import Console

# Off a terminal rich would assume 80 columns and cut tables.
CONSOLE = Console(width=max(110, Console().width))
