"""The evaluation: judges, floors, references, and intervals."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluation_parts import QUICK
from quadrate.errors import QuadrateError
from quadrate.evaluation import (
    columns_of,
    evaluate,
    interpolate_front,
    mean_interval,
    prepare,
    references,
)
from quadrate.evaluation.classification_scores import recognition, retrain_judge
from quadrate.evaluation.yardsticks import fully_connected
from quadrate.sources import Source, Split, pixels
from quadrate.training.judges import Judge


def split(count: int, seed: int) -> Split:
    """Faint noise, (1, 4, 4), with one bright row, whose number is the class."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=draw)
    images = torch.randint(0, 40, (count, 1, 4, 4), generator=draw)
    images[torch.arange(count), 0, labels] += 200
    return Split(images.to(torch.uint8), labels)


def stripes() -> Source:
    return Source("stripes", split(240, 1), split(20, 2), split(130, 3), 4, "0123456789abcdef" * 4)


class RowReader(nn.Module):
    """Tells the class of `stripes` by the brightest row."""

    def features(self, x: Tensor) -> Tensor:
        return x.mean((1, 3))

    def forward(self, x: Tensor) -> Tensor:
        return 20 * self.features(x)


def judges() -> dict[str, Judge | None]:
    return {"training": None, "independent": Judge("rows", RowReader(), 1.0, 0.01)}


