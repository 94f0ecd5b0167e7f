"""Encoders and decoders of codecs as ONNX, for programs that do without PyTorch.

What stands between them, bottleneck and entropy coder, is whole numbers and no network; it is no
part of this. Encoders give latents before quantization, decoders take what was received.
"""

from __future__ import annotations

import copy
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from quadrate.codecs.symbol_codec import takes_noise
from quadrate.core.files import write_atomically
from quadrate.core.registry import Registry
from quadrate.errors import QuadrateError
from quadrate.networks.block_transform import BLOCK
from quadrate.networks.restoration import CELL

if TYPE_CHECKING:
    from quadrate.codecs.base_codec import BaseCodec
    from quadrate.codecs.invariant_codec import InvariantCodec
    from quadrate.codecs.photo_codec import PhotoCodec
    from quadrate.codecs.tradeoff_codec import TradeoffCodec

_OPSET = 18
_UNFIT = re.compile(r"[^\w.-]")


@dataclass(frozen=True)
class Graph:
    """One network to export, with what it takes.

    Attributes:
        network: The network, whose inputs stand in the order of `inputs`.
        inputs: An example of each by name; a batch of two, as a size of one might become fixed.
        output: The name of what it gives.
        sizes: What dimensions may have any size, by number, for each input: a name, or a multiple
            of one, such as "16*rows"; by default the batch alone.
    """

    network: nn.Module
    inputs: Mapping[str, Tensor] = field(repr=False)
    output: str
    sizes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)


Graphs = dict[str, Graph]


def graphs_of(codec: BaseCodec) -> Graphs:
    """The networks of a codec by name: "encoder", "decoder.faithful" …, copies on the CPU.

    Raises:
        QuadrateError: If codecs of its kind have no networks.
    """
    if not GRAPHS.knows(codec.kind):
        raise QuadrateError(
            f"codecs of the kind {codec.kind!r} have no networks to export; known:"
            f" {', '.join(GRAPHS)}"
        )
    return GRAPHS.find(codec.kind)(codec)


def export_onnx(codec: BaseCodec, folder: Path) -> dict[str, Path]:
    """Write an ONNX file a network; return the files by the networks' names.

    Args:
        codec: The codec.
        folder: Where the files go, NAME.onnx; those that are there are replaced.

    Raises:
        QuadrateError: If the extra `onnx` is not installed, codecs of this kind have no networks,
            or a file cannot be written.
    """
    for package in ("onnx", "onnxscript"):
        try:
            import_module(package)
        except ImportError as error:
            raise QuadrateError(
                f"--onnx needs {package}, which cannot be imported ({error}): pip install"
                " 'quadrate[onnx]' -c constraints.txt"
            ) from None
    paths = {}
    for name, graph in graphs_of(codec).items():
        paths[name] = folder / f"{_UNFIT.sub('_', name)}.onnx"
        data = _exported(graph)
        write_atomically(paths[name], partial(_write, data))
    return paths


