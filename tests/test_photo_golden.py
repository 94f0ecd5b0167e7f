"""A codec of photographs and a file of two, as version 0.2 wrote them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from photo_page import read_photograph
from quadrate.codecs import BaseCodec, PhotoCodec, PhotoFile, Rate
from quadrate.codecs.photo_quad import append
from quadrate.coding.container import Reader
from tensor_files import contents

GOLDEN = Path(__file__).parent / "golden" / "photographs"
EXPECTED = np.load(GOLDEN / "two.npz")


def check(codec: PhotoCodec, path: Path) -> None:
    """What is received is exact; pixels are floating point, and may differ by a level."""
    for layers in (1, 2):
        with PhotoFile(path, codec, layers) as file:
            for number in range(2):
                chunk = file.reader.read(number, layers)
                assert chunk.shapes is not None
                shape = chunk.shapes[0].tolist()
                coefficients, exponent = codec.coefficients(chunk.payloads, shape)
                assert exponent == EXPECTED[f"exponent.{number}"]
                received = np.rint(coefficients * np.float32(16 / 2 ** (exponent / 64)))
                np.testing.assert_array_equal(received, EXPECTED[f"received.{number}.{layers}"])
                for name in codec.decoders if layers == 2 else ():
                    pixels = file.photograph(number, name).pixels.astype(int)
                    expected = EXPECTED[f"pixels.{number}.{name}"]
                    assert pixels.shape == expected.shape
                    assert np.abs(pixels - expected).max() <= 1


def test_a_codecs_file_and_its_photographs_of_version_0_2_are_read(tmp_path):
    codec = BaseCodec.load(GOLDEN / "codec.safetensors")
    assert type(codec) is PhotoCodec and list(codec.decoders) == ["faithful", "realistic"]
    check(codec, GOLDEN / "two.quad")
    codec.save(tmp_path / "new")
    assert contents(tmp_path / "new")[0]["format"] == "quadrate-codec-5"
    again = PhotoCodec.load(tmp_path / "new")
    assert again.identities == codec.identities
    check(again, GOLDEN / "two.quad")


def test_what_goes_with_the_photographs_is_read_and_more_can_be_appended(tmp_path):
    path = tmp_path / "two.quad"
    shutil.copy(GOLDEN / "two.quad", path)
    codec = PhotoCodec.load(GOLDEN / "codec.safetensors")
    with PhotoFile(path, codec) as file:
        found = [(one.name, one.label, one.profile) for one in file.photographs()]
        assert found == [("colours", 1, b"profile"), ("gray, two units", 2, b"")]
        first = file.photograph(0)
    append(codec, [first], path, Rate(quality=60))
    check(codec, path)


@pytest.mark.parametrize("number", [0, 1])
def test_the_tables_alone_tell_the_base_from_the_rest(number):
    base, whole = EXPECTED[f"received.{number}.1"], EXPECTED[f"received.{number}.2"]
    codec = PhotoCodec.load(GOLDEN / "codec.safetensors")
    first = int(codec.model.ends[codec.model.base - 1])
    np.testing.assert_array_equal(base[..., :first], whole[..., :first])
    assert not base[..., first:].any() and whole[..., first:].any()


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("number", [0, 1])
def test_who_has_only_the_page_reads_the_same_numbers(number, layers):
    metadata, tensors = contents(GOLDEN / "codec.safetensors")
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    arrays |= {name: arrays[other] for name, other in json.loads(metadata["same"]).items()}
    with Reader(GOLDEN / "two.quad") as file:
        chunk = file.read(number, layers)
    assert chunk.shapes is not None
    received, exponent = read_photograph(arrays, chunk.payloads, chunk.shapes[0].tolist())
    np.testing.assert_array_equal(received, EXPECTED[f"received.{number}.{layers}"])
    assert exponent == EXPECTED[f"exponent.{number}"]
