"""Invariant codecs.

Samples to symbols that tell what invariant tasks need and little more, and back to representatives
(Dubois et al. 2021).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quadrate.bottlenecks.collapse import warn_if_constant
from quadrate.bottlenecks.frozen import FrozenBottleneck, from_arrays
from quadrate.bottlenecks.joint_tables import fit_joint
from quadrate.bottlenecks.rounding import RoundingModel
from quadrate.codecs import quad
from quadrate.codecs.batches import Batch, Blend, checked, in_blocks, of_images, tensor_of
from quadrate.codecs.codec_file import by_role, describing, flat, mapping, samples_shape
from quadrate.codecs.familiarity import Familiarity, measure, metadata_of, of_metadata
from quadrate.coding.symbols import NO_DITHER, Words
from quadrate.config import InvariantConfig, InvariantNetwork, from_json, to_json
from quadrate.core.files import FileSource, exists
from quadrate.core.tensor_file import read_tensors, write_tensors
from quadrate.errors import QuadrateError
from quadrate.networks import autoencoders as networks
from quadrate.networks.filled import filled
from quadrate.objectives.invariance import Reconstruction
from quadrate.sources.source import pixels
from quadrate.training.invariant_trainer import Trained

FORMAT, _BEFORE = "quadrate-invariant-2", ("quadrate-invariant-1",)
_DECODERS = {"vc": ("member",), "vic": ("representative",), "bince": ()}
_FAMILIAR = 5000  # members at most by which samples are known that are like them
_JOINT_DIMS = 8  # up to which trees over earlier symbols are grown in seconds


class InvariantCodec:
    """An encoder, a frozen bottleneck, and a decoder of members (VC) or representatives (VIC), or
    none (BINCE); `quadrate.codecs.quad` takes it.

    Args:
        config: How it was trained; decides the networks.
        shape: A sample's: (C, H, W) of images in [0, 1], or (D,).
        states: State dicts by role: "encoder", and "decoder", or of a contrast "critic".
        model: The frozen bottleneck.
        details: What else a file should say.

    Raises:
        QuadrateError: If the states or the bottleneck are not those of the configuration.
    """

    familiarity: Familiarity | None = (
        None  # how far held-out samples reach, by which `compress` warns of others
    )

    def __init__(
        self,
        config: InvariantConfig,
        shape: Sequence[int],
        states: dict[str, dict[str, Tensor]],
        model: FrozenBottleneck,
        details: dict[str, Any] | None = None,
    ) -> None:
        self.config = config
        self.shape = tuple(shape)
        self.states = states
        self.details = details or {}
        if model.shape != (config.dims,):
            raise QuadrateError(
                f"the bottleneck codes {model.shape[0]} dimensions, the encoder gives {config.dims}"
            )
        self.models: tuple[FrozenBottleneck] = (model,)
        self.encoder = self._network("encoder", networks.encoder)
        self.decoder = (
            self._network("decoder", networks.decoder) if config.objective != "bince" else None
        )

    def __repr__(self) -> str:
        return (
            f"InvariantCodec({self.config.objective!r}, shape={self.shape},"
            f" dims={self.config.dims}, decoders={list(self.decoders)})"
        )

    def _network(
        self, role: str, build: Callable[[InvariantNetwork, Sequence[int], int], nn.Module]
    ) -> nn.Module:
        try:
            return filled(
                partial(build, self.config.network, self.shape, self.config.dims),
                self.states.get(role, {}),
            )
        except QuadrateError as error:
            where = f"the {self.config.network} one for samples of shape {self.shape}"
            raise QuadrateError(f"the codec's {role} is not {where}: {error}") from error.__cause__

    @classmethod
    def of(
        cls,
        trained: Trained,
        members: Tensor,
        details: dict[str, Any] | None = None,
        held_out: Tensor | None = None,
    ) -> Self:
        """The codec of what was trained, frozen.

        Of up to 8 dimensions with tables for each symbol given those before it.

        Args:
            trained: What training left, on the CPU.
            members: Training members, (n, ...), that tables are fitted to.
            details: What else a file should say.
            held_out: Members that trained nothing, by which `compress` will know samples that are
                like them; by default the training members.

        Warns (`QuadrateWarning`) if all members get the same symbols: then nothing is kept of them.

        Raises:
            QuadrateError: If a table would be too long, or the bottleneck has no coder.
        """
        states = {"encoder": _state(trained.encoder)}
        if isinstance(trained.head, Reconstruction):
            states["decoder"] = _state(trained.head.decoder)
        else:
            states["critic"] = _state(trained.head)
        frozen = trained.bottleneck.freeze()
        codec = cls(trained.config, members.shape[1:], states, frozen, details)
        if isinstance(frozen, RoundingModel) and trained.config.dims <= _JOINT_DIMS:
            codec.models = (fit_joint(frozen, codec.latents(members).numpy()),)
        known = members[:_FAMILIAR] if held_out is None else held_out[:_FAMILIAR]
        symbols = codec.models[0].quantize(codec.latents(known).numpy(), NO_DITHER)
        warn_if_constant(
            f"the codec {trained.config.key}", symbols, stacklevel=2, steps=trained.config.steps
        )
        codec.familiarity = Familiarity.fit(measure(codec, known, symbols))
        return codec

    @property
    def identities(self) -> tuple[bytes, ...]:
        """What identifies the streams, 16 bytes: bottleneck and tables."""
        return (self.models[0].identity,)

    @property
    def decoders(self) -> tuple[str, ...]:
        """The decoder's name, if there is one: what it gives back."""
        return _DECODERS[self.config.objective]

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raises a QuadrateError unless a shape (n, ...) is that of samples of this codec."""
        if tuple(shape[1:]) != self.shape:
            raise QuadrateError(
                f"this codec takes samples of shape {self.shape}; got {tuple(shape[1:])}"
            )

    @torch.no_grad()
    def latents(self, samples: Tensor) -> Tensor:
        """Samples, images uint8 or float in [0, 1], (n, *shape), to latents, float (n, d)."""
        self.check_shape(samples.shape)
        samples = (
            pixels(samples)
            if of_images(self.shape) and samples.dtype == torch.uint8
            else samples.float()
        )
        return in_blocks(self.encoder, samples, self.shape).float()

    def encode(self, samples: Any, seed: int = 0, first: int = 0) -> Tensor:
        """Samples (n, *shape) to symbols, int64 (n, d).

        There is no dither, so seed and first number change nothing.

        Raises:
            QuadrateError: If samples do not fit the codec, or are not finite.
        """
        samples = checked(Batch(samples), self.shape).images
        return torch.from_numpy(
            self.models[0].quantize(self.latents(tensor_of(samples, self.shape)).numpy(), NO_DITHER)
        )

    def dither_words(self, count: int, seed: int, first: int = 0) -> Words:
        """None: (count, 0)."""
        return np.empty((count, 0), dtype=np.int64)

    def received(self, symbols: Tensor, seed: int = 0, first: int = 0) -> Tensor:
        """Symbols, int64 (n, d), to what decoders and receivers read, float32 (n, d).

        Raises:
            QuadrateError: If the symbols are not this codec's.
        """
        if symbols.ndim != 2 or symbols.shape[1] != self.models[0].columns:
            raise QuadrateError(
                f"this codec reads symbols (n, {self.models[0].columns}); these are"
                f" {tuple(symbols.shape)}"
            )
        return torch.from_numpy(self.models[0].dequantize(symbols.numpy(), NO_DITHER)).float()

    @torch.no_grad()
    def decode_received(self, received: Tensor, decoder: Blend = None) -> Tensor:
        """What is received, float32 (n, d), to samples, float32 (n, *shape); images in [0, 1].

        Raises:
            QuadrateError: If there is no decoder, or not one of that name.
        """
        self.weighted(decoder)
        return in_blocks(self._decoded, received.float(), self.shape)

    def _decoded(self, received: Tensor) -> Tensor:
        assert self.decoder is not None
        output: Tensor = self.decoder(received)
        if not of_images(self.shape):
            return output
        return (
            torch.sigmoid(output) if self.config.likelihood == "bernoulli" else output.clamp(0, 1)
        )

    def weighted(self, decoder: Blend) -> list[object]:
        """Raises a QuadrateError unless there is a decoder, of that name if one is given."""
        if not self.decoders:
            raise QuadrateError(
                "this codec was trained by contrast and decodes nothing; read its latents:"
                " QuadDataset(file, codec, item='latents')"
            )
        if decoder is not None and decoder not in self.decoders:
            raise QuadrateError(
                f"no decoder {decoder!r}; this codec has {', '.join(self.decoders)}"
            )
        return []

    def compress(
        self,
        samples: Any,
        to: Path | str | None = None,
        labels: Any = None,
        names: Sequence[str] | None = None,
        chunk: int | None = None,
        strict: bool = False,
    ) -> bytes | None:
        """Writes samples as a .quad file; arguments and errors as `FeatureCodec.compress`."""
        target = io.BytesIO() if to is None else Path(to)
        quad.compress(self, [Batch(samples, labels, names)], target, chunk=chunk, strict=strict)
        return target.getvalue() if isinstance(target, io.BytesIO) else None

    def decompress(
        self, data: FileSource, samples: slice = slice(None), dtype: str = "float32"
    ) -> NDArray[Any]:
        """Reads what the decoder makes of a .quad file, (n, *shape).

        Arguments and errors as `quadrate.codecs.quad.decompress`.
        """
        return quad.decompress(self, data, samples=samples, dtype=dtype)

    def decompress_latents(self, data: FileSource) -> Tensor:
        """Reads what receivers get of a .quad file, float32 (n, d).

        Raises:
            QuadrateError: If the file is damaged or another codec's.
        """
        with quad.QuadFile(data, self) as file:
            return torch.cat(
                [torch.empty((0, self.config.dims), dtype=torch.float32), *file.received_pieces()]
            )

    def save(self, path: Path | str) -> None:
        """Writes the codec as one safetensors file.

        Raises:
            QuadrateError: If it cannot be written.
        """
        model = {
            name: torch.from_numpy(np.ascontiguousarray(array))
            for name, array in self.models[0].arrays().items()
        }
        tensors = {f"model/{name}": tensor for name, tensor in model.items()} | flat(self.states)
        metadata = {
            "format": FORMAT,
            "config": to_json(self.config),
            "shape": json.dumps(self.shape),
            "details": json.dumps(self.details),
        }
        write_tensors(Path(path), tensors, metadata | metadata_of(self))

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Reads what `save` wrote.

        Raises:
            QuadrateError: If the file is missing, damaged, or no invariant codec.
        """
        if not exists(path):
            raise QuadrateError(f"no codec at {path}; InvariantCodec.save writes one")
        metadata, tensors = read_tensors(
            Path(path), "an invariant codec of Quadrate's", [FORMAT], _BEFORE
        )
        with describing(path, "codec"):
            states = by_role(tensors)
            model = from_arrays(
                {name: tensor.numpy() for name, tensor in states.pop("model").items()}
            )
            shape = samples_shape(metadata["shape"], 1, 2, 3, 4)
            codec = cls(
                from_json(InvariantConfig, metadata["config"]),
                shape,
                states,
                model,
                mapping(metadata["details"], "details"),
            )
            codec.familiarity = of_metadata(metadata)
            return codec


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()
    }
