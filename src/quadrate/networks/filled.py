"""Networks with weights from elsewhere.

Nothing is built before the weights are known to fit, and no global random number is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from quadrate.core import draws
from quadrate.errors import QuadrateError


def filled(build: Callable[[], nn.Module], state: Mapping[str, Tensor]) -> nn.Module:
    """Build a network and give it copies of a state's weights.

    Returns:
        The network on the CPU, in evaluation mode and without gradients.

    Raises:
        QuadrateError: If it cannot be built, or if names, shapes or types of its weights do not
            match the state.
    """
    if (shapes := outline(build)) is not None:
        _check(shapes, state)
    try:
        network = draws.build_with_seed(build, 0)
    except QuadrateError:
        raise
    except Exception as error:  # a family may raise anything for a shape it was not made for
        raise QuadrateError(
            f"it cannot be built: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        ) from error
    _check(network, state)
    network.load_state_dict(
        {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}, assign=True
    )
    return network.eval().requires_grad_(False)


def outline(build: Callable[[], nn.Module]) -> nn.Module | None:
    """A network without memory for its weights.

    It tells the shapes of the weights, so that a file cannot make us allocate more than it holds.

    Returns:
        The network; None if it cannot be built that way.

    Raises:
        QuadrateError: If the network says that it cannot be built.
    """

    def without_memory() -> nn.Module:
        with torch.device("meta"):
            return build()

    try:
        return draws.build_with_seed(without_memory, 0)
    except QuadrateError:
        raise
    except Exception:
        return None


def _check(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    slots = {name: slot for name, slot in network.state_dict().items() if isinstance(slot, Tensor)}
    for name in (*slots, *state):
        if name not in state:
            raise QuadrateError(f"weight {name!r} is missing")
        if name not in slots:
            raise QuadrateError(f"weight {name!r} is one too many")
        (wanted, kind), given = (slots[name].shape, _kind(slots[name].dtype)), state[name]
        if (given.shape, given.dtype) != (wanted, kind):
            raise QuadrateError(
                f"weight {name!r} is {given.dtype} {tuple(given.shape)}, where {kind}"
                f" {tuple(wanted)} belongs"
            )


def _kind(dtype: torch.dtype) -> torch.dtype:
    """Weights without an explicit type are float32, whatever PyTorch's default is at present."""
    return torch.float32 if dtype == torch.get_default_dtype() else dtype
