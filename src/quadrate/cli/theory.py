"""`quadrate theory`; its verbs are dataclasses, from which the flags are made."""

from __future__ import annotations

import math
import sys
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import tyro

from quadrate.cli.outputs import FIGURES, Output, output_file
from quadrate.cli.printer import PRINTER, Printer, Printing
from quadrate.cli.theory_sources import Sources
from quadrate.core.files import write_text
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from quadrate.theory import Source
    from quadrate.theory.channels import FloatArray

_Solvable = Literal["rate", "distortion", "classification"]
_Constraint = Literal["rate", "distortion", "perception", "classification"]
_LargestRate = Annotated[float, tyro.conf.arg(help="The largest rate.")]
_LargestDistortion = Annotated[
    float,
    tyro.conf.arg(help="The largest distortion: MSE, Hamming, or by the source's own matrix."),
]
_LargestPerception = Annotated[
    float,
    tyro.conf.arg(help="The largest divergence of the output's distribution from the source's."),
]
_LargestClassification = Annotated[
    float, tyro.conf.arg(help="The largest entropy of the label given the output.")
]


@dataclass(frozen=True, kw_only=True)
class _Question:
    """What is asked about a source.

    Attributes:
        source: What is coded.
        divergence: Measure of perception, as far as the source has it; w2 is the squared
            2-Wasserstein distance, tv total variation.
        unit: Of rates and of the classification, and of a KL divergence.
        common_randomness: Rate of the randomness that encoder and decoder share; inf: enough of it.
        classifier_sees_randomness: Whether the classifier is given that randomness as well.
    """

    source: Sources
    divergence: Literal["w2", "tv", "kl", "chi2", "hellinger"] = "w2"
    unit: Literal["bits", "nats"] = "bits"
    common_randomness: float = math.inf
    classifier_sees_randomness: bool = False

    def _answer(
        self, source: Source, of: _Solvable, **constraints: ArrayLike
    ) -> float | FloatArray:
        import quadrate.theory

        options = {
            name: getattr(self, name)
            for name in ("divergence", "unit", "common_randomness", "classifier_sees_randomness")
        }
        answer: float | FloatArray = getattr(quadrate.theory, of)(source, **constraints, **options)
        return answer

    def _print(self, printer: Printer, of: _Solvable, **constraints: float) -> None:
        text = _digits(self._answer(self.source.make(), of, **constraints))
        asked = {name: value for name, value in constraints.items() if value < math.inf}
        facts = {
            _column(name, self.divergence, self.unit): float(value)  # type: ignore[arg-type]
            for name, value in (*asked.items(), (of, text))
        }
        printer.result(facts, text)


@dataclass(frozen=True, kw_only=True)
class _Rate(_Question):
    """Prints the least rate of any codec; inf where there is none."""

    distortion: _LargestDistortion = math.inf
    perception: _LargestPerception = math.inf
    classification: _LargestClassification = math.inf

    def run(self, printer: Printer) -> None:
        self._print(
            printer,
            "rate",
            distortion=self.distortion,
            perception=self.perception,
            classification=self.classification,
        )


@dataclass(frozen=True, kw_only=True)
class _Distortion(_Question):
    """Prints the least distortion of any codec of a rate; inf where there is none."""

    rate: _LargestRate
    perception: _LargestPerception = math.inf
    classification: _LargestClassification = math.inf

    def run(self, printer: Printer) -> None:
        self._print(
            printer,
            "distortion",
            rate=self.rate,
            perception=self.perception,
            classification=self.classification,
        )


@dataclass(frozen=True, kw_only=True)
class _Classification(_Question):
    """Prints the least entropy of the label given the output of any codec of a rate.

    Inf where there is none.
    """

    rate: _LargestRate
    distortion: _LargestDistortion = math.inf
    perception: _LargestPerception = math.inf

    def run(self, printer: Printer) -> None:
        self._print(
            printer,
            "classification",
            rate=self.rate,
            distortion=self.distortion,
            perception=self.perception,
        )


