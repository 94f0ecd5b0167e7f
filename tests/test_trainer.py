"""The training loop: stacked equals single, frozen is frozen, and each option does what it says."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from quadrate.config import OperatingPoint, TrainingConfig
from quadrate.errors import QuadrateError
from quadrate.networks.classifiers import DenseClassifier
from quadrate.networks.family import Family, find_family
from quadrate.objectives import Batch, Term
from quadrate.sources import Source, Split, pixels
from quadrate.training import Frozen, Task, Trainer, trainer
from quadrate.training.trainer import precision

COMPACT = find_family("compact")
RECOGNIZABLE = tuple(
    OperatingPoint((2, 3, 5), 1.0, 0.0, c, seed) for c, seed in ((0.0, 0), (0.02, 0), (0.1, 1))
)
BALANCED = tuple(
    OperatingPoint((3, 3), d, p, c, seed)
    for d, p, c, seed in ((1.0, 0.05, 0.0, 0), (1.0, 0.01, 0.05, 0), (0.0, 0.1, 0.02, 1))
)


def task(
    source: Source, judge=None, family: Family = COMPACT, terms=(), own_encoder=True, **settings
) -> Task:
    config = TrainingConfig(**{"epochs": 2, "batch": 32, "precision": "float32", **settings})
    return Task(source, family, judge.module if judge else None, config, own_encoder, tuple(terms))


def weights(network) -> dict[str, Tensor]:
    return network.member(0)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def large_digits(digits: Source) -> Source:
    """Digits as large as MNIST's."""
    splits = {}
    for name in ("train", "validation", "test"):
        split: Split = getattr(digits, name)
        images = nn.functional.pad(
            split.images.repeat_interleave(3, 2).repeat_interleave(3, 3), (2, 2, 2, 2)
        )
        splits[name] = Split(images, split.labels)
    return dataclasses.replace(digits, **splits)


# --- stacked equals single ---


def difference(a: Tensor, b: Tensor, floor: float = 0.0) -> float:
    """How far a is from b, in units of b's norm.

    A tensor below the floor is nothing but rounding.
    """
    return float((a - b).norm()) / max(float(b.norm()), floor, 1e-30)


def gradients(trained: Trainer, index: int) -> dict[str, Tensor]:
    stacks = {"encoder": trained.encoder, "decoder": trained.decoder, "critic": trained.critic}
    stacked = len(trained.points) > 1
    return {
        f"{role}.{name}": p.grad[index] if stacked else p.grad
        for role, stack in stacks.items()
        if stack
        for name, p in zip(
            stack.state(), stack.parameters(), strict=False
        )  # parameters come first, buffers after
    }


def assert_stacked_equals_single(
    task: Task, points: tuple[OperatingPoint, ...], steps: int, tolerance: float = 1e-4
) -> None:
    """Losses, batch statistics and gradients of each step agree to 1e-4 of their norms.

    Before each step the single models take over the state of the stacked ones. Left to themselves
    they drift apart, and not by a fault: Adam divides by the gradient's size, so where a gradient
    is near zero a difference in its last bits becomes a whole step. Each step by itself is fair.

    One gradient in a hundred may be off by more, up to 1e-2: a unit of LeakyReLU that is zero but
    for rounding takes the other slope. (Single models in float32 and in float64 differ by the same
    at such places.)"""
    stacked, singles = Trainer(task, points), [Trainer(task, [point]) for point in points]
    for k, single in enumerate(singles):
        assert same(stacked.state(k), single.state(0)), "the initial weights differ"
    off: list[float] = []
    for done in range(steps):
        if done % stacked.steps_per_epoch == 0:
            for one in (stacked, *singles):
                one.epoch = done // stacked.steps_per_epoch
            runs = [one.steps() for one in (stacked, *singles)]
        for k, single in enumerate(singles):
            single.load([stacked.state(k)])
        losses, *alone = (next(run) for run in runs)
        for k, single in enumerate(singles):
            where = f"step {done}, {points[k].key}"
            assert losses.keys() >= alone[k].keys()  # a stack measures what any of its points needs
            for name, loss in alone[k].items():
                assert difference(losses[name][k], loss[0], 1e-3) < tolerance, f"{where}, {name}"
            for name, tensor in single.state(0).items():
                if "running_" in name:
                    assert difference(stacked.state(k)[name], tensor, 1e-3) < tolerance, (
                        f"{where}, {name}"
                    )
            ours, theirs = gradients(stacked, k), gradients(single, 0)
            largest = max(float(gradient.norm()) for gradient in theirs.values())
            off += [difference(ours[name], theirs[name], 1e-3 * largest) for name in theirs]
    assert max(off) < 100 * tolerance and sum(x > tolerance for x in off) <= len(off) / 100, sorted(
        off
    )[-20:]
    for k, point in enumerate(points):  # it was training that was compared
        assert not same(
            stacked.networks(k)["decoder"], Trainer(task, [point]).networks(0)["decoder"]
        )


