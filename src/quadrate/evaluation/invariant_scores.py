"""What invariant codecs keep and cost.

Bits on disk of a .quad file of test members, and what receivers make of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quadrate.bottlenecks.joint_tables import JointModel
from quadrate.core import draws
from quadrate.evaluation.receivers import accuracy_interval
from quadrate.networks.classifiers import ConvClassifier
from quadrate.objectives.invariance import Contrast, information_bound_bits
from quadrate.sources.symmetry import Banana, OrbitSet, OrbitSplits, Population
from quadrate.sources.symmetry.patterns import PermutedPatterns
from quadrate.training.loop import Descent, autocast, run, scheduled, uses_bfloat16

if TYPE_CHECKING:
    from quadrate.codecs import InvariantCodec

TEST_SAMPLES = 100_000  # of a population, in one file
CANDIDATES = 4096  # of the InfoNCE bound
_EPOCHS, _BATCH, _LEARNING_RATE, _WEIGHT_DECAY = 6, 256, 2e-3, 1e-3  # of predictors
Row = dict[str, Any]


def score_population(codec: InvariantCodec, source: Population) -> Row:
    """Scores a codec of the banana or of patterns on fresh samples.

    Returns:
        `disk_bits` (everything in the file of 100,000 members), `factorized_disk_bits` (with a
        table a dimension instead of joint ones), the codec file's content, and: of the banana
        `distortion` (MSE averaged over the two coordinates) and `objective_disk`, distortion + beta
        · nats on disk; of patterns the exact entropies, `prediction_error` (how often the worst
        invariant task, M itself, is guessed wrong from the code alone), `information_bits`, the
        plug-in I(Z;M), and for a contrast the InfoNCE bound on it with its standard error.
    """
    fit, test = (
        source.sample(TEST_SAMPLES, name, codec.config.seed).float() for name in ("fit", "test")
    )
    generator = draws.generator("invariant members", codec.config.seed)
    fit_members, members, others = (source.member(x, generator) for x in (fit, test, test))
    data = codec.compress(members, chunk=TEST_SAMPLES)
    assert data is not None
    row: Row = {"disk_bits": 8 * len(data) / TEST_SAMPLES, **_factorized(codec, members)}
    target = source.representative(test) if codec.config.objective == "vic" else members
    if isinstance(source, Banana):
        distortion = float((torch.from_numpy(codec.decompress(data)) - target).square().mean())
        return row | {
            "distortion": distortion,
            "objective_disk": distortion + codec.config.beta * row["disk_bits"] * math.log(2),
        }
    assert isinstance(source, PermutedPatterns)
    exact = source.entropies()
    fit_codes, codes = codec.encode(fit_members).numpy(), codec.encode(members).numpy()
    fit_orbits, orbits = (
        source.invariant(x).numpy().reshape(len(x), -1) for x in (fit_members, members)
    )
    row |= {"entropy_source_bits": exact.source, "entropy_invariant_bits": exact.invariant}
    row |= {"prediction_error": _prediction_error(fit_codes, fit_orbits, codes, orbits)}
    row |= {
        "information_bits": (
            _entropy(codes) + _entropy(orbits) - _entropy(np.concatenate([codes, orbits], axis=1))
        )
    }
    if codec.config.objective != "bince":
        wrong = (torch.from_numpy(codec.decompress(data)) > 0.5) != (target > 0.5)
        return row | {"pattern_error": float(wrong.flatten(1).any(dim=1).float().mean())}
    return row | _bound(codec, codec.decompress_latents(data), others)


def _factorized(codec: InvariantCodec, samples: Tensor) -> Row:
    """What the file would be with a table a dimension, as the learned density has them."""
    model = codec.models[0]
    if not isinstance(model, JointModel):
        return {}
    data = type(codec)(codec.config, codec.shape, codec.states, model.rounding).compress(
        samples, chunk=len(samples)
    )
    assert data is not None
    return {"factorized_disk_bits": 8 * len(data) / len(samples)}


def _bound(codec: InvariantCodec, received: Tensor, others: Tensor) -> Row:
    critic = Contrast(codec.config.dims)
    critic.load_state_dict(codec.states["critic"])
    other = codec.decompress_latents(codec.compress(others) or b"")
    count = len(received) // CANDIDATES * CANDIDATES
    bound, error = information_bound_bits(
        critic.eval(), received[:count], other[:count], CANDIDATES
    )
    return {"bound_bits": bound, "bound_stderr": error}


def _entropy(rows: np.ndarray) -> float:
    """The entropy of rows as they are distributed here, bits."""
    _, counts = np.unique(rows, axis=0, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _prediction_error(
    fit_codes: np.ndarray, fit_orbits: np.ndarray, codes: np.ndarray, orbits: np.ndarray
) -> float:
    """How often the orbit that a code had most often in training is not the test sample's.

    The worst invariant task, from codes alone.
    """
    votes: dict[bytes, dict[int, int]] = {}
    for code, orbit in zip(
        np.ascontiguousarray(fit_codes), fit_orbits.ravel().tolist(), strict=True
    ):
        own = votes.setdefault(code.tobytes(), {})
        own[orbit] = own.get(orbit, 0) + 1
    best = {code: max(own, key=lambda orbit: own[orbit]) for code, own in votes.items()}
    guesses = [best.get(code.tobytes(), -1) for code in np.ascontiguousarray(codes)]
    return float(np.mean(np.array(guesses) != orbits.ravel()))


def score_images(codec: InvariantCodec, splits: OrbitSplits, name: str = "") -> Row:
    """Scores a codec of augmented, labelled images.

    One member of each test image goes into the file.

    Predictors learn, on members of the training images that were coded and decoded, to tell the
    labels: a `ConvClassifier` on reconstructions, where there is a decoder, and a perceptron of two
    hidden layers on what is received. Neither saw a test image, and nothing was chosen on them;
    validation accuracy is given beside.

    Args:
        codec: The codec.
        splits: Images with labels; their group is the predictors', which need not be the one that
            the codec was trained with.
        name: Of the predictors' group, for the row.
    """
    seed, predictors = codec.config.seed, _predictors(codec, splits.train)
    everything = torch.arange(len(splits.test))
    members = splits.test.members(everything, draws.generator("invariant test members", seed))
    data = codec.compress(members, chunk=len(members))
    assert (
        data is not None and splits.test.labels is not None and splits.validation.labels is not None
    )
    received = codec.decompress_latents(data)
    row: Row = {
        "predictor_augmentation": name,
        "disk_bits": 8 * len(data) / len(members),
        **_factorized(codec, members),
    }
    held_out = splits.validation.members(
        torch.arange(len(splits.validation)), draws.generator("invariant validation members", seed)
    )
    held_out_received = codec.dequantize(codec.encode(held_out))
    for kind, predict in predictors.items():
        correct = predict(received) == splits.test.labels
        accuracy = accuracy_interval(correct.numpy())
        row |= {
            f"accuracy_{kind}": accuracy.estimate,
            f"accuracy_{kind}_low": accuracy.low,
            f"accuracy_{kind}_high": accuracy.high,
        }
        row |= {
            f"validation_accuracy_{kind}": float(
                (predict(held_out_received) == splits.validation.labels).float().mean()
            )
        }
    if codec.decoders:
        target = (
            splits.test.representatives(everything) if codec.config.objective == "vic" else members
        )
        row["distortion_mse"] = float(
            (torch.from_numpy(codec.decompress(data)) - target).square().mean()
        )
    else:
        others = splits.test.members(everything, draws.generator("invariant other members", seed))
        row |= _bound(codec, received, others)
    return row


def _predictors(codec: InvariantCodec, train: OrbitSet) -> dict[str, Callable[[Tensor], Tensor]]:
    """Predictors of labels from what is received, trained side by side on the same members, by what they read."""
    assert train.labels is not None
    classes = int(train.labels.max()) + 1

    def build() -> dict[str, nn.Module]:
        modules: dict[str, nn.Module] = {
            "latents": _perceptron(codec.config.dims, classes, codec.config.seed)
        }
        if codec.decoders:
            modules["reconstructions"] = ConvClassifier(
                (codec.shape[0], codec.shape[1], codec.shape[2]), classes
            )
        return modules

    modules = draws.build_with_seed(build, draws.key("invariant predictors", codec.config.seed))
    reads: dict[str, Callable[[Tensor], Tensor]] = {
        "latents": lambda received: received,
        "reconstructions": codec.reconstruct,
    }
    steps = _EPOCHS * (len(train) // _BATCH)
    descents = {}
    for name, module in modules.items():
        adam = torch.optim.AdamW(module.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            adam, _LEARNING_RATE, total_steps=steps, pct_start=0.1
        )
        descents[name] = Descent(adam, scheduled(cycle))
    bfloat16 = uses_bfloat16("auto", device := torch.device("cpu"))
    labels = train.labels

    def advance(epoch: int) -> None:
        key = (codec.config.seed, epoch)
        generator = draws.generator("invariant predictor members", *key)
        order = draws.permutation("invariant predictor order", *key, n=len(train))
        in_epoch = len(train) // _BATCH
        for step, chosen in enumerate(order.split(_BATCH)[:in_epoch], epoch * in_epoch):
            received = codec.dequantize(codec.encode(train.members(chosen, generator)))  # (B, d)
            for name, module in modules.items():
                with autocast(device, bfloat16 and name == "reconstructions"):
                    logits = module(reads[name](received))  # (B, classes)
                descents[name].step(step, F.cross_entropy(logits.float(), labels[chosen]))

    run(advance, _EPOCHS)
    return {name: _labels_by(module.eval(), reads[name]) for name, module in modules.items()}


def _labels_by(module: nn.Module, read: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    @torch.no_grad()
    def predict(received: Tensor) -> Tensor:
        return torch.cat([module(read(part)).argmax(1) for part in received.split(1000)])

    return predict


class _Dropout(nn.Module):
    """Dropout of a tenth, drawn from a generator of its own, where PyTorch's draws from its global one."""

    def __init__(self, *key: object) -> None:
        super().__init__()
        self._generator = draws.generator("invariant predictor dropout", *key)

    def forward(self, x: Tensor) -> Tensor:
        return (
            x * (torch.rand(x.shape, generator=self._generator) >= 0.1) / 0.9
            if self.training
            else x
        )


def _perceptron(fan_in: int, classes: int, seed: int) -> nn.Module:
    layers: list[nn.Module] = [nn.BatchNorm1d(fan_in)]
    for a, b in ((fan_in, 512), (512, 512)):
        layers += [nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU(), _Dropout(seed, a)]
    return nn.Sequential(*layers, nn.Linear(512, classes))
