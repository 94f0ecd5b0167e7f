"""Data sets over .quad files.

Many threads and processes, what is kept, and the order that reads a chunk once.
"""

import pickle
import re
import threading
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from codecs_made import TINY, make, source_of
from quadrate import QuadDataset
from quadrate.codecs import Batch, ChunkSampler, FeatureCodec, QuadFile, quad
from quadrate.coding.container import Reader
from quadrate.errors import QuadrateError, QuadrateWarning

COUNT = 200


@pytest.fixture(scope="module")
def codec():
    return make()


@pytest.fixture(scope="module")
def file(codec, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("quad") / "a.quad"
    quad.compress(
        codec,
        [Batch(source_of(seed=1).train.images[:COUNT], np.arange(COUNT))],
        path,
        seed=6,
        chunk=7,
    )
    return path


class Counted:
    """A codec that counts how often chunks are read and samples decoded."""

    def __init__(self, codec) -> None:
        self.codec, self.chunks, self.samples = codec, 0, 0

    def __getattr__(self, name):
        return getattr(self.__dict__["codec"], name)

    def dequantize(self, symbols, seed=0, first=0):
        self.chunks += len(symbols) > 0
        return self.codec.dequantize(symbols, seed, first)

    def reconstruct(self, received, *settings):
        self.samples += len(received)
        return self.codec.reconstruct(received, *settings)


# --- threads ---


@pytest.mark.parametrize("cache_bytes", [0, 300, 1 << 20])
@pytest.mark.parametrize("item", ["pixels", "latents", "labels"])
def test_every_item_is_right_in_any_number_of_threads(codec, file, item, cache_bytes):
    expected = {
        "pixels": torch.from_numpy(codec.decompress(file)),
        "latents": codec.dequantize(codec.encode(source_of(seed=1).train.images[:COUNT], 6), 6),
    }
    dataset = QuadDataset(file, codec, item, cache_bytes=cache_bytes)

    def reads(seed: int) -> list[int]:
        wrong = []
        for i in np.random.default_rng(seed).integers(0, COUNT, 150).tolist():
            content, label = (None, dataset[i]) if item == "labels" else dataset[i]
            near = content is None or (content.float() - expected[item][i].float()).abs().max() <= (
                item == "pixels"
            )
            wrong += [i] * (label != i or not near)
        return wrong

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(reads, range(4))) == [[]] * 4


def test_one_file_and_one_reader_serve_many_threads(codec, file):
    with QuadFile(file, codec) as opened, Reader(file) as reader, ThreadPoolExecutor(4) as threads:
        symbols = [opened.symbols(chunk) for chunk in range(len(reader.index))]
        chunks = np.random.default_rng(0).integers(0, len(reader.index), 400).tolist()
        assert all(
            np.array_equal(found, symbols[chunk])
            for chunk, found in zip(chunks, threads.map(opened.symbols, chunks), strict=True)
        )
        for chunk, found in zip(chunks, threads.map(reader.read, chunks), strict=True):
            first, count = reader.index[chunk].tolist()
            assert found.labels.tolist() == list(range(first, first + count))


def test_threads_that_have_no_pread_take_turns(codec, file, monkeypatch):
    monkeypatch.delattr("os.pread", raising=False)
    test_one_file_and_one_reader_serve_many_threads(codec, file)


def test_a_feature_codec_and_a_codec_serve_many_threads(codec, file):
    features = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32)
    of_features = FeatureCodec(rate_bits=12).fit(features)
    data = of_features.compress(features)
    images = codec.decompress(file)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(
            lambda _: (of_features.decompress(data), codec.decompress(file)), range(12)
        ):
            assert np.array_equal(found[0], of_features.transform(features)) and np.array_equal(
                found[1], images
            )


# --- processes ---


