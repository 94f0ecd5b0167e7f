"""A trained codec: frozen encoders, a bottleneck, and the decoders that read its codes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from quadrate import draws
from quadrate.bottlenecks.dithered import DitheredQuantizer
from quadrate.config import OperatingPoint, from_json, to_json
from quadrate.errors import QuadrateError
from quadrate.files import write_atomically
from quadrate.networks.compact import Shape
from quadrate.networks.family import FAMILIES, Family, find_family
from quadrate.sources.source import Source, pixels

_CHUNK = 5000  # images in memory as floats at a time


class Codec:
    """Images to symbols and back, by the decoder of your choice.

    Args:
        family: The networks' family.
        shape: The images' shape (C, H, W).
        levels: For each encoder the levels of its latent dimensions; the symbols of the encoders stand side by side.
        point: The operating point that was trained.
        networks: State dicts by role: "encoder.0", "encoder.1" …, "decoder", and "critic" if there is one.
        details: What else a file should say: recipe, source, versions.
        device: Where the networks live.

    Raises:
        QuadrateError: If there is no such family, or its networks are others than those given.
    """

    def __init__(
        self,
        family: Family | str,
        shape: Shape,
        levels: Sequence[tuple[int, ...]],
        point: OperatingPoint,
        networks: dict[str, dict[str, Tensor]],
        details: dict[str, Any] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.family, self.shape, self.point, self.details = find_family(family), shape, point, details or {}
        self.stages = [tuple(level) for level in levels]
        self.levels = tuple(level for stage in self.stages for level in stage)
        self.device = torch.device(device)
        self.quantizer = DitheredQuantizer(self.levels, self.device)
        self._states = networks
        self.encoders = [self._network(f"encoder.{i}", partial(self.family.encoder, shape, len(stage))) for i, stage in enumerate(self.stages)]
        self.decoders = {point.purpose: self._network("decoder", partial(self.family.decoder, shape, len(self.levels)))}
        self.critic = self._network("critic", partial(self.family.critic, shape)) if "critic" in networks else None

    def _network(self, role: str, build: Callable[[], nn.Module]) -> nn.Module:
        """The network of a role with its state; building it draws nothing from the global generator."""
        try:
            state = self._states[role]
            if FAMILIES.get(self.family.name) is self.family:
                with torch.device("meta"):  # shapes without memory, so that a file cannot make us allocate more than it holds
                    build().load_state_dict({name: tensor.to("meta") for name, tensor in state.items()}, assign=True)
            with torch.random.fork_rng(devices=[]):
                module = build()
            module.load_state_dict(state)
        except (KeyError, RuntimeError) as error:
            size, reason = "x".join(map(str, self.shape)), " ".join(str(error).split())[:200]
            raise QuadrateError(f"the codec's {role} is not that of family {self.family.name!r} for images of {size}: {reason}") from None
        return module.to(self.device).eval().requires_grad_(False)

    @property
    def rate_bound_bits(self) -> float:
        """The rate bound of all encoders together, the sum of log2 L, in bits a sample."""
        return sum(math.log2(level) for level in self.levels)

    @property
    def encoder_hash(self) -> str:
        """SHA-256 of the encoders' weights, hexadecimal: decoders with the same one read the same codes."""
        sha = hashlib.sha256(repr(self.stages).encode())
        for i in range(len(self.encoders)):
            for name, tensor in sorted(self._states[f"encoder.{i}"].items()):
                sha.update(name.encode() + tensor.contiguous().cpu().numpy().tobytes())
        return sha.hexdigest()

    def add_decoder(self, other: Codec, name: str | None = None) -> Codec:
        """Takes over the decoder of a codec with the same encoder; returns itself.

        Args:
            other: The codec whose decoder is wanted.
            name: What to call it; by default its purpose.

        Raises:
            QuadrateError: If the encoders differ, or the name is taken.
        """
        name = name or other.point.purpose
        if other.encoder_hash != self.encoder_hash:
            raise QuadrateError(f"decoder {name!r} was trained on another encoder ({other.encoder_hash[:12]}, here {self.encoder_hash[:12]})")
        if name in self.decoders:
            raise QuadrateError(f"there is a decoder {name!r} already; give another name")
        self.decoders[name] = next(iter(other.decoders.values()))
        return self

    @torch.no_grad()
    def latents(self, observed: Tensor) -> Tensor:
        """What the encoders make of images: float (N, C, H, W) in [0, 1], possibly degraded, to float (N, d) in [-1, 1].

        Raises:
            QuadrateError: If the images have another shape.
        """
        if tuple(observed.shape[1:]) != self.shape:
            raise QuadrateError(f"this codec takes images of shape {self.shape} (C, H, W); got {tuple(observed.shape[1:])}")
        observed = observed.to(self.device)
        return torch.cat([torch.cat([encoder(chunk) for encoder in self.encoders], dim=1) for chunk in observed.split(_CHUNK)])

    def source_latents(self, source: Source, images: Tensor, generator: torch.Generator) -> Tensor:
        """What the encoders make of a source's images, uint8 (N, C, H, W), seen through the source's noise: float (N, d) in [-1, 1]."""
        return torch.cat([self.latents(source.observe(pixels(chunk), generator)) for chunk in images.split(_CHUNK)])

    def dither(self, count: int, seed: int) -> Tensor:
        """The dither of samples 0 .. count-1 under a seed, (count, d): sender and receiver draw the same.

        Each dimension has a stream of its own, so that a refined codec's first symbols are those of the codec that it refines.
        """
        columns = [draws.uniform("dither", seed, i, shape=(count,)) for i in range(len(self.levels))]
        return self.quantizer.dither(torch.stack(columns, dim=1).to(self.device))

    def encode(self, images: Tensor, seed: int = 0) -> Tensor:
        """Images, uint8 or float in [0, 1], (N, C, H, W), to integer symbols, int64 (N, d)."""
        latents = self.latents(pixels(images) if images.dtype == torch.uint8 else images)
        return self.quantizer.quantize(latents, self.dither(len(latents), seed))

    @torch.no_grad()
    def decode(self, symbols: Tensor, seed: int = 0, decoder: str | None = None) -> Tensor:
        """Symbols, int64 (N, d), and the encoder's seed, to images, float32 (N, C, H, W) in [0, 1].

        Raises:
            QuadrateError: If there is no decoder of that name, or the symbols are not this codec's.
        """
        symbols = symbols.to(self.device)
        if symbols.ndim != 2 or symbols.shape[1] != len(self.levels) or bool(((symbols < 0) | (symbols > self.quantizer.top)).any()):
            raise QuadrateError(f"this codec reads symbols (N, {len(self.levels)}) below {self.levels}; these are {tuple(symbols.shape)} or beyond")
        if decoder is not None and decoder not in self.decoders:
            raise QuadrateError(f"no decoder {decoder!r}; this codec has {', '.join(self.decoders)}")
        network = self.decoders[decoder] if decoder else next(iter(self.decoders.values()))
        received = self.quantizer.dequantize(symbols, self.dither(len(symbols), seed))
        return torch.cat([network(chunk) for chunk in received.split(_CHUNK)])

    def reconstruct(self, images: Tensor, seed: int = 0, decoder: str | None = None) -> Tensor:
        """Images through symbols and back: uint8 or float (N, C, H, W) to float32 (N, C, H, W) in [0, 1]."""
        return self.decode(self.encode(images, seed), seed, decoder)

    def save(self, path: Path) -> None:
        """Writes the codec, with the decoder it was trained with, as one safetensors file."""
        tensors = {f"{role}/{name}": tensor.contiguous() for role, state in self._states.items() for name, tensor in state.items()}
        metadata = {
            "format": "quadrate-codec-1",
            "family": self.family.name,
            "shape": json.dumps(self.shape),
            "levels": json.dumps(self.stages),
            "point": to_json(self.point),
            "details": json.dumps(self.details, sort_keys=True),
        }
        write_atomically(path, lambda temporary: safetensors.torch.save_file(tensors, temporary, metadata))

    @classmethod
    def load(cls, path: Path | str, family: Family | None = None, device: torch.device | str = "cpu") -> Codec:
        """Reads a codec that `save` wrote.

        Args:
            path: The file.
            family: The networks, where they are not of a family that Quadrate knows.
            device: Where the networks shall live.

        Raises:
            QuadrateError: If the file is missing, damaged, or no codec.
        """
        networks: dict[str, dict[str, Tensor]] = {}
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                for name in file.keys():  # noqa: SIM118 (a safetensors handle is not iterable)
                    role, _, tensor = name.partition("/")
                    networks.setdefault(role, {})[tensor] = file.get_tensor(name)
        except FileNotFoundError:
            raise QuadrateError(f"no codec at {path}; `quadrate train RECIPE` makes one") from None
        except (OSError, safetensors.SafetensorError) as error:
            raise QuadrateError(f"{path} is not a whole safetensors file: {error}") from None
        if metadata.get("format") != "quadrate-codec-1":
            raise QuadrateError(f"{path} is a safetensors file, but not a codec of Quadrate's")
        try:
            channels, height, width = map(int, json.loads(metadata["shape"]))
            levels = [tuple(map(int, stage)) for stage in json.loads(metadata["levels"])]
            details = dict(json.loads(metadata["details"]))
            point = from_json(OperatingPoint, metadata["point"])
            return cls(family or metadata["family"], (channels, height, width), levels, point, networks, details, device)
        except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise QuadrateError(f"{path}: the codec's description is damaged: {type(error).__name__}: {error}") from None
        except QuadrateError as error:
            raise QuadrateError(f"{path}: {error}") from None