def test_stacked_equals_single_with_a_classifier(digits, judge):
    assert_stacked_equals_single(task(digits, judge, epochs=7), RECOGNIZABLE, steps=50)


def test_stacked_equals_single_with_critics(digits, judge):
    assert_stacked_equals_single(task(digits, judge, epochs=7, anneal=0.3), BALANCED[1:], steps=50)


def test_stacked_equals_single_with_a_noisy_source_and_the_papers_surrogate(digits):
    noisy = dataclasses.replace(digits, noise_std=0.5)
    assert_stacked_equals_single(
        task(noisy, surrogate="soft"), (OperatingPoint(), OperatingPoint(seed=1)), steps=10
    )


def test_stacked_equals_single_on_frozen_encoders(digits):
    draw = torch.Generator().manual_seed(0)
    frozen = [
        Frozen(
            (3, 3),
            torch.rand(256, 2, generator=draw) * 2 - 1,
            torch.rand(64, 2, generator=draw) * 2 - 1,
        )
        for _ in range(2)
    ]
    points = (OperatingPoint((3, 3), lambda_d=0.5), OperatingPoint((3, 3), seed=1))
    for own_encoder in (False, True):
        settings = task(digits, own_encoder=own_encoder)
        stacked = Trainer(settings, points, frozen)
        singles = [Trainer(settings, [p], [f]) for p, f in zip(points, frozen, strict=True)]
        losses, *alone = (next(one.steps()) for one in (stacked, *singles))
        for k in (0, 1):
            assert difference(losses["mse"][k], alone[k]["mse"][0]) < 1e-5
            for name, gradient in gradients(singles[k], 0).items():
                assert difference(gradients(stacked, k)[name], gradient) < 1e-4, name


@pytest.fixture
def double_precision(monkeypatch):
    """Makes the trainer compute in double precision; gives the family of that name in it."""
    monkeypatch.setattr(trainer, "pixels", lambda images: pixels(images).double())
    monkeypatch.setattr(Tensor, "float", Tensor.double)

    def doubled(build):
        return lambda *arguments: build(*arguments).double()

    def family(name: str) -> Family:
        plain = find_family(name)
        return Family(name, doubled(plain.encoder), doubled(plain.decoder), doubled(plain.critic))

    return family


def test_stacked_equals_single_with_the_published_networks(digits, double_precision):
    """In double precision, as the gradients of their biases before batch norm are zero but for rounding."""
    points = tuple(OperatingPoint((3, 3), lambda_p=0.01, seed=seed) for seed in (0, 1))
    assert_stacked_equals_single(
        task(large_digits(digits), family=double_precision("paper"), batch=4),
        points,
        steps=1,
        tolerance=1e-6,
    )


def test_stacked_equals_single_left_alone_in_double_precision(digits, double_precision):
    """With 16 digits there is room for 50 steps of drift."""
    points = tuple(
        OperatingPoint((3, 3), lambda_p=p, seed=seed) for p, seed in ((0.05, 0), (0.01, 1))
    )
    settings = task(digits, family=double_precision("compact"), epochs=7)
    stacked, singles = Trainer(settings, points), [Trainer(settings, [point]) for point in points]
    for _ in range(7):
        for losses, *alone in zip(*(one.steps() for one in (stacked, *singles)), strict=True):
            for k in (0, 1):
                for name in losses:
                    assert losses[name].dtype == torch.float64
                    assert float(losses[name][k]) == pytest.approx(
                        float(alone[k][name][0]), rel=1e-6, abs=1e-9
                    )
        for one in (stacked, *singles):
            one.epoch += 1