def test_a_fork_while_another_thread_decodes_does_not_hang(codec, file):
    """The lock that the thread holds has nobody in the child who would give it back."""
    entered, released = threading.Event(), threading.Event()

    class Slow(Counted):
        def dequantize(self, symbols, seed=0, first=0):
            if threading.current_thread() is not threading.main_thread():
                entered.set()
                released.wait()
            return super().dequantize(symbols, seed, first)

    dataset = QuadDataset(file, Slow(codec))
    thread = threading.Thread(target=lambda: dataset[0])
    thread.start()
    entered.wait()
    try:
        loader = DataLoader(
            dataset, batch_size=50, num_workers=1, multiprocessing_context="fork", timeout=60
        )
        assert torch.cat([labels for _, labels in loader]).tolist() == list(range(COUNT))
    finally:
        released.set()
        thread.join()


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_read_in_the_samplers_order(codec, file, context):
    dataset = QuadDataset(file, codec)
    dataset[3]
    sampler = dataset.sampler(seed=1, window=3)
    expected = list(ChunkSampler(Reader(file.read_bytes()).index[:, 1], 1, 3))
    loader = DataLoader(
        dataset, batch_size=16, sampler=sampler, num_workers=2, multiprocessing_context=context
    )
    pixels, labels = (torch.cat(part) for part in zip(*loader, strict=True))
    assert labels.tolist() == expected and sorted(expected) == list(range(COUNT))
    assert (
        pixels.int() - torch.from_numpy(codec.decompress(file)[expected]).int()
    ).abs().max() <= 1


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, str, Path])
def test_a_data_set_of_any_source_can_be_pickled_and_closed(codec, file, kind):
    source = kind(file) if kind in (str, Path) else kind(file.read_bytes())
    dataset = QuadDataset(source, codec)
    again = pickle.loads(pickle.dumps(dataset))
    del dataset
    assert [again[i][1] for i in (0, 100, -1)] == [0, 100, COUNT - 1]
    with QuadFile(file, codec) as opened:
        pass
    with pytest.raises(QuadrateError, match="a.quad is closed; open it again"):
        opened.symbols(0)


def test_a_worker_that_finds_another_file_says_so(codec, tmp_path):
    images = source_of(seed=1).train.images[:9]
    codec.compress(images, to=tmp_path / "a.quad")
    dataset = QuadDataset(tmp_path / "a.quad", codec)
    state = pickle.dumps(dataset)
    quad.append(codec, [Batch(images)], tmp_path / "a.quad")
    assert len(pickle.loads(state)) == 18  # the same file, grown
    codec.compress(images.flip(0), to=tmp_path / "a.quad")
    with pytest.raises(
        QuadrateError, match="a.quad is another file than when the data set was made"
    ):
        pickle.loads(state)
    with pytest.raises(QuadrateError, match="a cache takes 0 bytes or more; got -1"):
        QuadDataset(tmp_path / "a.quad", codec, cache_bytes=-1)


# --- what is kept ---


def test_a_shuffled_loader_decodes_a_chunk_once(codec, file):
    counted = Counted(codec)
    dataset = QuadDataset(file, counted)
    chunks = len(Reader(file.read_bytes()).index)
    for _ in range(3):
        seen = [
            label
            for _, labels in DataLoader(dataset, batch_size=8, shuffle=True)
            for label in labels.tolist()
        ]
        assert sorted(seen) == list(range(COUNT))
    assert (counted.chunks, counted.samples) == (chunks, COUNT)


def test_samples_that_do_not_fit_are_decoded_once_a_pass_in_the_samplers_order(codec, file):
    counted = Counted(codec)
    dataset = QuadDataset(
        file, counted, cache_bytes=4 * 7 * 16
    )  # four chunks of two latents and a label: half of them are shuffled together
    sampler = dataset.sampler()
    for passes in (1, 2):
        seen = [
            label
            for _, labels in DataLoader(dataset, batch_size=8, sampler=sampler)
            for label in labels.tolist()
        ]
        assert sorted(seen) == list(range(COUNT)) and counted.samples == passes * COUNT
        assert counted.chunks <= passes * 29
    assert sampler.epoch == 2


