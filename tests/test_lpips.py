"""LPIPS and Inception: files of the published form are read, and nothing else is run."""

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from quadrate.core import draws
from quadrate.errors import QuadrateError
from quadrate.networks.backbones import BACKBONES, LPIPS, load_backbone, load_lpips


@pytest.fixture(scope="module", params=["alex", "vgg16"])
def metric(request):
    made = draws.build_with_seed(lambda: LPIPS(request.param), 5).requires_grad_(False)
    for weight in made.weights:
        weight.uniform_(0, 1, generator=torch.Generator().manual_seed(1))
    return made


def tree_of(metric: LPIPS) -> dict:
    """The weights as Flax names them, kernels with their axes in its order."""

    def array(weight):
        return np.ascontiguousarray(weight.permute(2, 3, 1, 0).numpy())

    layers = [m for m in metric.stages.modules() if isinstance(m, torch.nn.Conv2d)]
    trunk = {
        f"Conv_{number}": {"kernel": array(layer.weight), "bias": layer.bias.numpy()}
        for number, layer in enumerate(layers)
    }
    linear = {
        f"NetLinLayer_{number}": {"Conv_0": {"kernel": array(weight)}}
        for number, weight in enumerate(metric.weights)
    }
    return {"Trunk_0": trunk, **linear}


def saved(tree) -> bytes:
    """A pickle as NumPy before version 2 wrote it."""
    return pickle.dumps(tree, protocol=3).replace(b"numpy._core", b"numpy.core")


def pictures(seed: int) -> torch.Tensor:
    return torch.rand(3, 3, 48, 64, generator=torch.Generator().manual_seed(seed)) * 255


def test_files_of_the_published_form_give_the_same_distances(metric, tmp_path):
    path = tmp_path / "weights.ckpt"
    path.write_bytes(saved(tree_of(metric)))
    found = load_lpips(metric.network, path)
    one, other = pictures(0), pictures(1)
    assert torch.equal(found(one, other), metric(one, other))
    assert float(metric(one, other).min()) > 0 and float(metric(one, one).max()) == 0
    assert torch.allclose(metric(one, other), metric(other, one))
    if metric.network == "vgg16":
        images = one.byte()
        assert load_backbone("vgg16", path).features(images).shape == (3, BACKBONES["vgg16"].dim)


class Hostile:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize("change", ["hostile", "shape", "missing", "cut", "no pickle"])
def test_other_files_are_refused_and_not_run(metric, tmp_path, change, capsys):
    tree, path = tree_of(metric), tmp_path / "weights.ckpt"
    if change == "hostile":
        tree["NetLinLayer_0"] = Hostile()
    elif change == "shape":
        tree["Trunk_0"]["Conv_1"]["bias"] = np.zeros(3, np.float32)
    elif change == "missing":
        del tree["NetLinLayer_4"]
    data = saved(tree)
    path.write_bytes({"cut": data[:1000], "no pickle": b"weights"}.get(change, data))
    with pytest.raises(QuadrateError, match="does not hold the weights of LPIPS"):
        load_lpips(metric.network, path)
    assert "run" not in capsys.readouterr().out


def test_small_pictures_and_unknown_networks_are_refused(metric):
    with pytest.raises(QuadrateError, match="at least 32 x 32"):
        metric(torch.zeros(1, 3, 31, 40), torch.zeros(1, 3, 31, 40))
    with pytest.raises(QuadrateError, match="unknown network of LPIPS: 'squeeze'"):
        load_lpips("squeeze")


def test_no_other_torchscript_is_run(tmp_path):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("code", "whatever")
    path = tmp_path / "default_1.pt"
    path.write_bytes(data.getvalue())
    with pytest.raises(QuadrateError, match="other TorchScripts are not run"):
        load_backbone("inception-v3", path)
    with pytest.raises(QuadrateError, match="no such file"):
        load_backbone("inception-v3", tmp_path / "none.pt")
