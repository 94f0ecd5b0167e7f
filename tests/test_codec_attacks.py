"""Codec files of all kinds that are damaged, hostile, or of an older version."""

import json
import os
import random
import time

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from codec_attack_parts import refused
from codecs_made import TINY, make
from quadrate import QuadrateError
from quadrate.bottlenecks.joint_tables import JointModel
from quadrate.codecs import Codec, Decoders, FeatureCodec, InvariantCodec, TradeoffCodec
from quadrate.config import InvariantConfig
from quadrate.networks.backbones.weights import read_tensors
from quadrate.networks.family import Family
from quadrate.sources.symmetry import dihedral_patterns
from quadrate.training.invariant_trainer import train_invariant
from tensor_files import contents, rewrite

PATTERNS = dihedral_patterns(2, (0.5, 0.5))


LOADERS = {
    "codec": Codec.load,
    "pack": Decoders.load,
    "features": FeatureCodec.load,
    "invariant": InvariantCodec.load,
}


BEFORE = {
    "codec": "quadrate-codec-2",
    "pack": "quadrate-decoders-1",
    "features": "quadrate-features-1",
    "invariant": "quadrate-invariant-1",
}


NETWORK_WEIGHT = {
    "codec": "decoder.faithful/0.weight",
    "pack": "decoder.faithful/0.weight",
    "invariant": "decoder/0.weight",
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A file of each kind."""
    folder = tmp_path_factory.mktemp("codecs")
    features = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32) @ np.diag(
        [3, 2, 1, 1, 1]
    ).astype(np.float32)
    config = InvariantConfig(dims=2, steps=5, batch=64, likelihood="bernoulli", beta=0.05)
    codec = make(decoders=("faithful", "realistic"))
    codec.save(folder / "codec")
    codec.pack().save(folder / "pack")
    FeatureCodec(rate_bits=12).fit(features).save(folder / "features")
    train_invariant(PATTERNS, config).codec(PATTERNS.sample(500, "fit").float()).save(
        folder / "invariant"
    )
    return folder


@pytest.fixture
def files(originals, tmp_path):
    """The same files, to be damaged."""
    for kind in LOADERS:
        (tmp_path / kind).write_bytes((originals / kind).read_bytes())
    return tmp_path


def outcome(kind, loaded):
    """What a codec does, to be compared."""
    if kind == "pack":
        return loaded.encoder_hash, [
            sorted((name, tensor.numpy().tobytes()) for name, tensor in state.items())
            for state in loaded.states.values()
        ]
    generator = torch.Generator().manual_seed(0)
    samples = {
        "codec": torch.rand(20, 1, 8, 8, generator=generator),
        "features": torch.rand(20, 5, generator=generator),
    }
    data = loaded.compress(samples.get(kind, PATTERNS.sample(20, "x").float()))
    return data, loaded.decompress(data).tobytes()


# --- damage ---


@pytest.mark.parametrize("kind", LOADERS)
def test_a_flipped_bit_is_found(files, kind):
    path, draw = files / kind, random.Random(1)
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(20):
        damaged = bytearray(whole)
        damaged[draw.randrange(start, len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        refused(LOADERS[kind], path, "is damaged")


@pytest.mark.parametrize("kind", LOADERS)
def test_a_file_without_its_digest_is_damaged_and_an_old_one_has_none(files, kind):
    path = files / kind
    loaded = outcome(kind, LOADERS[kind](path))
    metadata, tensors = contents(path)
    safetensors.torch.save_file(tensors, path, metadata)
    refused(LOADERS[kind], path, "has no digest")
    safetensors.torch.save_file(tensors, path, metadata | {"format": BEFORE[kind]})
    assert outcome(kind, LOADERS[kind](path)) == loaded
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name].view(-1)[0] = torch.nan
    safetensors.torch.save_file(tensors, path, metadata | {"format": BEFORE[kind]})
    refused(LOADERS[kind], path, "not finite")


@pytest.mark.parametrize("kind", LOADERS)
def test_a_loaded_codec_does_not_know_what_happens_to_its_file(files, kind):
    path = files / kind
    untouched, loaded = (outcome(kind, LOADERS[kind](path)), LOADERS[kind](path))
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.write(b"\x5a" * size)  # in place
    assert outcome(kind, loaded) == untouched
    os.truncate(path, 100)
    assert outcome(kind, loaded) == untouched
    if kind == "codec":
        assert len(loaded.encoder_hash) == 64
    (path.with_name("w.safetensors")).write_bytes(safetensors.torch.save({"a": torch.ones(5000)}))
    tensors = read_tensors(path.with_name("w.safetensors"))
    os.truncate(path.with_name("w.safetensors"), 10)
    assert tensors["a"].sum() == 5000


# --- hostile descriptions ---

HOSTILE = {
    "codec": [
        *(
            {"shape": shape}
            for shape in (
                "[0, 1, 1]",
                "[-1, -8, 8]",
                f"[1, {10**22}, 1]",
                "[1, 8.0, 8]",
                "[true, 8, 8]",
                "[1, 8, 8, 1]",
                "{}",
                "1",
            )
        ),
        *({"shape": shape} for shape in ("[1, 67108864, 1]", '["1", 8, 8]', "null", "[[1], 8, 8]")),
        *(
            {"levels": levels}
            for levels in (
                "[[3.0, 4]]",
                "[[3, true]]",
                "[[3, 4], []]",
                f"[[{2**24 + 1}, 4]]",
                "[3, 4]",
                '{"a": [3]}',
            )
        ),
        {"points": '{"faithful": {"levels": [3, 4], "lambda_d": 1' + 400 * "0" + "}}"},
        {"points": '{"faithful": {"levels": [3, 4], "seed": 1' + 400 * "0" + "}}"},
        {"points": '{"faithful": {"levels": [' + f"{10**30}" + "]}}"},
        {"points": '{"faithful": {"levels": 3}}'},
        {"points": '{"faithful": 3}'},
        {"points": '{"faithful": {"levels": [3, 4]}, "nobody": {"levels": [3, 4]}}'},
        {"points": '{"\\u001b]0;pwned\\u0007\\u001b[31mx\\ny": {"levels": [3, 4]}}'},
        {"points": '{"a\\u2028b": {"levels": [3, 4]}}'},
        {"family": "\x1b[31mcompact\n"},
        {"details": '"\x1b"'},
    ],
    "pack": [
        {"encoder_hash": "\x1b]0;pwned\x07"},
        {"encoder_hash": "0" * 63},
        {"encoder_hash": None},
        {"points": '{"faithful": {"levels": [3, 4], "lambda_d": 1' + 400 * "0" + "}}"},
        {"points": '{"none": {"levels": [3, 4]}}'},
    ],
    "features": [
        *(
            {"parameters": text}
            for text in (
                '{"mse": "x"}',
                '{"mse": [1]}',
                '{"klt": 3}',
                '{"rate_bits": 1e999}',
                '{"\x1b": 1}',
                "null",
            )
        ),
        {"feature_names": '["a"]'},
        {"feature_names": '["a", "b", "c", "d", "e\\n"]'},
    ],
    "invariant": [
        *(
            {"shape": shape}
            for shape in (
                "[0]",
                "[]",
                "[1, 2, -2]",
                f"[{10**22}]",
                "[1, 2, 2, 1, 1]",
                "[1, 2.0, 2]",
            )
        ),
        {"config": '{"dims": 1' + 400 * "0" + "}"},
        {"config": '{"beta": 1' + 400 * "0" + "}"},
        {"config": '{"network": "\x1b"}'},
        {"details": "[]"},
    ],
}


@pytest.mark.parametrize(
    ("kind", "metadata"),
    [(kind, change) for kind, changes in HOSTILE.items() for change in changes],
    ids=lambda x: str(x)[:40],
)
def test_a_hostile_description_is_one_line_with_the_files_name(files, kind, metadata):
    rewrite(files / kind, metadata)
    refused(LOADERS[kind], files / kind)


@pytest.mark.parametrize("kind", NETWORK_WEIGHT)
@pytest.mark.parametrize(
    "dtype",
    [torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.float64, torch.int32, torch.bool],
)
def test_weights_of_another_type_are_refused(files, kind, dtype):
    name = NETWORK_WEIGHT[kind]
    rewrite(files / kind, tensors={name: contents(files / kind)[1][name].to(dtype)})
    if kind == "pack":
        (
            refused(lambda path: _added(files / "codec", path), files / kind)
            if dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.complex64)
            else None
        )
    else:
        refused(LOADERS[kind], files / kind)


def _added(codec, pack):
    return Codec.load(codec).add_decoder(Decoders.load(pack), "x")


@pytest.mark.parametrize("kind", LOADERS)
def test_tensors_of_other_dimensions_are_refused(files, kind):
    whole = (files / kind).read_bytes()
    for name, tensor in contents(files / kind)[1].items():
        for changed in (
            tensor.flatten()[0].clone(),
            tensor[None].clone(),
            tensor.flatten()[:0].clone(),
            torch.zeros(2, 2, 2),
            None,
        ):
            if (
                kind == "pack"
                or (changed is not None and changed.shape == tensor.shape)
                or "num_batches" in name
                and changed is None
            ):
                continue
            (files / kind).write_bytes(whole)
            rewrite(files / kind, tensors={name: changed})
            if name != "transform/basis" or changed is not None:
                refused(LOADERS[kind], files / kind)


def test_a_network_of_no_dimensions_is_refused(files):
    model = {
        "network_weights0": torch.tensor(1, dtype=torch.int32),
        "network_biases0": torch.tensor(1),
        "gaussian_lows": torch.tensor(1),
    }
    rewrite(files / "features", tensors={f"model/{name}": tensor for name, tensor in model.items()})
    refused(FeatureCodec.load, files / "features")


def test_names_without_tensors_are_found_at_once(files):
    points = {f"decoder {i}": {"levels": [3, 4]} for i in range(100_000)}
    rewrite(files / "codec", {"points": json.dumps(points)})
    start = time.process_time()
    refused(Codec.load, files / "codec", "decoder 'decoder 0' has no weights")
    assert time.process_time() - start < 3


def test_no_network_is_built_that_the_file_does_not_fill(files):
    built = []

    def encoder(shape, dim):
        built.append(shape)
        module = nn.Sequential(
            nn.Flatten(), nn.Linear(int(np.prod(shape)), 4096), nn.Linear(4096, dim)
        )
        assert module[1].weight.device.type == "meta", "60 GB"
        return module

    rewrite(files / "codec", {"shape": "[1, 2000, 2000]"})
    own = Family("own", encoder, TINY.decoder, TINY.critic)
    refused(
        lambda path: Codec.load(path, family=own),
        files / "codec",
        "encoder.0 is not that of family 'own' for images of 1x2000x2000",
    )
    assert built == [(1, 2000, 2000)]


def test_trees_are_not_deeper_than_declared(files):
    """A chain of branches costs each symbol as many steps."""
    model = FeatureCodec.load(files / "features").model_

    def chain(depth):
        columns = model.columns
        nodes = [[-1, 0, 0, 0]] * (columns - 1)  # a leaf for each column but the last
        first = len(nodes)
        for i in range(depth):
            nodes += [[0, i, first + 2 * i + 1, first + 2 * i + 2], [-1, 0, 0, 0]]
        return JointModel(
            model,
            np.arange(columns, dtype=np.int32),
            np.array([*nodes, [-1, 0, 0, 0]], np.int32),
            model.tables,
        )

    assert chain(64).columns == model.columns
    with pytest.raises(QuadrateError, match="a tree is more than 64 branches deep"):
        chain(65)
    with pytest.raises(QuadrateError, match="a tree is more than 64 branches deep"):
        chain(100_000)


def test_names_given_by_hand_are_checked_too(files):
    codec = Codec.load(files / "codec")
    with pytest.raises(QuadrateError, match="the name of a decoder"):
        codec.add_decoder(make(), "a\nb")
    with pytest.raises(QuadrateError, match="the name of a decoder"):
        TradeoffCodec(
            codec.family,
            codec.shape,
            codec.layers,
            {"\x1b": codec.point},
            {**codec.states, "decoder.\x1b": codec.states["decoder.faithful"]},
        )


@pytest.mark.parametrize("kind", LOADERS)
def test_no_change_of_a_file_does_worse_than_one_line(files, kind):
    """Texts and numbers mutated, with and without a digest that fits."""
    path, draw = files / kind, random.Random(2)
    whole = path.read_bytes()
    metadata, tensors = contents(path)
    for _ in range(40):
        path.write_bytes(whole)
        name = draw.choice([name for name in metadata if name != "format"])
        text = list(metadata[name])
        for _ in range(draw.choice([1, 1, 3])):
            text[draw.randrange(len(text))] = draw.choice('0123456789-[]{}",.eé\x1b\n ')
        part = draw.choice(sorted(tensors))
        changed = tensors[part].clone()
        if changed.numel() and changed.dtype != torch.bool:
            changed.view(-1)[draw.randrange(changed.numel())] = draw.choice([0, 1, 3, 2**15 - 1])
        rewrite(
            path,
            {name: "".join(text)} if draw.random() < 0.5 else None,
            {part: changed} if draw.random() < 0.7 else None,
        )
        try:
            LOADERS[kind](path)
        except QuadrateError as error:
            assert str(path) in str(error) and str(error).isprintable()


def test_load_gives_the_right_kind(files):
    kinds = {"codec": TradeoffCodec, "features": FeatureCodec, "invariant": InvariantCodec}
    for kind, expected in kinds.items():
        assert type(Codec.load(files / kind)) is expected is type(expected.load(files / kind))
    for kind, other in (("codec", FeatureCodec), ("features", InvariantCodec)):
        refused(other.load, files / kind, f"not {other.__name__}")
    refused(Codec.load, files / "pack", "not a Quadrate codec")
    refused(Codec.load, files / "none", "no codec at")
