"""Scoring a codec: everything the protocol measures, as one flat row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from quadrate.core import draws
from quadrate.errors import QuadrateError
from quadrate.evaluation.classification_scores import recognition
from quadrate.evaluation.critic import legacy_w1
from quadrate.evaluation.distortion_scores import distortion_mse, psnr_db
from quadrate.evaluation.estimate import Estimate
from quadrate.evaluation.protocol import Protocol, exact_arithmetic
from quadrate.evaluation.references import prepare
from quadrate.evaluation.roles import strangers
from quadrate.evaluation.score import SCORES, Score
from quadrate.sources.source import Source, Split

if TYPE_CHECKING:
    from quadrate.training.judges import Judge

Reconstruct = Callable[[Tensor, int], Tensor]
"""A codec: images, uint8 (N, C, H, W), and a seed to reconstructions, float32 (N, C, H, W)."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One codec and all that its measures use.

    Attributes:
        reconstruct: The codec.
        source: The images.
        judges: "training", "independent" and "stranger.NAME", each may be None.
        protocol: The terms.
        references: Floors and clean scores, from `prepare`.
        legacy_critic: The critic that trained the codec, if any.
    """

    reconstruct: Reconstruct
    source: Source
    judges: Mapping[str, Judge | None]
    protocol: Protocol
    references: Mapping[str, float]
    legacy_critic: Callable[[Tensor], Tensor] | None

    @cached_property
    def train(self) -> Split:
        """Training images, for the fresh critic and the retrained judge."""
        return self.protocol.training_sample(self.source, self.protocol.training_images)

    @cached_property
    def test(self) -> Split:
        """The test images that are scored."""
        return self.protocol.test_sample(self.source)

    @cached_property
    def train_hat(self) -> Tensor:
        """Reconstructions of the training images, float32 (N, C, H, W)."""
        return self._reconstructions(self.train.images, "train")

    @cached_property
    def test_hat(self) -> Tensor:
        """Reconstructions of the test images, float32 (N, C, H, W)."""
        return self._reconstructions(self.test.images, "test")

    @property
    def pairs(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Images and reconstructions of the training sample, and of the test sample."""
        return (self.train.images, self.train_hat), (self.test.images, self.test_hat)

    def _reconstructions(self, images: Tensor, split: str) -> Tensor:
        chunks = []
        for number, chunk in enumerate(images.split(self.protocol.batch)):
            key = draws.key("evaluation", self.protocol.seed, "codec", split, number)
            result = self.reconstruct(chunk, key >> 33)  # 31 bits fit every random generator
            if result.shape != chunk.shape or result.dtype != torch.float32:
                got = f"{str(result.dtype).removeprefix('torch.')} {tuple(result.shape)}"
                raise QuadrateError(
                    f"the codec must return float32 {tuple(chunk.shape)} for images of that shape;"
                    f" got {got}"
                )
            if not result.isfinite().all():
                raise QuadrateError(
                    f"the codec returned numbers that are not finite for {split} images;"
                    " reconstructions must lie in [0, 1]"
                )
            chunks.append(result)
        return torch.cat(chunks)


@dataclass(frozen=True)
class Measure:
    """A measure of a codec, as columns of a row.

    Attributes:
        columns: The names of its columns; the first is the measure's own name.
        compute: Their values, in this order.
        needs: The requirement: a judge, by its role; "legacy", the critic that trained the codec;
            or "" without one.
        needed: How many of the columns, from the first on, a complete row must have; 0 if codecs
            without this score are complete too.
    """

    columns: tuple[str, ...]
    compute: Callable[[Evaluation], tuple[float, ...]]
    needs: str = ""
    needed: int = 1

    def applies(self, evaluation: Evaluation) -> bool:
        """Whether the evaluation has what the measure needs."""
        if self.needs == "legacy":
            return evaluation.legacy_critic is not None
        return not self.needs or evaluation.judges.get(self.needs) is not None


def _distortion(evaluation: Evaluation) -> tuple[float, ...]:
    mse = distortion_mse(evaluation.test.images, evaluation.test_hat, evaluation.protocol.batch)
    return mse.value, mse.stderr, psnr_db(mse.value)


