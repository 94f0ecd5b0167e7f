"""Judges: frozen classifiers that score what a codec leaves readable.

A codec learns to please the classifier in its loss, so it is scored by others that it never met:
trained here on first use and kept in a folder. Their accuracy on clean images is known.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quadrate.core import draws
from quadrate.core.files import exists
from quadrate.core.identity import is_built_in_module, module_identity
from quadrate.core.names import check_text
from quadrate.core.progress import Showing, shown
from quadrate.core.tensor_file import read_tensors, write_tensors
from quadrate.errors import QuadrateError
from quadrate.networks.family import CLASSIFIERS
from quadrate.networks.filled import filled
from quadrate.networks.published_weights import load_published_classifier
from quadrate.sources.source import Source, pixels
from quadrate.training.checkpoints import check_tensors
from quadrate.training.loop import Descent, check_finite, run, scheduled

_FORMAT, _OLDER = "quadrate-judge-2", "quadrate-judge-1"  # the older one has no digest
_MOST_CLASSES, _MOST_SIDE = 1 << 16, 1 << 14
_LEAST_STEPS = 600  # fewer leave a classifier of a small source half trained

# By architecture: passes over a source as large as MNIST, and the peak learning rate.
_SETTINGS = {
    "conv": (5, 5e-3),
    "dense": (8, 2e-3),
    "lenet": (10, 3e-3),
    "paper": (10, 1e-3),
    "residual": (6, 5e-3),
    "strided": (8, 3e-3),
}


@dataclass(frozen=True, eq=False)
class Judge:
    """A classifier that no longer changes, and how good it is.

    Attributes:
        name: What tables call it.
        module: Images (N, C, H, W) in [0, 1] to logits (N, classes); put in evaluation mode and
            frozen here.
        accuracy: Its accuracy on the clean test images.
        cross_entropy_nats: Its mean cross-entropy on them, in nats.
        provenance: Where it comes from: architecture, shape, classes, source, fingerprint, seed and
            epochs, as far as they are known.
    """

    name: str
    module: nn.Module
    accuracy: float
    cross_entropy_nats: float
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.module.eval().requires_grad_(False)

    @property
    def is_built_in(self) -> bool:
        """Whether weights alone say what it computes.

        Its classes are those of Quadrate and PyTorch, and its architecture is a built-in one.
        """
        return is_built_in_module(self.module) and self.provenance.get("architecture", "") in (
            "",
            *CLASSIFIERS.built_in,
        )

    @property
    def identity(self) -> str:
        """What it computes, in short, as `quadrate.core.identity.module_identity`."""
        return module_identity(self.module, self.provenance.get("version", ""), self.is_built_in)

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Compute penultimate activations (N, F) of images (N, C, H, W) in [0, 1].

        They serve for distances between sets of images.

        Raises:
            QuadrateError: If the module is not the kind that has features.
        """
        if not hasattr(self.module, "features"):
            raise QuadrateError(
                f"judge {self.name!r} has no features; give its module a method features(x) ->"
                " (N, F)"
            )
        return self.module.features(x)  # type: ignore[operator]


@torch.no_grad()
def score(
    module: nn.Module, images: Tensor, labels: Tensor, batch: int = 2000
) -> tuple[float, float]:
    """Accuracy and mean cross-entropy, in nats, of a classifier in evaluation mode.

    Its mode is restored.

    Args:
        module: Images (N, C, H, W) in [0, 1] to logits or log-probabilities, on the images' device.
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        batch: Images at a time.
    """
    training = module.training
    module.eval()
    hits, nats = 0, 0.0
    for x, y in zip(images.split(batch), labels.split(batch), strict=True):
        logits = module(pixels(x)).float()
        hits += int((logits.argmax(1) == y).sum())
        nats += float(F.cross_entropy(logits, y, reduction="sum"))
    module.train(training)
    return hits / len(labels), nats / len(labels)


