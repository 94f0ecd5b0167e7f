"""Symbols and bytes across processes that differ in CPU capability, threads, batch sizes, chunk
sizes and memory formats.

Run as a script, this file is one of those processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quadrate.codecs import Layer, TradeoffCodec, quad
from quadrate.coding.streams import decode_layer, encode_layer
from quadrate.config import OperatingPoint
from quadrate.errors import QuadrateWarning
from quadrate.networks import compact
from quadrate.networks.family import Family
from quadrate.sources import from_arrays, load_source

SHAPE, LEVELS, SEED, SAMPLES = (3, 8, 8), ((3, 4, 2), (5, 3)), 11, 24_000
COLUMNS = sum(map(len, LEVELS))


@dataclass(frozen=True)
class Setting:
    """How a process works.

    Attributes:
        capability: ATEN_CPU_CAPABILITY; nothing takes the best there is.
        threads: Of PyTorch and OpenMP.
        batch: Images that an encoder sees at a time.
        chunk: Samples a chunk of the .quad file.
        channels_last: The images' memory format.
    """

    name: str
    capability: str = ""
    threads: int = 1
    batch: int = 5000
    chunk: int = 4096
    channels_last: bool = False


HERE = Setting("here")
OTHERS = (
    Setting("plain", "default", threads=1, batch=250, chunk=1000, channels_last=True),
    Setting("avx2", "avx2", threads=2, batch=1111, chunk=7777),
)


def encoder(shape: tuple[int, int, int], dim: int) -> nn.Module:
    """Convolutions, so that memory format and vector width are seen."""
    layers = [
        nn.Conv2d(shape[0], 16, 3, stride=2, padding=1),
        nn.LeakyReLU(),
        nn.Flatten(),
        nn.Linear(256, 64, bias=False),
        nn.BatchNorm1d(64),
    ]
    return nn.Sequential(
        *layers, nn.GELU(), nn.Linear(64, dim, bias=False), nn.BatchNorm1d(dim), nn.Tanh()
    )


FAMILY = Family("convolutions", encoder, compact.decoder, compact.critic)


def run(folder: Path, setting: Setting, others: list[str]) -> None:
    """Writes a process's results on the images, the given symbols, and the files of others."""
    codec = TradeoffCodec.load(folder / "codec.safetensors", family=FAMILY)
    images = torch.from_numpy(np.load(folder / "images.npy"))
    if setting.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    own = folder / setting.name
    own.mkdir()
    batches = images.split(setting.batch)
    symbols = [codec.encode(batch, SEED, setting.batch * i) for i, batch in enumerate(batches)]
    latents = codec.latents(batches[0][:200] / 255.0)
    coded: list[np.ndarray] = []

    def recorded(model, symbols, dither):
        if model.first == 0:
            coded.append(symbols)
        return encode_layer(model, symbols, dither)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quad, "encode_layer", recorded)
        quad.compress(
            codec, [quad.Batch(batch) for batch in batches], own / "file.quad", SEED, setting.chunk
        )

    given = np.load(folder / "given.npy")
    dither = np.concatenate(
        [
            codec.dither_words(min(setting.batch, len(given) - first), SEED, first)
            for first in range(0, len(given), setting.batch)
        ]
    )
    payloads = [encode_layer(model, given, dither) for model in codec.models]
    (own / "payloads").write_bytes(b"".join(payloads))
    read = np.zeros((len(given), 0), dtype=np.int64)
    for model, payload in zip(codec.models, payloads, strict=True):
        read = decode_layer(model, payload, read, dither)
    assert (read == given).all()

    np.savez(
        own / "made",
        symbols=torch.cat(symbols),
        coded=np.concatenate(coded),
        latents=latents,
        dither=dither,
        received=codec.dequantize(torch.from_numpy(given), SEED),
    )
    for other in others:
        with quad.QuadFile(folder / other / "file.quad", codec) as file:
            np.save(
                own / f"read-{other}",
                np.concatenate([file.symbols(chunk) for chunk in range(len(file.reader.index))]),
            )
    (own / "facts.json").write_text(
        json.dumps([torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()])
    )