# --- what is trained, and what is not ---


def test_each_point_starts_from_weights_of_its_own_that_are_always_the_same(digits):
    points = (
        OperatingPoint((3,)),
        OperatingPoint((3,), lambda_d=2.0),
        OperatingPoint((3,), seed=1),
    )
    for role in ("encoder", "decoder"):
        first, again = (
            [Trainer(task(digits), [point]).networks(0)[role] for point in points] for _ in range(2)
        )
        assert all(same(a, b) for a, b in zip(first, again, strict=True))
        assert not any(same(first[i], first[j]) for i in range(3) for j in range(i))


def test_training_lowers_the_loss_and_the_rows_say_so(digits, judge):
    trained = Trainer(task(digits, judge, epochs=12), [OperatingPoint((4, 4, 4), lambda_c=0.02)])
    rows = [trained.train_epoch()[0] for _ in range(12)]
    assert set(rows[0]) == {
        "mse",
        "cross_entropy_nats",
        "validation_mse",
        "validation_cross_entropy_nats",
        "validation_accuracy",
    }
    for name in ("mse", "validation_mse", "cross_entropy_nats", "validation_cross_entropy_nats"):
        assert rows[-1][name] < 0.8 * rows[0][name], name
    assert rows[-1]["validation_accuracy"] > 0.4 and trained.seconds[0] > 0 and trained.epoch == 12


@pytest.mark.parametrize("lambda_c", [0.0, 0.1])
@pytest.mark.parametrize("lambda_p", [0.0, 0.1])
def test_the_judge_stays_as_it_is(digits, judge, lambda_c, lambda_p):
    """Weights and statistics, also if it comes in training mode, and also where no loss asks for it."""
    classifier = judge.module.train().requires_grad_(True)
    classifier.zero_grad()
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    try:
        Trainer(
            task(digits, judge), [OperatingPoint((3,), lambda_p=lambda_p, lambda_c=lambda_c)]
        ).train_epoch()
        assert same(before, classifier.state_dict())
        assert all(p.grad is None for p in classifier.parameters())
    finally:
        judge.module.eval().requires_grad_(False)
        judge.module.load_state_dict(before)


def test_there_is_a_critic_only_where_something_depends_on_it(digits, judge):
    without = Trainer(task(digits, judge), [OperatingPoint((3,), lambda_c=0.1)])
    assert (
        without.critic is None
        and set(without.networks(0)) == {"encoder", "decoder"}
        and "critic_gap" not in without.train_epoch()[0]
    )
    with_one = Trainer(task(digits), [OperatingPoint((3,), lambda_p=0.1)])
    before = weights(with_one.critic)
    row = with_one.train_epoch()[0]
    assert (
        set(with_one.networks(0)) == {"encoder", "decoder", "critic"}
        and {"wasserstein", "critic_gap"} <= row.keys()
    )
    assert not same(before, weights(with_one.critic))


def test_the_critic_learns_to_tell_pictures_from_reconstructions(digits):
    """And the codec learns from it: with a weight it closes the gap that the critic opens."""
    gaps = {}
    for weight in (1e-6, 0.3):
        trained = Trainer(task(digits, epochs=15), [OperatingPoint((2,), lambda_p=weight)])
        gaps[weight] = [trained.train_epoch()[0]["critic_gap"] for _ in range(15)]
    assert gaps[1e-6][-1] > 0.3 and gaps[1e-6][-1] > 1.5 * gaps[0.3][-1], gaps


def test_a_frozen_encoder_leaves_only_decoder_and_critic_to_train(digits):
    frozen = Frozen((3, 4), torch.rand(256, 2) * 2 - 1, torch.rand(64, 2) * 2 - 1)
    universal = Trainer(task(digits, own_encoder=False), [OperatingPoint((3, 4))], [frozen])
    assert universal.encoder is None and universal.quantizer.levels == (3, 4)
    refined = Trainer(task(digits), [OperatingPoint((2, 5))], [frozen])
    assert refined.encoder is not None and refined.quantizer.levels == (3, 4, 2, 5)
    kept = frozen.train.clone()
    for one in (universal, refined):
        before = weights(one.decoder)
        one.train_epoch()
        assert not same(before, weights(one.decoder))
    assert torch.equal(frozen.train, kept) and weights(refined.decoder)["0.weight"].shape[1] == 4


