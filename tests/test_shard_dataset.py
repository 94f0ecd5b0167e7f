"""Passes over shards: each sample once, in an order that can be gone on with."""

import json
import pickle

import numpy as np
import pytest
import torch

import photos_made
from codecs_made import make, source_of
from quadrate.codecs import Batch, ShardDataset, ShardLoader, photo_quad, quad
from quadrate.codecs.photo_quad import Photograph, Rate
from quadrate.coding.container import read_shard
from quadrate.coding.container.manifest import seed_of
from quadrate.coding.container.shard_folder import ShardFolder
from quadrate.errors import QuadrateError

many_workers = pytest.mark.filterwarnings("ignore:This DataLoader will create")
SIZES = [9, 4, 11, 1, 7, 8]  # 40 samples


@pytest.fixture(scope="module")
def codec():
    return make()


def write(root, codec, sizes, compress) -> None:
    with ShardFolder(root, {}) as folder:
        shards = []
        for k, size in enumerate(sizes):
            compress(sum(sizes[:k]), size, folder.path(k), seed_of(3, k))
            facts = seed_of(3, k), list(codec.identities), size
            shards.append(read_shard(folder.path(k), *facts))
        folder.finish(shards)


@pytest.fixture(scope="module")
def shards(tmp_path_factory, codec):
    """Shards whose labels are the numbers of the samples."""
    root = tmp_path_factory.mktemp("shards") / "s"
    images = source_of(seed=1).train.images[:40]

    def compress(first, count, path, seed):
        part = slice(first, first + count)
        batch = Batch(images[part], np.arange(40)[part])
        quad.compress(codec, [batch], path, seed, chunk=3)

    write(root, codec, SIZES, compress)
    return root


def labels_of(batches) -> list[list[int]]:
    return [labels.tolist() for _, labels in batches]


def test_a_pass_has_each_sample_once_and_the_next_pass_another_order(shards, codec):
    dataset = ShardDataset(shards, codec, batch_size=4, seed=1)
    assert len(dataset) == 3 + 1 + 3 + 1 + 2 + 2
    first = labels_of(dataset)
    assert len(first) == 12 and sorted(sum(first, [])) == list(range(40))
    assert labels_of(dataset) == first  # a pass is a function of its number
    dataset.epoch = 1
    second = labels_of(dataset)
    assert second != first and sorted(sum(second, [])) == list(range(40))
    shard_of = np.repeat(np.arange(6), SIZES)
    starts = [int(shard_of[batch[0]]) for batch in first]
    assert len(set(starts)) == 6 and starts != sorted(starts)
    assert all(len(set(shard_of[batch])) == 1 for batch in first)
    assert labels_of(ShardDataset(shards, codec, 4, seed=2)) != first
    plain = ShardDataset(shards, codec, batch_size=4, shuffle=False)
    assert sum(labels_of(plain), []) == list(range(40))


def test_samples_are_those_of_the_folder(shards, codec):
    whole = codec.decompress(shards)
    for images, labels in ShardDataset(shards, codec, batch_size=4):
        assert np.array_equal(images.numpy(), whole[labels.numpy()])
    singly = {label: image.numpy() for image, label in ShardDataset(shards, codec)}
    assert all(np.array_equal(singly[k], whole[k]) for k in range(40))
    latents = codec.decompress_latents(shards)
    for found, labels in ShardDataset(shards, codec, 4, item="latents"):
        assert torch.equal(found, latents[labels])
    labels = torch.cat(list(ShardDataset(shards, codec, 4, item="labels")))
    assert sorted(labels.tolist()) == list(range(40))


@many_workers
@pytest.mark.parametrize("workers", [0, 2, 3])
def test_a_loader_goes_on_where_it_stopped(shards, codec, workers):
    def loader() -> ShardLoader:
        return ShardLoader(ShardDataset(shards, codec, 4, seed=1), num_workers=workers)

    whole = loader()
    passes = [labels_of(whole) for _ in range(2)]
    assert passes[0] != passes[1]
    assert all(sorted(sum(each, [])) == list(range(40)) for each in passes)
    for stop in (0, 1, 7, 11, 12):
        broken = loader()
        given = []
        for _, (_, labels) in zip(range(stop), broken, strict=False):
            given.append(labels.tolist())
            if len(given) == stop:
                break
        state = json.loads(json.dumps(broken.state_dict()))
        other = loader()
        other.load_state_dict(state)
        rest = labels_of(other)
        assert given + rest == passes[0]
        assert labels_of(other) == passes[1]


