"""The terms of the loss: their scales and signs, and that the models of a stack do not mix."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quadrate.objectives import Batch, CrossEntropy, Wasserstein, critic_losses, squared_error

SHAPE = (1, 4, 4)


def batch(models: int = 2, size: int = 6, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    clean, reconstruction = torch.rand(2, models, size, *SHAPE, generator=draw)
    labels = torch.randint(3, (models, size), generator=draw)
    return Batch(
        clean, reconstruction.requires_grad_(), labels, torch.arange(size).expand(models, -1)
    )


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.ReLU(), nn.Linear(8, 3)
    )


def slopes(x: Tensor) -> Tensor:
    """Two linear critics, (2, B, C, H, W) to (2, B).

    The gradient has norm 1/2 for the first model and 3 for the second.
    """
    return (
        x.sum((2, 3, 4)) * torch.tensor([0.5, 3.0])[:, None] / 4
    )  # 16 pixels: the gradient of their sum has norm 4


# --- distortion ---


def test_squared_error_is_per_pixel_on_the_unit_scale():
    clean = torch.zeros(2, 5, 3, 7, 7)
    off = torch.stack([torch.full((5, 3, 7, 7), 0.5), torch.full((5, 3, 7, 7), 1.0)])
    assert squared_error(
        Batch(clean, off, torch.zeros(2, 5).long(), torch.zeros(2, 5).long())
    ).tolist() == [0.25, 1.0]
    b = batch()
    torch.testing.assert_close(
        squared_error(b), torch.stack([F.mse_loss(b.reconstruction[k], b.clean[k]) for k in (0, 1)])
    )


# --- classification ---


@pytest.mark.parametrize("head", [nn.Identity(), nn.LogSoftmax(dim=1)])
def test_cross_entropy_is_torchs_in_nats_whether_of_logits_or_of_log_probabilities(head):
    b, judge = batch(), nn.Sequential(classifier(), head)
    loss = CrossEntropy(judge)(b)
    torch.testing.assert_close(
        loss,
        torch.stack([F.cross_entropy(judge(b.reconstruction[k]), b.labels[k]) for k in (0, 1)]),
    )


def test_an_ignorant_classifier_costs_the_logarithm_of_the_classes():
    judge = classifier()
    for p in judge[-1].parameters():
        nn.init.zeros_(p)
    assert CrossEntropy(judge)(batch()).tolist() == pytest.approx([1.0986123, 1.0986123])


def test_the_classifier_is_frozen_but_its_gradient_reaches_the_reconstruction():
    b, judge = batch(), classifier().train()
    before = {name: tensor.clone() for name, tensor in judge.state_dict().items()}
    CrossEntropy(judge)(b).sum().backward()
    assert not any(module.training for module in judge.modules()) and not any(
        p.requires_grad for p in judge.parameters()
    )
    assert all(p.grad is None for p in judge.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in judge.state_dict().items())
    assert b.reconstruction.grad.flatten(2).norm(dim=2).min() > 0


# --- perception ---


def test_the_codec_is_drawn_to_what_the_critic_calls_real():
    b = batch()
    loss = Wasserstein(slopes)(b)
    torch.testing.assert_close(loss, -slopes(b.reconstruction).mean(1))
    loss.sum().backward()
    with torch.no_grad():
        assert (
            slopes(b.reconstruction - 0.1 * b.reconstruction.grad).mean(1)
            > slopes(b.reconstruction).mean(1)
        ).all()


def test_the_critics_loss_of_linear_critics_is_the_penalty_less_the_gap():
    b = batch()
    mix = torch.rand(2, 6)
    losses, gap = critic_losses(slopes, b.clean, b.reconstruction.detach(), mix, penalty=10.0)
    torch.testing.assert_close(gap, slopes(b.clean).mean(1) - slopes(b.reconstruction).mean(1))
    torch.testing.assert_close(losses + gap, torch.tensor([10 * (0.5 - 1) ** 2, 10 * (3 - 1) ** 2]))


def test_the_gradient_is_penalized_between_picture_and_reconstruction():
    """The critic ½|x|² has the gradient x, so the penalty tells where it was taken."""
    b = batch()
    for share in (0.0, 0.25, 1.0):
        losses, gap = critic_losses(
            lambda x: x.square().flatten(2).sum(2) / 2,
            b.clean,
            b.reconstruction.detach(),
            torch.full((2, 6), share),
            7.0,
        )
        point = share * b.clean + (1 - share) * b.reconstruction.detach()
        torch.testing.assert_close(
            losses + gap, 7 * (point.flatten(2).norm(dim=2) - 1).square().mean(1)
        )


def test_the_penalty_reaches_the_critics_weights():
    b, scale = batch(), torch.tensor([0.5, 3.0], requires_grad=True)
    same = b.clean  # pictures and reconstructions alike: no gap, only the penalty is left
    losses, _ = critic_losses(
        lambda x: x.sum((2, 3, 4)) * scale[:, None] / 4, same, same, torch.rand(2, 6), 10.0
    )
    losses.sum().backward()
    torch.testing.assert_close(scale.grad, torch.tensor([2 * 10 * (0.5 - 1), 2 * 10 * (3.0 - 1)]))


# --- models side by side ---


@pytest.mark.parametrize("name", ["squared_error", "cross_entropy", "wasserstein", "critic"])
def test_models_in_a_stack_do_not_mix(name):
    judge = CrossEntropy(classifier())
    loss = {
        "squared_error": squared_error,
        "cross_entropy": judge,
        "wasserstein": Wasserstein(lambda x: x.square().flatten(2).sum(2)),
        "critic": lambda b: critic_losses(
            lambda x: x.square().flatten(2).sum(2),
            b.clean,
            b.reconstruction,
            torch.full((2, 6), 0.5),
            10.0,
        )[0],
    }[name]
    b = batch()
    values = loss(b)
    assert values.shape == (2,)
    (gradient,) = torch.autograd.grad(values[0], b.reconstruction)
    assert gradient[0].abs().sum() > 0 and gradient[1].abs().sum() == 0
    other = Batch(
        b.clean,
        torch.stack([b.reconstruction[0], torch.rand(6, *SHAPE)]).detach(),
        b.labels,
        b.indices,
    )
    assert torch.equal(loss(other)[0].detach(), values[0].detach()) and loss(other)[1] != values[1]