def noisy(images: Tensor, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (pixels(images) + 0.1 * torch.randn(images.shape, generator=draw)).clamp(0, 1)


def unchanged(images: Tensor, seed: int) -> Tensor:
    return pixels(images)


@pytest.fixture(autouse=True)
def _no_references_from_other_tests():
    references._computed.clear()


# Classification


def test_recognition_counts_hits_and_takes_the_mean_log_loss():
    images = torch.tensor([0.0, 1.0, 1.0]).view(3, 1, 1, 1)
    share = torch.tensor([0.8, 0.2])

    def classifier(x):
        return torch.where(x.flatten(1) > 0.5, share.flip(0), share).log()

    accuracy, nats = recognition(classifier, images, torch.tensor([0, 1, 0]), batch=2)
    assert accuracy == pytest.approx(2 / 3)
    assert nats == pytest.approx(-(2 * math.log(0.8) + math.log(0.2)) / 3)


def test_a_retrained_judge_learns_what_is_there_and_falls_to_chance_where_the_label_is_destroyed():
    train, test = split(400, 1), split(400, 2)
    terms = {
        "classes": 4,
        "steps": 100,
        "batch": 64,
        "learning_rate": 5e-3,
        "widths": (32,),
        "seed": 0,
    }
    judge = retrain_judge(train.images, train.labels, **terms)
    assert recognition(judge, test.images, test.labels).accuracy > 0.95
    upside = [
        images.roll(1, dims=0) for images in (train.images, test.images)
    ]  # every image is another one's
    accuracy, nats = recognition(
        retrain_judge(upside[0], train.labels, **terms), upside[1], test.labels
    )
    assert accuracy < 0.35 and nats > 0.95 * math.log(4)


def test_a_retrained_judge_does_not_mind_how_bright_the_images_are_on_the_whole():
    train, test = split(100, 1), split(50, 2)
    terms = {
        "classes": 4,
        "steps": 30,
        "batch": 32,
        "learning_rate": 5e-3,
        "widths": (16,),
        "seed": 0,
    }
    dark, bright = (
        retrain_judge(pixels(train.images) + shift, train.labels, **terms)(
            pixels(test.images) + shift
        )
        for shift in (0, torch.linspace(0, 3, 16).view(1, 4, 4))
    )
    assert torch.allclose(dark, bright, atol=1e-3) and dark.std() > 0.1


def test_yardsticks_start_from_the_usual_law_by_key_alone():
    state = torch.get_rng_state()
    first = fully_connected((400, 100, 1), 0.0, "a", device=torch.device("cpu"))
    again, other = (
        fully_connected((400, 100, 1), 0.0, key, device=torch.device("cpu")) for key in "ab"
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[1].weight, again[1].weight) and not torch.equal(
        first[1].weight, other[1].weight
    )
    assert first[1].weight.abs().max() <= 1 / 20 and first[1].weight.std().item() == pytest.approx(
        1 / 20 / math.sqrt(3), rel=0.02
    )


# The whole protocol


def test_evaluate_gives_every_column_twice_the_same_and_leaves_global_state_alone():
    source, critic = stripes(), nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    roles = judges() | {"training": judges()["independent"]}
    state = torch.get_rng_state()
    first = evaluate(noisy, source, roles, QUICK, critic)
    assert torch.equal(torch.get_rng_state(), state) and torch.is_grad_enabled()
    references._computed.clear()
    with (
        torch.inference_mode(),
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):  # the protocol is in single precision all the same
        assert evaluate(noisy, source, roles, QUICK, critic) == first
    expected = {
        "distortion_mse",
        "distortion_mse_stderr",
        "psnr_db",
        "w1_fresh_gradient_norm",
        "w1_legacy",
    }
    expected |= {
        f"{name}{end}"
        for name in ("w1_fresh", "w1_certified", "sliced_w2sq", "kid")
        for end in ("", "_stderr", "_floor")
    }
    for role in ("training", "independent", "retrained"):
        expected |= {
            f"{name}_{role}{end}" for name, end in (("accuracy", ""), ("accuracy", "_clean"))
        }
        expected |= {f"cross_entropy_{role}_nats", f"cross_entropy_{role}_clean_nats"}
    assert set(first) == expected and set(columns_of(source)) <= expected
    assert all(type(value) is float and math.isfinite(value) for value in first.values())
    assert first["accuracy_independent"] > 0.9 and first["accuracy_retrained_clean"] > 0.9
    assert 0.003 < first["distortion_mse"] < 0.01


def test_a_codec_that_changes_nothing_scores_the_floors_and_the_clean_references():
    scores = evaluate(unchanged, stripes(), judges(), QUICK)
    assert not any(name.endswith("_training") or name == "w1_legacy" for name in scores)
    assert scores["distortion_mse"] == scores["w1_fresh"] == scores["w1_certified"] == 0
    assert scores["sliced_w2sq"] == scores["sliced_w2sq_floor"] > 0
    assert scores["kid"] == scores["kid_floor"]
    assert scores["accuracy_independent"] == 1
    assert scores["accuracy_retrained"] == pytest.approx(
        scores["accuracy_retrained_clean"], abs=0.03
    )


def test_floors_do_not_depend_on_the_order_of_the_test_images():
    source = stripes()
    order = source.test.labels.argsort()
    by_class = dataclasses.replace(
        source,
        test=Split(source.test.images[order], source.test.labels[order]),
        fingerprint="sorted",
    )
    floors, sorted_floors = (prepare(each, judges(), QUICK) for each in (source, by_class))
    assert sorted_floors["sliced_w2sq_floor"] < 3 * floors["sliced_w2sq_floor"]


def test_the_codec_sees_small_batches_of_uint8_under_seeds_of_their_own():
    calls = []

    def spy(images: Tensor, seed: int) -> Tensor:
        calls.append((len(images), images.dtype, seed))
        return pixels(images)

    evaluate(spy, stripes(), judges(), QUICK)
    assert [count for count, _, _ in calls] == [
        50,
        50,
        30,
        50,
        50,
        50,
    ]  # all test images, 150 of 240 training images
    assert {dtype for _, dtype, _ in calls} == {torch.uint8}
    assert len({seed for _, _, seed in calls}) == 6 and all(
        0 <= seed < 2**31 for _, _, seed in calls
    )


def test_known_scores_are_taken_over_and_only_the_others_measured():
    source, critic = stripes(), nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    scores = evaluate(noisy, source, judges(), QUICK, critic)

    def never(images: Tensor, seed: int) -> Tensor:
        raise AssertionError("nothing is lacking")

    assert evaluate(never, source, judges(), QUICK, critic, known=scores) == scores
    lacking = {
        name: value for name, value in scores.items() if not name.startswith("w1_certified")
    } | {"kid": 7.0, "other": 1.0}
    completed = evaluate(noisy, source, judges(), QUICK, critic, known=lacking)
    assert completed == scores | {"kid": 7.0}


def test_references_are_computed_once_a_process_source_protocol_and_judge(monkeypatch, tmp_path):
    computed = []
    monkeypatch.setattr(
        references, "_compute", lambda *arguments: computed.append(arguments) or compute(*arguments)
    )
    source = stripes()
    first = evaluate(noisy, source, judges(), QUICK)
    second = evaluate(unchanged, source, judges(), QUICK, cache_dir=tmp_path)
    assert len(computed) == 1 and first["w1_fresh_floor"] == second["w1_fresh_floor"]

    references._computed.clear()  # as in another process
    (file,) = tmp_path.iterdir()
    assert prepare(source, judges(), QUICK, tmp_path)["kid_floor"] == first["kid_floor"]
    assert len(computed) == 1

    references._computed.clear()
    file.write_text("{")  # damaged: computed and written anew
    whole = prepare(source, judges(), QUICK, tmp_path)
    assert len(computed) == 2 and references._read(file, next(iter(references._computed))) == whole

    prepare(source, judges(), dataclasses.replace(QUICK, seed=1), tmp_path)
    prepare(source, {"independent": Judge("rows", RowReader(), 0.9, 0.02)}, QUICK, tmp_path)
    prepare(dataclasses.replace(source, fingerprint="other"), judges(), QUICK, tmp_path)
    assert len(computed) == 5 and len(list(tmp_path.iterdir())) == 4


compute = references._compute


def test_what_cannot_be_scored_is_refused_in_one_line():
    source = stripes()
    with pytest.raises(
        QuadrateError, match=r'^evaluation takes an "independent" judge, .* got training$'
    ):
        evaluate(unchanged, source, {"training": None}, QUICK)
    with pytest.raises(
        QuadrateError, match="^stripes: evaluation takes at least 160 test images; got 130$"
    ):
        evaluate(unchanged, source, judges(), dataclasses.replace(QUICK, kid_blocks=40))
    for codec, message in {
        lambda x, seed: pixels(x).flatten(
            1
        ): r"must return float32 \(50, 1, 4, 4\) .* got float32 \(50, 16\)",
        lambda x, seed: pixels(x).bfloat16(): r"got bfloat16 \(50, 1, 4, 4\)",
        lambda x, seed: pixels(x) / 0: "not finite for test images",
    }.items():
        with pytest.raises(QuadrateError, match=message):
            evaluate(codec, source, judges(), QUICK)


# Intervals and fronts


def test_mean_interval_is_students():
    assert mean_interval([1, 2, 3]) == pytest.approx(
        (2, 2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), rel=1e-6
    )
    mean, low, high = mean_interval([5.0])
    assert mean == 5 and math.isnan(low) and math.isnan(high)
    with pytest.raises(QuadrateError, match="at least one value"):
        mean_interval([])


def test_interpolate_front_keeps_the_pareto_set_and_knows_its_range():
    points = [
        (0.05, 0.95),
        (0.04, 0.8),
        (0.045, 0.7),
        (0.05, 0.9),
        (0.06, 0.95),
        (0.04, 0.8),
        (0.07, 0.97),
    ]  # front: .04 .05 .07
    assert interpolate_front(points, [0.8, 0.875, 0.95, 0.96, 0.97]) == pytest.approx(
        [0.04, 0.045, 0.05, 0.06, 0.07]
    )
    assert np.isnan(interpolate_front(points, [0.79, 0.98])).all()
    assert interpolate_front([(0.04, 0.8)], [0.8]) == pytest.approx([0.04])
    with pytest.raises(QuadrateError, match="at least one"):
        interpolate_front([], [0.9])
