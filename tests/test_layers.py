"""Layered files: the way to one that docs/files.md tells, and what `--layers` means."""

import json
import re
import shlex
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from codecs_made import COMPACT, make, source_of
from quadrate import QuadDataset
from quadrate.cli import main
from quadrate.codecs import Batch, Layer, QuadFile, TradeoffCodec, append, zoo_index
from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig
from quadrate.errors import QuadrateError
from quadrate.experiments.runs import Run

PAGE = Path(__file__).parents[1] / "docs" / "files.md"
TRAINING = TrainingConfig(epochs=1)
POINT = OperatingPoint((3, 3, 3))
STAGES = (
    Stage("first", (POINT,), training=TRAINING),
    Stage("refined", (POINT,), "refinement", POINT, "first", TRAINING),
)


def run(command: str) -> None:
    main(shlex.split(command))


def test_the_commands_of_the_page_make_and_read_a_layered_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = Run(Recipe("refine", "", "digits", STAGES)).train("single").folder
    section = PAGE.read_text(encoding="utf-8").split("## Layered files")[1]
    train, *commands = re.findall(r"^    quadrate (.*)$", section, re.MULTILINE)
    assert train == "train refine-mnist" and len(commands) == 7
    said = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a codec of one epoch may be a poor one, which is said
        for command in commands:
            run(command.replace("RUN", str(folder)).replace("mnist:test", "digits:test"))
            said[command.split()[0], command.split()[-1]] = capsys.readouterr().out
    assert (
        "codec: base.safetensors reads 1 of 2 layers" in said["inspect", "1"]
        and "with the first 1 layer alone" in said["inspect", "1"]
    )
    assert "1 of 2 layers decode with refined.safetensors" in said["verify", "1"]
    base, refined = (
        TradeoffCodec.load("base.safetensors"),
        TradeoffCodec.load("refined.safetensors"),
    )
    np.testing.assert_array_equal(np.load("base.npy"), base.decompress("layered.quad"))
    np.testing.assert_array_equal(np.load("refined.npy"), refined.decompress("layered.quad"))
    assert (np.load("base.npy") != np.load("refined.npy")).any()


@pytest.fixture(scope="module")
def layered(tmp_path_factory) -> tuple[Path, TradeoffCodec, TradeoffCodec]:
    """A folder with a layered file of 100 labelled images, both codecs, and these."""
    folder = tmp_path_factory.mktemp("layered")
    refined = make(levels=((3, 4), (3, 3, 2)), freeze=False)
    states = {
        "encoder.0": refined.states["encoder.0"],
        "decoder.faithful": make().states["decoder.faithful"],
    }
    base = TradeoffCodec(
        COMPACT, (1, 8, 8), [Layer((3, 4))], {"faithful": OperatingPoint((3, 4))}, states
    ).freeze(source_of())
    refined.freeze(source_of(), base=base)
    base.save(folder / "base.safetensors")
    refined.save(folder / "refined.safetensors")
    refined.compress(source_of().train.images[:100], to=folder / "a.quad", labels=np.arange(100))
    return folder, base, refined


def test_layers_say_which_codec_is_meant(layered, tmp_path, monkeypatch, capsys):
    folder, base, refined = layered
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    base.save(zoo / "base.safetensors")
    refined.save(zoo / "refined.safetensors")
    monkeypatch.setattr(zoo_index, "FOLDER", zoo)
    zoo_index.write_index(TradeoffCodec.load)
    file, out = folder / "a.quad", tmp_path / "x.npy"
    for layers, codec in ((1, base), (2, refined)):
        run(f"decompress {file} --layers {layers} -o {tmp_path / f'{layers}.npy'}")
        np.testing.assert_array_equal(np.load(tmp_path / f"{layers}.npy"), codec.decompress(file))
    capsys.readouterr()
    run(f"inspect {file} --json --layers 1")
    facts = json.loads(capsys.readouterr().out)
    assert facts["codec"]["name"] == "base"
    assert facts["first_layers"] == {
        "layers": 1,
        "bytes": file.stat().st_size - facts["bytes"]["payloads"][1],
    }
    run(f"verify {file} --layers 1")
    assert "1 of 2 layers decode with refined" in capsys.readouterr().out
    for command, message in (
        (
            f"decompress {file} --layers 1 --codec {zoo}/refined.safetensors -o {out}",
            "decodes 2 layers, all at once; --layers 1 needs the codec of the first 1",
        ),
        (
            f"decompress {file} --layers 3 -o {out}",
            "a.quad has 2 layers; --layers takes 1 to 2, got 3",
        ),
        (f"inspect {file} --layers 0", "a.quad has 2 layers; --layers takes 1 to 2, got 0"),
        (
            f"verify {file} --layers 2 --codec {zoo}/base.safetensors",
            "this codec has 1 layer; asked for the first 2",
        ),
    ):
        with pytest.raises(SystemExit):
            run(command)
        assert message in capsys.readouterr().err and not out.exists()
    (zoo / "base.safetensors").unlink()
    zoo_index.write_index(TradeoffCodec.load)
    with pytest.raises(SystemExit):
        run(f"decompress {file} --layers 1 -o {out}")
    assert "no codec in the package reads its first 1 layer alone" in capsys.readouterr().err


def test_a_data_set_of_a_base_codec_is_that_of_the_base(layered):
    folder, base, refined = layered
    pixels = QuadDataset(folder / "a.quad", base)
    expected = base.decompress(folder / "a.quad")
    for i in (0, 57, 99):
        picture, label = pixels[i]
        assert label == i and np.array_equal(picture.numpy(), expected[i])
    assert QuadDataset(folder / "a.quad", base, "latents")[0][0].shape == (2,)
    assert QuadDataset(folder / "a.quad", refined, "latents")[0][0].shape == (5,)


def test_the_first_layers_symbols_need_no_codec_of_their_own(layered):
    folder, base, refined = layered
    with (
        QuadFile(folder / "a.quad", base) as alone,
        QuadFile(folder / "a.quad", refined, layers=1) as part,
    ):
        symbols = part.symbols(0)
        assert symbols.shape == (100, 2) and np.array_equal(symbols, alone.symbols(0))
        assert part.reader.bytes_read == alone.reader.bytes_read
        with pytest.raises(
            QuadrateError,
            match=(
                "1 of 2 layers are read, but this codec's decoders need all: give the codec of"
                " these layers alone"
            ),
        ):
            part.latents(0)
    with pytest.raises(QuadrateError, match="this codec has 2 layers; asked for the first 0"):
        QuadFile(folder / "a.quad", refined, layers=0)
    with pytest.raises(QuadrateError, match="append with the codec of all layers"):
        append(base, [Batch(torch.zeros(1, 1, 8, 8), np.zeros(1, int))], folder / "a.quad")


def test_the_base_of_a_layered_codec_is_frozen_as_the_bases_own_codec_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages = (
        replace(STAGES[0], noise_std=0.5),
        STAGES[1],
    )  # the base's encoder sees noise, the refinement's none
    folder = Run(Recipe("refine", "", "digits", stages)).train("single").folder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a codec of one epoch may be a poor one, which is said
        for name in ("first", "refined"):
            run(f"export {folder} --stage {name} -o {name}.safetensors")
    assert (
        TradeoffCodec.load("refined.safetensors").identities[0]
        == TradeoffCodec.load("first.safetensors").identities[0]
    )
