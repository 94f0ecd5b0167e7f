"""`quadrate inspect` and `verify`, and codecs that are found by themselves."""

import json
from pathlib import Path

import numpy as np
import pytest

from codecs_made import make, source_of
from quadrate.cli.quads import find_codec
from quadrate.codecs import Batch, Layer, TradeoffCodec, append, compress, zoo_index
from quadrate.coding.container import ChunkData, Header, LayerHeader, Reader, Writer
from quadrate.config import OperatingPoint
from quadrate.errors import QuadrateError

SHAPE = (1, 8, 8)


# --- inspect and verify ---


def test_inspect(quadrate, here, ready, codec):
    facts = json.loads(quadrate("inspect", "a.quad", "--json", "--codec", "c.st"))
    assert (
        facts["samples"] == 60
        and facts["shape"] == [1, 8, 8]
        and facts["seed"] == 2
        and facts["side_data"] == ["labels"]
    )
    assert facts["layers"] == [{"identity": codec.identities[0].hex(), "symbols_per_sample": 2}]
    assert facts["chunks"] == 9 and facts["largest_chunk_samples"] == 7
    known = {"rate_bound_bits": codec.rate_bound_bits, "familiar_samples": None}
    assert facts["codec"] == {
        "name": "c.st",
        "layers": 1,
        "decoders": ["faithful", "realistic"],
        **known,
    }
    with Reader(ready) as reader:
        payload = sum(len(reader.read(chunk).payloads[0]) for chunk in range(9))
    size = facts["bytes"]
    assert (
        size["payloads"] == [payload]
        and size["ignored"] == 0
        and size["total"] == ready.stat().st_size
    )
    assert (
        sum(value for name, value in size.items() if name not in ("payloads", "total")) + payload
        == size["total"]
    )
    assert facts["rate_bits_per_sample"] == 8 * size["total"] / 60

    text = quadrate("inspect", "a.quad", "--codec", "c.st")
    assert (
        text.splitlines()[0] == "a.quad: 60 samples of 1x8x8, seed 2"
        and "chunks: 9, of up to 7 samples" in text
    )
    assert (
        "codec: c.st reads it; bound sum log2 L = 3.5850 bits a sample; decoders faithful,"
        " realistic" in text
    )
    assert f"whole file{size['total']:22d}{facts['rate_bits_per_sample']:16.4f}" in text.replace(
        "payload of layer 0", ""
    )
    assert "codec: none in the package reads it" in quadrate("inspect", "a.quad")
    make(seed=9).save("other.st")
    assert "codec: other.st does not read it" in quadrate(
        "inspect", "a.quad", "--codec", "other.st"
    )


def test_inspect_reads_no_payload(quadrate, here, ready):
    data = bytearray(ready.read_bytes())
    with Reader(ready) as reader:
        payload = reader.read(0).payloads[0]
    place = bytes(data).index(payload)
    data[place] ^= 1
    ready.write_bytes(data)
    assert "60 samples" in quadrate("inspect", "a.quad")
    assert (
        quadrate("verify", "a.quad", status=1)
        == "a.quad: chunk 0 at byte 65: the checksum of its payload of layer 0 differs: the file is"
        " damaged"
    )


def test_verify(quadrate, here, ready):
    out = quadrate("verify", "a.quad")
    assert (
        out
        == "a.quad: whole: 60 samples in 9 chunks; checksums hold; nothing was decoded: no codec in"
        " the package reads it, give one with --codec\n"
    )
    assert (
        quadrate("verify", "a.quad", "--codec", "c.st")
        == "a.quad: whole: 60 samples in 9 chunks; checksums hold and all layers decode with c.st\n"
    )
    make(seed=9).save("other.st")
    assert quadrate("verify", "a.quad", "--codec", "other.st", status=1).startswith(
        "a.quad was written by another codec"
    )
    whole = ready.read_bytes()
    for place in range(0, len(whole), 37):
        ready.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        quadrate("verify", "a.quad", status=1)


def test_verify_decodes_what_checksums_do_not_show(quadrate, here, codec):
    with Writer.create(
        here / "a.quad", Header(SHAPE, 0, (LayerHeader(codec.identities[0], 2),))
    ) as writer:
        writer.write(ChunkData(50, (b"\xff" * 400,)))
    quadrate("verify", "a.quad")
    assert quadrate("verify", "a.quad", "--codec", "c.st", status=1).startswith(
        "chunk 0, layer 0: the coded stream"
    )


def test_an_append_that_did_not_end_is_said(quadrate, here, ready, codec, images):
    whole = ready.read_bytes()
    np.save("x.npy", images)
    quadrate("compress", "x.npy", "-o", "grown.quad", "--codec", "c.st", "--seed", "2")
    compress(codec, [Batch(images, np.arange(60))], here / "long.quad", seed=2, chunk=7)
    append(codec, [Batch(images, np.arange(60))], here / "long.quad", chunk=20)
    longer = (here / "long.quad").read_bytes()
    assert longer.startswith(whole)
    ready.write_bytes(longer[: len(whole) + 100])
    assert quadrate("verify", "a.quad", "--codec", "c.st").endswith(
        "; 100 bytes at its end do not count: an append that did not end\n"
    )
    assert json.loads(quadrate("inspect", "a.quad", "--json"))["bytes"]["ignored"] == 100
    size = json.loads(quadrate("inspect", "long.quad", "--json"))["bytes"]
    assert size["trailers"] > len(longer) - len(whole) - 60 * 2 - 100 and sum(
        size["payloads"]
    ) + sum(value for name, value in size.items() if name not in ("payloads", "total")) == len(
        longer
    )


# --- the codec that fits ---


