"""Scoring a codec: everything the protocol measures, as one flat row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from quadrate.core import draws
from quadrate.errors import QuadrateError
from quadrate.evaluation.classification_scores import Recognition, recognition
from quadrate.evaluation.critic import legacy_w1
from quadrate.evaluation.distortion_scores import distortion_mse, psnr_db
from quadrate.evaluation.estimate import Estimate
from quadrate.evaluation.protocol import Protocol, exact_arithmetic
from quadrate.evaluation.references import independent_judge, prepare
from quadrate.evaluation.score import SCORES
from quadrate.sources.source import Source

if TYPE_CHECKING:
    from quadrate.training.judges import Judge

Reconstruct = Callable[[Tensor, int], Tensor]
"""The whole codec: images, uint8 (N, C, H, W), and a seed to reconstructions, float32 (N, C, H, W)."""


COLUMNS = tuple(
    f"{name}{end}"
    for name in ("w1_fresh", "w1_certified", "sliced_w2sq", "kid")
    for end in ("", "_stderr", "_floor")
) + (
    "distortion_mse",
    "accuracy_independent",
    "accuracy_retrained",
)
"""Columns that tell whether a row has all that is measured of every codec on labelled images."""


def columns_of(source: Source) -> tuple[str, ...]:
    """The same for a source, with the scores that you registered.

    Without labels there is no judge, so there are no accuracies and, as it takes a judge's
    features, no kernel distance.
    """
    return (
        *(
            name
            for name in COLUMNS
            if source.is_labelled or not name.startswith(("accuracy", "kid"))
        ),
        *(score.name for score in SCORES.values() if score.measure),
    )


def evaluate(
    reconstruct: Reconstruct,
    source: Source,
    judges: Mapping[str, Judge | None],
    protocol: Protocol | None = None,
    legacy_critic: Callable[[Tensor], Tensor] | None = None,
    cache_dir: Path | None = None,
    known: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Scores a codec on a source's test images.

    The same arguments give the same numbers, bit for bit on one kind of device and thread count.

    Args:
        reconstruct: The whole codec, with whatever noise and dither it has, drawn from the seed it
            is given. It is called with at most `protocol.batch` images at a time, each time with
            another seed. The targets are the clean images.
        source: Images on the device where everything shall run.
        judges: "training", the classifier in the codec's loss, or None; "independent", one of
            another architecture and seed, or None where the source has no labels.
        protocol: The terms; by default those of docs/evaluation.md.
        legacy_critic: The critic that trained the codec, images (N, C, H, W) to N scores, for the
            figure that the papers report.
        cache_dir: Where what does not depend on the codec (`prepare`) is kept from one process to
            the next.
        known: Scores of the same codec on the same terms, which are taken over, and only the others
            measured.

    Returns:
        `distortion_mse`, `psnr_db`; for each judge (training, independent, retrained) `accuracy_…`,
        `accuracy_…_clean`, `cross_entropy_…_nats` and `cross_entropy_…_clean_nats`; `w1_fresh` and
        `w1_fresh_gradient_norm`, `w1_certified`, `sliced_w2sq`, `kid`, each with `…_stderr` and
        `…_floor`; `w1_legacy`. What was not asked for (a training judge, a legacy critic) has no
        keys, and nor have accuracies and `kid` where the source has no labels.

    Raises:
        QuadrateError: If there is no independent judge, the source is too small, or the codec
            returns anything but finite float32 images.
    """
    protocol, known = protocol or Protocol(), known or {}
    reference = prepare(source, judges, protocol, cache_dir)
    train = protocol.training_sample(source, protocol.training_images)
    test = protocol.test_sample(source)

    @cache
    def train_hat() -> Tensor:
        return _reconstructions(reconstruct, train.images, protocol, "train")

    @cache
    def test_hat() -> Tensor:
        return _reconstructions(reconstruct, test.images, protocol, "test")

    def recognized(role: str, judge: Judge) -> dict[str, float]:
        seen = recognition(judge.module, test_hat(), test.labels, protocol.batch)
        return _recognition_columns(
            role, seen, Recognition(judge.accuracy, judge.cross_entropy_nats)
        )

    def retrained() -> dict[str, float]:
        seen = protocol.retrained(train, test, train_hat(), test_hat(), source.classes)
        return _recognition_columns(
            "retrained",
            seen,
            Recognition(
                reference["accuracy_retrained_clean"],
                reference["cross_entropy_retrained_clean_nats"],
            ),
        )

    def with_floor(name: str, estimate: Estimate) -> dict[str, float]:
        return {
            name: estimate.value,
            f"{name}_stderr": estimate.stderr,
            f"{name}_floor": reference[f"{name}_floor"],
        }

    def fresh_critic() -> dict[str, float]:
        gap = protocol.fresh_critic_w1((train.images, train_hat()), (test.images, test_hat()))
        return with_floor("w1_fresh", Estimate(gap.value, gap.stderr)) | {
            "w1_fresh_gradient_norm": gap.gradient_norm
        }

    def distorted() -> dict[str, float]:
        mse = distortion_mse(test.images, test_hat(), protocol.batch)
        return {
            "distortion_mse": mse.value,
            "distortion_mse_stderr": mse.stderr,
            "psnr_db": psnr_db(mse.value),
        }

    def registered(name: str, own: Callable[[Tensor, Tensor], float]) -> dict[str, float]:
        return {name: float(own(test.images, test_hat()))}

    independent = independent_judge(source, judges)
    measures: list[tuple[str, Callable[[], dict[str, float]]]] = [
        ("distortion_mse", distorted),
        *(
            (f"accuracy_{role}", partial(recognized, role, judge))
            for role, judge in judges.items()
            if judge is not None
        ),
        *([("accuracy_retrained", retrained)] if independent else []),
        ("w1_fresh", fresh_critic),
        (
            "w1_certified",
            lambda: with_floor(
                "w1_certified",
                protocol.certified_w1((train.images, train_hat()), (test.images, test_hat())),
            ),
        ),
        (
            "sliced_w2sq",
            lambda: with_floor("sliced_w2sq", protocol.sliced_w2sq(test.images, test_hat())),
        ),
    ]
    if independent is not None:
        measures.append(
            ("kid", lambda: with_floor("kid", protocol.kid(independent, test.images, test_hat())))
        )
    if legacy_critic is not None:
        measures.append(
            (
                "w1_legacy",
                lambda: {
                    "w1_legacy": legacy_w1(legacy_critic, test.images, test_hat(), protocol.batch)
                },
            )
        )
    measures += [
        (score.name, partial(registered, score.name, score.measure))
        for score in SCORES.values()
        if score.measure is not None
    ]
    scores: dict[str, float] = {}
    with exact_arithmetic(source.test.images.device):
        for name, measure in measures:
            columns = _columns_of(name)
            scores |= (
                {column: known[column] for column in columns}
                if set(columns) <= known.keys()
                else measure()
            )
    return scores


