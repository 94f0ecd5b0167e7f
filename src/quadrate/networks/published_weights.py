"""Published checkpoints of uRDP (Zhang et al. 2021) and RDPC (Wang et al. 2025), read into `paper`.

The originals have other names for their layers, but register them in the order in which they are
applied, as we do. So tensors are matched by order, and every pair must agree in kind (weight, bias,
running mean or variance) and in shape.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from quadrate.core.names import check_text
from quadrate.core.torch_file import read_saved
from quadrate.errors import QuadrateError
from quadrate.networks import paper
from quadrate.networks.classifiers import Classifier
from quadrate.networks.compact import Shape

# What a layer of these networks holds. The counters of batch norms, which have no effect, and a
# quantizer's centres go by other names.
_KINDS = ("weight", "bias", "running_mean", "running_var")
_LARGEST_BYTES = 2**28  # the largest published checkpoint, SVHN's classifier, has 24 MB


def load_published_classifier(path: Path | str) -> Classifier:
    """Read a classifier of RDPC for MNIST (`q-mnist.ckpt`) or SVHN; the file tells which.

    Returns:
        The network in evaluation mode: images (N, C, H, W) in [0, 1] to logits (N, classes).

    Raises:
        QuadrateError: If the file is missing or damaged, holds anything but tensors, or has a
            tensor that does not fit; the message names the file, the tensor and both shapes.
    """
    tensors = _read(path)
    shape = paper.SVHN if _first(tensors).ndim == 4 else paper.MNIST
    classes = _last(tensors).numel()
    network = fill_in_order(lambda: paper.classifier(shape, classes), tensors, path)
    assert isinstance(network, Classifier)
    return network


def load_published_codec(
    encoder_path: Path | str, decoder_path: Path | str, shape: Shape
) -> tuple[nn.Module, nn.Module]:
    """Read an encoder and a decoder of uRDP or RDPC.

    Args:
        encoder_path: The encoder's checkpoint (`encoder1.ckpt`); its last layer tells the latent
            dimension.
        decoder_path: The decoder's (`decoder1.ckpt`, or `decoder0.ckpt` for a universal one).
        shape: (1, 28, 28) for MNIST and Fashion-MNIST, (3, 32, 32) for SVHN.

    Returns:
        Encoder and decoder as of `quadrate.networks.paper`, in evaluation mode.

    Raises:
        QuadrateError: If there is no published network for the shape, or for a file as
            `load_published_classifier`.
    """
    tensors = _read(encoder_path)
    dim = _last(tensors).numel()
    encoder = fill_in_order(lambda: paper.encoder(shape, dim), tensors, encoder_path)
    received = _read(decoder_path)
    return encoder, fill_in_order(lambda: paper.decoder(shape, dim), received, decoder_path)


def _read(path: Path | str) -> dict[str, Tensor]:
    """Read the tensors of a state dict that belong to its layers, in order; at least one."""
    try:
        state = read_saved(path, _LARGEST_BYTES)
    except QuadrateError:
        raise
    except FileNotFoundError:
        raise QuadrateError(f"no such checkpoint: {path}") from None
    except Exception:  # an unpickler that is fed any bytes raises any exception
        raise QuadrateError(
            f"{path} is not a whole checkpoint of tensors alone, as"
            " torch.save(network.state_dict(), …) writes it"
        ) from None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise QuadrateError(
            f"{path} is not a state dict, tensors by name, but holds something else; save"
            " network.state_dict() alone"
        )
    tensors = {name: tensor for name, tensor in state.items() if _kind(name) in _KINDS}
    if not tensors:
        raise QuadrateError(f"{path} is a state dict without a single weight")
    for name, tensor in tensors.items():
        check_text(f"{path}: the name of a tensor", name)
        if not tensor.is_floating_point() or tensor.numel() == 0:
            raise QuadrateError(f"{path}: {name} is not a dense floating-point tensor, or is empty")
        if not bool(tensor.isfinite().all()):
            raise QuadrateError(f"{path}: {name} has numbers that are not finite")
    return tensors


def fill_in_order(
    build: Callable[[], nn.Module], tensors: dict[str, Tensor], path: Path | str
) -> nn.Module:
    """Build a network and give it tensors by their order, in evaluation mode.

    Raises:
        QuadrateError: If the tensors do not fit.
    """
    # On "meta" the network has shapes but no memory, so a file cannot make us allocate more than it
    # holds.
    with torch.device("meta"):
        network = build()
    wanted = {name: slot for name, slot in network.state_dict().items() if _kind(name) in _KINDS}
    state: dict[str, Tensor] = {}
    for slot, given in itertools.zip_longest(wanted, tensors):
        if slot is None:
            raise QuadrateError(
                f"{path}: {given} {tuple(tensors[given].shape)} is one too many; the published"
                f" network has {len(wanted)} tensors"
            )
        if given is None:
            raise QuadrateError(
                f"{path} ends after {len(tensors)} tensors, where {slot}"
                f" {tuple(wanted[slot].shape)} of the published network should follow"
            )
        shape, right = tuple(tensors[given].shape), tuple(wanted[slot].shape)
        if shape != right or _kind(given) != _kind(slot):
            raise QuadrateError(
                f"{path}: {given} {shape} stands where the published network has {slot} {right}"
            )
        state[slot] = tensors[given].detach().to(torch.float32, copy=True)
    counters = {
        name: torch.zeros((), dtype=torch.int64)
        for name in network.state_dict()
        if name not in wanted
    }
    network.load_state_dict(state | counters, assign=True)
    return network.eval()


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def _first(tensors: dict[str, Tensor]) -> Tensor:
    return next(iter(tensors.values()))


def _last(tensors: dict[str, Tensor]) -> Tensor:
    return next(reversed(tensors.values()))
