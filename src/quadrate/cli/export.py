"""`quadrate export`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from quadrate.cli.modules import Modules
from quadrate.cli.onnx_files import onnx_folder, write_onnx
from quadrate.cli.outputs import output_file
from quadrate.cli.printer import PRINTER, Printer, Printing
from quadrate.core.files import exists, read_json
from quadrate.core.plugins import load_plugins
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from quadrate.codecs import TradeoffCodec
    from quadrate.config import OperatingPoint, Stage
    from quadrate.core.table import Table
    from quadrate.experiments.runs import Run
    from quadrate.sources import Source

Best = Literal["accuracy", "mse", "w1"]
_SCORES: dict[Best, str] = {
    "accuracy": "accuracy_independent",
    "mse": "distortion_mse",
    "w1": "w1_fresh",
}
_SHOWN = (
    "accuracy by the independent judge, W1 by a fresh critic: scores of `quadrate evaluate`, on the"
    " test images"
)


def export(
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    /,
    output: Annotated[str | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None,
    stage: str | None = None,
    point: str | None = None,
    best: Best | None = None,
    seed: int = 0,
    onnx: bool = False,
    overwrite: bool = False,
    module: Modules = (),
    printer: Printing = PRINTER,
) -> None:
    """Make a trained codec ready for files.

    Its weights become float16, and its tables are fitted to the training images. It carries its
    scores, if it was evaluated. Without an output, the run's codecs are listed.

    Args:
        run: A run folder; with --onnx also a codec as --codec names it.
        output: The codec's file to write, whose name ends in .safetensors; with --onnx a folder.
        stage: Which stage's codec; by default the run's last. The codec of a refinement stage
            writes files in layers.
        point: Which of its points, by the name of its folder; of a universal stage by default all,
            as decoders of one encoder.
        best: In place of a point, the one with the highest accuracy by the independent judge, the
            lowest MSE, or the lowest W1 by a fresh critic, of the stage or else of all stages.
            These are the scores of `quadrate evaluate`, on the test images: as the best of many
            they flatter.
        seed: Which seed's, of a universal stage.
        onnx: Write the codec's encoders and decoders as ONNX, for programs that do without PyTorch
            (docs/onnx.md).
        overwrite: Replace what is there.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    load_plugins(module)
    path = None
    if onnx:
        path = onnx_folder(output, overwrite)
        if not Path(run).is_dir():
            from quadrate.codecs import BaseCodec

            write_onnx(BaseCodec.load(run), run, path, printer)
            return
    elif output is not None:
        path = output_file(output, (".safetensors",), overwrite)
    from quadrate.experiments.runs import Run

    opened = Run.open(run)
    if not opened.kind.exports:
        raise QuadrateError(
            f"the codecs of {run} are ready for files as they are: give one of the .safetensors"
            " files in it to --codec"
        )
    if point is not None and best is not None:
        raise QuadrateError("give --point or --best, not both")
    stages = [opened.recipe.stage(stage)] if stage is not None else list(opened.recipe.stages)
    if path is None:
        if point is not None or best is not None:
            raise QuadrateError("nothing was exported: name a file with -o")
        printer.result(*_listed(opened, stages))
        printer.remark(f"next:   quadrate export {run} -o mine.safetensors, and --point or --best")
        return
    if point is None and best is None and stages[-1].mode == "universal":
        chosen, picked, name = stages[-1], None, stages[-1].name
    else:
        chosen, picked = (
            _best(opened, stages, best)
            if best
            else _find(opened, stages if point else stages[-1:], point, printer)
        )
        name = f"{chosen.name}/{picked.key}"
    codec = _made(opened, chosen, picked, seed)
    if measured := _measured(opened, chosen, picked, codec):
        codec.details["scores"] = measured
    if onnx:
        write_onnx(codec, name, path, printer)
        return
    codec.save(path)
    size = path.stat().st_size
    bound = codec.rate_bound_bits
    rate = "learned rate" if bound is None else f"bound {bound:.2f} bits a sample"
    decoders = ", ".join(codec.decoders)
    facts = {
        "codec": path,
        "name": name,
        "bytes": size,
        "rate_bound_bits": bound,
        "decoders": list(codec.decoders),
    }
    printer.done(
        facts,
        f"codec:  {path} ({name}; {size / 1e6:.1f} MB; {rate}; decoders {decoders})",
        f"next:   quadrate compress IMAGES --codec {path} -o images.quad",
    )


