"""Random draws as pure functions of counters, so that a run's numbers depend on nothing but its point, its seed and the step."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def key(*parts: object) -> int:
    """A 64-bit key of anything that prints the same everywhere: (seed, point, stream, epoch)."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little")


def words(*parts: object, count: int, first: int = 0) -> NDArray[np.int64]:
    """The words numbered `first` to `first + count - 1` of the Philox counter generator under the key of `parts`: their upper 24 bits, (count,)."""
    bits = np.random.Philox(key=key(*parts))
    bits.advance(first // 4)  # a step of the counter gives four words
    return (bits.random_raw(first % 4 + count)[first % 4 :] >> np.uint64(40)).astype(np.int64)


def uniform(*parts: object, shape: tuple[int, ...]) -> Tensor:
    """Uniform float32 numbers on [0, 1), multiples of 2^-24, of the counter generator under the key of `parts`; the same on any machine."""
    return torch.from_numpy(words(*parts, count=int(np.prod(shape))).astype(np.float32) * np.float32(2**-24)).reshape(shape)


def permutation(*parts: object, n: int) -> Tensor:
    """A random order of 0 .. n-1, int64 (n,), under the key of `parts`."""
    return torch.from_numpy(np.random.Philox(key=key(*parts)).random_raw(n).argsort(kind="stable"))


def generator(*parts: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator seeded by the key of `parts`, for draws too large to make one by one elsewhere (noise on images)."""
    return torch.Generator(device=device).manual_seed(key(*parts) >> 1)


class DrawsFrom(TorchDispatchMode):
    """A context in which whatever this thread draws, such as initial weights, comes from a generator of its own.

    PyTorch's global generator is one for all threads: who seeds or forks it changes what others draw. Here it is neither read nor moved.

    Args:
        seed: Of the generator: the same numbers are drawn as after `torch.manual_seed(seed)`.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every operation; those that draw are given the generator."""
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags and kwargs.get("generator") is None:
            return func.overloadpacket(*args, **kwargs, generator=self._generator)
        return func(*args, **kwargs)
