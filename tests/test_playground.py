"""The playground without its page: pictures are fitted, sent and read."""

import numpy as np
import pytest

import photos_made
from quadrate import Codec, QuadrateError
from quadrate.playground import Player, demo_picture
from quadrate.playground.pictures import fitted


@pytest.fixture(scope="module")
def player() -> Player:
    return Player("mnist-4.75bit")


@pytest.fixture(scope="module")
def sent(player):
    return player.send(demo_picture(player.shape, 7))


def test_a_drawing_is_put_as_mnist_has_digits():
    canvas = np.full((280, 280, 4), 255, np.uint8)  # white, drawn in black, off the middle
    canvas[20:160, 30:50, :3] = 0
    digit = fitted(canvas, (1, 28, 28))
    assert digit.shape == (1, 28, 28) and digit.dtype == np.uint8
    rows, columns = np.nonzero(digit[0] > 127)
    assert rows.max() - rows.min() == 19  # a box of 20
    assert abs(rows.mean() - 13.5) <= 0.5 and abs(columns.mean() - 13.5) <= 0.5
    assert digit[0, 0].max() == 0  # on black, whichever the ground was


def test_transparent_pixels_show_white():
    canvas = np.zeros((280, 280, 4), np.uint8)
    canvas[20:160, 30:50, 3] = 255  # black ink on nothing
    assert fitted(canvas, (1, 28, 28)).max() == 255


def test_an_empty_picture_is_refused():
    with pytest.raises(QuadrateError, match="nothing in the picture"):
        fitted(np.full((50, 50), 255, np.uint8), (1, 28, 28))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 16, 8), (3, 0, 0)])
def test_pictures_get_the_shape_of_a_codec(shape):
    picture = np.zeros((900, 1000, 3), np.uint8)
    picture[450:] = 255
    made = fitted(picture, shape)
    if shape[1]:
        assert made.shape == shape
    else:
        assert made.shape[0] == 3 and made[0].size <= 1 << 19
    assert made[:, 0].max() == 0 and made[:, -1].min() == 255  # upright


def test_every_decoder_reads_the_one_file(player, sent):
    codec = Codec.load("mnist-4.75bit")
    readings = {reading.name: reading for reading in player.readings(sent)}
    assert list(readings) == ["original", *codec.decoders]
    for name in codec.decoders:
        assert np.array_equal(readings[name].picture, codec.decompress(sent.file, name)[0])
    assert readings["original"].mse == 0 < readings["faithful"].mse < readings["realistic"].mse
    assert readings["faithful"].psnr == pytest.approx(-10 * np.log10(readings["faithful"].mse))


def test_three_judges_read_them(player, sent):
    for reading in player.readings(sent):
        assert len(reading.labels) == 3
        for label, share in reading.labels.values():
            assert 0 <= label < 10 and 0.1 <= share <= 1


def test_the_knob_is_the_blend_of_the_codec(player, sent):
    for faithful in (0.0, 0.3, 1.0):
        weights = {"faithful": faithful, "realistic": 1 - faithful}
        theirs = player.codec.decompress(sent.file, weights)[0]
        ours = player.between(sent, faithful).picture
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1  # rounding of float32


def test_photographs_take_a_quality(tmp_path):
    photos_made.codec().save(tmp_path / "p.safetensors")
    player = Player(str(tmp_path / "p.safetensors"))
    assert player.is_photographic and not player.judges
    picture = np.moveaxis(photos_made.picture(40, 30), 0, 2)
    coarse, fine = player.send(picture, 10), player.send(picture, 90)
    assert len(coarse.file) < len(fine.file)
    assert player.readings(coarse)[1].mse > player.readings(fine)[1].mse


def test_codecs_of_features_are_refused(tmp_path):
    from quadrate.codecs import FeatureCodec

    features = np.random.default_rng(0).normal(size=(200, 3))
    FeatureCodec().fit(features).save(tmp_path / "f.safetensors")
    with pytest.raises(QuadrateError, match="codecs of images"):
        Player(str(tmp_path / "f.safetensors"))