def train_judge(
    source: Source,
    architecture: str = "conv",
    seed: int = 0,
    epochs: int | None = None,
    batch: int = 128,
    lr: float | None = None,
    report: Showing = "auto",
) -> Judge:
    """Train a classifier of the source's clean training images.

    Adam, one-cycle schedule, last weights; the test set is scored once, at the end.

    The same seed gives the same judge, on one kind of device and with one number of threads. On
    MNIST and one core "conv" takes about 35 s (99.4 %), "dense" about 20 s (98.4 %) and "lenet"
    about 85 s (98.8 %); on digits all take a few seconds.

    Args:
        source: The images; training runs on the device they lie on.
        architecture: A name in `quadrate.networks.CLASSIFIERS`.
        seed: Decides the initial weights and the order of the images.
        epochs: Passes over the training images; by default 5 ("conv"), 8 ("dense", "strided"), 10
            ("lenet", "paper") or 6 ("residual"), more where they would make fewer than 600 steps.
        batch: Images a step, at most.
        lr: Peak learning rate; by default what suits the architecture.
        report: Takes the progress, as `quadrate.core.progress.shown` says: after each pass epoch,
            epochs and cross_entropy_nats.

    Raises:
        QuadrateError: If there is no such architecture, it does not take the source's shape, the
            source has no labels, or training diverges.
    """
    if not source.is_labelled:
        raise QuadrateError(
            f"{source.name} has no labels, or one class only: a judge tells at least two apart;"
            " images in class folders have some"
        )
    module = _build(architecture, source, seed)
    usual_epochs, usual_lr = _SETTINGS.get(architecture, (5, 1e-3))
    split = source.train
    steps = math.ceil(len(split) / batch)
    epochs = epochs or max(usual_epochs, math.ceil(_LEAST_STEPS / steps))
    optimizer = torch.optim.Adam(module.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr or usual_lr, total_steps=epochs * steps
    )
    descent = Descent(optimizer, scheduled(schedule))
    name = f"{architecture}-s{seed}"
    deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    with deterministic, shown(report, f"judge {name}", 1) as told:

        def advance(epoch: int) -> None:
            order = draws.permutation("judge", seed, architecture, epoch + 1, n=len(split))
            total = torch.zeros((), device=split.images.device)
            # Batches of equal size, give or take one: never a lone last image, which batch norm
            # cannot take.
            parts = order.to(total.device).tensor_split(steps)
            for step, chosen in enumerate(parts, epoch * steps):
                logits = module(pixels(split.images[chosen]))  # (B, classes)
                loss = F.cross_entropy(logits, split.labels[chosen])
                descent.step(step, loss)
                total += loss.detach()
            row = {"epoch": epoch + 1, "epochs": epochs, "cross_entropy_nats": float(total) / steps}
            check_finite(f"the {architecture} judge on {source.name}", f"epoch {epoch + 1}", row)
            told({"stage": "judge", "point": name, **row})

        run(advance, epochs)

    provenance = _provenance(architecture, source) | {"seed": str(seed), "epochs": str(epochs)}
    return Judge(name, module, *score(module, source.test.images, source.test.labels), provenance)


def judge_of(
    module: nn.Module, source: Source, architecture: str, name: str | None = None
) -> Judge:
    """Make a judge of a classifier trained elsewhere; score it on the source's clean test images.

    Args:
        module: Images (N, C, H, W) in [0, 1] to logits (N, classes).
        source: What it judges.
        architecture: By what name `quadrate.networks.register_classifier` knows how to build it, so
            that what `save_judge` writes can be read.
        name: What tables call it; by default the architecture.

    Raises:
        QuadrateError: If no architecture of that name is registered.
    """
    CLASSIFIERS.find(architecture)
    module = module.to(source.test.images.device)
    return Judge(
        name or architecture,
        module,
        *score(module, source.test.images, source.test.labels),
        _provenance(architecture, source),
    )


def save_judge(judge: Judge, path: Path | str) -> None:
    """Write a judge as safetensors, whole or not at all; the metadata say what it is and how good.

    Raises:
        QuadrateError: If the judge's architecture is unknown, so that nobody could read it again,
            or the file cannot be written.
    """
    if not CLASSIFIERS.knows(judge.provenance.get("architecture", "")):
        known = (
            f"out of {', '.join(CLASSIFIERS)}; register its architecture:"
            " quadrate.networks.register_classifier(name, build)"
        )
        raise QuadrateError(
            f"judge {judge.name!r} cannot be saved: its provenance names no architecture {known},"
            " and make it with judge_of"
        )
    metadata = {
        **judge.provenance,
        "format": _FORMAT,
        "name": judge.name,
        "accuracy": repr(judge.accuracy),
        "cross_entropy_nats": repr(judge.cross_entropy_nats),
    }
    write_tensors(Path(path), judge.module.state_dict(), metadata)


