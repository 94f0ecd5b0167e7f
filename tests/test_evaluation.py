import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quadrate.errors import QuadrateError
from quadrate.evaluation import (
    COLUMNS,
    Protocol,
    evaluate,
    fresh_critic_w1,
    interpolate_front,
    kid,
    legacy_w1,
    mean_interval,
    prepare,
    references,
    sliced_w2sq,
)
from quadrate.evaluation.certified import certified_w1
from quadrate.evaluation.classification_scores import recognition, retrain_judge
from quadrate.evaluation.distortion_scores import distortion_mse, psnr_db
from quadrate.evaluation.perception_scores import (
    crossed_kid,
    crossed_sliced_w2sq,
    random_directions,
)
from quadrate.evaluation.yardsticks import fully_connected
from quadrate.sources import Source, Split, pixels
from quadrate.training.judges import Judge

QUICK = Protocol(
    batch=50,
    training_images=150,
    directions=16,
    kid_blocks=4,
    critic_steps=20,
    critic_widths=(16,),
    judge_steps=60,
    judge_batch=32,
    judge_widths=(16,),
)
CRITIC = {
    "steps": 150,
    "batch": 64,
    "learning_rate": 5e-3,
    "penalty": 10.0,
    "widths": (64, 32),
    "seed": 0,
}


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


# Distortion


def test_distortion_is_per_pixel_with_an_error_over_images():
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    reconstructions = torch.tensor([0.1, 0.1, 0.3, 0.3]).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    value, stderr = distortion_mse(images, reconstructions, batch=3)
    assert value == pytest.approx(0.05) and stderr == pytest.approx(
        np.std([0.01, 0.01, 0.09, 0.09], ddof=1) / 2
    )
    assert psnr_db(0.01) == pytest.approx(20) and psnr_db(0) == math.inf


# Sliced W2²


def test_sliced_w2sq_of_a_shift_is_the_mean_squared_projection_of_it():
    draw = torch.Generator().manual_seed(0)
    real = torch.rand(200, 12, generator=draw)
    shift = torch.rand(12, generator=draw)
    directions = random_directions(70, 12, draw)
    assert directions.norm(dim=1) == pytest.approx(np.ones(70), abs=1e-6)
    shuffled = (real + shift)[torch.randperm(200, generator=draw)]
    value, _, _ = sliced_w2sq(real, shuffled, directions)
    assert value == pytest.approx((directions @ shift).square().mean().item(), rel=1e-5)


def test_sliced_w2sq_and_its_potentials_by_hand():
    real = torch.tensor([[0.0], [1.0], [3.0]])
    fake = torch.tensor([[2.5], [0.5], [4.0]])
    direction = torch.ones(1, 1)
    value, potential_real, potential_fake = sliced_w2sq(
        real, fake, direction
    )  # 0, 1, 3 against .5, 2.5, 4
    assert value == pytest.approx((0.5**2 + 1.5**2 + 1) / 3)
    assert potential_real.tolist() == pytest.approx(
        [3, 1, -4]
    )  # steps of (-.5 - 1.5)·1 and (-1.5 - 1)·2
    assert potential_fake.tolist() == pytest.approx(
        [4 - 11.75 / 3, -11.75 / 3, 7.75 - 11.75 / 3]
    )  # steps of (.5 + 1.5)·2 and (1.5 + 1)·1.5


def test_crossing_holds_pictures_of_one_half_against_reconstructions_of_the_other():
    draw = torch.Generator().manual_seed(0)
    real = torch.rand(20, 4, generator=draw)
    fake = torch.rand(20, 4, generator=draw)
    directions = random_directions(8, 4, draw)
    one = sliced_w2sq(real[:10], fake[10:], directions)[0]
    other = sliced_w2sq(real[10:], fake[:10], directions)[0]
    assert crossed_sliced_w2sq(real, fake, directions).value == pytest.approx((one + other) / 2)
    features = fake.view(2, 2, 5, 4)
    one = kid(real.view(2, 2, 5, 4)[0], features[1])
    other = kid(real.view(2, 2, 5, 4)[1], features[0])
    assert crossed_kid(real, fake, blocks=2).value == pytest.approx(
        ((one + other) / 2).mean().item()
    )


def test_the_standard_error_of_crossed_sliced_w2sq_is_its_spread_over_test_sets():
    draw = torch.Generator().manual_seed(1)
    directions = random_directions(8, 4, draw)
    values, errors = [], []
    for _ in range(150):
        real = torch.randn(200, 4, generator=draw)
        value, stderr = crossed_sliced_w2sq(
            real, 0.5 * real + 0.5 + 0.1 * torch.randn(200, 4, generator=draw), directions
        )
        values.append(value)
        errors.append(stderr)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)


# Kernel distance


