"""Several models of one architecture along a leading model axis, run as one batched program."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap


class Stack:
    """K modules of one architecture as one: input (K, B, …), output (K, B, …), parameters (K, …).

    A stack of one runs its module as it is, so a single model pays nothing for the axis. All that
    reduces over a batch must keep the axis apart, so that the models stay independent: the gradient
    of the sum of K losses is then the K gradients side by side.

    Args:
        modules: K modules with equal structure and equal parameter shapes.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.count = len(modules)
        self._module = modules[0] if self.count == 1 else copy.deepcopy(modules[0]).to("meta")
        if self.count == 1:
            self._params: dict[str, Tensor] = dict(self._module.named_parameters())
            self._buffers: dict[str, Tensor] = dict(self._module.named_buffers())
        else:
            params, buffers = stack_module_state(list(modules))
            self._params = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
            self._buffers = {name: b.detach().clone() for name, b in buffers.items()}
            for module in self._module.modules():
                if isinstance(
                    module, nn.modules.batchnorm._BatchNorm
                ):  # under vmap it takes no bfloat16 beside its float32 statistics
                    module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))

    def __call__(self, x: Tensor) -> Tensor:
        """(K, B, …) to (K, B, …)."""
        if self.count == 1:
            return self._module(x[0]).unsqueeze(0)
        return vmap(self._apply, randomness="error")(self._params, self._buffers, x)

    def _apply(self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self._module, (params, buffers), (x,))

    def train(self, mode: bool = True) -> Stack:
        """Sets training mode (batch statistics) or evaluation mode."""
        self._module.train(mode)
        return self

    def requires_grad_(self, flag: bool) -> Stack:
        """Freezes or frees the parameters."""
        for p in self._params.values():
            p.requires_grad_(flag)
        return self

    def parameters(self) -> list[Tensor]:
        """The stacked parameters, in a fixed order."""
        return list(self._params.values())

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, each (K, …); views, not copies."""
        if self.count == 1:
            return {
                name: t.detach().unsqueeze(0) for name, t in (self._params | self._buffers).items()
            }
        return {name: t.detach() for name, t in (self._params | self._buffers).items()}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Copies a state of `state()` back in."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def member(self, index: int) -> dict[str, Tensor]:
        """The state dict of one model, copied to the CPU."""
        return {name: t[index].detach().cpu().clone() for name, t in self.state().items()}