@dataclass(frozen=True, kw_only=True)
class _Sweep(_Question):
    """What a curve and a surface have in common.

    Attributes:
        of: What is minimized.
        points: Values of what varies, evenly spaced.
        output: A .csv file, or a picture that ends in .png, .pdf or .svg; None: CSV on the
            terminal.
        overwrite: Replace the file if it is there.
    """

    of: _Solvable = "rate"
    rate: _LargestRate = math.inf
    distortion: _LargestDistortion = math.inf
    perception: _LargestPerception = math.inf
    classification: _LargestClassification = math.inf
    points: int = 50
    output: Annotated[str | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None
    overwrite: bool = False

    def _sweep(
        self,
        printer: Printer,
        names: Sequence[_Constraint],
        starts: Sequence[float],
        stops: Sequence[float],
    ) -> None:
        import numpy as np

        output = (
            None
            if self.output is None
            else output_file(self.output, (".csv", *FIGURES), self.overwrite)
        )
        grids = [_grid(start, stop, self.points) for start, stop in zip(starts, stops, strict=True)]
        fixed = self._fixed(names)
        swept = dict(zip(names, np.meshgrid(*grids, indexing="ij"), strict=True))
        source = self.source.make()
        values = np.asarray(self._answer(source, self.of, **fixed, **swept))
        quantities = (*names, self.of)
        if output is not None and output.suffix.lower() in FIGURES:
            from quadrate.experiments.reports.theory_figures import (
                quantity_label,
                source_label,
                sweep_figure,
            )

            labels = [
                quantity_label(quantity, source, self.divergence, self.unit)
                for quantity in quantities
            ]
            under = " and ".join(
                self._bound(name, value) for name, value in fixed.items() if value < math.inf
            )
            title = f"Least {labels[-1]} of any codec{' under ' + under if under else ''}."
            caption = source_label(source) + self._randomness()
            sweep_figure(
                grids, values, labels, textwrap.fill(title, 62), output, textwrap.fill(caption, 80)
            )
            printer.done({"figure": output}, f"figure: {output}")
        else:
            header = [_column(quantity, self.divergence, self.unit) for quantity in quantities]
            rows = zip(*(array.ravel() for array in (*swept.values(), values)), strict=True)
            lines = [[_digits(number) for number in row] for row in rows]
            table = "\n".join(",".join(line) for line in (header, *lines))
            if output is None:
                facts = [dict(zip(header, map(float, line), strict=True)) for line in lines]
                printer.result(facts, table)
            else:
                write_text(output, table + "\n")
                printer.done({"table": output}, f"table: {output}")

    def _bound(self, name: str, value: float) -> str:
        """A constraint with its unit, in one piece."""
        in_units = name in ("rate", "classification") or (
            name == "perception" and self.divergence == "kl"
        )
        return f"{name} ≤ {value:g}{' ' + self.unit if in_units else ''}".replace(
            " ", "\N{NO-BREAK SPACE}"
        )

    def _randomness(self) -> str:
        """What is said of the common randomness where it is not just there."""
        limited = (
            f"; common randomness of {self.common_randomness:g} {self.unit}"
            if self.common_randomness < math.inf
            else ""
        )
        return limited + (
            "; the classifier sees the common randomness" if self.classifier_sees_randomness else ""
        )

    def _fixed(self, names: Sequence[_Constraint]) -> dict[str, float]:
        """The constraints that neither vary nor are asked for."""
        if len({self.of, *names}) < 1 + len(names):
            raise ValueError(
                f"--vary must name quantities that differ, none of them {self.of}, which is asked"
                f" for; got {' '.join(names)}"
            )
        constraints: dict[str, float] = {
            name: getattr(self, name) for name in get_args(_Constraint)
        }
        for name in (self.of, *names):
            if constraints.pop(name) != math.inf:
                raise ValueError(
                    f"--{name} must be left out where {name}"
                    f" {'is asked for' if name == self.of else 'varies'}"
                )
        return constraints


@dataclass(frozen=True, kw_only=True)
class _Curve(_Sweep):
    """Sweeps one constraint: a CSV or a figure.

    Attributes:
        vary: The constraint.
        from_: Its first value.
        to: Its last value.
    """

    vary: _Constraint
    from_: Annotated[float, tyro.conf.arg(name="from")]
    to: float

    def run(self, printer: Printer) -> None:
        self._sweep(printer, [self.vary], [self.from_], [self.to])


@dataclass(frozen=True, kw_only=True)
class _Surface(_Sweep):
    """Sweeps two constraints over a grid: a CSV or a figure of contours.

    Attributes:
        vary: The two constraints.
        from_: Their first values.
        to: Their last values.
    """

    vary: tuple[_Constraint, _Constraint]
    from_: Annotated[tuple[float, float], tyro.conf.arg(name="from")]
    to: tuple[float, float]

    def run(self, printer: Printer) -> None:
        self._sweep(printer, self.vary, self.from_, self.to)


@dataclass(frozen=True, kw_only=True)
class _Contours:
    """Draws the contours of R(D,C) and R(P,C) of a Gaussian source, as the RDPC paper does.

    And R(P,C) of a binary source.

    Attributes:
        output: The picture to write; PNG, PDF or SVG by its ending.
        overwrite: Replace the picture if it is there.
    """

    output: Output = "contours.png"
    overwrite: bool = False

    def run(self, printer: Printer) -> None:
        from quadrate.experiments.reports.theory_figures import contours_figure

        output = output_file(self.output, FIGURES, self.overwrite)
        contours_figure(output)
        printer.done({"figure": output}, f"figure: {output}")


@dataclass(frozen=True, kw_only=True)
class _Noise:
    """Draws what noise on a binary source makes of classification and perception at unlimited rate.

    Attributes:
        output: The picture to write; PNG, PDF or SVG by its ending.
        overwrite: Replace the picture if it is there.
    """

    output: Output = "source-noise.png"
    overwrite: bool = False

    def run(self, printer: Printer) -> None:
        from quadrate.experiments.reports.theory_figures import source_noise_figure

        output = output_file(self.output, FIGURES, self.overwrite)
        source_noise_figure(output)
        printer.done({"figure": output}, f"figure: {output}")


_Verbs = (
    Annotated[_Rate, tyro.conf.subcommand("rate")]
    | Annotated[_Distortion, tyro.conf.subcommand("distortion")]
    | Annotated[_Classification, tyro.conf.subcommand("classification")]
    | Annotated[_Curve, tyro.conf.subcommand("curve")]
    | Annotated[_Surface, tyro.conf.subcommand("surface")]
    | Annotated[_Contours, tyro.conf.subcommand("contours")]
    | Annotated[_Noise, tyro.conf.subcommand("noise")]
)
# The options of a question may follow the name of the source, and none has a prefix.
_FLAT = (
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.OmitArgPrefixes,
    tyro.conf.CascadeSubcommandArgs,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.arg(name=""),
)


def theory(verb: Annotated[_Verbs, *_FLAT], printer: Printing = PRINTER) -> None:
    """Compute what any codec needs at least.

    A number, a curve or a surface of the rate function, and two figures.

    Args:
        verb: What is asked.
        printer: How the verb answers.
    """
    from quadrate.theory import ConvergenceWarning

    with warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always", ConvergenceWarning)
        try:
            verb.run(printer)
        except (ValueError, ArithmeticError) as error:
            raise QuadrateError(str(error)) from None
    for category in dict.fromkeys(doubt.category for doubt in doubts):
        first, *others = (doubt.message for doubt in doubts if doubt.category is category)
        more = f" (and {len(others)} more such)" if others else ""
        print(f"quadrate: warning: {first}{more}", file=sys.stderr)


def _grid(start: float, stop: float, points: int) -> FloatArray:
    if not -math.inf < start < stop < math.inf:
        raise ValueError(f"--from must be less than --to, both finite; got {start:g} and {stop:g}")
    if points < 2:
        raise ValueError(f"--points must be at least 2; got {points}")
    import numpy as np

    return np.linspace(start, stop, points)


def _column(quantity: _Constraint, divergence: str, unit: str) -> str:
    """A column's name with its unit: perception_kl_bits."""
    measure = f"_{divergence}" if quantity == "perception" else ""
    in_units = quantity in ("rate", "classification") or (
        quantity == "perception" and divergence == "kl"
    )
    return f"{quantity}{measure}{f'_{unit}' if in_units else ''}"


def _digits(number: float | FloatArray) -> str:
    """The digits that mean something: rounding shows beyond the twelfth."""
    return f"{number + 0.0:.12g}"
