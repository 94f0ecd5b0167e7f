"""What .quad files may claim, and what they may be given as.

Few bytes for very many samples, sizes that do not add up, buffers and paths.
"""

import io
import json
import os
import re
import resource
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from codecs_made import make, source_of
from containers import Chunk, Forgery, header_bytes
from quadrate.cli import main
from quadrate.codecs import Batch, FeatureCodec, QuadFile, quad
from quadrate.coding.container import ChunkData, Header, LayerHeader, Reader, Writer
from quadrate.errors import QuadrateError


@pytest.fixture(scope="module")
def codec():
    return make()


@pytest.fixture(scope="module")
def folder(codec, tmp_path_factory) -> Path:
    """The codec's file.

    A file of 100 images; and one that claims a thousand million, in chunks without a byte of
    payload.
    """
    path = tmp_path_factory.mktemp("limits")
    codec.save(path / "c.safetensors")
    codec.compress(source_of(seed=1).train.images[:100], to=path / "a.quad")
    with Writer.create(
        path / "claims.quad", Header(codec.shape, 0, (LayerHeader(codec.identities[0], 2),))
    ) as writer:
        for first in range(0, 10**9, 1 << 20):
            writer.write(ChunkData(min(1 << 20, 10**9 - first), (b"",)))
    assert 60_000 < (path / "claims.quad").stat().st_size < 80_000
    return path


