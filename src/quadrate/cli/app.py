"""`quadrate app`."""

from __future__ import annotations

from typing import Annotated

import tyro

from quadrate.cli.modules import Modules
from quadrate.cli.printer import PRINTER, Printing
from quadrate.core.plugins import load_plugins


def app(
    codec: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CODEC")] = (),
    host: str = "127.0.0.1",
    port: int = 7860,
    browser: bool = False,
    module: Modules = (),
    printer: Printing = PRINTER,
) -> None:
    """Open a page to play with: one file, every decoder.

    A picture is sent once, and read in all ways that a codec knows. The page runs until Ctrl-C, on
    this machine alone unless another host is given, and asks nothing of any network. It needs the
    extra `app`.

    Args:
        codec: Codecs' files to choose from beside those in the package.
        host: The address to listen on; 0.0.0.0 lets other machines of the network in.
        port: The port to listen on.
        browser: Open the page in a browser.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    load_plugins(module)
    from quadrate.playground.page import serve

    def ready(address: str) -> None:
        printer.done({"address": address}, f"{address}  (Ctrl-C ends it)")

    serve(codec, host, port, browser, ready)