@many_workers
def test_the_order_is_one_of_the_seed_the_pass_and_the_workers(shards, codec):
    orders = [
        labels_of(ShardLoader(ShardDataset(shards, codec, 4, seed=1), num_workers=workers))
        for workers in (0, 2, 2, 3)
    ]
    assert orders[1] == orders[2] != orders[0] and orders[3] != orders[1]
    assert (
        labels_of(pickle.loads(pickle.dumps(ShardDataset(shards, codec, 4, seed=1)))) == orders[0]
    )


def test_batches_that_are_left_out_are_those_a_loader_gave(shards, codec):
    """The arithmetic of `_roles` against a loader that takes from each worker in turn."""
    for workers in (1, 2, 3, 5, 8):
        dataset = ShardDataset(shards, codec, 2, seed=4)
        counts = [dataset._batches(SIZES[k]) for k in dataset._order()]
        left = [sum(counts[w::workers]) for w in range(workers)]
        turns = [w for turn in range(max(left)) for w in range(workers) if left[w] > turn]
        for skip in range(len(turns) + 1):
            dataset.skip = skip
            roles = dataset._roles(workers)
            assert dict(roles) == {w: turns[:skip].count(w) for w in range(workers)}
            rest = [
                count - taken for count, (_, taken) in zip(totals(left, roles), roles, strict=True)
            ]
            again = [
                roles[w][0] for turn in range(max(rest)) for w in range(workers) if rest[w] > turn
            ]
            assert again == turns[skip:]


def totals(left: list[int], roles: list[tuple[int, int]]) -> list[int]:
    return [left[role] for role, _ in roles]


def test_what_would_give_another_order_is_refused(shards, codec):
    dataset = ShardDataset(shards, codec, 4, seed=1)
    state = ShardLoader(dataset).state_dict()
    with pytest.raises(QuadrateError, match="is of a loader with num_workers 1; this one has 2"):
        ShardLoader(dataset, num_workers=2).load_state_dict(state)
    with pytest.raises(QuadrateError, match="is of a loader with seed 1; this one has 2"):
        ShardLoader(ShardDataset(shards, codec, 4, seed=2)).load_state_dict(state)
    with pytest.raises(QuadrateError, match="has other entries than x"):
        ShardLoader(dataset).load_state_dict({"x": 1})
    for option in ({"batch_size": 3}, {"shuffle": True}, {"persistent_workers": True}):
        with pytest.raises(QuadrateError, match="takes no"):
            ShardLoader(dataset, num_workers=1, **option)
    with pytest.raises(QuadrateError, match="at least one sample; got batch_size 0"):
        ShardDataset(shards, codec, 0)
    with pytest.raises(QuadrateError, match="an item is pixels, latents, labels"):
        ShardDataset(shards, codec, item="faces")
    with pytest.raises(QuadrateError, match="no such file"):
        ShardDataset(shards.parent, codec)


def test_photographs_come_shard_by_shard(tmp_path):
    codec = photos_made.codec()

    def compress(first, count, path, seed):
        pictures = [
            Photograph(photos_made.picture(16, 24, seed=k), label=k)
            for k in range(first, first + count)
        ]
        photo_quad.compress(codec, pictures, path, Rate(quality=30), seed)

    write(tmp_path / "p", codec, [2, 3], compress)
    dataset = ShardDataset(
        tmp_path / "p", codec, 2, seed=1, transform=lambda pixels: pixels[:, :8, :8]
    )
    found = list(dataset)
    assert {tuple(images.shape[1:]) for images, _ in found} == {(3, 8, 8)}
    assert sorted(torch.cat([labels for _, labels in found]).tolist()) == list(range(5))
