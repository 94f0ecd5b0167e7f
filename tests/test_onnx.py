"""Exported networks give what PyTorch's give, for batches and sizes of any number."""

import json
import sys

import numpy as np
import pytest
import torch

import photos_made
from quadrate.cli import main
from quadrate.codecs import BaseCodec, FeatureCodec, PhotoCodec
from quadrate.codecs.onnx_export import export_onnx, graphs_of
from quadrate.config import InvariantConfig
from quadrate.errors import QuadrateError
from quadrate.networks.restoration import Restoration
from quadrate.sources.symmetry import dihedral_patterns
from quadrate.training.invariant_trainer import train_invariant

onnxruntime = pytest.importorskip("onnxruntime")
SIZES = {"batch": 5, "rows": 4, "columns": 1}


def _invariant() -> BaseCodec:
    source = dihedral_patterns(2, (0.5, 0.5))
    config = InvariantConfig("vic", dims=2, steps=5, batch=64, likelihood="bernoulli", beta=0.05)
    return train_invariant(source, config).codec(source.sample(300, "x").float())


def _photographs() -> PhotoCodec:
    made = photos_made.codec()
    networks = {"plain": Restoration(4), "textured": Restoration(4, noise=2)}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for network in networks.values():  # at first they add nothing
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) / 50)
    return PhotoCodec(made.transform, made.model, networks)


def _tradeoff() -> BaseCodec:
    codec = BaseCodec.load("mnist-4.75bit")
    codec.decoders["realistic"].steps.fill_(2)  # of 8, each of which is in the graph
    return codec


MADE = {
    "tradeoff": _tradeoff,
    "invariant": _invariant,
    "photographs": _photographs,
}
DECODERS = {
    "tradeoff": {"decoder.faithful", "decoder.realistic", "decoder.recognizable"},
    "invariant": {"decoder.representative"},
    "photographs": {"decoder.plain", "decoder.textured"},
}


def _resized(name: str, graph) -> torch.Tensor:
    """Other numbers for an input, of other sizes than the example's."""
    example, shape = graph.inputs[name], list(graph.inputs[name].shape)
    for number, text in graph.sizes.get(name, {0: "batch"}).items():
        factor, _, size = text.rpartition("*")
        shape[number] = int(factor or 1) * SIZES[size]
    spread = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    return example.min() + spread * (example.max() - example.min())


@pytest.mark.parametrize("kind", MADE)
def test_networks_give_what_pytorch_gives(kind, tmp_path):
    codec = MADE[kind]()
    paths = export_onnx(codec, tmp_path)
    assert set(paths) == {"encoder"} | DECODERS[kind]
    for name, graph in graphs_of(codec).items():
        session = onnxruntime.InferenceSession(paths[name])
        assert [each.name for each in session.get_inputs()] == list(graph.inputs)
        for inputs in (graph.inputs, {each: _resized(each, graph) for each in graph.inputs}):
            (found,) = session.run([graph.output], {key: x.numpy() for key, x in inputs.items()})
            with torch.no_grad():
                wanted = graph.network(*inputs.values()).numpy()
            assert found.shape == wanted.shape
            assert np.abs(found - wanted).max() <= 1e-4 * max(1, np.abs(wanted).max()), name


def test_graphs_of_photographs_are_those_of_the_codec():
    codec = _photographs()
    photograph = photos_made.picture(48, 32)
    encoder = graphs_of(codec)["encoder"].network
    coefficients = encoder(torch.from_numpy(photograph).float()[None])
    wanted = codec.transform.forward(photograph).transpose(2, 0, 1)
    assert np.abs(coefficients[0].numpy() - wanted).max() < 1e-2  # of hundreds
    received = np.ascontiguousarray(coefficients[0].numpy().transpose(1, 2, 0))
    decoder = graphs_of(codec)["decoder.plain"].network
    pixels = decoder(coefficients, torch.tensor([16.0]))[0].round().clamp(0, 255).byte().numpy()
    shown = codec.reconstruct(received, 256, photograph.shape, "plain")  # 2^(256/64) = 16
    assert np.abs(pixels.astype(int) - shown).max() <= 1


def test_the_command_line_exports(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("quadrate.codecs.onnx_export._exported", lambda graph: b"onnx")
    folder = tmp_path / "networks"
    main(["export", "mnist-4.75bit", "--onnx", "-o", str(folder), "--json"])
    facts = json.loads(capsys.readouterr().out)
    names = [network["name"] for network in facts["networks"]]
    assert set(names) == {"encoder"} | DECODERS["tradeoff"]
    assert {path.name for path in folder.iterdir()} == {f"{name}.onnx" for name in names}
    for words, said in (
        ([], "name it with -o"),
        (["-o", str(folder)], "is not empty"),
        (["-o", "x.onnx"], "give a folder"),
    ):
        with pytest.raises(SystemExit):
            main(["export", "mnist-4.75bit", "--onnx", *words])
        assert said in capsys.readouterr().err
    features = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    with pytest.raises(QuadrateError, match="'features' have no networks"):
        graphs_of(FeatureCodec(rate_bits=12).fit(features))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(SystemExit):
        main(["export", "mnist-4.75bit", "--onnx", "-o", str(folder), "--overwrite"])
    assert "quadrate[onnx]" in capsys.readouterr().err
