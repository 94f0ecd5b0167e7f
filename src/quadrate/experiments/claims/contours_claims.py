"""RDPC's theory figure (Wang et al. 2025): where its contours run, and that perception is free.

From `results/rdpc-contours`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from quadrate.errors import QuadrateError
from quadrate.experiments.claims.claim import Answer, Check, Claim
from quadrate.experiments.reports.summary import Row, require

# Rate in nats: the D and the C that its contour nears, read from the vector figure. The highest
# contours are those that its grid draws least exactly.
_PUBLISHED = {
    0.3: (0.54882, 0.84491),
    0.6: (0.30113, 0.65498),
    0.9: (0.16524, 0.50872),
    1.2: (0.0906, 0.40557),
    1.5: (0.04964, 0.33835),
    1.8: (0.02752, 0.29732),
    2.1: (0.01566, 0.27335),
}
_READ = 0.001  # how far a contour may lie from the published one
_SAME = 1e-9  # nats; rounding


def _where_published(rows: Sequence[Row]) -> tuple[str, Answer]:
    require(rows, "rate_nats", "distortion_asymptote", "classification_asymptote_nats")
    pairs = [(row, _PUBLISHED[row["rate_nats"]]) for row in rows if row["rate_nats"] in _PUBLISHED]
    if not pairs:
        raise QuadrateError(
            f"no row of a published rate; published: {', '.join(map(str, _PUBLISHED))} nats"
        )
    off_d = max(abs(row["distortion_asymptote"] - d) for row, (d, _) in pairs)
    off_c = max(abs(row["classification_asymptote_nats"] - c) for row, (_, c) in pairs)
    bits = max(
        abs(row["distortion_asymptote"] ** math.log(2) - d) for row, (d, _) in pairs
    )  # D = exp(-2R) for the rate in nats, 2^(-2R) in bits
    measured = (
        f"{len(pairs)} contours, at most {off_d:.5f} in D and {off_c:.5f} in C from the figure's;"
        f" were its rates bits, {bits:.2f}"
    )
    return measured, "yes" if max(off_d, off_c) <= _READ else "no"


def _perception_is_free(rows: Sequence[Row]) -> tuple[str, Answer]:
    require(rows, "perception_spread_nats", "perfect_perception_price_nats")
    spread = max(row["perception_spread_nats"] for row in rows)
    price = max(row["perfect_perception_price_nats"] for row in rows)
    measured = (
        f"C on a contour changes by at most {spread:.2g} nats from P = 0 to 1, and perfect"
        f" perception costs at most {price:.2g}"
    )
    return measured, "yes" if max(spread, price) <= _SAME else "no"


CHECKS: dict[str, tuple[Check, ...]] = {
    "rdpc-contours": (
        Check(
            Claim(
                "RDPC",
                "contours of R(D, C) of a Gaussian source, by the closed form",
                "a figure of seven contours, whose axis says bits",
                f"no contour lies further than {_READ:g} from the published one, in D (MSE) and in"
                " C (nats)",
                of_published_data=True,
            ),
            _where_published,
        ),
        Check(
            Claim(
                "RDPC",
                "perception is free next to classification for a Gaussian source",
                "contours of R(P, C) parallel to the P axis",
                f"C on each contour of R(P, C) is the same for every P, to {_SAME:g} nats",
            ),
            _perception_is_free,
        ),
    )
}
