"""Lossy compression for lossless prediction (Dubois et al. 2021): what invariance saves, on disk.

From the rows of `results/<name>/results.csv`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from quadrate.errors import QuadrateError
from quadrate.experiments.claims.claim import Answer, Check, Claim, Spread, all_of
from quadrate.experiments.reports.summary import Row, require

_MOST = 90  # percent of the bound
_BANANA_BETA = 0.07
_NEAR_PUBLISHED = 5  # percentage points
_PUBLISHED_SAVING = 52.3  # percent: 2.302 for 4.830 bits
_PUBLISHED_OBJECTIVE = 0.1472  # MSE + β · nats
_PUBLISHED_ACCURACY, _PUBLISHED_BITS = (
    97.15,
    47.3,
)  # percent, and bits in theory, of VIC on augmented MNIST; 1736 bits on disk
_BINCE_ACCURACY, _MOST_BITS = 97, 48
_FILE_OVERHEAD = 1  # percent
_JPEG_GAIN = (
    7  # how many times the bits of its features JPEG takes on CIFAR-10, in the paper's table
)


def _saves_the_orbits(objective: str, rows: Sequence[Row]) -> tuple[str, Answer]:
    require(
        rows,
        "objective",
        "seed",
        "disk_bits",
        "entropy_source_bits",
        "entropy_invariant_bits",
        "prediction_error",
    )
    plain, invariant = (_by_seed(rows, name) for name in ("vc", objective))
    pairs = [(plain[seed], invariant[seed]) for seed in sorted(plain.keys() & invariant.keys())]
    shares = [
        100
        * (without["disk_bits"] - own["disk_bits"])
        / (own["entropy_source_bits"] - own["entropy_invariant_bits"])
        for without, own in pairs
    ]
    share, errors = Spread.over(shares), max(own["prediction_error"] for _, own in pairs)
    sides = [
        sum(row["disk_bits"] for row in side) / len(pairs) for side in zip(*pairs, strict=True)
    ]
    bound = pairs[0][1]["entropy_source_bits"] - pairs[0][1]["entropy_invariant_bits"]
    measured = (
        f"{share.text(1, ' %')} of H[X|M] = {bound:g} bits: {sides[1]:.2f} for {sides[0]:.2f} bits"
        " on disk"
    )
    return f"{measured}, prediction errors {100 * errors:g} % at most", all_of(
        (share.above(_MOST), "yes" if errors == 0 else "no")
    )


def _halves_the_banana(rows: Sequence[Row]) -> tuple[str, Answer]:
    require(rows, "objective", "beta", "seed", "disk_bits")
    own = [row for row in rows if row["beta"] == _BANANA_BETA]
    plain, invariant = (_by_seed(own, name) for name in ("vc", "vic"))
    saving = Spread.over(
        100 * (1 - invariant[seed]["disk_bits"] / plain[seed]["disk_bits"])
        for seed in sorted(plain.keys() & invariant.keys())
    )
    bits = [
        sum(row["disk_bits"] for row in side.values()) / len(side) for side in (invariant, plain)
    ]
    near = all_of(
        (
            saving.above(_PUBLISHED_SAVING - _NEAR_PUBLISHED),
            saving.below(_PUBLISHED_SAVING + _NEAR_PUBLISHED),
        )
    )
    return f"{saving.text(1, ' %')} on disk: {bits[0]:.3f} for {bits[1]:.3f} bits", near


def _reaches_the_objective(rows: Sequence[Row]) -> tuple[str, Answer]:
    require(rows, "objective", "beta", "seed", "objective_disk", "disk_bits", "distortion")
    own = _by_seed([row for row in rows if row["beta"] == _BANANA_BETA], "vic").values()
    more = Spread.over(100 * (row["objective_disk"] / _PUBLISHED_OBJECTIVE - 1) for row in own)
    bits, distortion = (
        sum(row[name] for row in own) / len(own) for name in ("disk_bits", "distortion")
    )
    return (
        (
            f"{more.text(2, ' %', '+')} of its objective, from {bits:.3f} bits on disk and MSE"
            f" {distortion:.4f}"
        ),
        more.below(1),
    )


def _reads_augmented_images(rows: Sequence[Row]) -> tuple[str, Answer]:
    require(
        rows,
        "beta",
        "seed",
        "disk_bits",
        "accuracy_reconstructions",
        "augmentation",
        "predictor_augmentation",
    )
    own = [row for row in rows if row["predictor_augmentation"] == row["augmentation"]]
    betas = [row["beta"] for row in own]
    best = [
        row for row in own if row["beta"] == max(set(betas), key=betas.count)
    ]  # the one with several seeds
    accuracy = Spread.over(100 * row["accuracy_reconstructions"] for row in best)
    bits = Spread.over(row["disk_bits"] for row in best)
    measured = f"{accuracy.text(2, ' %')} at {bits.text(2, ' bits')} on disk"
    return measured, all_of(
        (accuracy.above(_PUBLISHED_ACCURACY), "yes" if bits.mean <= _MOST_BITS else "no")
    )


def _contrast_reads_too(rows: Sequence[Row]) -> tuple[str, Answer]:
    require(rows, "disk_bits", "accuracy_latents")
    few = [row for row in rows if row["disk_bits"] <= _MOST_BITS]
    if not few:
        return f"no codec of at most {_MOST_BITS} bits", "no"
    best = max(few, key=lambda row: row["accuracy_latents"])
    accuracy = 100 * best["accuracy_latents"]
    return (
        (
            f"{accuracy:.2f} % from latents at {best['disk_bits']:.1f} bits on disk (β ="
            f" {best['beta']:g})"
        ),
        "yes" if accuracy >= _BINCE_ACCURACY else "no",
    )


def _costs_its_entropy(rows: Sequence[Row]) -> tuple[str, Answer]:
    require(rows, "beta", "disk_bits", "model_entropy_bits")
    more = max(100 * (row["disk_bits"] / row["model_entropy_bits"] - 1) for row in rows)
    bits = ", ".join(f"{row['disk_bits']:.1f} for {row['model_entropy_bits']:.1f}" for row in rows)
    return f"{bits} bits, at most {more:.3f} % more", "yes" if more < _FILE_OVERHEAD else "no"


def _needs_a_seventh_of_jpeg(rows: Sequence[Row]) -> tuple[str, Answer]:
    require(rows, "way", "receiver", "bits_per_image", "accuracy", "accuracy_low", "accuracy_high")
    coded, jpegs = (
        [row for row in rows if row["way"] == way and row["receiver"] == "linear"]
        for way in ("feature codec", "jpeg")
    )
    if not (coded and jpegs):
        raise QuadrateError(
            "features and JPEG files, both read by a linear receiver, are not in the results"
        )
    jpeg = max(jpegs, key=lambda row: row["accuracy"])
    small = [row for row in coded if jpeg["bits_per_image"] >= _JPEG_GAIN * row["bits_per_image"]]
    better = [row for row in small if row["accuracy_low"] > jpeg["accuracy_high"]]
    worse = [row for row in small if row["accuracy_high"] < jpeg["accuracy_low"]]
    if not small:
        return f"no features take a {_JPEG_GAIN}th of the bits of the best JPEG", "no"
    least = (
        min(better, key=lambda row: row["bits_per_image"])
        if better
        else max(small, key=lambda row: row["accuracy"])
    )
    gain = jpeg["bits_per_image"] / least["bits_per_image"]
    measured = (
        f"a factor of {gain:.1f}: {100 * least['accuracy']:.2f} % at {least['bits_per_image']:.0f}"
        f" bits, where the best JPEG is read at {100 * jpeg['accuracy']:.2f} % at"
        f" {jpeg['bits_per_image']:.0f}; another backbone, linear receivers"
    )
    return measured, "yes" if better else "no" if len(worse) == len(small) else "undecided"


def _by_seed(rows: Sequence[Row], objective: str) -> dict[int, Row]:
    found = {row["seed"]: row for row in rows if row["objective"] == objective}
    if not found:
        raise QuadrateError(
            f"no row of objective {objective!r}; there are"
            f" {', '.join(sorted({str(row['objective']) for row in rows}))}"
        )
    return found


_OBJECTIVE = Check(
    Claim(
        "lossyless",
        f"VIC on the banana at β = {_BANANA_BETA:g}, in real files",
        "2.302 bits in theory and 64 on disk, MSE .0355: an objective of .1472 nats with the"
        " former",
        "the objective with the bits on disk is surely less than 1 % above the published one in"
        " theory",
    ),
    _reaches_the_objective,
)

CHECKS: dict[str, tuple[Check, ...]] = {
    "group-exact": tuple(
        Check(
            Claim(
                "lossyless",
                f"invariance saves H[X|M] at no loss in prediction, by {objective.upper()}",
                "as a theorem",
                f"surely more than {_MOST} % of it is saved on disk, and no test sample is"
                " predicted wrongly",
            ),
            partial(_saves_the_orbits, objective),
        )
        for objective in ("vic", "bince")
    ),
    "mnist-invariant-vic": (
        Check(
            Claim(
                "lossyless",
                "VIC on augmented MNIST, in real files",
                f"{_PUBLISHED_ACCURACY} % on reconstructions at {_PUBLISHED_BITS} bits in theory,"
                " 1736 on disk",
                f"accuracy is surely above {_PUBLISHED_ACCURACY} %, and the mean file takes at most"
                f" {_MOST_BITS} bits an image",
                of_published_data=True,
            ),
            _reads_augmented_images,
        ),
    ),
    "mnist-invariant-bince": (
        Check(
            Claim(
                "lossyless",
                "BINCE on augmented MNIST needs no more bits than VIC",
                "as a method; no number for MNIST",
                f"a codec of at most {_MOST_BITS} bits on disk is read at {_BINCE_ACCURACY} % or"
                " better",
                of_published_data=True,
            ),
            _contrast_reads_too,
        ),
    ),
    "lossyless-clip": (
        Check(
            Claim(
                "lossyless",
                "the published CLIP bottlenecks in real files",
                "1006, 1424 and 2708 bits by its coder, for entropies of 953.4, 1369.6 and 2518",
                f"each file of 10,000 samples takes less than {_FILE_OVERHEAD} % more than its"
                " model's entropy",
                of_published_data=True,
            ),
            _costs_its_entropy,
        ),
    ),
    "cifar-features": (
        Check(
            Claim(
                "lossyless",
                "features of CIFAR-10 need fewer bits than JPEG files, for a classifier",
                f"a {_JPEG_GAIN}th, by CLIP's features (1,407 bits, 95.2 %)",
                f"features of at most a {_JPEG_GAIN}th of its bits are surely read better than"
                " JPEG's best",
                of_published_data=True,
            ),
            _needs_a_seventh_of_jpeg,
        ),
    ),
    "banana-rotation": (
        Check(
            Claim(
                "lossyless",
                f"knowing of rotation halves the banana's bits at β = {_BANANA_BETA:g}",
                f"{_PUBLISHED_SAVING} % in theory (2.302 for 4.830 bits), none on disk (64 for 64)",
                f"the saving on disk lies surely within {_NEAR_PUBLISHED} percentage points of the"
                f" {_PUBLISHED_SAVING} %",
            ),
            _halves_the_banana,
        ),
        _OBJECTIVE,
    ),
}