def _made(run: Run, stage: Stage, point: OperatingPoint | None, seed: int) -> TradeoffCodec:
    """The codec of a point, or of all points of a universal stage and a seed, ready for files."""
    if point is None:
        seeds = sorted({each.seed for each in stage.points})
        if seed not in seeds:
            raise QuadrateError(
                f"stage {stage.name!r} was trained for the seeds {', '.join(map(str, seeds))};"
                f" there is no seed {seed}"
            )
        return run.universal_codec(stage.name, seed).to_float16().freeze(_seen(run, stage))
    base = None
    if (
        stage.mode == "refinement"
    ):  # the base's own tables, so that the base's codec reads the base layer
        first = stage.base_of(point)
        assert first is not None
        base = (
            run.codec(stage.base_stage, first)
            .to_float16()
            .freeze(_seen(run, run.recipe.stage(stage.base_stage)))
        )
    return run.codec(stage.name, point).to_float16().freeze(_seen(run, stage), base)


def _measured(
    run: Run, stage: Stage, point: OperatingPoint | None, codec: TradeoffCodec
) -> dict[str, dict[str, float]]:
    """The scores of each decoder that was evaluated in full, for the codec's card."""
    from quadrate.evaluation.score import is_quick

    stages = [stage]
    if point is None:  # decoders of all stages on the same encoder
        encoder = run.recipe.encoder_of(stage.name)
        stages = [
            each
            for each in run.recipe.stages
            if each.mode == "universal" and run.recipe.encoder_of(each.name) == encoder
        ]
    found = {}
    for name, own in codec.points.items():
        for each in stages:
            scores = _scores(run, each, own) if own in each.points else {}
            if is_quick(scores):
                continue
            if known := {column: scores[column] for column in _SCORES.values() if column in scores}:
                found[name] = known
    return found


def _seen(run: Run, stage: Stage) -> Source:
    """The run's source as the encoders of a stage see it."""
    return replace(run.source, noise_std=stage.noise_std)


def _find(
    run: Run, stages: list[Stage], key: str | None, printer: Printer
) -> tuple[Stage, OperatingPoint]:
    """The point of that name, or the only one; where there is a choice, it is printed."""
    found = [
        (stage, point) for stage in stages for point in stage.points if key in (None, point.key)
    ]
    if len(found) == 1:
        return found[0]
    printer.result(*_listed(run, stages))
    names = " and ".join(repr(stage.name) for stage in stages)
    if not found:
        raise QuadrateError(
            f"nothing was exported: there is no point {key!r} in {names}; name one that is listed"
            " with --point, or take --best"
        )
    if key is not None:
        raise QuadrateError(
            f"nothing was exported: {names} both have a point {key!r}; name one of them with"
            " --stage"
        )
    raise QuadrateError(
        f"nothing was exported: {names} has {len(found)} codecs; name one that is listed with"
        " --point, or take --best"
    )


def _best(run: Run, stages: list[Stage], by: Best) -> tuple[Stage, OperatingPoint]:
    """The scored point with the best score."""
    from quadrate.evaluation.score import SCORES

    column = _SCORES[by]
    sign = -1 if SCORES[column].better == "higher" else 1
    scored = [
        (score[column] * sign, stage, point)
        for stage in stages
        for point in stage.points
        if column in (score := _scores(run, stage, point))
    ]
    if not scored:
        raise QuadrateError(
            f"no codec of {run.folder} has a score {column} yet; run `quadrate evaluate"
            f" {run.folder}` first"
        )
    _, stage, point = min(scored, key=lambda each: each[0])
    return stage, point


def _scores(run: Run, stage: Stage, point: OperatingPoint) -> dict[str, Any]:
    path = run.place(stage, point) / "evaluation.json"
    row = read_json(path) if exists(path) else {}
    return row if isinstance(row, dict) else {}


def _listed(run: Run, stages: list[Stage]) -> tuple[list[dict[str, Any]], Table, str]:
    """The codecs to choose from, with their scores: as facts, as a table, and what it shows."""
    from quadrate.core.table import Column, Table

    facts = [
        {
            "stage": stage.name,
            "point": point.key,
            "rate_bound_bits": None if point.has_learned_rate else point.rate_bound_bits,
            "trained": exists(run.place(stage, point) / "model.safetensors"),
            **{column: _scores(run, stage, point).get(column) for column in _SCORES.values()},
        }
        for stage in stages
        for point in stage.points
    ]
    lines = []
    for line in facts:
        scores = [line[column] for column in _SCORES.values()]
        texts = ["" if score is None else f"{score:.4f}" for score in scores]
        bits = line["rate_bound_bits"]
        lines.append(
            (
                line["stage"],
                line["point"],
                "learned" if bits is None else f"{bits:.2f}",
                *(texts if line["trained"] else ("not trained", "", "")),
            )
        )
    headings = ("--stage", "--point", "bits", "accuracy", "MSE", "W1")
    columns = zip(headings, zip(*lines, strict=True), strict=True)
    table = Table([Column(name, own, name[:2] == "--") for name, own in columns])
    return facts, table, _SHOWN