def _write(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def _exported(graph: Graph) -> bytes:
    shapes = tuple(
        {number: _size(text) for number, text in graph.sizes.get(name, {0: "batch"}).items()}
        for name in graph.inputs
    )
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _with_constants(graph.network),
            tuple(graph.inputs.values()),
            input_names=list(graph.inputs),
            output_names=[graph.output],
            dynamic_shapes=shapes,
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return cast(bytes, program.model_proto.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it, nothing is said of how the exporter works and of what it could use besides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _size(text: str) -> Any:
    """A size of any value, or a multiple of one, such as "16*rows"."""
    factor, _, name = text.rpartition("*")
    return int(factor or 1) * torch.export.Dim(name)


def _with_constants(network: nn.Module) -> nn.Module:
    """A copy on the CPU whose whole-number buffers are plain numbers, as loops may run by them."""
    own = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    for module in own.modules():
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and buffer.ndim == 0 and not buffer.is_floating_point():
                del module._buffers[name]
                setattr(module, name, int(buffer))
    return own


# One function a kind of codec -------------------------------------------------------------------


def _of_tradeoff(codec: TradeoffCodec) -> Graphs:
    images = torch.rand(2, *codec.shape)
    found = {
        "encoder" if len(codec.encoders) == 1 else f"encoder.{i}": Graph(
            encoder, {"images": images}, "latents"
        )
        for i, encoder in enumerate(codec.encoders)
    }
    with torch.no_grad():
        parts = [encoder(images.to(codec.device)).cpu() for encoder in codec.encoders]
    for name, network in codec.decoders.items():
        inputs = {"latents": torch.cat(parts, 1)}
        if takes_noise(network):
            inputs["noise"] = torch.randn(2, *codec.shape)
        found[f"decoder.{name}"] = Graph(network, inputs, "images")
    return found


def _of_invariant(codec: InvariantCodec) -> Graphs:
    found = {"encoder": Graph(codec.encoder, {"samples": torch.rand(2, *codec.shape)}, "latents")}
    latents = torch.rand(2, codec.config.dims)
    for name, decoder in codec.decoders.items():
        network = _Bounded(decoder)
        found[f"decoder.{name}"] = Graph(network, {"latents": latents}, "samples")
    return found


class _Bounded(nn.Module):
    """The decoder of an invariant codec, `decoder(network, latents)` with its network bound."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.function, (self.network,) = decoder.func, decoder.args

    def forward(self, latents: Tensor) -> Tensor:
        found: Tensor = self.function(self.network, latents)
        return found


def _of_photographs(codec: PhotoCodec) -> Graphs:
    rows, columns = 3, 2  # of blocks, in the examples
    blocks = {0: "batch", 2: "rows", 3: "columns"}
    transform = codec.transform
    cells = BLOCK // CELL
    coefficients = 10 * torch.randn(2, transform.channels, rows, columns)
    inputs = {"coefficients": coefficients, "step": torch.tensor([8.0, 16.0])}
    photographs = {"pixels": 255 * torch.rand(2, 3, rows * BLOCK, columns * BLOCK)}
    found = {
        "encoder": Graph(
            _Blocks(transform.mean, transform.basis),
            photographs,
            "coefficients",
            {"pixels": {0: "batch", 2: f"{BLOCK}*rows", 3: f"{BLOCK}*columns"}},
        )
    }
    for name, network in codec.networks.items():
        taken, sizes = dict(inputs), {"coefficients": blocks}
        if network.noise:
            taken["noise"] = torch.randn(2, network.noise, rows * cells, columns * cells)
            sizes["noise"] = {0: "batch", 2: f"{cells}*rows", 3: f"{cells}*columns"}
        mended = _Mended(transform.mean, transform.basis, network)
        found[f"decoder.{name}"] = Graph(mended, taken, "pixels", sizes)
    return found


def _as_maps(numbers: NDArray[Any]) -> Tensor:
    """Numbers of blocks (768, n), as a block transform has them, as maps (n, 3, 16, 16)."""
    maps = torch.from_numpy(np.array(numbers)).T.reshape(-1, BLOCK, BLOCK, 3)
    return maps.permute(0, 3, 1, 2).contiguous()


class _Blocks(nn.Module):
    """`BlockTransform.forward` of whole blocks, as a convolution."""

    axes: Tensor
    offset: Tensor

    def __init__(self, mean: NDArray[Any], basis: NDArray[Any]) -> None:
        super().__init__()
        self.register_buffer("axes", _as_maps(basis))
        self.register_buffer("offset", torch.from_numpy(-mean @ basis))

    def forward(self, pixels: Tensor) -> Tensor:
        return conv2d(pixels, self.axes, self.offset, stride=BLOCK)


class _Mended(nn.Module):
    """`BlockTransform.inverse` as a transposed convolution, and the network that mends it."""

    axes: Tensor

    def __init__(self, mean: NDArray[Any], basis: NDArray[Any], network: nn.Module) -> None:
        super().__init__()
        self.register_buffer("axes", _as_maps(np.column_stack([basis, mean])))
        self.network = network

    def forward(self, coefficients: Tensor, step: Tensor, noise: Tensor | None = None) -> Tensor:
        ones = torch.ones_like(coefficients[:, :1])  # of the mean
        pixels = conv_transpose2d(torch.cat([coefficients, ones], 1), self.axes, stride=BLOCK)
        mended: Tensor = self.network(pixels, step, noise)
        return mended


GRAPHS: Registry[Callable[[Any], Graphs]] = Registry(
    "kind of codec with networks",
    {
        "tradeoff": _of_tradeoff,
        "invariant": _of_invariant,
        "photographs": _of_photographs,
    },
)