def test_what_is_kept_stays_below_what_was_stated(tmp_path):
    shape, count = (1, 16, 16), 30_000
    codec = make(TINY, shape, levels=((3, 4),))
    block = source_of(shape, 1000).train.images
    quad.compress(
        codec, (Batch(block) for _ in range(count // len(block))), tmp_path / "a.quad", chunk=1000
    )
    dataset = QuadDataset(tmp_path / "a.quad", codec, cache_bytes=1 << 16)
    for order in (range(0, len(dataset), 50), dataset.sampler()):
        total = 0
        for k, number in enumerate(order):
            dataset[number]
            if k % 200 == 0:
                held = sum(
                    tensor.numel() * tensor.element_size()
                    for rows in dataset._cache._values.values()
                    for tensor in rows
                )
                assert held <= 1 << 16
            total += 1
            if total == 2000:
                break


def test_nobody_changes_what_is_kept(codec, file):
    for item in ("pixels", "latents"):
        dataset = QuadDataset(file, codec, item)
        before = dataset[5][0].clone()
        dataset[5][0].zero_()
        assert torch.equal(dataset[5][0], before) and before.any()


def test_a_subclass_that_makes_more_of_a_sample_is_asked_by_a_loader(codec, file):
    class Bright(QuadDataset):
        def __getitem__(self, number):
            pixels, label = super().__getitem__(number)
            return pixels.float() + 1000, label

    pixels, labels = next(iter(DataLoader(Bright(file, codec), batch_size=4)))
    assert pixels.min() >= 1000 and labels.tolist() == [0, 1, 2, 3]


def test_pixels_of_a_data_set_are_those_of_decompress(codec, file):
    dataset, whole = QuadDataset(file, codec), codec.decompress(file)
    assert all(np.array_equal(dataset[i][0].numpy(), whole[i]) for i in (199, 0, 7, 6, 133))


def test_a_data_set_says_what_it_is(codec, file):
    assert (
        repr(QuadDataset(file, codec))
        == f"QuadDataset('{file}': 200 samples in 29 chunks; pixels (1, 8, 8) with labels)"
    )
    assert (
        repr(QuadDataset(file, codec, "labels"))
        == f"QuadDataset('{file}': 200 samples in 29 chunks; labels)"
    )
    data = codec.compress(torch.zeros(3, 1, 8, 8))
    assert (
        repr(QuadDataset(data, codec, "latents"))
        == "QuadDataset('the data': 3 samples in 1 chunks; latents (2,))"
    )


# --- the sampler ---


def test_a_sampler_gives_all_samples_once_a_window_of_chunks_at_a_time():
    counts = [5, 1, 7, 4, 3]
    chunk_of = np.repeat(np.arange(5), counts)
    sampler = ChunkSampler(counts, seed=3, window=2)
    first, second = list(sampler), list(sampler)
    for order in (first, second):
        assert sorted(order) == list(range(20)) and len(sampler) == 20
        runs, done = chunk_of[order], 0
        while done < len(order):  # each window holds whole chunks
            chunks = set(runs[done : done + 1].tolist())
            size = next(
                n
                for n in range(1, 21)
                if n == sum(counts[c] for c in chunks | set(runs[done : done + n].tolist()))
            )
            assert len(set(runs[done : done + size].tolist())) <= 2
            done += size
    assert first != second and first != sorted(first)
    again = ChunkSampler(counts, seed=3, window=2)
    again.epoch = 1
    assert list(again) == second and list(ChunkSampler(counts, seed=4, window=2)) != first
    assert list(ChunkSampler([], 0, 1)) == []
    with pytest.raises(QuadrateError, match="a window has at least one chunk; got 0"):
        ChunkSampler(counts, 0, 0)


def test_a_sampler_of_very_many_samples_takes_little_memory(codec):
    tracemalloc.start()
    order = iter(ChunkSampler([1 << 14] * (1 << 16), seed=0, window=4))  # a thousand million
    for _ in range(100):
        next(order)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20 << 20


def test_the_pages_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs" / "files.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuadrateWarning)  # black images are no digits
        exec(compile(code, "files.md", "exec"), {})
