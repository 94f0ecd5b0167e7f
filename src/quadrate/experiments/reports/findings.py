"""What the published recipes show, in Markdown.

The numbers of `quadrate.experiments.reports.analysis` as tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quadrate.experiments.reports.analysis import (
    against_published_front,
    perception_price,
    refinement,
    universal_penalty,
    urdc_finding,
)
from quadrate.experiments.reports.result_tables import markdown, number
from quadrate.experiments.reports.summary import JUDGES, Row, quick_note
from quadrate.experiments.reports.tradeoffs import (
    accuracy_against_perception,
    accuracy_price,
    restoration,
)

_SCORES = {
    "distortion_mse": "MSE",
    "w1_fresh": "W1, fresh critic",
    "sliced_w2sq": "sliced W2²",
    "cross_entropy_training_nats": "cross-entropy, training judge, nats",
    "cross_entropy_independent_nats": "cross-entropy, independent judge, nats",
}


def findings_markdown(recipe_name: str, rows: Sequence[Row]) -> str:
    """The findings of a recipe as Markdown; empty for a recipe that claims nothing.

    Args:
        recipe_name: A recipe's name, as `quadrate recipes` lists it.
        rows: Scored points of a run of it.

    Raises:
        QuadrateError: If a stage or a column is missing.
    """
    write = _RECIPES.get(recipe_name)
    if write and (note := quick_note(rows)):
        return (
            f"{note} So there are no findings yet; `quadrate evaluate RUN` without --quick makes"
            " them."
        )
    return write(rows) if write else ""


def _rdc(rows: Sequence[Row]) -> str:
    found = against_published_front(rows)
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("rate bits", lambda point: f"{point['rate_bits']:g}"),
        ("accuracy", lambda point: f"{point['accuracy']:.3f}"),
        ("MSE, ours", lambda point: number(point["mse_ours"], 5)),
        ("MSE, published front", lambda point: number(point["mse_published"], 5)),
        ("lower by %", lambda point: number(point["percent_lower"], 2)),
    ]
    by_seed = (
        f"; with a curve for each seed {_span(found, 'seeds_mean_percent_lower', 2)} % on average"
        if "seeds_mean_percent_lower" in found
        else ""
    )
    return (
        "Against the published front (RDPC, Fig. 9a) our mean curve has"
        f" {number(found['mean_percent_lower'], 2)} % lower MSE on average,"
        f" {number(found['min_percent_lower'], 2)} % at"
        f" least{by_seed}.\n\n{_table(found['points'], columns)}"
    )


def _rdp(rows: Sequence[Row]) -> str:
    price = perception_price(rows)
    ratios = ", ".join(
        f"{_SCORES[score]} × {_span(price, f'{score}_ratio')}"
        for score in ("distortion_mse", "w1_fresh", "sliced_w2sq")
    )
    penalties = [
        _penalty(rows, "end-to-end", "universal", score) for score in ("w1_fresh", "sliced_w2sq")
    ]
    return "\n\n".join(
        [
            (
                f"From λp = {price['lambda_p_low']:g} to {price['lambda_p_high']:g}, end-to-end:"
                f" {ratios}."
            ),
            *penalties,
        ]
    )


def _urdc(rows: Sequence[Row]) -> str:
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("λp", lambda found: f"{found['lambda_p']:g}"),
        ("MSE, encoder's", lambda found: number(found["encoder_mse"], 5)),
        ("MSE, best end-to-end", lambda found: number(found["best_end_to_end_mse"], 5)),
        (
            "MSE, universal",
            lambda found: (
                f"{number(found['universal_mse_min'], 5)} to"
                f" {number(found['universal_mse_max'], 5)}"
            ),
        ),
        *(
            (
                f"{word} universal above {other}, %",
                lambda found, name=f"{word}_above_{other}_percent": _span(found, name, 2),
            )
            for other in ("encoder", "best")
            for word in ("lowest", "highest")
        ),
    ]
    judge = (
        "training" if all("cross_entropy_training_nats" in row for row in rows) else "independent"
    )
    ends = dict.fromkeys(
        str(row["stage"]).removeprefix("universal")
        for row in rows
        if str(row["stage"]).startswith("universal")
    )
    penalties = [
        _penalty(rows, f"end-to-end{end}", f"universal{end}", f"cross_entropy_{judge}_nats")
        for end in ends
    ]
    published = (
        "Published (URDC, Fig. 6, 4.75 bits, λp = 0): universal decoders .0519 to .0522, near their"
        " encoder's, 11 % above the best, .0467."
    )
    return "\n\n".join([published, _table(urdc_finding(rows), columns), *penalties])


def _refine(rows: Sequence[Row]) -> str:
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("λp", lambda found: f"{found['lambda_p']:g}"),
        *(
            (
                f"{label}, {name}",
                lambda found, key=f"{name}_{short}", digits=digits: number(found[key], digits),
            )
            for short, label, digits in (("mse", "MSE", 5), ("w1", "W1", 3))
            for name in ("first", "refined", "single")
        ),
        *(
            (
                f"{label}, refined / {other}",
                lambda found, key=f"refined_to_{other}_{short}": _span(found, key),
            )
            for short, label, other in _REFINED
        ),
    ]
    found = refinement(rows)
    bits = f"{found[0]['first_bits']:.2f} bits, refined to {found[0]['refined_bits']:.2f}"
    return f"{bits}; the first stage is decoded alone.\n\n{_table(found, columns)}"


def _rpc(rows: Sequence[Row]) -> str:
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("rate bits", lambda found: f"{found['rate_bits']:g}"),
        ("judge", lambda found: found["judge"]),
        *(
            (label, lambda found, name=name, digits=digits: _ends(found, name, digits))
            for name, label, digits in (_ACCURACY, _W1)
        ),
        ("accuracy a unit of W1", lambda found: _span(found, "slope", 4)),
        ("from the lowest W1 to the highest, points", lambda found: _span(found, "change", 2)),
        ("rank correlation", lambda found: number(found["rank_correlation"], 2)),
    ]
    meaning = (
        "Accuracy regressed on W1 over all weights, within seeds; positive where better perception"
        " goes with less accuracy."
    )
    return f"{meaning}\n\n{_table(accuracy_against_perception(rows), columns)}"


def _rdpc(rows: Sequence[Row]) -> str:
    return "\n\n".join(
        [
            _price(rows, "w1_fresh", "distortion_mse", "Fig. 10a"),
            _price(rows, "distortion_mse", "w1_fresh", "Fig. 11a"),
        ]
    )


def _price(rows: Sequence[Row], given: str, paid: str, figure: str) -> str:
    found = accuracy_price(rows, given, paid)
    entries = [
        {"rate_bits": rate["rate_bits"], "given": rate["given"], **weight}
        for rate in found
        for weight in rate["weights"]
    ]
    title = (
        f"Accuracy at a given {_SCORES[given]} (RDPC, {figure}), linearly interpolated along λp:"
    )
    lost = "".join(
        f"\nAt {rate['rate_bits']:g} bits no {_SCORES[given]} is reached by all λc."
        for rate in found
        if not rate["weights"]
    )
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("rate bits", lambda entry: f"{entry['rate_bits']:g}"),
        (f"given {_SCORES[given]}", lambda entry: number(entry["given"], _DIGITS[given])),
        ("λc", lambda entry: f"{entry['lambda_c']:g}"),
        (_SCORES[paid], lambda entry: _span(entry, paid, _DIGITS[paid])),
        *(
            (
                f"accuracy, {judge} judge",
                lambda entry, name=f"accuracy_{judge}": _span(entry, name, 4),
            )
            for judge in JUDGES
            if entries and f"accuracy_{judge}" in entries[0]
        ),
    ]
    return f"{title}{lost}" + (f"\n\n{_table(entries, columns)}" if entries else "")


def _restore(rows: Sequence[Row]) -> str:
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("noise σ", lambda found: f"{found['noise_std']:g}"),
        ("judge", lambda found: found["judge"]),
        (
            "price of the best classification in W1",
            lambda found: f"× {number(found['price_w1_fresh'], 2)}",
        ),
        ("in sliced W2²", lambda found: f"× {number(found['price_sliced_w2sq'], 2)}"),
        *(
            (label, lambda found, name=name, digits=digits: _ends(found, name, digits))
            for name, label, digits in (
                _ACCURACY,
                ("cross_entropy_nats", "cross-entropy, nats", 3),
                _W1,
                ("sliced_w2sq", "sliced W2²", 5),
            )
        ),
        *(
            (
                label,
                lambda found, name=name, digits=digits: (
                    f"{_span(found, f'slope_{name}', digits)}: {found[f'trade_off_{name}']}"
                ),
            )
            for name, label, digits in (
                ("w1_fresh", "nats a unit of W1", 3),
                ("sliced_w2sq", "nats a unit of sliced W2²", 1),
            )
        ),
    ]
    meaning = (
        "The price: perception where cross-entropy is lowest, over the best perception (1: one"
        " codec is best at both, so there is no trade-off).\nThe slopes: cross-entropy regressed on"
        " perception over all weights; negative where better perception goes with worse"
        " classification."
    )
    return f"{meaning}\n\n{_table(restoration(rows), columns)}"


def _penalty(rows: Sequence[Row], end_to_end: str, universal: str, score: str) -> str:
    found = universal_penalty(rows, end_to_end, universal, score)
    varied = len({entry["lambda_c"] for entry in found["weights"]}) > 1
    kind = "score_ratio" if "score_ratio" in found["pooled"] else "score_difference"
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("λp", lambda entry: f"{entry['lambda_p']:g}" if "lambda_p" in entry else "pooled"),
        *(
            [("λc", lambda entry: f"{entry['lambda_c']:g}" if "lambda_c" in entry else "")]
            if varied
            else []
        ),
        ("MSE, ratio", lambda entry: _span(entry, "mse_ratio")),
        (
            f"{_SCORES.get(score, score)}, {kind.removeprefix('score_')}",
            lambda entry: _span(entry, kind),
        ),
    ]
    title = (
        f"Universal penalty: `{universal}` (one frozen encoder, new decoders) over `{end_to_end}`,"
        f" {found['seeds']} seeds:"
    )
    return f"{title}\n\n{_table([*found['weights'], found['pooled']], columns)}"


def _table(
    entries: Sequence[Mapping[str, Any]],
    columns: Sequence[tuple[str, Callable[[Mapping[str, Any]], str]]],
) -> str:
    return markdown(
        [heading for heading, _ in columns],
        [[text(entry) for entry in entries] for _, text in columns],
    )


def _span(values: Mapping[str, Any], name: str, decimals: int = 3) -> str:
    """A mean with its interval, where there is one."""
    low, high = values[f"{name}_low"], values[f"{name}_high"]
    ends = "" if math.isnan(low) else f" [{number(low, decimals)}, {number(high, decimals)}]"
    return number(values[name], decimals) + ends


def _ends(values: Mapping[str, Any], name: str, decimals: int) -> str:
    return f"{number(values[f'{name}_min'], decimals)} to {number(values[f'{name}_max'], decimals)}"


_REFINED = (("mse", "MSE", "first"), ("mse", "MSE", "single"), ("w1", "W1", "single"))
_ACCURACY, _W1 = ("accuracy", "accuracy", 4), ("w1_fresh", "W1", 3)
_DIGITS = {"distortion_mse": 5, "w1_fresh": 3}
_RECIPES = {
    "rdc-mnist": _rdc,
    "rdp-mnist": _rdp,
    "rdp-svhn": _rdp,
    "rpc-mnist": _rpc,
    "rdpc-mnist": _rdpc,
    "rdpc-svhn": _rdpc,
    "urdc-mnist": _urdc,
    "urdc-mnist-6bit": _urdc,
    "refine-mnist": _refine,
    "refine-svhn": _refine,
    "restore-mnist": _restore,
}
