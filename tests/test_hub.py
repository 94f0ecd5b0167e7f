"""Codecs of every kind on the hub: a folder, and a hub of our own on this machine."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard, constants

import photos_made
import quadrate.codecs.hub
from codecs_made import make, source_of
from hub_server import serving
from quadrate import Codec
from quadrate.cli import main
from quadrate.codecs import BaseCodec, FeatureCodec, InvariantCodec, PhotoCodec, TradeoffCodec
from quadrate.codecs.hub import Address
from quadrate.config import InvariantConfig
from quadrate.errors import QuadrateError
from quadrate.sources.symmetry import dihedral_patterns
from quadrate.training.invariant_trainer import train_invariant

IMAGES = source_of(seed=3).train.images[:20]
FEATURES = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
PHOTOGRAPH = photos_made.picture(40, 50)


def _invariant() -> InvariantCodec:
    source = dihedral_patterns(2, (0.5, 0.5))
    config = InvariantConfig("bince", dims=2, steps=20, batch=64)
    return train_invariant(source, config).codec(source.sample(300, "x").float())


MADE = {
    TradeoffCodec: lambda: make(decoders=("faithful", "realistic")),
    InvariantCodec: _invariant,
    FeatureCodec: lambda: FeatureCodec(rate_bits=12).fit(FEATURES),
    PhotoCodec: photos_made.codec,
}


@pytest.fixture(scope="module", params=list(MADE), ids=lambda kind: kind.kind)
def codec(request):
    return MADE[request.param]()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Its repositories, which begin empty."""
    repositories = {}
    with serving(repositories) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield repositories


def coded(codec: BaseCodec) -> bytes:
    """What a codec makes of samples, to tell codecs apart."""
    if isinstance(codec, PhotoCodec):
        return b"".join(codec.encode(PHOTOGRAPH, 200))
    if isinstance(codec, FeatureCodec):
        return codec.compress(FEATURES)
    samples = IMAGES if isinstance(codec, TradeoffCodec) else torch.zeros(4, *codec.shape)
    return codec.compress(samples)


def test_every_kind_goes_to_a_folder_and_back(codec, tmp_path):
    codec.save_pretrained(tmp_path / "mine", license="mit")
    back = type(codec).from_pretrained(tmp_path / "mine")
    assert type(back) is type(codec) and back.identities == codec.identities
    assert coded(back) == coded(codec)
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    assert config["kind"] == codec.kind and config["identities"] == [
        each.hex() for each in codec.identities
    ]
    card = ModelCard.load(tmp_path / "mine" / "README.md")
    assert card.data.license == "mit" and card.data.library_name == "quadrate"
    assert codec.kind in card.data.tags and card.data.pipeline_tag.count("-") >= 1
    assert all(f"| {name} |" in card.text for name in codec.decoders)
    assert "## Intended use" in card.text and "## Limits" in card.text


def test_every_kind_goes_to_the_hub_and_back(codec, hub):
    url = codec.push_to_hub("user/mine", license="mit", token="hf_x")
    assert url.endswith("/user/mine/commit/0123456789abcdef0123456789abcdef01234567")
    assert set(hub["user/mine"]) == {"README.md", "config.json", "model.safetensors"}
    assert b'from_pretrained("user/mine")' in hub["user/mine"]["README.md"]
    for back in (
        BaseCodec.from_pretrained("user/mine"),
        type(codec).from_pretrained("user/mine", revision="v1"),
        BaseCodec.load("hf://user/mine"),
        BaseCodec.load("hf://user/mine@v1/model.safetensors"),
    ):
        assert type(back) is type(codec) and coded(back) == coded(codec)


def test_the_card_runs_as_it_stands(codec, tmp_path):
    """What the card says to type works."""
    codec.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    python = card.partition("```python\n")[2].partition("```")[0]
    names = {"images": IMAGES, "features": FEATURES, "pixels": PHOTOGRAPH}
    names["samples"] = torch.zeros(4, *codec.shape) if 0 not in codec.shape else None
    python = python.replace("FOLDER", tmp_path.as_posix())
    exec(python.replace("photos.quad", (tmp_path / "photos.quad").as_posix()), names)