def test_each_image_gets_its_own_frozen_latents(digits):
    """The decoder is told the image's index by the latents, and sees nothing but the dither besides."""
    seen: list[tuple[Tensor, Tensor]] = []

    class Spy(nn.Module):
        def __init__(self, shape, dim):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            seen.append(x.detach())
            return (x[:, :1, None, None] * self.scale).expand(-1, 1, 8, 8)

    indices: list[Tensor] = []
    index = Term(
        "indices",
        0.0,
        lambda batch: indices.append(batch.indices[0]) or batch.reconstruction.flatten(1).mean(1),
    )
    latents = torch.linspace(-1, 1, 256)[:, None]
    family = Family("spy", COMPACT.encoder, Spy, COMPACT.critic)
    trained = Trainer(
        task(digits, family=family, terms=[index], own_encoder=False),
        [OperatingPoint((257,))],
        [Frozen((257,), latents, torch.zeros(64, 1))],
    )
    list(trained.steps())
    for x, chosen in zip(seen, indices, strict=True):
        assert ((x - latents[chosen]).abs() <= 1 / 256 + 1e-6).all()
    assert torch.cat(indices).sort().values.tolist() == list(range(256))


def test_the_bases_critic_is_where_the_critic_starts(digits):
    critic = COMPACT.critic((1, 8, 8)).state_dict()
    frozen = Frozen((3,), torch.zeros(256, 1), torch.zeros(64, 1), critic)
    for points in (
        [OperatingPoint((3,), lambda_p=0.1)],
        [OperatingPoint((3,), lambda_p=p) for p in (0.1, 0.2)],
    ):
        started = Trainer(task(digits, own_encoder=False), points, [frozen] * len(points))
        assert all(same(started.critic.member(k), critic) for k in range(len(points)))
    assert Trainer(task(digits, own_encoder=False), [OperatingPoint((3,))], [frozen]).critic is None


def test_every_image_is_used_once_an_epoch_by_the_codec_in_another_order_each_time(digits, judge):
    orders: list[Tensor] = []

    def note(batch: Batch) -> Tensor:
        torch.testing.assert_close(batch.clean, pixels(digits.train.images[batch.indices]))
        assert torch.equal(batch.labels, digits.train.labels[batch.indices])
        orders.append(batch.indices)
        return batch.reconstruction.flatten(1).mean(1)

    points = [OperatingPoint((3,), lambda_p=0.1, seed=seed) for seed in (0, 1)]
    trained = Trainer(task(digits, judge, terms=[Term("note", 0.0, note)]), points)
    for _ in range(2):
        trained.train_epoch()
    epochs = torch.cat(orders, dim=1).view(2, 2, 256)  # model, epoch, place
    assert (epochs.sort(dim=2).values == torch.arange(256)).all()
    assert len({tuple(order.tolist()) for order in epochs.flatten(0, 1)}) == 4


def test_a_batch_larger_than_the_source_is_the_source(digits):
    trained = Trainer(task(digits, batch=1000), [OperatingPoint((3,))])
    assert (trained.batch, trained.steps_per_epoch) == (256, 1)
    trained.train_epoch()


def test_the_encoder_sees_the_noise_and_the_target_stays_clean(digits):
    inputs: list[Tensor] = []

    def encoder(shape, dim):
        network = COMPACT.encoder(shape, dim)
        network.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
        return network

    targets: list[Tensor] = []

    def note(batch: Batch) -> Tensor:
        assert torch.equal(batch.clean, pixels(digits.train.images[batch.indices]))
        targets.append(batch.clean[0])
        return batch.reconstruction.flatten(1).mean(1)

    term = Term("note", 0.0, note)
    for std in (0.0, 0.5):
        inputs.clear(), targets.clear()
        source = dataclasses.replace(digits, noise_std=std)
        trained = Trainer(
            task(
                source, family=Family("spy", encoder, COMPACT.decoder, COMPACT.critic), terms=[term]
            ),
            [OperatingPoint((3,))],
        )
        trained.train_epoch(), trained.train_epoch()
        validation = inputs.pop(), inputs.pop(8)
        noise = torch.cat(inputs) - torch.cat(targets)
        assert (
            float(noise.std()) == pytest.approx(std, rel=0.02) and abs(float(noise.mean())) < 0.01
        )
        assert (
            std == 0 or len({float(x[0, 0, 0, 0]) for x in noise.split(32)}) == 16
        )  # new noise each step
        assert torch.equal(*validation) and float(
            (validation[0] - pixels(digits.validation.images)).std()
        ) == pytest.approx(std, rel=0.05)


