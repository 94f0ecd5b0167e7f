"""Scores of invariant codecs: bits on disk, and the information that they keep.

The file holds a random member of the orbit of each test sample. Probes, small classifiers, learn to
predict labels from the decoded file.
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
_EPOCHS, _BATCH, _LEARNING_RATE, _WEIGHT_DECAY = 6, 256, 2e-3, 1e-3  # of probes
Row = dict[str, Any]


def score_population(codec: InvariantCodec, source: Population) -> Row:
    """Score a codec of the banana or of patterns on fresh samples.

    Returns:
        `disk_bits` (everything in the file of 100,000 samples) and `factorized_disk_bits` (with a
        table for each dimension instead of joint ones). For the banana also `distortion` (MSE
        averaged over the two coordinates) and `objective_disk`, distortion + beta · nats on disk.
        For patterns also the exact entropies, `prediction_error` (the error of the worst invariant
        task, M itself, from the code alone), `information_bits`, the plug-in I(Z;M), and for a
        contrast the InfoNCE bound on it with its standard error.
    """
    names, seed = ("fit", "test"), codec.config.seed
    fit, test = (source.sample(TEST_SAMPLES, name, seed).float() for name in names)
    generator = draws.generator("invariant members", codec.config.seed)
    fit_members, members, others = (source.sample_orbit(x, generator) for x in (fit, test, test))
    data = codec.compress(members, chunk=TEST_SAMPLES)
    assert data is not None
    row: Row = {"disk_bits": 8 * len(data) / TEST_SAMPLES, **_factorized(codec, members)}
    target = source.representative(test) if codec.config.objective == "vic" else members
    if isinstance(source, Banana):
        distortion = float(
            (torch.from_numpy(codec.decompress(data, dtype="float32")) - target).square().mean()
        )
        objective = distortion + codec.config.beta * row["disk_bits"] * math.log(2)
        return row | {"distortion": distortion, "objective_disk": objective}
    assert isinstance(source, PermutedPatterns)
    exact = source.entropies()
    fit_codes, codes = codec.encode(fit_members).numpy(), codec.encode(members).numpy()
    samples = fit_members, members
    fit_orbits, orbits = (source.invariant(x).numpy().reshape(len(x), -1) for x in samples)
    joint = _entropy(np.concatenate([codes, orbits], axis=1))
    row |= {
        "entropy_source_bits": exact.source,
        "entropy_invariant_bits": exact.invariant,
        "prediction_error": _prediction_error(fit_codes, fit_orbits, codes, orbits),
        "information_bits": _entropy(codes) + _entropy(orbits) - joint,
    }
    if codec.config.objective != "bince":
        wrong = (torch.from_numpy(codec.decompress(data, dtype="float32")) > 0.5) != (target > 0.5)
        return row | {"pattern_error": float(wrong.flatten(1).any(dim=1).float().mean())}
    return row | _bound(codec, codec.decompress_latents(data), others)


def _factorized(codec: InvariantCodec, samples: Tensor) -> Row:
    """The bits on disk with a table for each dimension, those of the learned density."""
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
    """The empirical entropy of rows, bits."""
    _, counts = np.unique(rows, axis=0, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _prediction_error(
    fit_codes: np.ndarray, fit_orbits: np.ndarray, codes: np.ndarray, orbits: np.ndarray
) -> float:
    """The error rate of predicting a test sample's orbit by the most frequent one of its code.

    That is the worst invariant task, from codes alone.
    """
    votes: dict[bytes, dict[int, int]] = {}
    pairs = zip(np.ascontiguousarray(fit_codes), fit_orbits.ravel().tolist(), strict=True)
    for code, orbit in pairs:
        own = votes.setdefault(code.tobytes(), {})
        own[orbit] = own.get(orbit, 0) + 1
    best = {code: max(own, key=lambda orbit: own[orbit]) for code, own in votes.items()}
    guesses = [best.get(code.tobytes(), -1) for code in np.ascontiguousarray(codes)]
    return float(np.mean(np.array(guesses) != orbits.ravel()))


def score_images(codec: InvariantCodec, splits: OrbitSplits, name: str = "") -> Row:
    """Score a codec of augmented, labelled images.

    Probes learn to predict labels from augmented training images that were coded and decoded: a
    `ConvClassifier` on reconstructions, if there is a decoder, and a perceptron of two hidden
    layers on dequantized latents. Test images are only used for the final accuracy; validation
    accuracy is reported too.

    Args:
        codec: The codec.
        splits: Images with labels; their group augments the probes' images, and may differ from the
            one that the codec was trained with.
        name: The name of this group, for the row.
    """
    seed, probes = codec.config.seed, _probes(codec, splits.train)
    everything = torch.arange(len(splits.test))
    members = splits.test.sample_orbit(everything, draws.generator("invariant test members", seed))
    data = codec.compress(members, chunk=len(members))
    assert data is not None
    assert splits.test.labels is not None and splits.validation.labels is not None
    received = codec.decompress_latents(data)
    row: Row = {
        "predictor_augmentation": name,
        "disk_bits": 8 * len(data) / len(members),
        **_factorized(codec, members),
    }
    held_out = splits.validation.sample_orbit(
        torch.arange(len(splits.validation)), draws.generator("invariant validation members", seed)
    )
    held_out_received = codec.dequantize(codec.encode(held_out))
    for kind, predict in probes.items():
        correct = predict(received) == splits.test.labels
        accuracy = accuracy_interval(correct.numpy())
        validated = predict(held_out_received) == splits.validation.labels
        row |= {
            f"accuracy_{kind}": accuracy.estimate,
            f"accuracy_{kind}_low": accuracy.low,
            f"accuracy_{kind}_high": accuracy.high,
            f"validation_accuracy_{kind}": float(validated.float().mean()),
        }
    if codec.decoders:
        representative = codec.config.objective == "vic"
        target = splits.test.representatives(everything) if representative else members
        errors = torch.from_numpy(codec.decompress(data, dtype="float32")) - target
        row["distortion_mse"] = float(errors.square().mean())
    else:
        others = splits.test.sample_orbit(
            everything, draws.generator("invariant other members", seed)
        )
        row |= _bound(codec, received, others)
    return row


def _probes(codec: InvariantCodec, train: OrbitSet) -> dict[str, Callable[[Tensor], Tensor]]:
    """Predictors of labels by their input, trained together on the same decoded samples."""
    assert train.labels is not None
    classes = int(train.labels.max()) + 1

    def build() -> dict[str, nn.Module]:
        perceptron = _perceptron(codec.config.dims, classes, codec.config.seed)
        modules: dict[str, nn.Module] = {"latents": perceptron}
        if codec.decoders:
            channels, height, width = codec.shape
            modules["reconstructions"] = ConvClassifier((channels, height, width), classes)
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
            received = codec.dequantize(
                codec.encode(train.sample_orbit(chosen, generator))
            )  # (B, d)
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
    """Dropout of a tenth, with its own generator; PyTorch's uses the global one."""

    def __init__(self, *key: object) -> None:
        super().__init__()
        self._generator = draws.generator("invariant predictor dropout", *key)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * (torch.rand(x.shape, generator=self._generator) >= 0.1) / 0.9


def _perceptron(fan_in: int, classes: int, seed: int) -> nn.Module:
    layers: list[nn.Module] = [nn.BatchNorm1d(fan_in)]
    for a, b in ((fan_in, 512), (512, 512)):
        layers += [nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU(), _Dropout(seed, a)]
    return nn.Sequential(*layers, nn.Linear(512, classes))
