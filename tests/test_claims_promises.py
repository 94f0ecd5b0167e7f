"""The promises of our own decoders, decided on rows whose answer is known."""

from typing import Any

import pytest

from claims_parts import answers, verdicts
from rows_made import scored

FAITHFUL = {"mse": 0.05, "sliced": 0.01, "kid": 0.4, "read": 0.90, "retrained": 0.97}
FLOW = {"mse": 0.09, "sliced": 0.00025, "kid": 0.01, "read": 0.93, "retrained": 0.96}
LABELLED = {"mse": 0.06, "sliced": 0.005, "kid": 0.2, "read": 0.968, "retrained": 0.97}


def row(stage: str, seed: int, decoder: str, scores: dict[str, float]) -> dict[str, Any]:
    noise = 1 + 0.001 * seed
    read = scores["read"] * noise
    return scored(
        stage,
        seed=seed,
        decoder=decoder,
        c=0.02 if decoder == "labelled" else 0.0,
        distortion_mse=scores["mse"] * noise,
        sliced_w2sq=scores["sliced"] * noise,
        sliced_w2sq_floor=1e-4,
        kid=scores["kid"] * noise,
        accuracy_independent=read,
        accuracy_retrained=scores["retrained"],
        **{"accuracy_stranger.lenet-s2": read, "accuracy_stranger.residual-s2": read},
    )


def run(flow: dict[str, float], labelled: dict[str, float]) -> list[dict[str, Any]]:
    """Three seeds; encoders' own decoders are no universal ones, and do not count."""
    kinds = (
        ("encoder", "labelled", LABELLED | {"read": 0.1, "mse": 1.0}),
        ("decoders", "direct", FAITHFUL),
        ("decoders", "labelled", LABELLED | labelled),
        ("realistic", "flow", FLOW | flow),
    )
    return [
        row(stage, seed, decoder, scores) for stage, decoder, scores in kinds for seed in range(3)
    ]


def test_all_promises_kept() -> None:
    for name in ("promises-mnist", "promises-mnist-10bit"):
        assert answers(name, run({}, {})) == ["yes"] * 6
    floor, kernel, price, read, told, near = verdicts("promises-mnist", run({}, {}))
    assert floor.measured.startswith("2.5 [2.5, 2.5] times; faithful 100 [")
    assert kernel.measured.startswith("2.5 %") and price.measured.startswith("× 1.80")
    assert read.measured.startswith("independent +6.8 [") and "lenet-s2 +6.8" in read.measured
    assert told.measured.startswith("the judge that reads it worst loses 0.10 [")
    assert near.measured.startswith("× 1.20")


@pytest.mark.parametrize(
    ("broken", "flow", "labelled"),
    [
        (0, {"sliced": 0.0005}, {}),
        (1, {"kid": 0.03}, {}),
        (2, {"mse": 0.11}, {}),
        (3, {}, {"read": 0.905}),
        (4, {}, {"read": 0.96}),
        (5, {}, {"mse": 0.07}),
    ],
)
def test_one_promise_broken(broken: int, flow: dict[str, float], labelled: dict[str, float]):
    found = answers("promises-mnist", run(flow, labelled))
    assert found[broken] == "no"
    others = [answer for i, answer in enumerate(found) if i not in (broken, 4)]
    assert others == ["yes"] * len(others)


def test_a_run_without_a_kind_of_decoder_leaves_its_promises_undecided() -> None:
    rows = [one for one in run({}, {}) if one["decoder"] != "flow"]
    assert answers("promises-mnist", rows) == ["undecided"] * 3 + ["yes"] * 3