def start(folder: Path, setting: Setting, others: list[str]) -> None:
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": setting.capability}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(setting.threads))
    if setting.capability == "default":
        environment["MKL_CBWR"] = "COMPATIBLE"  # matrix products are MKL's, which does not ask ATen
    command = [
        sys.executable,
        "-W",
        "error",
        __file__,
        str(folder),
        json.dumps(asdict(setting)),
        json.dumps(others),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def digits_in_colour() -> Tensor:
    """Scikit-learn's digits with noise, many times: uint8 (SAMPLES, 3, 8, 8)."""
    digits = load_source("digits").train.images.float()
    generator = torch.Generator().manual_seed(0)
    chosen = digits[torch.randint(len(digits), (SAMPLES,), generator=generator)]
    noisy = chosen * torch.rand(SAMPLES, 3, 1, 1, generator=generator) + 30 * torch.randn(
        SAMPLES, *SHAPE, generator=generator
    )
    return noisy.clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three processes, this one included, one after another.

    Each reads the files of those before it, and this one all.
    """
    folder = tmp_path_factory.mktemp("determinism")
    images = digits_in_colour()
    np.save(folder / "images.npy", images.numpy())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        states = {}
        for i, stage in enumerate(LEVELS):
            network = FAMILY.encoder(SHAPE, len(stage))
            with torch.no_grad():
                for _ in range(10):
                    network.train()(images[:1000] / 255.0)
            states[f"encoder.{i}"] = network.state_dict()
        states["decoder.faithful"] = FAMILY.decoder(SHAPE, COLUMNS).state_dict()
    codec = TradeoffCodec(
        FAMILY,
        SHAPE,
        [Layer(stage) for stage in LEVELS],
        {"faithful": OperatingPoint(LEVELS[-1])},
        states,
    )
    labels = np.zeros(1000, dtype=np.int64)
    with warnings.catch_warnings():  # what was never trained carries little
        warnings.simplefilter("ignore", QuadrateWarning)
        codec.freeze(
            from_arrays(
                "digits",
                (images[:1000], labels),
                (images[:10], labels[:10]),
                (images[:10], labels[:10]),
                classes=2,
            )
        )
    codec.save(folder / "codec.safetensors")
    np.save(
        folder / "given.npy", np.random.default_rng(0).integers(0, codec.levels, (SAMPLES, COLUMNS))
    )
    run(folder, HERE, [])
    start(folder, OTHERS[0], ["here"])
    start(folder, OTHERS[1], ["here", OTHERS[0].name])
    for setting in OTHERS:
        with quad.QuadFile(folder / setting.name / "file.quad", codec) as file:
            np.save(
                folder / "here" / f"read-{setting.name}",
                np.concatenate([file.symbols(chunk) for chunk in range(len(file.reader.index))]),
            )
    return folder


def made(folder: Path, name: str, setting: Setting) -> np.ndarray:
    with np.load(folder / setting.name / "made.npz") as file:
        return file[name]


def test_the_processes_differ_as_they_should(folder):
    facts = [json.loads((folder / setting.name / "facts.json").read_text()) for setting in OTHERS]
    assert [threads for _, threads in facts] == [1, 2]
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        assert [capability for capability, _ in facts] == ["DEFAULT", "AVX2"]
        assert (
            made(folder, "latents", OTHERS[0]) != made(folder, "latents", HERE)
        ).any()  # so that there is something to be robust against


@pytest.mark.parametrize("setting", OTHERS, ids=lambda setting: setting.name)
def test_the_same_symbols_are_the_same_bytes_and_come_back(folder, setting):
    assert (folder / setting.name / "payloads").read_bytes() == (
        folder / "here" / "payloads"
    ).read_bytes()
    assert np.array_equal(made(folder, "dither", setting), made(folder, "dither", HERE))
    assert np.array_equal(made(folder, "received", setting), made(folder, "received", HERE))


@pytest.mark.parametrize("setting", OTHERS, ids=lambda setting: setting.name)
@pytest.mark.parametrize("which", ["symbols", "coded"])
def test_encoders_agree_on_all_but_a_hundred_thousandth_of_the_symbols(folder, setting, which):
    ours, theirs = made(folder, "symbols", HERE), made(folder, which, setting)
    assert theirs.shape == (SAMPLES, COLUMNS) and all(
        len(np.unique(column)) > 1 for column in theirs.T
    )
    assert (ours != theirs).mean() <= 1e-5
    assert np.abs(made(folder, "latents", HERE) - made(folder, "latents", setting)).max() < 1e-4


@pytest.mark.parametrize(
    ("writer", "reader"),
    [("here", "plain"), ("here", "avx2"), ("plain", "avx2"), ("plain", "here"), ("avx2", "here")],
)
def test_every_file_gives_the_symbols_that_were_coded_in_another_process(folder, writer, reader):
    coded = made(folder, "coded", Setting(writer))
    assert np.array_equal(np.load(folder / reader / f"read-{writer}.npy"), coded)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Setting(**json.loads(sys.argv[2])), json.loads(sys.argv[3]))