def test_validation_neither_learns_nor_draws_anew(digits, judge):
    trained = Trainer(task(digits, judge), [OperatingPoint((3, 3), lambda_c=0.1)])
    trained.train_epoch()
    before = trained.state(0)
    assert trained.validate() == trained.validate() and same(before, trained.state(0))


# --- settings ---


def probe(seen: list[float]):
    """A loss that notes the weight it gets: the gradient of the whole with respect to it."""

    def loss(batch: Batch) -> Tensor:
        value = batch.reconstruction.flatten(1).mean(1)
        value.register_hook(lambda gradient: seen.append(float(gradient[0])))
        return value

    return loss


def test_annealing_raises_the_weights_from_zero_and_leaves_the_others(digits):
    ramped, plain = [], []
    terms = [Term("ramped", 0.25, probe(ramped), ramp=True), Term("plain", 0.5, probe(plain))]
    trained = Trainer(task(digits, terms=terms, anneal=0.5, epochs=3), [OperatingPoint((3,))])
    for _ in range(3):
        trained.train_epoch()
    assert plain == [0.5] * 24
    assert ramped == pytest.approx([0.25 * min(1, step / 12) for step in range(24)])


@pytest.mark.parametrize(
    "weights", [("lambda_p", "wasserstein"), ("lambda_c", "cross_entropy_nats")]
)
def test_annealing_is_for_perception_and_classification(digits, judge, weights):
    trained = Trainer(
        task(digits, judge, anneal=0.5), [OperatingPoint((3,), 1.0, **{weights[0]: 0.1})]
    )
    assert {term.name: term.ramp for term in trained.terms} == {"mse": False, weights[1]: True}


def test_the_published_alternation_gives_each_batch_to_one_of_the_two(digits):
    trained = Trainer(task(digits, alternate=True), [OperatingPoint((3,), lambda_p=0.1)])
    before: dict[str, dict[str, Tensor]] = {}
    for step, losses in enumerate(trained.steps()):
        roles = {"encoder": trained.encoder, "decoder": trained.decoder, "critic": trained.critic}
        now = {
            role: {str(i): p.detach().clone() for i, p in enumerate(stack.parameters())}
            for role, stack in roles.items()
        }
        if step:
            assert {role for role in now if not same(now[role], before[role])} == (
                {"encoder", "decoder"} if step % 2 else {"critic"}
            )
            assert set(losses) == ({"mse", "wasserstein"} if step % 2 else {"critic_gap"})
        before = now


def test_the_published_alternation_wastes_half_the_batches_where_there_is_no_critic(digits):
    trained = Trainer(task(digits, alternate=True), [OperatingPoint((3,))])
    changes = []
    before = weights(trained.decoder)
    for _ in trained.steps():
        now = weights(trained.decoder)
        changes.append(not same(before, now))
        before = now
    assert changes == [False, True] * 4


@pytest.mark.parametrize("lambda_p", [0.0, 0.1])
def test_with_alternation_a_row_holds_the_mean_over_the_steps_that_had_the_loss(digits, lambda_p):
    one, twin = (
        Trainer(task(digits, alternate=True), [OperatingPoint((3,), lambda_p=lambda_p)])
        for _ in range(2)
    )
    steps = [float(losses["mse"]) for step, losses in enumerate(one.steps()) if step % 2 == 1]
    assert twin.train_epoch()[0]["mse"] == pytest.approx(sum(steps) / 4, rel=1e-5)


def test_the_critic_takes_as_many_steps_as_told(digits):
    critics = []
    for steps in (1, 3):
        trained = Trainer(task(digits, critic_steps=steps), [OperatingPoint((3,), lambda_p=0.1)])
        next(trained.steps())
        critics.append(trained)
    assert [float(one.state(0)["critic_optimizer.0.step"]) for one in critics] == [1, 3]
    assert [float(one.state(0)["codec_optimizer.0.step"]) for one in critics] == [1, 1]


