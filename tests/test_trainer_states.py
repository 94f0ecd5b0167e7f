"""Training that is saved and goes on, and training that fails."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from quadrate.config import OperatingPoint
from quadrate.errors import QuadrateError
from quadrate.objectives import Term
from quadrate.training import Trainer
from trainer_parts import BALANCED, COMPACT, same, task

# --- resumption ---


@pytest.mark.parametrize("points", [BALANCED[:1], BALANCED[:2]], ids=["single", "stacked"])
def test_a_saved_state_goes_on_bit_for_bit(digits, judge, points):
    settings = task(digits, judge, epochs=4, anneal=0.5, alternate=True)
    whole = Trainer(settings, points).prepare()
    rows = [whole.train_epoch() for _ in range(4)]
    first = Trainer(settings, points).prepare()
    assert [first.train_epoch() for _ in range(2)] == rows[:2]
    states = [first.state(k) for k in range(len(points))]
    first.train_epoch()  # what was saved must not move with what goes on
    second = Trainer(settings, points).prepare()
    second.load(states)
    assert second.epoch == 2 and [second.train_epoch() for _ in range(2)] == rows[2:]
    for k in range(len(points)):
        a, b = whole.state(k), second.state(k)
        assert (a.pop("seconds") > 0).all() and (b.pop("seconds") > 0).all()
        assert same(a, b)


def test_a_point_saved_from_a_stack_may_go_on_alone(digits):
    points = (OperatingPoint((3,)), OperatingPoint((3,), seed=1))
    stacked = Trainer(task(digits), points).prepare()
    stacked.train_epoch()
    alone = Trainer(task(digits), points[1:]).prepare()
    alone.load([stacked.state(1)])
    assert stacked.train_epoch()[1]["mse"] == pytest.approx(alone.train_epoch()[0]["mse"], rel=1e-2)


def test_the_global_generator_neither_matters_nor_moves(digits):
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        trained = Trainer(
            task(dataclasses.replace(digits, noise_std=0.1)), [OperatingPoint((3,), lambda_p=0.1)]
        ).prepare()
        trained.train_epoch()
        assert torch.equal(before, torch.get_rng_state())
        results.append(trained.networks(0))
    assert all(same(results[0][role], results[1][role]) for role in results[0])


# --- what is refused ---


def test_points_that_do_not_fit_together_are_refused(digits):
    labelled = OperatingPoint((3, 3), lambda_c=0.1, decoder="labelled")
    for other in (OperatingPoint((3, 4)), OperatingPoint((3, 3), lambda_p=0.1), labelled):
        with pytest.raises(
            QuadrateError,
            match="same levels or learned bottleneck, the same kind of decoder, and all or none",
        ):
            Trainer(task(digits), [OperatingPoint((3, 3)), other]).prepare()
    with pytest.raises(
        QuadrateError, match="lambda_c > 0 needs a classifier; give the recipe a judge"
    ):
        Trainer(task(digits), [OperatingPoint((3, 3), lambda_c=0.1)]).prepare()


def test_a_loss_that_is_not_a_number_names_the_point_and_the_epoch(digits):
    hurt = Term(
        "hurt",
        1.0,
        lambda batch: (
            batch.reconstruction.flatten(1).mean(1)
            * (math.nan if (batch.indices == 7).any() else 1)
        ),
    )
    trained = Trainer(
        task(digits, terms=[hurt], batch=8, epochs=3), [OperatingPoint((3,), seed=5)]
    ).prepare()
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
        ).prepare().train_epoch()


@pytest.mark.parametrize("shape", [(), (2,), (1, 32)], ids=str)
def test_a_loss_of_another_shape_than_one_number_a_model_is_refused(digits, shape):
    """The commonest mistake in a loss of one's own is to average over everything."""
    wrong = Term("mine", 1.0, lambda batch: batch.reconstruction.mean() * torch.ones(shape))
    with pytest.raises(QuadrateError, match="'?mine'?"):
        Trainer(task(digits, terms=[wrong]), [OperatingPoint((3,))]).prepare().train_epoch()


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
        ).prepare().train_epoch()
