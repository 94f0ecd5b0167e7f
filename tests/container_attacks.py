"""One attack on the .quad reader, and what it must survive."""

import math

import numpy as np

from containers import (
    content,
)
from quadrate.coding.container import Header, Reader
from quadrate.errors import QuadrateError


def fuzz_one(data: bytes) -> None:
    """Reads everything there is in any bytes.

    Lets only QuadrateError pass, and no answer that contradicts itself or the limits.
    """
    with Reader(data) as reader:
        assert reader.samples == reader.index[:, 1].sum() and 0 <= reader.ignored_bytes < len(data)
        errors = []
        for number, (first, samples) in enumerate(reader.index.tolist()):
            assert reader.chunks_of(first, first + samples) == range(number, number + 1)
            for layers in range(len(reader.header.layers) + 1):
                try:
                    chunk = reader.read(number, layers)
                except QuadrateError as error:
                    errors.append(error)
                    continue
                assert (
                    chunk.samples == samples
                    and len(chunk.payloads) == layers
                    and sum(map(len, chunk.payloads)) < len(data)
                )
                for name in ("labels", "names", "shapes", "profiles"):
                    assert (getattr(chunk, name) is not None) == (name in reader.header.fields)
                assert chunk.labels is None or chunk.labels.shape == (samples,)
                assert chunk.names is None or len(chunk.names) == samples
                assert chunk.profiles is None or len(chunk.profiles) == samples
                assert chunk.shapes is None or _are_right(chunk.shapes, samples, reader.header)
        try:
            reader.verify()
        except QuadrateError:
            return
        assert not errors  # what is verified is readable


def _are_right(shapes: np.ndarray, samples: int, header: Header) -> bool:
    """Whether the samples' own shapes are within the limits and those that the header allows."""
    return (
        shapes.shape == (samples, len(header.shape))
        and sum(math.prod(shape) for shape in shapes.tolist()) <= 2**28
        and all(
            given in (0, size) and 1 <= size <= 2**26
            for shape in shapes.tolist()
            for given, size in zip(header.shape, shape, strict=True)
        )
    )


def survives(data: bytes) -> bool:
    """Whether the bytes are a valid file from end to end.

    Raises anything but a QuadrateError of one line.
    """
    try:
        fuzz_one(data)
        content(data)
    except QuadrateError as error:
        assert "\n" not in str(error) and len(str(error)) < 500
        return False
    return True
