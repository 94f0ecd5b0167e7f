"""What all codecs share: named decoders, identities of their streams, and a file of their own."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from quadrate.codecs import codec_file, hub
from quadrate.codecs.batches import Blend
from quadrate.codecs.familiarity import Familiarity
from quadrate.codecs.parts import Parts
from quadrate.core.devices import find_device
from quadrate.core.remote import Place
from quadrate.errors import QuadrateError


class BaseCodec(ABC):
    """A codec of any kind.

    Attributes:
        kind: The kind's name in `quadrate.codecs.codec_file.KINDS`, which files store.
        shape: Of one sample: (C, H, W) of images, (D,) of features; a dimension that each sample
            has of its own is 0.
        reads_fewer_layers: Whether its decoders make something of the first layers alone, too.
        device: Where networks live.
        decoders: Networks by name; the first is the default.
        familiarity: How far samples of the codec's own source reach, by which `compress` warns of
            others; None if that is not known.
    """

    kind: ClassVar[str]
    reads_fewer_layers: ClassVar[bool] = False
    shape: tuple[int, ...]
    device: torch.device | str
    decoders: Mapping[str, Callable[..., Tensor]]
    familiarity: Familiarity | None = None

    @property
    @abstractmethod
    def identities(self) -> tuple[bytes, ...]:
        """What identifies the streams of each layer, 16 bytes.

        Raises:
            QuadrateError: If the codec is not frozen.
        """

    @property
    def is_frozen(self) -> bool:
        """Whether the codec can write and read files."""
        return True

    @abstractmethod
    def to_parts(self) -> Parts:
        """Take the codec apart for its file.

        Raises:
            QuadrateError: If the codec is not fitted.
        """

    @classmethod
    @abstractmethod
    def from_parts(cls, parts: Parts, device: torch.device | str, family: Any) -> Self:
        """Build the codec from the parts of a file of any version.

        Raises:
            QuadrateError: If the parts do not fit together; other exceptions where one is damaged.
        """

    @property
    def rate_bound_bits(self) -> float | None:
        """The sum of log2 L over all symbols, in bits a sample; None if symbols have no bounds."""
        return None

    def check_decoder(self, decoder: Blend) -> dict[str, float]:
        """Check the name of a decoder, or the weights of a blend.

        Returns:
            The weights by name, which sum to one.

        Raises:
            QuadrateError: If there is no decoder of a name, or the weights of a blend are invalid.
        """
        if not self.decoders:
            raise QuadrateError(
                "this codec was trained by contrast and decodes nothing; read its latents:"
                " QuadDataset(file, codec, item='latents')"
            )
        known = ", ".join(self.decoders)
        if decoder is None:
            return {next(iter(self.decoders)): 1.0}
        if not isinstance(decoder, str | Mapping):
            raise QuadrateError(
                f"a decoder is a name, or weights by name; got {decoder!r}; this codec has {known}"
            )
        try:
            blend = {decoder: 1.0} if isinstance(decoder, str) else decoder
            weights = {name: float(weight) for name, weight in blend.items()}
            total = math.fsum(weights.values())
        except (TypeError, ValueError, OverflowError):
            weights, total = {}, math.nan
        if not (abs(total - 1) <= 1e-6 and all(weight >= 0 for weight in weights.values())):
            raise QuadrateError(
                f"the weights of a blend are not negative and sum to 1; got {dict(blend)}"
            )
        for name in weights:
            if name not in self.decoders:
                raise QuadrateError(f"no decoder {name!r}; this codec has {known}")
        return weights

    def save(self, path: Path | str) -> None:
        """Write the codec as one safetensors file (`quadrate.codecs.codec_file`).

        Raises:
            QuadrateError: If the codec is not fitted, or the file cannot be written.
        """
        codec_file.write(Path(path), self)

    @classmethod
    def load(
        cls, path: Place | str, device: torch.device | str = "cpu", family: Any = None
    ) -> Self:
        """Read a codec's file of any version, or one of the codecs that come with the package.

        Args:
            path: The file, its URL, a name from the zoo, such as "mnist-4.75bit", or an address on
                the Hugging Face Hub (extra `hub`): "hf://user/name", after which @revision and
                /file.safetensors may stand.
            device: Where the networks shall live.
            family: The networks, where they are not of a family that Quadrate knows.

        Raises:
            QuadrateError: If the file is missing or damaged, holds no codec or one of another kind,
                cannot be fetched, or this machine does not have the device.
        """
        return codec_file.read(path, cls, find_device(device), family)

    def save_pretrained(
        self, folder: Path | str, *, license: str | None = None, scores: hub.Scores | None = None
    ) -> None:
        """Write the folder that `push_to_hub` publishes: the codec's file, config.json, a card.

        A README.md that is there already stays. Needs the extra `hub`.

        Args:
            folder: The folder, which is made if it is missing.
            license: The codec's licence by the hub's name, such as "apache-2.0"; by default the
                detail "license", if the codec has it.
            scores: What was measured: numbers by name, such as "distortion_mse", by decoder; by
                default the detail "scores", if the codec has it.

        Raises:
            QuadrateError: If huggingface_hub is missing, the scores are not of this codec, or the
                folder cannot be written.
        """
        hub.save(self, folder, license, scores)

    def push_to_hub(
        self,
        repo: str,
        *,
        license: str | None = None,
        scores: hub.Scores | None = None,
        **options: Any,
    ) -> str:
        """Publish the codec on the Hugging Face Hub, with a model card. Needs the extra `hub`.

        Args:
            repo: The repository, "user/name", which is made if it is missing.
            license: As of `save_pretrained`.
            scores: As of `save_pretrained`.
            options: Of `huggingface_hub.ModelHubMixin.push_to_hub`, such as token, private, branch
                and commit_message.

        Returns:
            The address of the commit.

        Raises:
            QuadrateError: If huggingface_hub is missing, the scores are not of this codec, or the
                hub refuses or cannot be reached.
        """
        return hub.push(self, repo, license, scores, **options)

    @classmethod
    def from_pretrained(
        cls,
        name: Path | str,
        *,
        file: str = hub.FILE,
        revision: str | None = None,
        device: torch.device | str = "cpu",
        family: Any = None,
        **options: Any,
    ) -> Self:
        """Read a codec from a local folder or from the Hugging Face Hub (extra `hub`).

        Files from there are checked as any others: nothing in them is executed.

        Args:
            name: A folder that is there, as `save_pretrained` writes it, or else a repository
                "user/name".
            file: The codec's file in it.
            revision: A branch, tag or commit of the repository; by default its main branch.
            device: Where the networks shall live.
            family: The networks, where they are not of a family that Quadrate knows.
            options: Of `huggingface_hub.hf_hub_download`: token, cache_dir, force_download,
                local_files_only.

        Raises:
            QuadrateError: If huggingface_hub is missing, the file cannot be fetched, or it is not a
                codec of this kind.
        """
        place = hub.find(name, file, revision, **options)
        return codec_file.read(place, cls, find_device(device), family)
