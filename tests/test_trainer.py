"""The training loop: what learns, what is frozen, and what each step sees."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from quadrate.bottlenecks.dithered import DitheredQuantizer
from quadrate.config import OperatingPoint, TrainingConfig
from quadrate.networks.classifiers import DenseClassifier
from quadrate.networks.family import Family
from quadrate.objectives import Batch, Term
from quadrate.sources import pixels
from quadrate.training import FrozenLatents, Task, Trainer
from trainer_parts import COMPACT, same, task, weights

# --- what is trained, and what is not ---


def test_each_point_starts_from_weights_of_its_own_that_are_always_the_same(digits):
    points = (
        OperatingPoint((3,)),
        OperatingPoint((3,), lambda_d=2.0),
        OperatingPoint((3,), seed=1),
    )
    for role in ("encoder", "decoder"):
        first, again = (
            [Trainer(task(digits), [point]).prepare().networks(0)[role] for point in points]
            for _ in range(2)
        )
        assert all(same(a, b) for a, b in zip(first, again, strict=True))
        assert not any(same(first[i], first[j]) for i in range(3) for j in range(i))


def test_training_lowers_the_loss_and_the_rows_say_so(digits, judge):
    trained = Trainer(
        task(digits, judge, epochs=12), [OperatingPoint((4, 4, 4), lambda_c=0.02)]
    ).prepare()
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
    assert (
        rows[-1]["validation_accuracy"] > 0.4
        and (trained.clock.seconds() > 0).all()
        and trained.epoch == 12
    )


@pytest.mark.parametrize("lambda_c", [0.0, 0.1])
@pytest.mark.parametrize("lambda_p", [0.0, 0.1])
def test_the_judge_stays_as_it_is(digits, judge, lambda_c, lambda_p):
    """Weights and statistics, also in training mode, and where no loss asks for it."""
    classifier = judge.module.train().requires_grad_(True)
    classifier.zero_grad()
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    try:
        Trainer(
            task(digits, judge), [OperatingPoint((3,), lambda_p=lambda_p, lambda_c=lambda_c)]
        ).prepare().train_epoch()
        assert same(before, classifier.state_dict())
        assert all(p.grad is None for p in classifier.parameters())
    finally:
        judge.module.eval().requires_grad_(False)
        judge.module.load_state_dict(before)


def test_there_is_a_critic_only_where_something_depends_on_it(digits, judge):
    without = Trainer(task(digits, judge), [OperatingPoint((3,), lambda_c=0.1)]).prepare()
    assert (
        without.critic is None
        and set(without.networks(0)) == {"encoder", "decoder"}
        and "critic_gap" not in without.train_epoch()[0]
    )
    with_one = Trainer(task(digits), [OperatingPoint((3,), lambda_p=0.1)]).prepare()
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
        trained = Trainer(
            task(digits, epochs=15), [OperatingPoint((2,), lambda_p=weight)]
        ).prepare()
        gaps[weight] = [trained.train_epoch()[0]["critic_gap"] for _ in range(15)]
    assert gaps[1e-6][-1] > 0.3 and gaps[1e-6][-1] > 1.5 * gaps[0.3][-1], gaps


def test_a_frozen_encoder_leaves_only_decoder_and_critic_to_train(digits):
    frozen = FrozenLatents(
        (DitheredQuantizer((3, 4)),), torch.rand(256, 2) * 2 - 1, torch.rand(64, 2) * 2 - 1
    )
    universal = Trainer(
        task(digits, train_encoder=False), [OperatingPoint((3, 4))], [frozen]
    ).prepare()
    assert universal.encoder is None and [layer.dims for layer in universal.layers] == [2]
    refined = Trainer(task(digits), [OperatingPoint((2, 5))], [frozen]).prepare()
    assert refined.encoder is not None and [layer.dims for layer in refined.layers] == [2, 2]
    kept = frozen.train.clone()
    for one in (universal, refined):
        before = weights(one.decoder)
        one.train_epoch()
        assert not same(before, weights(one.decoder))
    assert torch.equal(frozen.train, kept) and weights(refined.decoder)["0.weight"].shape[1] == 4


def test_each_image_gets_its_own_frozen_latents(digits):
    """The decoder reads the image's index from the latents, and sees only the dither besides."""
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
        task(digits, family=family, terms=[index], train_encoder=False),
        [OperatingPoint((257,))],
        [FrozenLatents((DitheredQuantizer((257,)),), latents, torch.zeros(64, 1))],
    ).prepare()
    list(trained.steps())
    for x, chosen in zip(seen, indices, strict=True):
        assert ((x - latents[chosen]).abs() <= 1 / 256 + 1e-6).all()
    assert torch.cat(indices).sort().values.tolist() == list(range(256))


def test_the_bases_critic_is_where_the_critic_starts(digits):
    critic = COMPACT.critic((1, 8, 8)).state_dict()
    frozen = FrozenLatents(
        (DitheredQuantizer((3,)),), torch.zeros(256, 1), torch.zeros(64, 1), critic
    )
    for points in (
        [OperatingPoint((3,), lambda_p=0.1)],
        [OperatingPoint((3,), lambda_p=p) for p in (0.1, 0.2)],
    ):
        started = Trainer(
            task(digits, train_encoder=False), points, [frozen] * len(points)
        ).prepare()
        assert all(same(started.critic.member(k), critic) for k in range(len(points)))
    assert (
        Trainer(task(digits, train_encoder=False), [OperatingPoint((3,))], [frozen])
        .prepare()
        .critic
        is None
    )


def test_every_image_is_used_once_an_epoch_by_the_codec_in_another_order_each_time(digits, judge):
    orders: list[Tensor] = []

    def note(batch: Batch) -> Tensor:
        torch.testing.assert_close(batch.clean, pixels(digits.train.images[batch.indices]))
        assert torch.equal(batch.labels, digits.train.labels[batch.indices])
        orders.append(batch.indices)
        return batch.reconstruction.flatten(1).mean(1)

    points = [OperatingPoint((3,), lambda_p=0.1, seed=seed) for seed in (0, 1)]
    trained = Trainer(task(digits, judge, terms=[Term("note", 0.0, note)]), points).prepare()
    for _ in range(2):
        trained.train_epoch()
    epochs = torch.cat(orders, dim=1).view(2, 2, 256)  # model, epoch, place
    assert (epochs.sort(dim=2).values == torch.arange(256)).all()
    assert len({tuple(order.tolist()) for order in epochs.flatten(0, 1)}) == 4


def test_a_batch_larger_than_the_source_is_the_source(digits):
    trained = Trainer(task(digits, batch=1000), [OperatingPoint((3,))]).prepare()
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
        ).prepare()
        inputs.clear()  # what tells the shape of the latents
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
    trained = Trainer(task(digits, judge), [OperatingPoint((3, 3), lambda_c=0.1)]).prepare()
    trained.train_epoch()
    before = trained.state(0)
    assert trained.validate() == trained.validate() and same(before, trained.state(0))


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
    trained = Trainer(Task(digits, family, judge, settings, terms=(ink,)), points).prepare()
    rows = [trained.train_epoch() for _ in range(6)]
    assert all(
        rows[-1][k]["mse"] < rows[0][k]["mse"] and rows[-1][k]["ink"] < rows[0][k]["ink"]
        for k in (0, 1)
    )
