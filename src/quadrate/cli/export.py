"""`quadrate export`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from quadrate.cli.modules import Modules
from quadrate.config import OperatingPoint, Stage
from quadrate.errors import QuadrateError
from quadrate.plugins import load_plugins
from quadrate.runs import Run


def export(
    run: Annotated[Path, tyro.conf.Positional],
    /,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    stage: str | None = None,
    point: str | None = None,
    seed: int = 0,
    module: Modules = (),
) -> None:
    """Makes a trained codec ready for files: float16 weights, tables fitted to the training images.

    Args:
        run: A run folder.
        output: The codec's file to write.
        stage: Which stage's codec; by default the run's last.
        point: Which of its points, by the name of its folder; of a universal stage by default all, as decoders of one encoder.
        seed: Which seed's, of a universal stage.
        module: A Python file, or the name of a module, that registers what is your own (docs/extending.md); may be given several times.
    """
    load_plugins(module)
    opened = Run.open(run)
    chosen = opened.recipe.stage(stage) if stage else opened.recipe.stages[-1]
    source = replace(opened.source, noise_std=chosen.noise_std)
    if chosen.mode == "universal" and point is None:
        codec = opened.universal_codec(chosen.name, seed)
    else:
        codec = opened.codec(chosen.name, _find(chosen, point))
    codec, base = codec.half(), None
    if chosen.mode == "refinement":  # the base's own tables, so that the base's codec reads the base layer
        first = chosen.base_of(_find(chosen, point))
        assert first is not None
        base = opened.codec(chosen.base_stage, first).half().freeze(source)
    codec.freeze(source, base).save(output)
    size = output.stat().st_size / 1e6
    print(f"codec:  {output} ({size:.1f} MB; bound {codec.rate_bound_bits:.2f} bits a sample; decoders {', '.join(codec.decoders)})")
    print(f"next:   quadrate compress IMAGES --codec {output} -o images.quad")


def _find(stage: Stage, key: str | None) -> OperatingPoint:
    """The point of that name, or the only one."""
    points = {point.key: point for point in stage.points}
    if key is None and len(points) == 1:
        return stage.points[0]
    if key not in points:
        raise QuadrateError(
            f"stage {stage.name!r} has the points {', '.join(points)}; name one with --point{f': there is no {key!r}' if key else ''}"
        )
    return points[key]