def _recognition(role: str, evaluation: Evaluation) -> tuple[float, ...]:
    judge, test = evaluation.judges[role], evaluation.test
    assert judge is not None, "the measure applies"
    seen = recognition(judge.module, evaluation.test_hat, test.labels, evaluation.protocol.batch)
    return seen.accuracy, judge.accuracy, seen.cross_entropy_nats, judge.cross_entropy_nats


def _retrained(evaluation: Evaluation) -> tuple[float, ...]:
    train, test, classes = evaluation.train, evaluation.test, evaluation.source.classes
    images = evaluation.train_hat, evaluation.test_hat
    seen = evaluation.protocol.retrained(train, test, *images, classes)
    clean = evaluation.references
    return (
        seen.accuracy,
        clean["accuracy_retrained_clean"],
        seen.cross_entropy_nats,
        clean["cross_entropy_retrained_clean_nats"],
    )


def _fresh_critic(evaluation: Evaluation) -> tuple[float, ...]:
    gap = evaluation.protocol.fresh_critic_w1(*evaluation.pairs)
    return gap.value, gap.stderr, evaluation.references["w1_fresh_floor"], gap.gradient_norm


def _certified(evaluation: Evaluation) -> Estimate:
    return evaluation.protocol.certified_w1(*evaluation.pairs)


def _sliced(evaluation: Evaluation) -> Estimate:
    return evaluation.protocol.sliced_w2sq(evaluation.test.images, evaluation.test_hat)


def _kernel(evaluation: Evaluation) -> Estimate:
    judge = evaluation.judges["independent"]
    assert judge is not None, "the measure applies"
    return evaluation.protocol.kid(judge, evaluation.test.images, evaluation.test_hat)


def _legacy(evaluation: Evaluation) -> tuple[float, ...]:
    critic, protocol = evaluation.legacy_critic, evaluation.protocol
    assert critic is not None, "the measure applies"
    return (legacy_w1(critic, evaluation.test.images, evaluation.test_hat, protocol.batch),)


def _accuracy(
    role: str, compute: Callable[[Evaluation], tuple[float, ...]], needs: str, needed: int = 1
) -> Measure:
    """A classifier's scores on reconstructions and on clean images."""
    nats = f"cross_entropy_{role}_nats", f"cross_entropy_{role}_clean_nats"
    columns = f"accuracy_{role}", f"accuracy_{role}_clean", *nats
    return Measure(columns, compute, needs, needed)


def _distance(name: str, compute: Callable[[Evaluation], Estimate], needs: str = "") -> Measure:
    """A distance with its standard error and its real-against-real floor."""

    def values(evaluation: Evaluation) -> tuple[float, ...]:
        return *compute(evaluation), evaluation.references[f"{name}_floor"]

    return Measure((name, f"{name}_stderr", f"{name}_floor"), values, needs, needed=3)


_W1 = ("w1_fresh", "w1_fresh_stderr", "w1_fresh_floor", "w1_fresh_gradient_norm")
MEASURES = (
    Measure(("distortion_mse", "distortion_mse_stderr", "psnr_db"), _distortion),
    _accuracy("training", partial(_recognition, "training"), "training", needed=0),
    _accuracy("independent", partial(_recognition, "independent"), "independent"),
    _accuracy("retrained", _retrained, "independent"),
    Measure(_W1, _fresh_critic, needed=3),
    _distance("w1_certified", _certified),
    _distance("sliced_w2sq", _sliced),
    _distance("kid", _kernel, needs="independent"),
    Measure(("w1_legacy",), _legacy, needs="legacy", needed=0),
)
"""The measures of the protocol; `register_score` adds your own."""


_OVER_STRANGERS: dict[str, Callable[[Sequence[float]], float]] = {
    "accuracy_stranger_worst": min,
    "accuracy_stranger_mean": fmean,
}


