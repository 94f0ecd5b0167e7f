"""Random draws as pure functions of counters, so that a run's numbers depend on nothing but its point, its seed and the step."""

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

_building = (
    threading.RLock()
)  # PyTorch counts open dispatch modes in variables that all threads share


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
    return torch.from_numpy(
        words(*parts, count=int(np.prod(shape))).astype(np.float32) * np.float32(2**-24)
    ).reshape(shape)


def permutation(*parts: object, n: int) -> Tensor:
    """A random order of 0 .. n-1, int64 (n,), under the key of `parts`."""
    return torch.from_numpy(np.random.Philox(key=key(*parts)).random_raw(n).argsort(kind="stable"))


def generator(*parts: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator seeded by the key of `parts`, for draws too large to make one by one elsewhere (noise on images)."""
    return torch.Generator(device=device).manual_seed(key(*parts) >> 1)


def build_with_seed(build: Callable[[], Built], key: int) -> Built:
    """Calls `build`, where all that PyTorch draws comes from generators of its own under `key`.

    PyTorch draws initial weights from its global generator. Seeding that one for a while would let
    threads disturb each other; here it neither matters nor moves. The numbers are those that it
    would give after `torch.manual_seed(key)`.
    """
    with _building, _OwnGenerators(key):
        return build()


class _OwnGenerators(TorchDispatchMode):
    """Gives all random operators of this thread a generator that belongs to their device."""

    def __init__(self, key: int) -> None:
        super().__init__()
        self._key = key
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [value for value in args if isinstance(value, Tensor)]
        device = torch.device(tensors[0].device if tensors else kwargs.get("device") or "cpu")
        device = (
            torch.device("cpu") if device.type == "meta" else device
        )  # whose operators may draw from the global generator, too
        if (
            torch.Tag.nondeterministic_seeded not in func.tags
            or device.type not in ("cpu", "cuda")
            or kwargs.get("generator") is not None
        ):
            return func(*args, **kwargs)
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._key)
        own = self._generators[device]
        names = {argument.name for argument in func._schema.arguments} | {"generator"}
        kin = (
            getattr(func.overloadpacket, overload) for overload in func.overloadpacket.overloads()
        )
        for variant in (func, *kin):
            if {argument.name for argument in variant._schema.arguments} == names:
                return variant(*args, **kwargs, generator=own)
        with torch.random.fork_rng(
            devices=[] if device.type == "cpu" else [device]
        ):  # dropout and its like take no generator
            state: Any = torch if device.type == "cpu" else torch.cuda
            state.set_rng_state(own.get_state())
            result = func(*args, **kwargs)
            own.set_state(state.get_rng_state())
        return result
