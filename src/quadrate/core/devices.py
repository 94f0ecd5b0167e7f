"""Devices by name: networks run on the CPU or on CUDA."""

from __future__ import annotations

import re

import torch

from quadrate.errors import QuadrateError


def find_device(device: torch.device | str) -> torch.device:
    """The device of a name: "cpu", "cuda", or "cuda:1" and so on where there are several.

    Raises:
        QuadrateError: If it is another device, or this machine does not have it.
    """
    name = str(device)
    if name == "cpu" or (isinstance(device, torch.device) and device.type == "cpu"):
        return torch.device("cpu")  # without an index, as tensors on the CPU have it
    found = re.fullmatch(r"cuda(?::(\d{1,4}))?", name)
    if not found:
        raise QuadrateError(
            f"unknown device {name[:80]!a}: Quadrate runs on cpu or cuda, and on cuda:1 and so on"
            " where there are several"
        )
    if not torch.cuda.is_available():
        raise QuadrateError(
            f"device {name!r} was asked for, but this machine (or this build of torch) has none;"
            " use --device cpu"
        )
    if int(found[1] or 0) >= (count := torch.cuda.device_count()):
        raise QuadrateError(
            f"device {name!r} was asked for, but this machine has {count}: cuda:0 to"
            f" cuda:{count - 1}"
        )
    return torch.device(name)
