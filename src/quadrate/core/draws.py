"""Random draws as pure functions of counters.

So a run's numbers depend on nothing but its point, its seed and the step.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Built = TypeVar("Built")

_building = threading.RLock()  # PyTorch counts dispatch modes in variables that threads share


def key(*parts: object) -> int:
    """A 64-bit key of values that print the same everywhere, such as (seed, point, epoch)."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little")


def words(*parts: object, count: int, first: int = 0) -> NDArray[np.int64]:
    """The upper 24 bits of consecutive words of the Philox generator under the key of `parts`.

    Args:
        parts: The key's parts.
        count: The number of words.
        first: The number of the first word.

    Returns:
        Integers of shape (count,).
    """
    bits = np.random.Philox(key=key(*parts))
    bits.advance(first // 4)  # a step of the counter gives four words
    return (bits.random_raw(first % 4 + count)[first % 4 :] >> np.uint64(40)).astype(np.int64)


def uniform(*parts: object, shape: tuple[int, ...]) -> Tensor:
    """Uniform float32 multiples of 2^-24 on [0, 1) under the key of `parts`, on any machine."""
    drawn = words(*parts, count=int(np.prod(shape))).astype(np.float32)
    return torch.from_numpy(drawn * np.float32(2**-24)).reshape(shape)


def normal(*parts: object, shape: tuple[int, ...], first: int = 0) -> Tensor:
    """Standard normal float32 numbers under the key of `parts`, equal up to the last bits anywhere.

    They are the quantiles of the midpoints of 2^24 cells, so that none is infinite.

    Args:
        parts: The key's parts.
        shape: Of the result.
        first: The number of the first word.
    """
    drawn = words(*parts, count=int(np.prod(shape)), first=first)
    shares = torch.from_numpy((drawn + 0.5) * 2.0**-24)
    return torch.special.ndtri(shares).float().reshape(shape)


def permutation(*parts: object, n: int) -> Tensor:
    """A random order of 0 .. n-1, int64 (n,), under the key of `parts`."""
    return torch.from_numpy(np.random.Philox(key=key(*parts)).random_raw(n).argsort(kind="stable"))


def generator(*parts: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator seeded by the key of `parts`, for large draws such as noise on images."""
    return torch.Generator(device=device).manual_seed(key(*parts) >> 1)


def build_with_seed(build: Callable[[], Built], key: int) -> Built:
    """Calls `build`; all that PyTorch draws in it comes from separate generators under `key`.

    PyTorch draws initial weights from its global generator. Seeding it for a while would let
    threads disturb each other; here it has no effect and does not move. The numbers equal those
    after `torch.manual_seed(key)`.
    """
    with _building, _OwnGenerators(key):
        return build()


class _OwnGenerators(TorchDispatchMode):
    """Gives all random operators of this thread a separate generator for each device."""

    def __init__(self, key: int) -> None:
        super().__init__()
        self._key = key
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [value for value in args if isinstance(value, Tensor)]
        device = torch.device(tensors[0].device if tensors else kwargs.get("device") or "cpu")
        if device.type == "meta":  # its operators may draw from the global generator, too
            device = torch.device("cpu")
        is_random = torch.Tag.nondeterministic_seeded in func.tags
        is_known = device.type in ("cpu", "cuda")
        if not is_random or not is_known or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._key)
        own = self._generators[device]
        names = {argument.name for argument in func._schema.arguments} | {"generator"}
        packet = func.overloadpacket
        for variant in (func, *(getattr(packet, overload) for overload in packet.overloads())):
            if {argument.name for argument in variant._schema.arguments} == names:
                return variant(*args, **kwargs, generator=own)
        on_cpu = device.type == "cpu"
        with torch.random.fork_rng(
            devices=[] if on_cpu else [device]
        ):  # dropout takes no generator
            state: Any = torch if on_cpu else torch.cuda
            state.set_rng_state(own.get_state())
            result = func(*args, **kwargs)
            own.set_state(state.get_rng_state())
        return result
