"""What Quadrate's codec of photographs promises, beside classical codecs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from quadrate.experiments.claims.claim import Answer, Check, Claim
from quadrate.experiments.reports.photo_report import score_at
from quadrate.experiments.reports.summary import Row, require

_RATES = (0.25, 0.5, 1.0)  # bits a pixel
_OURS = "photo faithful"
_LPIPS_SHARE, _PRICE_DB = 0.5, 0.8  # of realism


def _better(other: str, least_db: float, rows: Sequence[Row]) -> tuple[str, Answer]:
    """Whether PSNR is higher than another way's by so much at each rate."""
    require(rows, "way", "bits_per_pixel", "psnr_db")
    more = [score_at(rows, _OURS, rate) - score_at(rows, other, rate) for rate in _RATES]
    texts = [f"{gain:+.2f} dB at {rate:g}" for gain, rate in zip(more, _RATES, strict=True)]
    if any(gain != gain for gain in more):  # outside the rates that were scored
        return ", ".join(texts), "undecided"
    return ", ".join(texts), "yes" if min(more) > least_db else "no"


def _check(name: str, other: str, least_db: float) -> Check:
    by = f" by {least_db:g} dB" if least_db else ""
    claim = Claim(
        "Quadrate",
        f"a file of a photograph is nearer to it than one of {name} of as many bytes{by}, from"
        f" {_RATES[0]:g} to {_RATES[-1]:g} bits a pixel",
        "by no codec of version 0.1",
        f"the mean PSNR over the test photographs is higher{by} at each of"
        f" {', '.join(f'{rate:g}' for rate in _RATES)} bits a pixel of whole files",
    )
    return Check(claim, partial(_better, other, least_db))


def _realistic(rows: Sequence[Row]) -> tuple[str, Answer]:
    """What realism costs and brings."""
    ways, rates = (_OURS, "photo realistic"), _RATES[:2]
    rows = [row for row in rows if row["way"] in ways]
    if {row["way"] for row in rows} != set(ways):
        return "the realistic decoder is not scored", "undecided"
    require(rows, "bits_per_pixel", "psnr_db", "lpips_alex")

    def pairs(score: str) -> list[list[float]]:
        return [[score_at(rows, way, rate, score) for way in ways] for rate in rates]

    prices = [one - other for one, other in pairs("psnr_db")]
    shares = [other / one for one, other in pairs("lpips_alex")]
    texts = [
        f"LPIPS × {share:.2f}, -{price:.2f} dB at {rate:g}"
        for share, price, rate in zip(shares, prices, rates, strict=True)
    ]
    if any(value != value for value in (*prices, *shares)):
        return ", ".join(texts), "undecided"
    kept = max(shares) <= _LPIPS_SHARE and max(prices) <= _PRICE_DB
    return ", ".join(texts), "yes" if kept else "no"


_REALISTIC = Check(
    Claim(
        "Quadrate",
        "the realistic decoder of a photograph halves LPIPS at little cost",
        "by codecs with large decoders (CRDR: a third, at .64 dB)",
        f"LPIPS in AlexNet's features is at most {_LPIPS_SHARE:g} times that of the faithful"
        f" decoder, and PSNR at most {_PRICE_DB:g} dB less, at"
        f" {' and '.join(f'{rate:g}' for rate in _RATES[:2])} bits a pixel",
    ),
    _realistic,
)
CHECKS: dict[str, tuple[Check, ...]] = {
    "photo-kodak": (
        _check("WebP", "webp", 0.0),
        _check("JPEG", "jpeg", 2.0),
        _check("JPEG XL", "jpegxl", 0.0),
        _REALISTIC,
    )
}
