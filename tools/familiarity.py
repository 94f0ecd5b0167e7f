"""Adds to the codecs in the package how far the images of MNIST's validation set reach.

Weights, tables and identities stay as they are.

QUADRATE_DATA=… python tools/familiarity.py
"""

from __future__ import annotations

import torch

from quadrate.codecs import TradeoffCodec, zoo
from quadrate.codecs.familiarity import of_source
from quadrate.errors import QuadrateError
from quadrate.sources import load_source


def main() -> None:
    """Writes every codec of the package anew."""
    torch.set_num_threads(1)
    source = load_source("mnist")
    for name, path in zoo().items():
        codec = TradeoffCodec.load(path)
        if codec.details["fingerprint"] != source.fingerprint:
            raise QuadrateError(
                f"{name} was trained on {codec.details['source']} with another fingerprint than"
                f" {source.name} has here"
            )
        before = codec.identities, codec.encoder_hash
        codec.familiarity = of_source(codec, source)
        codec.save(path)
        again = TradeoffCodec.load(path)
        if (
            again.identities,
            again.encoder_hash,
        ) != before or again.familiarity != codec.familiarity:
            raise QuadrateError(f"{path} is not what it was")
        print(f"{name}: {codec.familiarity}")


if __name__ == "__main__":
    main()