def test_kid_is_the_unbiased_estimate_by_the_cubic_kernel():
    draw = torch.Generator().manual_seed(0)
    real = torch.randn(2, 5, 3, generator=draw).double()
    fake = torch.randn(2, 5, 3, generator=draw).double()

    def kernel(x, y):
        return float((x @ y / 3 + 1) ** 3)

    for block, value in enumerate(kid(real, fake)):
        x, y = real[block], fake[block]
        within = (
            sum(kernel(s[i], s[j]) for s in (x, y) for i in range(5) for j in range(5) if i != j)
            / 20
        )
        across = sum(kernel(x[i], y[j]) for i in range(5) for j in range(5)) / 25
        assert float(value) == pytest.approx(within - 2 * across)


def test_kid_of_equal_distributions_is_about_zero_with_either_sign_even_when_codes_change_nothing():
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(40, 80, 6, generator=draw)
    estimates = [crossed_kid(x, x, blocks=4) for x in features]
    values, errors = np.array([e.value for e in estimates]), np.array([e.stderr for e in estimates])
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(40)
    assert 0.2 < (values > 0).mean() < 0.8
    assert errors.mean() == pytest.approx(values.std(), rel=0.4)
    shifted = crossed_kid(features[0], features[1] + 1, blocks=4)
    assert shifted.value > 5 * shifted.stderr


# Fresh critic


def test_fresh_critic_finds_the_distance_of_two_point_masses():
    real, fake = torch.full((32, 1, 4, 4), 0.75), torch.full((32, 1, 4, 4), 0.25)
    gap = fresh_critic_w1((real, fake), (real, fake), **CRITIC)
    assert gap.value == pytest.approx(2.0, rel=0.1)
    assert gap.stderr == pytest.approx(0, abs=1e-6)


def test_fresh_critic_finds_the_shift_of_gaussians_and_nothing_between_equal_ones():
    draw = torch.Generator().manual_seed(0)
    x, y, z, w = 0.1 * torch.randn(4, 2000, 1, 4, 4, generator=draw)
    shifted = fresh_critic_w1((x, y + 0.25), (z, w + 0.25), **CRITIC)
    assert shifted.value == pytest.approx(1.0, rel=0.15)
    floor = fresh_critic_w1((x, y), (z, w), **CRITIC)
    assert abs(floor.value) < 4 * floor.stderr < 0.1


def test_a_critic_steeper_than_one_is_brought_back_by_its_largest_gradient():
    real, fake = torch.full((32, 1, 4, 4), 0.75), torch.full((32, 1, 4, 4), 0.25)
    gap = fresh_critic_w1((real, fake), (real, fake), **CRITIC | {"penalty": 0.3})
    assert gap.gradient_norm > 2
    assert gap.value < 2.05


def test_legacy_w1_is_the_gap_of_the_critic_it_is_given():
    images = torch.full((3, 1, 2, 2), 255, dtype=torch.uint8)
    for critic in (lambda x: x.sum((1, 2, 3)), lambda x: x.sum((1, 2, 3))[:, None]):
        assert legacy_w1(critic, images, torch.full((3, 1, 2, 2), 0.25), batch=2) == pytest.approx(
            3
        )


# Certified W1

FAMILY = {"axes_images": 500, "ladder": (0, 1, 2, 4, 8, 100)}


def test_the_certified_bound_is_the_distance_of_two_point_masses():
    real, fake = torch.full((32, 1, 4, 4), 0.75), torch.full((32, 1, 4, 4), 0.25)
    assert certified_w1((real, fake), (real, fake), **FAMILY).value == pytest.approx(2.0, rel=1e-6)
    swapped = certified_w1((fake, real), (fake, real), **FAMILY)
    assert swapped.value == pytest.approx(2.0, rel=1e-6) and swapped.stderr == pytest.approx(
        0, abs=1e-6
    )


def test_the_certified_bound_finds_what_a_blur_takes_away_and_stays_below_w1():
    """Eight of 16 coordinates are lost.

    W1 is at most W2 = √8, and the norm of what is lost has mean 2.74.
    """
    draw = torch.Generator().manual_seed(0)
    x, y, z, w = torch.randn(4, 3000, 16, generator=draw)
    spread = torch.tensor([3.0] * 8 + [1.0] * 8)
    lost = torch.tensor([1.0] * 8 + [0.0] * 8)
    x, y, z, w = ((each * spread).view(-1, 1, 4, 4) for each in (x, y, z, w))
    kept = lost.view(1, 4, 4)
    bound = certified_w1((x, y * kept), (z, w * kept), **FAMILY)
    assert 2.6 < bound.value < math.sqrt(8)
    paired = certified_w1((x, x * kept), (z, z * kept), **FAMILY)
    assert paired.value == pytest.approx(bound.value, abs=0.05) and paired.stderr < bound.stderr


def test_the_certified_bound_never_exceeds_a_known_distance_and_is_nothing_between_equal_ones():
    draw = torch.Generator().manual_seed(1)
    x, y, z, w = 0.3 * torch.randn(4, 2000, 1, 4, 4, generator=draw)
    shifted = certified_w1((x, y + 0.25), (z, w + 0.25), **FAMILY)  # W1 is 1
    assert 0.2 < shifted.value < 1.0
    floor = certified_w1((x, y), (z, w), **FAMILY)
    assert abs(floor.value) < 4 * floor.stderr < 0.1


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
    assert set(first) == expected and set(COLUMNS) <= expected
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
