"""Several models of one architecture along a leading model axis, run as one batched program."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils._pytree import tree_map


class Stack:
    """K modules of one architecture as one: inputs (K, B, …), outputs (K, B, …).

    Parameters are (K, …); the constructor takes them by name, with the buffers. A stack of one runs
    its module as it is, so a single model pays nothing for the axis. All that reduces over a batch
    must keep the axis apart, so that the models stay independent: the gradient of the sum of K
    losses is then the K gradients side by side.
    """

    def __init__(
        self, count: int, module: nn.Module, params: dict[str, Any], buffers: dict[str, Tensor]
    ) -> None:
        self.count, self._module, self._params, self._buffers = count, module, params, buffers

    @classmethod
    def of(cls, modules: Sequence[nn.Module]) -> Self:
        """Stack K modules with equal structure and equal parameter shapes."""
        if len(modules) == 1:
            (module,) = modules
            return cls(1, module, dict(module.named_parameters()), dict(module.named_buffers()))
        params, buffers = stack_module_state(list(modules))
        module = copy.deepcopy(modules[0]).to("meta")
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                # Under vmap it takes no bfloat16 together with its float32 statistics.
                part.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
        return cls(
            len(modules),
            module,
            {name: p.detach().clone().requires_grad_() for name, p in params.items()},
            {name: b.detach().clone() for name, b in buffers.items()},
        )

    def __call__(self, *inputs: Tensor) -> Any:
        """Apply the modules: (K, B, …) to (K, B, …), or to a tuple of such."""
        if self.count == 1:
            return tree_map(lambda x: x.unsqueeze(0), self._module(*[x[0] for x in inputs]))
        apply = vmap(self._apply, in_dims=(0, 0, 0), randomness="error")
        return apply(self._params, self._buffers, inputs)

    def _apply(
        self, params: dict[str, Tensor], buffers: dict[str, Tensor], inputs: tuple[Tensor, ...]
    ) -> Any:
        return functional_call(self._module, (params, buffers), inputs)

    def has(self, flag: str) -> bool:
        """Whether an attribute of the modules is there and true."""
        return bool(getattr(self._module, flag, False))

    def train(self, mode: bool = True) -> Stack:
        """Set training mode (batch statistics) or evaluation mode."""
        self._module.train(mode)
        return self

    def requires_grad_(self, flag: bool) -> Stack:
        """Freeze or free the parameters."""
        for p in self._params.values():
            p.requires_grad_(flag)
        return self

    def parameters(self) -> list[Tensor]:
        """List the stacked parameters, in a fixed order."""
        return list(self._params.values())

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, each (K, …); views, not copies."""
        named = self._params | self._buffers
        return {
            n: t.detach().unsqueeze(0) if self.count == 1 else t.detach() for n, t in named.items()
        }

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Copy a state of `state()` back in."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def member(self, index: int) -> dict[str, Tensor]:
        """Copy the state dict of one model to the CPU."""
        return {name: t[index].detach().cpu().clone() for name, t in self.state().items()}