@contextmanager
def room_for(size_bytes: int):
    """An address space with so much room beside what is taken already."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# --- claims ---


@pytest.mark.parametrize(
    ("dtype", "size"), [("uint8", 64 * 10**9), ("float32", 256 * 10**9), ("float64", 512 * 10**9)]
)
def test_all_at_once_of_too_much_says_how_much_and_what_to_do(
    codec, folder, monkeypatch, dtype, size
):
    monkeypatch.setattr(quad, "_memory_bytes", lambda: 32 << 30)
    with pytest.raises(
        QuadrateError,
        match=(
            f"claims.quad: 1000000000 samples take {size} bytes of memory at once; decode them in"
            " pieces"
        ),
    ):
        codec.decompress(folder / "claims.quad", dtype=dtype)
    assert codec.decompress(folder / "claims.quad", samples=slice(999_999_990, None, 3)).shape == (
        4,
        1,
        8,
        8,
    )


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="reads the memory in use from /proc"
)
@pytest.mark.parametrize("samples", [10**7, 10**8])
def test_memory_that_is_not_there_is_the_same_line(codec, folder, monkeypatch, samples):
    monkeypatch.setattr(quad, "_memory_bytes", lambda: 1 << 62)
    with (
        room_for(400 << 20),
        pytest.raises(
            QuadrateError, match=f"{samples} samples take {64 * samples} bytes of memory at once"
        ),
    ):
        codec.decompress(folder / "claims.quad", samples=slice(samples))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_memory_that_decoding_lacks_is_the_same_line(codec, folder, monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(QuadFile, "latents", fails)
    with pytest.raises(QuadrateError, match="100 samples take 6400 bytes of memory at once"):
        codec.decompress(folder / "a.quad")


@pytest.mark.parametrize(
    ("symbols", "chunks"), [(0, 1), pytest.param(1 << 24, 16, marks=pytest.mark.slow)]
)
def test_verify_takes_time_by_what_a_file_holds_and_not_by_what_it_claims(
    folder, capsys, monkeypatch, symbols, chunks
):
    """A thousand million samples would take a quarter of an hour."""
    monkeypatch.setattr("quadrate.cli.quads._SYMBOLS", symbols)
    monkeypatch.setattr("quadrate.cli.quads._SYMBOLS_PER_BYTE", 1 << 8 if symbols else 1 << 5)
    main(["verify", str(folder / "claims.quad"), "--codec", str(folder / "c.safetensors")])
    out = capsys.readouterr().out
    assert (
        f"layers decode with {folder / 'c.safetensors'} in the first {chunks} of 954 chunks; the"
        " others claim too many symbols" in out
    )
    assert "for the file's bytes: --all" in out
    main(["verify", str(folder / "a.quad"), "--codec", str(folder / "c.safetensors")])
    assert capsys.readouterr().out.endswith(
        "c.safetensors\n"
    )  # a file that holds what it claims is decoded to its end


def test_verify_all_decodes_all(codec, folder, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("quadrate.cli.quads._SYMBOLS", 4)
    monkeypatch.setattr("quadrate.cli.quads._SYMBOLS_PER_BYTE", 0)
    with Writer.create(
        tmp_path / "x.quad", Header(codec.shape, 0, (LayerHeader(codec.identities[0], 2),))
    ) as writer:
        for payload in (b"", b"", b"\xff" * 400):
            writer.write(ChunkData(1, (payload,)))
    command = ["verify", str(tmp_path / "x.quad"), "--codec", str(folder / "c.safetensors")]
    main(command)
    assert "in the first 2 of 3 chunks" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command, "--all"])
    assert "chunk 2, layer 0: the coded stream" in capsys.readouterr().err


# --- sizes ---


def test_inspect_refuses_sizes_that_do_not_add_up_as_verify_does(tmp_path, capsys):
    long = Forgery(
        header_bytes(), (Chunk(), Chunk(sizes=(1 << 27, 0, 0), payloads=(b"base", b""), side=b""))
    )
    short = Forgery(header_bytes(), (Chunk(), Chunk(sizes=(1, 0, 0), payloads=(b"base", b""))))
    between = Forgery(header_bytes(), (Chunk(), Chunk()), between=b"x" * 100)
    behind = Forgery(header_bytes(), (Chunk(), Chunk(sizes=(44, 10, 0))))
    whole = Forgery(header_bytes(), (Chunk(), Chunk()))
    for forgery in (long, short, between, behind):
        (tmp_path / "x.quad").write_bytes(forgery.build())
        for verb in ("inspect", "verify"):
            with pytest.raises(SystemExit) as ended:
                main([verb, str(tmp_path / "x.quad")])
            out, err = capsys.readouterr()
            assert (
                ended.value.code == 1 and not out and len(err.splitlines()) == 1 and "x.quad" in err
            )
    (tmp_path / "x.quad").write_bytes(whole.build())
    main(["inspect", str(tmp_path / "x.quad"), "--json"])
    sizes = json.loads(capsys.readouterr().out)["bytes"]
    assert (
        sum(size for name, size in sizes.items() if name not in ("payloads", "total"))
        + sum(sizes["payloads"])
        == sizes["total"]
    )
    with Reader(whole.build()) as reader:
        assert reader.sizes() == sizes
    with Reader(long.build()) as reader, pytest.raises(QuadrateError, match="reach beyond byte"):
        reader.sizes()


# --- what a file may be given as ---


@pytest.mark.parametrize(
    "kind",
    [
        bytes,
        bytearray,
        memoryview,
        lambda data: memoryview(np.repeat(np.frombuffer(data, np.uint8), 2))[::2],
    ],
)
def test_a_files_contents_come_in_any_buffer(codec, folder, kind):
    buffer = kind((folder / "a.quad").read_bytes())
    expected = codec.decompress(folder / "a.quad")
    assert np.array_equal(codec.decompress(buffer), expected)
    assert np.array_equal(quad.decompress(codec, buffer), expected)
    with QuadFile(buffer, codec) as file, Reader(buffer) as reader:
        assert file.samples == reader.samples == 100
    dataset = quad.QuadDataset(buffer, codec)
    if isinstance(buffer, bytearray):
        buffer[:] = bytes(len(buffer))  # what was given is not kept, so nobody can change it
    assert np.array_equal(dataset[99].numpy(), expected[99])


def test_a_file_is_written_and_read_by_any_kind_of_path(codec, tmp_path):
    images = source_of(seed=1).train.images[:10]

    class Place:
        def __init__(self, path) -> None:
            self.path = path

        def __fspath__(self):
            return self.path

    for number, kind in enumerate((str, Path, Place)):
        path = kind(str(tmp_path / f"{number}.quad"))
        assert (
            quad.compress(codec, [Batch(images)], path) == 10
            and quad.append(codec, [Batch(images)], path) == 10
        )
        assert quad.decompress(codec, path).shape == codec.decompress(path).shape == (20, 1, 8, 8)
        assert len(quad.QuadDataset(path, codec)) == 20


def test_features_come_in_any_buffer():
    features = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    codec = FeatureCodec(rate_bits=8).fit(features)
    data = codec.compress(features)
    assert np.array_equal(codec.decompress(memoryview(bytearray(data))), codec.transform(features))


@pytest.mark.parametrize("source", [None, 7, 1.5, ["a.quad"], io.BytesIO(b"x"), torch.zeros(3)])
def test_what_is_neither_a_path_nor_bytes_is_one_line(codec, source):
    for use in (
        Reader,
        lambda given: QuadFile(given, codec),
        lambda given: quad.QuadDataset(given, codec),
        lambda given: quad.decompress(codec, given),
    ):
        with pytest.raises(
            QuadrateError,
            match=f"a file is given by its path or its bytes; got {type(source).__name__}",
        ):
            use(source)


@pytest.mark.parametrize("name", ["a\0b.quad", "x" * 5000 + ".quad", "a.quad/b.quad"])
def test_names_that_no_file_can_have_are_one_line(codec, folder, monkeypatch, name):
    monkeypatch.chdir(folder)
    images = source_of().train.images[:3]
    for use in (
        Reader,
        lambda path: quad.compress(codec, [Batch(images)], path),
        lambda path: quad.append(codec, [Batch(images)], path),
    ):
        with pytest.raises(QuadrateError) as caught:
            use(name)
        assert (
            re.match("cannot (read|write)|no such file", str(caught.value))
            and len(str(caught.value).splitlines()) == 1
        )
        assert "\0" not in str(caught.value) and len(str(caught.value)) < 500