def test_scores_become_a_model_index(tmp_path):
    codec = make(decoders=("faithful", "realistic"))
    codec.details = {"name": "mine: 4 bits", "source": "mnist", "recipe": "rdp-mnist"}
    codec.details["scores"] = {"realistic": {"distortion_mse": 0.0625}}
    codec.save_pretrained(tmp_path / "own")
    card = ModelCard.load(tmp_path / "own" / "README.md")
    (result,) = card.data.eval_results
    assert card.data.model_name == "mine: 4 bits" and card.data.datasets == ["mnist"]
    assert (result.metric_type, result.metric_value) == ("mse", 0.0625)
    assert "| realistic | 0.0625 |" in card.text and "* recipe: rdp-mnist" in card.text
    codec.save_pretrained(tmp_path / "given", scores={"faithful": {"psnr_db": 20.0}})
    assert ModelCard.load(tmp_path / "given" / "README.md").data.eval_results[0].metric_value == 20
    for scores, said in (
        ({"sharp": {"psnr_db": 1.0}}, "this codec has faithful, realistic"),
        ({"faithful": {"psnr_db": "high"}}, "not a number"),
        ([0.0625], "numbers by name, by decoder"),
    ):
        with pytest.raises(QuadrateError, match=said):
            codec.save_pretrained(tmp_path / "wrong", scores=scores)


def test_a_codec_of_the_package_keeps_its_card(tmp_path):
    codec = Codec.load("mnist-4.75bit")
    codec.save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "apache-2.0" and card.data.datasets == ["mnist"]
    assert "sliced W2² ÷ floor" in card.text and "](../" not in card.text
    codec.details["name"] = "photo"  # says to be one that it is not
    codec.save_pretrained(tmp_path / "other")
    card = ModelCard.load(tmp_path / "other" / "README.md")
    assert card.data.license is None and "Kodak" not in card.text


def test_the_command_line_takes_addresses(hub, tmp_path, capsys):
    Codec.load("mnist-4.75bit").push_to_hub("user/digits", token="hf_x")
    images = tmp_path / "images.npy"
    np.save(images, np.zeros((3, 1, 28, 28), np.uint8))
    file = tmp_path / "x.quad"
    for words in (
        ["compress", images, "--codec", "hf://user/digits", "-o", file],
        ["verify", file, "--codec", "hf://user/digits@v1"],
        ["inspect", file, "--codec", "hf://user/digits/model.safetensors"],
        ["decompress", file, "--codec", "hf://user/digits", "-o", tmp_path / "back.npy"],
    ):
        main([str(word) for word in words])
    assert np.load(tmp_path / "back.npy").shape == (3, 1, 28, 28)
    assert "hf://user/digits/model.safetensors reads it" in capsys.readouterr().out


def test_what_cannot_be_fetched_is_one_line(hub, tmp_path):
    hub["user/mine"] = {"model.safetensors": b"no codec", "other.safetensors": b"\x80\x04."}
    for address, said in (
        ("hf://user/none", "user/none cannot be fetched"),
        ("hf://user/mine/none.safetensors", "none.safetensors of user/mine cannot be fetched"),
        ("hf://user/mine", "not a Quadrate codec|safetensors"),
        ("hf://user/mine/other.safetensors", "not a Quadrate codec|safetensors"),
        ("hf://user", "write hf://user/name"),
        ("hf://user/mine/../../x.safetensors", "write hf://user/name"),
        ("hf://user/mine/weights.bin", "write hf://user/name"),
        ("hf://us er/mine", "write hf://user/name"),
    ):
        with pytest.raises(QuadrateError, match=said) as caught:
            Codec.load(address)
        assert "\n" not in str(caught.value)
    with pytest.raises(QuadrateError, match="no codec at"):
        Codec.from_pretrained(tmp_path)
    with pytest.raises(QuadrateError, match="cannot publish to no name"):
        make().push_to_hub("no name")
    hub["user/features"] = {}
    MADE[FeatureCodec]().push_to_hub("user/features", token="hf_x")
    with pytest.raises(QuadrateError, match="a file of FeatureCodec, not TradeoffCodec"):
        TradeoffCodec.from_pretrained("user/features")


def test_without_the_extra_its_name_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setattr(
        quadrate.codecs.hub, "_published", quadrate.codecs.hub._published.__wrapped__
    )
    codec = make()
    for ask in (
        lambda: codec.push_to_hub("user/mine"),
        lambda: codec.save_pretrained(tmp_path / "x"),
        lambda: Codec.from_pretrained("user/mine"),
        lambda: Codec.load("hf://user/mine"),
    ):
        with pytest.raises(QuadrateError, match=r"quadrate\[hub\]"):
            ask()


def test_addresses():
    assert Address.parse("hf://a/b") == ("a/b", None, "model.safetensors")
    assert Address.parse("hf://a/b@v1.2") == ("a/b", "v1.2", "model.safetensors")
    assert Address.parse("hf://a/b/c/d.safetensors") == ("a/b", None, "c/d.safetensors")


def test_the_page_runs(tmp_path, monkeypatch):
    page = (Path(__file__).parents[1] / "docs" / "hub.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    exec(block, {})
    assert (
        sorted(path.name for path in Path("published").iterdir())
        == re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE)[::-1]
    )
