"""Files of small images, and their symbols."""

import io

import numpy as np

from quadrate.codecs import Batch, QuadFile, quad


def write(codec, images, labels=None, names=None, seed=0, chunk=quad.CHUNK_SAMPLES) -> bytes:
    target = io.BytesIO()
    assert quad.compress(codec, [Batch(images, labels, names)], target, seed, chunk) == len(images)
    return target.getvalue()


def symbols_of(data, codec) -> np.ndarray:
    with QuadFile(data, codec) as file:
        return np.concatenate([file.symbols(chunk) for chunk in range(len(file.reader.index))])
