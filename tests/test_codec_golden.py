"""Codec files of all formats that there have been, as versions 0.1 and 0.2 wrote them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

from codecs_made import TINY
from quadrate import Codec
from quadrate.codecs import Decoders, FeatureCodec, InvariantCodec, TradeoffCodec
from quadrate.config import to_json
from quadrate.networks.family import FAMILIES
from tensor_files import contents

GOLDEN = Path(__file__).parent / "golden" / "codecs"
KINDS = {
    "tradeoff": TradeoffCodec,
    "refined": TradeoffCodec,
    "features": FeatureCodec,
    "invariant": InvariantCodec,
    "contrast": InvariantCodec,
    "hyperprior": InvariantCodec,
}


@pytest.fixture(autouse=True)
def family(monkeypatch):
    monkeypatch.setitem(FAMILIES, "tiny", TINY)


def check(path: Path, name: str, family=None) -> None:
    """Opens a codec's file and compares what it reads with what its version read."""
    codec = Codec.load(path, family=family)
    assert type(codec) is KINDS[name] and type(type(codec).load(path)) is KINDS[name]
    expected = np.load(GOLDEN / f"{name}.npz")
    data = (GOLDEN / f"{name}.quad").read_bytes()
    np.testing.assert_array_equal(codec.decompress_latents(data), expected["latents"])
    known = contents(GOLDEN / f"{name}.safetensors")[0].get("familiarity")
    assert (codec.familiarity and codec.familiarity.to_json()) == known
    if codec.decoders:
        samples = codec.decompress(data, dtype="float32")
        np.testing.assert_allclose(samples, expected["samples"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_files_of_version_0_2_open_and_read_their_streams(name, tmp_path):
    path = GOLDEN / f"{name}.safetensors"
    check(path, name)
    codec = Codec.load(path)
    codec.save(tmp_path / "new")
    assert contents(tmp_path / "new")[0]["format"] == "quadrate-codec-5"
    check(tmp_path / "new", name)
    assert Codec.load(tmp_path / "new").identities == codec.identities


@pytest.mark.parametrize("name", KINDS)
def test_files_of_version_0_1_open(name, tmp_path):
    """They had no digest; the first of all had one decoder, without a name."""
    metadata, tensors = contents(GOLDEN / f"{name}.safetensors")
    kind, number = metadata["format"].rsplit("-", 1)
    path = tmp_path / "old"
    safetensors.torch.save_file(tensors, path, metadata | {"format": f"{kind}-{int(number) - 1}"})
    check(path, name)
    if name in ("tradeoff", "refined"):
        one = {name: t for name, t in tensors.items() if not name.startswith("decoder.realistic")}
        one = {name.replace("decoder.faithful/", "decoder/"): t for name, t in one.items()}
        point = Codec.load(path).point
        del metadata["points"]
        safetensors.torch.save_file(
            one, path, metadata | {"format": "quadrate-codec-1", "point": to_json(point)}
        )
        check(path, name)
        assert list(Codec.load(path).decoders) == ["faithful"]


def test_decoder_packs_open(tmp_path):
    codec = Codec.load(GOLDEN / "tradeoff.safetensors")
    new = tmp_path / "pack"
    shutil.copy(GOLDEN / "decoders.safetensors", new)
    metadata, tensors = contents(new)
    old = tmp_path / "old"
    safetensors.torch.save_file(tensors, old, metadata | {"format": "quadrate-decoders-1"})
    for place in (new, old):
        pack = Decoders.load(place)
        assert pack.encoder_hash == codec.encoder_hash and list(pack.points) == ["realistic"]
        codec.add_decoder(pack, place.name)
    data = (GOLDEN / "tradeoff.quad").read_bytes()
    expected = codec.decompress(data, "realistic")
    for name in ("pack", "old"):
        np.testing.assert_array_equal(codec.decompress(data, name), expected)
