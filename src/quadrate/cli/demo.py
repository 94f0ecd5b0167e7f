"""`quadrate demo`."""

from __future__ import annotations

import time
from pathlib import Path

from quadrate.cli.modules import Modules
from quadrate.cli.outputs import FIGURES, Output, output_file
from quadrate.core.plugins import load_plugins


def demo(
    data: str = "digits",
    runs: Path = Path("runs"),
    output: Output = "demo.png",
    overwrite: bool = False,
    module: Modules = (),
) -> None:
    """Show the whole way: a judge, codecs, scores, a table, a figure.

    The codecs are an end-to-end sweep, and a universal encoder with three decoders.

    Args:
        data: digits (embedded, a few minutes), mnist or another data set (under ten minutes), or a
            folder of labelled images.
        runs: Where run folders live.
        output: The figure to write; PNG, PDF or SVG by its ending.
        overwrite: Replace the figure if it is there.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
    """
    load_plugins(module)
    path = output_file(output, FIGURES, overwrite)
    from quadrate.cli.console import CONSOLE
    from quadrate.experiments import recipes
    from quadrate.experiments.reports import demo_figure, results_table
    from quadrate.experiments.runs import Run
    from quadrate.sources import pixels

    started = time.monotonic()
    recipe = recipes.demo(data)
    CONSOLE.print(
        f"[bold]1. A judge on {data}[/bold] (a classifier; the loss asks it what it still reads in"
        " a reconstruction)"
    )
    run = Run(recipe, runs)
    assert (
        run.judge
    )  # the demo's points need labels, so the run would have refused a source without
    CONSOLE.print(f"   {run.judge.name}: accuracy {run.judge.accuracy:.4f} on clean test images")
    CONSOLE.print(
        "[bold]2. Training[/bold]: six codecs for as many weights of the label, and one universal"
        " encoder with three decoders"
    )
    run.train()
    CONSOLE.print(
        "[bold]3. Scores on the test set[/bold], by judges and critics that no codec has met"
    )
    rows = run.evaluate()
    CONSOLE.print(results_table(rows).text())

    codec = run.universal_codec("universal")
    originals = run.source.test.images[:10]
    symbols = codec.encode(originals)  # one code; each decoder reads the same
    pictures = {name: codec.decode(symbols, decoder=name) for name in codec.decoders}
    sweep = [row for row in rows if row["stage"] == "end-to-end"]
    decoders = [row for row in rows if row["stage"] in ("universal", "realistic")]
    demo_figure(sweep, decoders, pixels(originals), pictures, path)
    CONSOLE.print(
        f"figure: {path}\nrun:    {run.folder}\n{time.monotonic() - started:.0f} s in all"
    )
