"""Each setting of training does what it says: annealing, alternation, schedules, precision."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from quadrate.config import OperatingPoint, Stage, TrainingConfig
from quadrate.core.shifts import moved
from quadrate.errors import QuadrateError
from quadrate.objectives import Batch, Term
from quadrate.sources.source import pixels
from quadrate.training import Trainer
from quadrate.training.loop import uses_bfloat16
from trainer_parts import same, task, weights

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
    trained = Trainer(
        task(digits, terms=terms, anneal=0.5, epochs=3), [OperatingPoint((3,))]
    ).prepare()
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
    ).prepare()
    assert {term.name: term.ramp for term in trained.terms} == {"mse": False, weights[1]: True}


def test_the_published_alternation_gives_each_batch_to_one_of_the_two(digits):
    trained = Trainer(task(digits, alternate=True), [OperatingPoint((3,), lambda_p=0.1)]).prepare()
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
    trained = Trainer(task(digits, alternate=True), [OperatingPoint((3,))]).prepare()
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
        Trainer(task(digits, alternate=True), [OperatingPoint((3,), lambda_p=lambda_p)]).prepare()
        for _ in range(2)
    )
    steps = [float(losses["mse"]) for step, losses in enumerate(one.steps()) if step % 2 == 1]
    assert twin.train_epoch()[0]["mse"] == pytest.approx(sum(steps) / 4, rel=1e-5)


def test_the_critic_takes_as_many_steps_as_told(digits):
    critics = []
    for steps in (1, 3):
        trained = Trainer(
            task(digits, critic_steps=steps), [OperatingPoint((3,), lambda_p=0.1)]
        ).prepare()
        next(trained.steps())
        critics.append(trained)
    assert [float(one.state(0)["critic_optimizer.0.step"]) for one in critics] == [1, 3]
    assert [float(one.state(0)["codec_optimizer.0.step"]) for one in critics] == [1, 1]


def test_learning_rates_follow_their_schedules(digits):
    trained = Trainer(
        task(digits, epochs=5, learning_rate=0.01, critic_learning_rate=0.001, warmup=0.25),
        [OperatingPoint((3,), lambda_p=0.1)],
    ).prepare()
    codec, critic = [], []
    for _ in range(5):
        for _ in trained.steps():
            for role, rates in (("codec", codec), ("critic", critic)):
                optimizer = trained._descents[f"{role}_optimizer"].optimizer
                rates.append(optimizer.param_groups[0]["lr"])
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
    assert not uses_bfloat16("float32", cpu) and uses_bfloat16("bfloat16", cpu)
    assert uses_bfloat16("auto", torch.device("cuda"))
    assert uses_bfloat16("auto", cpu) == torch.cpu._is_avx512_bf16_supported()


@pytest.mark.parametrize("lambdas", [(0.01,), (0.01, 0.02)], ids=["single", "stacked"])
def test_bfloat16_trains_nearly_as_well_and_keeps_the_parameters_in_float32(digits, judge, lambdas):
    rows = {}
    for name in ("float32", "bfloat16"):
        trained = Trainer(
            task(digits, judge, precision=name),
            [OperatingPoint((3, 3), lambda_p=p, lambda_c=0.02) for p in lambdas],
        ).prepare()
        rows[name] = trained.train_epoch()[0]
        assert all(
            tensor.dtype in (torch.float32, torch.int64)
            for state in trained.networks(0).values()
            for tensor in state.values()
        )
    assert rows["bfloat16"]["mse"] == pytest.approx(rows["float32"]["mse"], rel=0.05)
    assert len(lambdas) > 1 or rows["bfloat16"]["mse"] != rows["float32"]["mse"]


# --- shift ---


def test_images_are_moved_by_up_to_so_many_pixels_each_way(digits):
    """Each batch by one of the 9 moves; what networks are scored against is moved, too."""
    seen: list[Tensor] = []

    def loss(batch: Batch) -> Tensor:
        seen.append(batch.clean[0])
        return batch.reconstruction.flatten(1).mean(1)

    points = [OperatingPoint((3,)), OperatingPoint((3,), seed=1)]
    trainer = Trainer(
        task(digits, terms=[Term("seen", 0.0, loss)], epochs=6, shift=1), points
    ).prepare()
    for _ in range(6):
        trainer.train_epoch()
    originals = pixels(digits.train.images)
    moves = Counter()
    for batch in seen:
        inner = batch[:, :, 1:-1, 1:-1]  # of each image moved: a cut of one original
        for down in range(3):
            for right in range(3):
                cuts = originals.unfold(2, inner.shape[2], 1).unfold(3, inner.shape[3], 1)
                known = set(map(tuple, cuts[:, 0, down, right].flatten(1).tolist()))
                if known.issuperset(map(tuple, inner.flatten(1).tolist())):
                    moves[down, right] += 1
    assert sum(moves.values()) == len(seen) and len(moves) > 6


def test_edges_are_repeated_where_images_are_moved():
    image = torch.arange(9.0).view(1, 1, 1, 3, 3)
    (cut,) = moved(image, torch.tensor([[1, -1]]))
    assert cut[0, 0].tolist() == [[1, 2, 2], [1, 2, 2], [4, 5, 5]]


def test_frozen_encoders_and_numbers_below_zero_take_no_shift():
    point = OperatingPoint((3,))
    shifted = TrainingConfig(shift=1)
    with pytest.raises(QuadrateError, match="shift must be 0 in mode 'universal'"):
        Stage("decoders", (point,), "universal", point, "encoder", shifted)
    with pytest.raises(QuadrateError, match="shift"):
        TrainingConfig(shift=-1)