def _over_strangers(row: Mapping[str, float], roles: Sequence[str]) -> dict[str, float]:
    """The worst and the mean accuracy of strangers, from what each of them reads.

    Of clean images, too, so that a codec that changes nothing scores what stands beside it.
    """
    return {
        f"{name}{end}": take([row[f"accuracy_{role}{end}"] for role in roles])
        for name, take in _OVER_STRANGERS.items()
        for end in ("", "_clean")
        if roles
    }


def _measures(roles: Sequence[str]) -> tuple[Measure, ...]:
    """All measures, with those of the strangers of these roles."""
    theirs = (_accuracy(role, partial(_recognition, role), role, needed=2) for role in roles)
    own = (_registered(score) for score in SCORES.values() if score.measure)
    return *MEASURES, *theirs, *own


def _registered(score: Score) -> Measure:
    def compute(evaluation: Evaluation) -> tuple[float, ...]:
        assert score.measure is not None, "only such scores are measured here"
        return (float(score.measure(evaluation.test.images, evaluation.test_hat)),)

    return Measure((score.name,), compute)


def columns_of(source: Source, strangers: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns of a complete row of scores on a source.

    Without labels there is no judge, and so no accuracies and no kernel distance, which uses a
    judge's features.

    Args:
        source: The images.
        strangers: The roles of judges that were never in the loss, such as "stranger.lenet".
    """
    over = _OVER_STRANGERS if strangers and source.is_labelled else ()
    return tuple(
        column
        for measure in _measures(strangers)
        if source.is_labelled or not measure.needs
        for column in measure.columns[: measure.needed]
    ) + tuple(over)


def evaluate(
    reconstruct: Reconstruct,
    source: Source,
    judges: Mapping[str, Judge | None],
    protocol: Protocol | None = None,
    legacy_critic: Callable[[Tensor], Tensor] | None = None,
    cache_dir: Path | None = None,
    known: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Score a codec on a source's test images.

    The same arguments give the same numbers, bit for bit on one kind of device and thread count.

    Args:
        reconstruct: The codec, with all of its noise and dither drawn from the seed that it is
            given. It is called with at most `protocol.batch` images at a time, each time with
            another seed. The targets are the clean images.
        source: Images on the device to run on.
        judges: "training", the classifier in the codec's loss, or None; "independent", one of
            another architecture and seed, or None for a source without labels; "stranger.NAME",
            any number of further ones that were never in the loss, each with a name of its own.
        protocol: The terms; by default those of docs/evaluation.md.
        legacy_critic: The critic that trained the codec, images (N, C, H, W) to N scores, for the
            figure that the papers report.
        cache_dir: A folder that keeps the references (`prepare`) for other processes.
        known: Scores of the same codec on the same terms, which are not measured again.

    Returns:
        `distortion_mse`, `psnr_db`; for each judge (training, independent, retrained) `accuracy_…`,
        `accuracy_…_clean`, `cross_entropy_…_nats` and `cross_entropy_…_clean_nats`; `w1_fresh` and
        `w1_fresh_gradient_norm`, `w1_certified`, `sliced_w2sq`, `kid`, each with `…_stderr` and
        `…_floor`; `w1_legacy`; registered scores. Of strangers `accuracy_stranger_worst` and
        `accuracy_stranger_mean`, each with `…_clean`, and for each role what other judges have.
        Scores of an absent judge or critic have no keys.

    Raises:
        QuadrateError: If there is no independent judge for labelled images, a judge has an unknown
            role, a stranger is the training judge, the source is too small, or the codec does not
            return finite float32 images.
    """
    protocol, known = protocol or Protocol(), known or {}
    references = prepare(source, judges, protocol, cache_dir)
    evaluation = Evaluation(reconstruct, source, judges, protocol, references, legacy_critic)
    row: dict[str, float] = {}
    roles = strangers(judges)
    with exact_arithmetic(source.test.images.device):
        for measure in _measures(roles):
            if not measure.applies(evaluation):
                continue
            if set(measure.columns) <= known.keys():
                row |= {column: known[column] for column in measure.columns}
            else:
                row |= zip(measure.columns, measure.compute(evaluation), strict=True)
    return row | _over_strangers(row, roles)