def load_judge(path: Path | str, source: Source | None = None) -> Judge:
    """Read a judge that `save_judge` wrote.

    Args:
        path: The file.
        source: What it shall judge. Its shape and classes must be the judge's; if its contents are
            not what the judge was trained on, accuracy and cross-entropy are measured anew on its
            test set. The judge lies on its device, or else on the CPU.

    Raises:
        QuadrateError: If the file is missing, damaged, not a judge, or does not fit the source.
    """
    path = Path(path)
    if not exists(path):
        raise QuadrateError(f"no such judge: {path}")
    metadata, tensors = read_tensors(path, "a judge of Quadrate's", [_FORMAT], [_OLDER])
    del metadata["format"]
    try:
        name = metadata.pop("name")
        accuracy = float(metadata.pop("accuracy"))
        nats = float(metadata.pop("cross_entropy_nats"))
        check_text("the judge's name", name)
        if not (0 <= accuracy <= 1 and 0 <= nats < math.inf):
            raise ValueError(f"accuracy {accuracy} or cross-entropy {nats} is impossible")
        architecture = check_text("the name of its architecture", metadata["architecture"])
        classes = int(metadata["classes"])
        channels, height, width = map(int, metadata["shape"].split("x"))
        if not 1 <= classes <= _MOST_CLASSES or not all(
            1 <= side <= _MOST_SIDE for side in (channels, height, width)
        ):
            raise ValueError(
                f"{metadata['shape'][:40]!a} pixels in {classes} classes are impossible"
            )
        known = CLASSIFIERS.knows(architecture)
        if known:
            module = filled(
                partial(CLASSIFIERS[architecture], (channels, height, width), classes), tensors
            )
            check_tensors(tensors, module.state_dict())
    except (KeyError, ValueError, RuntimeError, TypeError, OverflowError, QuadrateError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]  # PyTorch adds its call stack
        raise QuadrateError(f"{path}: the judge is damaged ({reason})") from None
    if not known:
        raise _not_registered(path, architecture)
    if source is not None:
        if (channels, height, width, classes) != (*source.shape, source.classes):
            have = f"{channels}x{height}x{width} in {classes} classes"
            want = f"{_size(source)} in {source.classes} classes"
            raise QuadrateError(f"{path} judges images of {have}; {source.name} has {want}")
        module = module.to(source.test.images.device)
        if metadata.get("fingerprint") != source.fingerprint:
            accuracy, nats = score(module, source.test.images, source.test.labels)
    return Judge(name, module, accuracy, nats, metadata)


def find_judge(
    spec: str,
    source: Source,
    folder: Path | str,
    seed: int = 0,
    report: Showing = "auto",
) -> Judge:
    """Find the judge that a few words name, or train it.

    Two processes may ask for the same judge at once: both train it, both get the same, and the file
    is whole at any time.

    Args:
        spec: An architecture ("conv", "dense", "lenet", "paper", "residual", "strided"): trained on
            first use, kept in `folder`, read from there later. Or the path of a judge
            (`.safetensors`) or of a classifier that RDPC published (`.ckpt`); paths are looked up
            in the folder QUADRATE_DATA as well.
        source: What it shall judge; the judge lies on its device.
        folder: Where trained judges are kept.
        seed: Seed of a judge that is trained.
        report: As in `train_judge`.

    Raises:
        QuadrateError: If there is no such architecture or file, or the judge does not fit the
            source.
    """
    if CLASSIFIERS.knows(spec):
        name = re.sub(r"[^\w.-]+", "-", source.name)  # a source's name may be the path of a folder
        path = Path(folder) / f"{name}-{source.fingerprint[:8]}-{spec}-s{seed}.safetensors"
        if not exists(path):
            save_judge(train_judge(source, spec, seed, report=report), path)
        try:
            return load_judge(path, source)
        except QuadrateError as error:  # this file was made here, so nothing is lost with it
            raise QuadrateError(f"{error}; delete it to have it trained anew") from None
    path = Path(spec)
    if not exists(path) and "QUADRATE_DATA" in os.environ:
        path = Path(os.environ["QUADRATE_DATA"]) / spec
    if not exists(path):
        known = (
            f"neither an architecture ({', '.join(CLASSIFIERS)}) nor a file, here or under"
            " QUADRATE_DATA"
        )
        raise QuadrateError(
            f"no judge {spec!r}: {known}; an architecture of your own is registered by --module"
            " FILE.py"
        )
    return (
        load_judge(path, source) if path.suffix == ".safetensors" else _load_published(path, source)
    )


def _load_published(path: Path, source: Source) -> Judge:
    module = load_published_classifier(path)
    with torch.device("meta"):
        wanted = CLASSIFIERS["paper"](source.shape, source.classes).state_dict()
    if {name: tensor.shape for name, tensor in wanted.items()} != {
        name: tensor.shape for name, tensor in module.state_dict().items()
    }:
        raise QuadrateError(
            f"{path} does not classify images of {_size(source)} in {source.classes} classes, as"
            f" {source.name} has them"
        )
    module = module.to(source.test.images.device)
    return Judge(
        path.stem,
        module,
        *score(module, source.test.images, source.test.labels),
        _provenance("paper", source) | {"file": path.name},
    )


def _build(architecture: str, source: Source, seed: int) -> nn.Module:
    build = partial(CLASSIFIERS.find(architecture), source.shape, source.classes)
    module = draws.build_with_seed(build, draws.key("judge", seed, architecture) >> 1)
    return module.to(source.train.images.device)


def _not_registered(path: Path | str, architecture: str) -> QuadrateError:
    how = (
        f"quadrate.networks.register_classifier({architecture!r}, build) does it, on the command"
        " line in a file given with --module FILE.py"
    )
    return QuadrateError(
        f"{path}: a judge of architecture {architecture!r}, which is not registered; {how}"
    )


def _provenance(architecture: str, source: Source) -> dict[str, str]:
    return {
        "architecture": architecture,
        "shape": _size(source),
        "classes": str(source.classes),
        "source": source.name,
        "fingerprint": source.fingerprint,
    }


def _size(source: Source) -> str:
    return "x".join(map(str, source.shape))
