"""Invariant codecs.

Samples to symbols that tell what invariant tasks need and little more, and back to representatives
(Dubois et al. 2021).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from quadrate.bottlenecks.collapse import warn_if_constant
from quadrate.bottlenecks.frozen import FrozenBottleneck, from_arrays
from quadrate.bottlenecks.joint_tables import fit_joint
from quadrate.bottlenecks.rounding import RoundingModel
from quadrate.codecs.batches import in_blocks, of_images
from quadrate.codecs.codec import Codec
from quadrate.codecs.codec_file import read_object, read_shape, tensors_of
from quadrate.codecs.familiarity import Familiarity
from quadrate.codecs.parts import Parts, States
from quadrate.codecs.watch import measure
from quadrate.config import InvariantConfig, InvariantNetwork, from_json, to_json
from quadrate.core.devices import find_device
from quadrate.errors import QuadrateError
from quadrate.networks import autoencoders as networks
from quadrate.networks.filled import filled
from quadrate.sources.source import pixels

_DECODERS = {"vc": "member", "vic": "representative"}
_FAMILIAR = 5000  # members at most by which samples are known that are like them
_JOINT_DIMS = 8  # up to which trees over earlier symbols are grown in seconds


class InvariantCodec(Codec):
    """An encoder, a frozen bottleneck, and a decoder of members (VC) or representatives (VIC).

    A codec that was trained by contrast (BINCE) has no decoder. Training gives a codec by
    `quadrate.training.invariant_trainer.Trained.codec`.

    Args:
        config: How it was trained; decides the networks.
        shape: A sample's: (C, H, W) of images in [0, 1], or (D,).
        states: State dicts by role: "encoder", and "decoder", or of a contrast "critic".
        model: The frozen bottleneck.
        details: Extra metadata to store in the file.
        device: Where the networks live.

    Raises:
        QuadrateError: If the states or the bottleneck do not match the configuration.
    """

    kind = "invariant"

    def __init__(
        self,
        config: InvariantConfig,
        shape: Sequence[int],
        states: States,
        model: FrozenBottleneck,
        details: dict[str, Any] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.shape = tuple(shape)
        self.states = states
        self.details = details or {}
        self.device = find_device(device)
        if model.shape != (config.dims,):
            raise QuadrateError(
                f"the bottleneck codes {model.shape[0]} dimensions, the encoder gives {config.dims}"
            )
        self.models = (model,)
        self.encoder = self._network("encoder", networks.encoder)
        self.decoders = {}
        if config.objective in _DECODERS:
            decoder = self._network("decoder", networks.decoder)
            self.decoders = {_DECODERS[config.objective]: partial(self._decoded, decoder)}

    def __repr__(self) -> str:
        return (
            f"InvariantCodec({self.config.objective!r}, shape={self.shape},"
            f" dims={self.config.dims}, decoders={list(self.decoders)})"
        )

    def _network(
        self, role: str, build: Callable[[InvariantNetwork, Sequence[int], int], nn.Module]
    ) -> nn.Module:
        config = self.config
        try:
            network = partial(build, config.network, self.shape, config.dims)
            return filled(network, self.states.get(role, {})).to(self.device)
        except QuadrateError as error:
            where = f"the {config.network} one for samples of shape {self.shape}"
            raise QuadrateError(f"the codec's {role} is not {where}: {error}") from error.__cause__

    def freeze(self, members: Tensor, held_out: Tensor | None = None) -> Self:
        """Fit tables for each symbol given those before it, up to 8 dimensions; return the codec.

        Warns (`QuadrateWarning`) if all members get the same symbols, which then tell nothing of
        them.

        Args:
            members: Training members, (n, *shape), that tables are fitted to.
            held_out: Members that were not trained on, by which `compress` will know samples that
                are like them; by default the training members.

        Raises:
            QuadrateError: If a table would be too long.
        """
        (model,) = self.models
        if isinstance(model, RoundingModel) and self.config.dims <= _JOINT_DIMS:
            self.models = (fit_joint(model, self.latents(members).cpu().numpy()),)
        known = (members if held_out is None else held_out)[:_FAMILIAR]
        symbols = self.quantize(self.latents(known)).cpu().numpy()
        warn_if_constant(
            f"the codec {self.config.key}", symbols, stacklevel=3, steps=self.config.steps
        )
        self.familiarity = Familiarity.fit(measure(self, known, symbols))
        return self

    @torch.no_grad()
    def latents(self, samples: Tensor) -> Tensor:
        """Encode samples (n, *shape), images uint8 or in [0, 1], to latents, float32 (n, d)."""
        self.check_shape(samples.shape)
        images = of_images(self.shape) and samples.dtype == torch.uint8
        samples = pixels(samples) if images else samples.float()
        return in_blocks(self.encoder, [samples.to(self.device)], self.shape).float()

    def _decoded(self, decoder: nn.Module, latents: Tensor) -> Tensor:
        output: Tensor = decoder(latents.float())
        if not of_images(self.shape):
            return output
        return (
            torch.sigmoid(output) if self.config.likelihood == "bernoulli" else output.clamp(0, 1)
        )

    def to_parts(self) -> Parts:  # noqa: D102
        metadata = {
            "config": to_json(self.config),
            "bottleneck": self.models[0].name,
            "shape": json.dumps(self.shape),
            "details": json.dumps(self.details),
        }
        return Parts(metadata, {"model": tensors_of(self.models[0].arrays())} | self.states)

    @classmethod
    def from_parts(cls, parts: Parts, device: torch.device | str, family: Any) -> Self:  # noqa: D102
        model = from_arrays(parts.arrays("model"), parts.metadata.get("bottleneck"))
        codec = cls(
            from_json(InvariantConfig, parts.metadata["config"]),
            read_shape(parts.metadata["shape"], 1, 2, 3, 4),
            parts.states,
            model,
            read_object(parts.metadata["details"], "details"),
            device,
        )
        codec.familiarity = parts.familiarity
        return codec