def test_learning_rates_follow_their_schedules(digits):
    trained = Trainer(
        task(digits, epochs=5, learning_rate=0.01, critic_learning_rate=0.001, warmup=0.25),
        [OperatingPoint((3,), lambda_p=0.1)],
    )
    codec, critic = [], []
    for _ in range(5):
        for _ in trained.steps():
            codec.append(trained._codec_optimizer.param_groups[0]["lr"])
            critic.append(trained._critic_optimizer.param_groups[0]["lr"])
        trained.epoch += 1
    assert codec[:10] == pytest.approx([0.01 * (step + 0.5) / 10 for step in range(10)])
    assert codec[10:] == pytest.approx(
        [0.005 * (1 + math.cos(math.pi * (step + 0.5) / 30)) for step in range(30)]
    )
    assert critic[:20] == [0.001] * 20 and critic[20:] == pytest.approx(
        [0.001 * (1 - (step + 0.5) / 20) for step in range(20)]
    )


def test_precision_is_resolved():
    cpu = torch.device("cpu")
    assert precision(TrainingConfig(precision="float32"), cpu) == "float32"
    assert precision(TrainingConfig(), torch.device("cuda")) == "bfloat16"
    assert precision(TrainingConfig(), cpu) == (
        "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"
    )


@pytest.mark.parametrize("lambdas", [(0.01,), (0.01, 0.02)], ids=["single", "stacked"])
def test_bfloat16_trains_nearly_as_well_and_keeps_the_parameters_in_float32(digits, judge, lambdas):
    rows = {}
    for name in ("float32", "bfloat16"):
        trained = Trainer(
            task(digits, judge, precision=name),
            [OperatingPoint((3, 3), lambda_p=p, lambda_c=0.02) for p in lambdas],
        )
        rows[name] = trained.train_epoch()[0]
        assert all(
            tensor.dtype in (torch.float32, torch.int64)
            for state in trained.networks(0).values()
            for tensor in state.values()
        )
    assert rows["bfloat16"]["mse"] == pytest.approx(rows["float32"]["mse"], rel=0.05)
    assert len(lambdas) > 1 or rows["bfloat16"]["mse"] != rows["float32"]["mse"]


# --- resumption ---


@pytest.mark.parametrize("points", [BALANCED[:1], BALANCED[:2]], ids=["single", "stacked"])
def test_a_saved_state_goes_on_bit_for_bit(digits, judge, points):
    settings = task(digits, judge, epochs=4, anneal=0.5, alternate=True)
    whole = Trainer(settings, points)
    rows = [whole.train_epoch() for _ in range(4)]
    first = Trainer(settings, points)
    assert [first.train_epoch() for _ in range(2)] == rows[:2]
    states = [first.state(k) for k in range(len(points))]
    first.train_epoch()  # what was saved must not move with what goes on
    second = Trainer(settings, points)
    second.load(states)
    assert second.epoch == 2 and [second.train_epoch() for _ in range(2)] == rows[2:]
    for k in range(len(points)):
        a, b = whole.state(k), second.state(k)
        for clock in ("seconds", "wall_seconds"):
            assert a.pop(clock) > 0 and b.pop(clock) > 0
        assert same(a, b)


def test_a_point_saved_from_a_stack_may_go_on_alone(digits):
    points = (OperatingPoint((3,)), OperatingPoint((3,), seed=1))
    stacked = Trainer(task(digits), points)
    stacked.train_epoch()
    alone = Trainer(task(digits), points[1:])
    alone.load([stacked.state(1)])
    assert stacked.train_epoch()[1]["mse"] == pytest.approx(alone.train_epoch()[0]["mse"], rel=1e-2)


def test_the_global_generator_neither_matters_nor_moves(digits):
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        trained = Trainer(
            task(dataclasses.replace(digits, noise_std=0.1)), [OperatingPoint((3,), lambda_p=0.1)]
        )
        trained.train_epoch()
        assert torch.equal(before, torch.get_rng_state())
        results.append(trained.networks(0))
    assert all(same(results[0][role], results[1][role]) for role in results[0])


# --- what is refused ---