@pytest.fixture
def zoo(tmp_path_factory, monkeypatch, codec, codec_file_path) -> Path:
    """Codecs in place of those in the package.

    Of a base, of base and refinement, unfrozen, and the tests' own.
    """
    folder = tmp_path_factory.mktemp("zoo")
    refined = make(levels=((3, 4), (2, 2)), seed=5, freeze=False)
    states = {
        "encoder.0": refined.states["encoder.0"],
        "decoder.faithful": make(seed=6).states["decoder.faithful"],
    }
    base = TradeoffCodec(
        "compact", SHAPE, [Layer((3, 4))], {"faithful": OperatingPoint((3, 4))}, states
    ).freeze(source_of())
    refined.freeze(source_of(), base=base)
    for name, each in (
        ("a-base", base),
        ("b-refined", refined),
        ("c-base-again", base),
        ("d-unfrozen", make(freeze=False)),
        ("e-own", codec),
    ):
        each.save(folder / f"{name}.safetensors")
    monkeypatch.setattr(zoo_index, "FOLDER", folder)
    zoo_index.write_index(TradeoffCodec.load)
    return folder


def test_the_codec_in_the_package_that_fits_is_found(quadrate, here, zoo, ready, codec, images):
    quadrate("decompress", "a.quad", "-o", "x.npy")
    np.testing.assert_array_equal(np.load("x.npy"), codec.decompress(ready))
    assert quadrate("verify", "a.quad").endswith("all layers decode with e-own\n")
    assert "codec: e-own reads it" in quadrate("inspect", "a.quad")
    np.save("x.npy", images)
    for name, read in (("b-refined", "b-refined"), ("a-base", "a-base")):
        quadrate("compress", "x.npy", "-o", "r.quad", "--codec", name, "--overwrite")
        assert json.loads(quadrate("inspect", "r.quad", "--json"))["codec"]["name"] == read
    quadrate("compress", "x.npy", "-o", "r.quad", "--codec", "b-refined", "--overwrite")
    assert "codec: a-base reads 1 of 2 layers" in quadrate("inspect", "r.quad", "--codec", "a-base")
    assert "1 of 2 layers decode with a-base" in quadrate("verify", "r.quad", "--codec", "a-base")
    (zoo / "b-refined.safetensors").unlink()
    zoo_index.write_index(TradeoffCodec.load)
    assert (
        json.loads(quadrate("inspect", "r.quad", "--json"))["codec"]["name"] == "a-base"
    )  # the base at least
    line = quadrate("decompress", "a.quad", "-o", "y.npy", "--codec", "f-none", status=1)
    assert "a-base, c-base-again, d-unfrozen, e-own come with the package" in line
    (zoo / "e-own.safetensors").unlink()
    zoo_index.write_index(TradeoffCodec.load)
    line = quadrate("decompress", "a.quad", "-o", "y.npy", status=1)
    wanted = codec.identities[0].hex()
    assert (
        line
        == f"a.quad: no codec in the package reads it (its layer 0 is {wanted}); give the codec"
        " that wrote it with --codec"
    )
    assert not (here / "y.npy").exists()


def test_find_codec(zoo, codec):
    found = find_codec(Header(SHAPE, 0, (LayerHeader(codec.identities[0], 2),)))
    assert found is not None and found[0] == "e-own"
    assert find_codec(Header((1, 4, 16), 0, (LayerHeader(codec.identities[0], 2),))) is None
    assert find_codec(Header(SHAPE, 0, (LayerHeader(bytes(16), 2),))) is None
    (zoo / "e-own.safetensors").write_bytes(b"torn")
    assert find_codec(Header(SHAPE, 0, (LayerHeader(codec.identities[0], 2),))) == found
    with pytest.raises(QuadrateError, match="e-own.* is not a whole safetensors file"):
        TradeoffCodec.load("e-own")


def test_inspect_tells_of_samples_of_their_own_shapes(quadrate, here, codec):
    layers = (LayerHeader(codec.identities[0], 0),)
    header = Header((0, 0, 0), 3, layers, ("names", "shapes", "profiles"))
    with Writer.create(here / "a.quad", header) as writer:
        for shape in ((3, 17, 31), (1, 4000, 6000)):
            side = {"names": ("a",), "shapes": np.array([shape]), "profiles": (b"icc",)}
            writer.write(ChunkData(1, (b"payload",), **side))
    facts = json.loads(quadrate("inspect", "a.quad", "--json", "--codec", "c.st"))
    assert facts["version"] == 2 and facts["samples"] == 2 and facts["codec"] is None
    assert facts["shape"] == [None, None, None]
    assert facts["side_data"] == ["names", "shapes", "profiles"]
    assert facts["layers"][0]["symbols_per_sample"] is None
    assert facts["bytes"]["payloads"] == [14]
    assert facts["bytes"]["total"] == (here / "a.quad").stat().st_size

    lines = quadrate("inspect", "a.quad").splitlines()
    assert lines[:5] == [
        "a.quad: 2 samples of ?x?x? (?: each its own), seed 3",
        "format: version 2",
        "chunks: 2, of up to 1 samples",
        "side data: names, shapes, profiles",
        f"layer 0: symbols by each sample's shape, identity {codec.identities[0].hex()}",
    ]
    assert "whole: 2 samples in 2 chunks" in quadrate("verify", "a.quad")
    for verb in (("verify", "a.quad"), ("decompress", "a.quad", "-o", "a.npy")):
        error = quadrate(*verb, "--codec", "c.st", status=1)
        assert (
            error == "a.quad holds samples of shape (0, 0, 0), where 0 is each sample's own; this"
            " codec's are (1, 8, 8)"
        )
