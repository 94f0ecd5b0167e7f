"""Coverage-guided fuzzing of everything that reads a .quad file.

`pip install atheris`, then `python tests/fuzz_quad.py -max_total_time=600 corpus/`.

The first byte chooses: even, the rest is a file as it stands; odd, the rest is the payload of a
chunk in an otherwise valid file with right checksums, read with a real codec down to the symbols.
Only QuadrateError may come out."""

import io
import sys
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["quadrate.coding", "quadrate.bottlenecks.contexts", "quadrate.codecs.quad"]
):
    from quadrate import Codec, QuadrateError
    from quadrate.codecs import QuadFile
    from quadrate.coding.container import ChunkData, Header, LayerHeader, Writer

sys.path.insert(0, str(Path(__file__).parent))
from container_attacks import fuzz_one  # noqa: E402

CODEC = Codec.load("mnist-4.75bit")


def decode_payload(data: bytes) -> None:
    """Reads a payload as if an encoder had written it."""
    (model,) = CODEC.models
    samples = 1 + int.from_bytes(data[:2], "little") % 2000
    file = io.BytesIO()
    with Writer.create(
        file, Header(CODEC.shape, 7, (LayerHeader(model.identity, model.columns),))
    ) as writer:
        writer.write(ChunkData(samples, (data[2:],)))
    with QuadFile(file.getvalue(), CODEC) as opened:
        symbols = opened.symbols(0)
    assert symbols.shape == (samples, 3) and symbols.min() >= 0 and symbols.max() < 3


def target(data: bytes) -> None:
    """One input."""
    with suppress(QuadrateError):
        (decode_payload if data[:1] and data[0] % 2 else fuzz_one)(data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