def test_points_that_do_not_fit_together_are_refused(digits):
    for other in (OperatingPoint((3, 4)), OperatingPoint((3, 3), lambda_p=0.1)):
        with pytest.raises(
            QuadrateError, match="must have the same levels, and all or none of them lambda_p > 0"
        ):
            Trainer(task(digits), [OperatingPoint((3, 3)), other])
    with pytest.raises(
        QuadrateError, match="lambda_c > 0 needs a classifier; give the recipe a judge"
    ):
        Trainer(task(digits), [OperatingPoint((3, 3), lambda_c=0.1)])


def test_a_loss_that_is_not_a_number_names_the_point_and_the_epoch(digits):
    hurt = Term(
        "hurt",
        1.0,
        lambda batch: (
            batch.reconstruction.flatten(1).mean(1)
            * (math.nan if (batch.indices == 7).any() else 1)
        ),
    )
    trained = Trainer(task(digits, terms=[hurt], batch=8, epochs=3), [OperatingPoint((3,), seed=5)])
    with pytest.raises(
        QuadrateError, match=r"training of 1x3_d1_p0_c0_s5 diverged in epoch 1"
    ) as caught:
        trained.train_epoch()
    assert "\n" not in str(caught.value)


class NotANumberBackwards(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * math.nan


class Spoilt(nn.Module):
    """A network whose gradient is not a number, as that of a root is at zero."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x):
        return NotANumberBackwards.apply(self.network(x))


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_weights_that_the_last_step_spoilt_do_not_pass(digits, role):
    """A loss is known before its update, so the last update of all shows in no loss.

    And symbols hide what has become of the encoder.
    """
    build = getattr(COMPACT, role)
    family = dataclasses.replace(
        COMPACT, name="spoilt", **{role: lambda shape, dim: Spoilt(build(shape, dim))}
    )
    with pytest.raises(QuadrateError, match="training of 1x3_d1_p0_c0_s0 diverged"):
        Trainer(
            task(digits, family=family, batch=256, epochs=1), [OperatingPoint((3,))]
        ).train_epoch()


@pytest.mark.parametrize("shape", [(), (2,), (1, 32)], ids=str)
def test_a_loss_of_another_shape_than_one_number_a_model_is_refused(digits, shape):
    """The commonest mistake in a loss of one's own is to average over everything."""
    wrong = Term("mine", 1.0, lambda batch: batch.reconstruction.mean() * torch.ones(shape))
    with pytest.raises(QuadrateError, match="'?mine'?"):
        Trainer(task(digits, terms=[wrong]), [OperatingPoint((3,))]).train_epoch()


def test_weights_for_another_number_of_models_are_refused(digits):
    with pytest.raises(QuadrateError, match="'?mine'?"):
        Trainer(
            task(
                digits,
                terms=[
                    Term("mine", (1.0, 2.0), lambda batch: batch.reconstruction.flatten(1).mean(1))
                ],
            ),
            [OperatingPoint((3,))],
        ).train_epoch()


# --- one's own ---


class Perceptron(nn.Module):
    """A decoder of one's own: a table of pictures, mixed."""

    def __init__(self, shape, dim):
        super().__init__()
        self.pictures = nn.Parameter(torch.rand(dim, *shape))

    def forward(self, x):
        return torch.einsum("nd,dchw->nchw", x, self.pictures)


def test_networks_a_judge_and_a_loss_of_ones_own_are_a_few_lines(digits):
    family = Family("mine", COMPACT.encoder, Perceptron, COMPACT.critic)
    ink = Term(
        "ink",
        0.1,
        lambda batch: (batch.reconstruction - batch.clean).mean((2, 3, 4)).square().mean(1),
    )
    judge = DenseClassifier(digits.shape, digits.classes)
    settings = TrainingConfig(epochs=6, batch=32, precision="float32")
    points = [OperatingPoint((3, 3), 1.0, 0.01, c) for c in (0.1, 0.2)]
    trained = Trainer(Task(digits, family, judge, settings, terms=(ink,)), points)
    rows = [trained.train_epoch() for _ in range(6)]
    assert all(
        rows[-1][k]["mse"] < rows[0][k]["mse"] and rows[-1][k]["ink"] < rows[0][k]["ink"]
        for k in (0, 1)
    )