def _columns_of(name: str) -> tuple[str, ...]:
    """The columns that are measured with one."""
    if name.startswith("accuracy_"):
        entropy = f"cross_entropy_{name.removeprefix('accuracy_')}"
        return name, f"{name}_clean", f"{entropy}_nats", f"{entropy}_clean_nats"
    if name in SCORES and SCORES[name].measure is not None:
        return (name,)
    others = {"distortion_mse": ("_stderr",), "w1_legacy": ()}.get(name, ("_stderr", "_floor"))
    more = {"distortion_mse": ("psnr_db",), "w1_fresh": ("w1_fresh_gradient_norm",)}.get(name, ())
    return name, *(f"{name}{end}" for end in others), *more


def _recognition_columns(role: str, seen: Recognition, clean: Recognition) -> dict[str, float]:
    return {
        f"accuracy_{role}": seen.accuracy,
        f"accuracy_{role}_clean": clean.accuracy,
        f"cross_entropy_{role}_nats": seen.cross_entropy_nats,
        f"cross_entropy_{role}_clean_nats": clean.cross_entropy_nats,
    }


def _reconstructions(
    reconstruct: Reconstruct, images: Tensor, protocol: Protocol, split: str
) -> Tensor:
    """Reconstructions of all images, float32 (N, C, H, W), checked."""
    chunks = []
    for number, chunk in enumerate(images.split(protocol.batch)):
        seed = (
            draws.key("evaluation", protocol.seed, "codec", split, number) >> 33
        )  # 31 bits, which every random generator takes
        result = reconstruct(chunk, seed)
        if result.shape != chunk.shape or result.dtype != torch.float32:
            got = f"{str(result.dtype).removeprefix('torch.')} {tuple(result.shape)}"
            raise QuadrateError(
                f"the codec must return float32 {tuple(chunk.shape)} for images of that shape; got"
                f" {got}"
            )
        if not result.isfinite().all():
            raise QuadrateError(
                f"the codec returned numbers that are not finite for {split} images;"
                " reconstructions must lie in [0, 1]"
            )
        chunks.append(result)
    return torch.cat(chunks)
