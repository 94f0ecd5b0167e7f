"""`quadrate demo`."""

from __future__ import annotations

import time
from pathlib import Path

from quadrate.cli.modules import Modules
from quadrate.cli.outputs import FIGURES, Output, output_file
from quadrate.cli.printer import PRINTER, Printing
from quadrate.core.plugins import load_plugins


def demo(
    data: str = "digits",
    runs: Path = Path("runs"),
    output: Output = "demo.png",
    overwrite: bool = False,
    module: Modules = (),
    printer: Printing = PRINTER,
) -> None:
    """Show the whole way: a judge, codecs, scores, a table, a figure.

    The codecs are an end-to-end sweep, and a universal encoder with three decoders.

    Args:
        data: digits (embedded, a few minutes), mnist or another data set (a quarter of an hour), or
            a folder of labelled images.
        runs: Where run folders live.
        output: The figure to write; PNG, PDF or SVG by its ending.
        overwrite: Replace the figure if it is there.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    load_plugins(module)
    path = output_file(output, FIGURES, overwrite)
    from quadrate.experiments import recipes
    from quadrate.experiments.reports import demo_figure, results_table
    from quadrate.experiments.runs import Run
    from quadrate.sources import pixels

    started = time.monotonic()
    recipe = recipes.demo(data)
    printer.remark(
        f"1. A judge on {data} (a classifier; the loss asks it what it still reads in a"
        " reconstruction)"
    )
    run = Run(recipe, runs).prepare(printer.report)
    assert (
        run.judge
    )  # the demo's points need labels, so the run would have refused a source without
    printer.remark(f"   {run.judge.name}: accuracy {run.judge.accuracy:.4f} on clean test images")
    printer.remark(
        "2. Training: six codecs for as many weights of the label, and one universal encoder with"
        " three decoders"
    )
    run.train(report=printer.report)
    printer.remark("3. Scores on the test set, by judges and critics that no codec has met")
    rows = run.evaluate(report=printer.report)

    codec = run.universal_codec("universal")
    originals = run.source.test.images[:10]
    symbols = codec.encode(originals)  # one code; each decoder reads the same
    pictures = {name: codec.decode(symbols, decoder=name) for name in codec.decoders}
    sweep = [row for row in rows if row["stage"] == "end-to-end"]
    decoders = [row for row in rows if row["stage"] in ("universal", "realistic")]
    demo_figure(sweep, decoders, pixels(originals), pictures, path)
    seconds = time.monotonic() - started
    printer.result(
        {"run": run.folder, "figure": path, "seconds": seconds, "rows": rows},
        results_table(rows),
        f"figure: {path}",
        f"run:    {run.folder}",
        f"{seconds:.0f} s in all",
    )
