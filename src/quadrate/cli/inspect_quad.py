"""`quadrate inspect`."""

from __future__ import annotations

from typing import Annotated, Any

import tyro

from quadrate.cli.modules import Modules
from quadrate.cli.printer import PRINTER, Printing
from quadrate.cli.quads import check_layers, count_of, find_codec, load_codec, pixels_of, reads
from quadrate.codecs.zoo_index import CodecSummary
from quadrate.coding.container import QuadReader, ShardReader, open_quad
from quadrate.core.plugins import load_plugins
from quadrate.core.remote import place_of

# Of which side data are read to count pixels.
_MOST_CHUNKS = 1 << 12


def inspect(
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.quad")],
    /,
    codec: str | None = None,
    layers: int | None = None,
    module: Modules = (),
    printer: Printing = PRINTER,
) -> None:
    """Say what a .quad file holds, and which codec reads it.

    With the bytes of each part. Nothing is decoded.

    Args:
        file: The .quad file, or a folder of shards; a path or a URL.
        codec: A codec to hold against it; by default those in the package.
        layers: Say what the first so many layers take alone, and which codec reads just these.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
        printer: How the verb answers.
    """
    load_plugins(module)
    with open_quad(file) as reader:
        check_layers(layers, reader.header, place_of(file))
        header, facts = reader.header, _facts(reader, file, layers)
    if codec is None:
        found = find_codec(header, layers)
    else:
        given = CodecSummary.of(load_codec(codec))
        found = (codec, given) if reads(given, header, layers) else None
    facts["codec"] = found and {
        "name": found[0],
        "layers": len(found[1].identities),
        "decoders": found[1].decoders,
        "rate_bound_bits": found[1].rate_bound_bits,
        "familiar_samples": found[1].familiar_samples,
    }
    printer.result(facts, _table(facts, codec, layers))


def _facts(reader: QuadReader, file: str, layers: int | None) -> dict[str, Any]:
    """Everything there is to say without a codec."""
    header, size, pixels = reader.header, reader.sizes(), pixels_of(reader, _MOST_CHUNKS)
    own_shapes = (
        {}
        if 0 not in header.shape
        else {
            "pixels": pixels,
            "rate_bits_per_pixel": 8 * size["total"] / pixels if pixels else None,
        }
    )
    alone = (
        {}
        if layers is None
        else {
            "first_layers": {
                "layers": layers,
                "bytes": size["total"] - sum(size["payloads"][layers:]),
            }
        }
    )
    shards = {"shards": len(reader.manifest.shards)} if isinstance(reader, ShardReader) else {}
    return {
        "file": str(file),
        "version": header.version,
        **shards,
        "samples": reader.samples,
        "shape": [size or None for size in header.shape],  # None: each sample's own
        "seed": header.seed,
        "side_data": list(header.fields),
        "layers": [
            {"identity": layer.identity.hex(), "symbols_per_sample": layer.columns or None}
            for layer in header.layers
        ],
        "chunks": reader.chunks,
        "largest_chunk_samples": int(reader.index[:, 1].max(initial=0)),
        "bytes": size,
        **alone,
        "rate_bits_per_sample": 8 * size["total"] / reader.samples if reader.samples else None,
        **own_shapes,
    }


def _table(facts: dict[str, Any], asked: str | None, wanted: int | None) -> str:
    size, samples = facts["bytes"], facts["samples"]
    shape = "x".join("?" if size is None else str(size) for size in facts["shape"])
    own = " (?: each its own)" if None in facts["shape"] else ""
    lines = [
        f"{facts['file']}: {samples} samples of {shape}{own}, seed {facts['seed']}",
        f"format: version {facts['version']}",
        *([f"shards: {facts['shards']}, each with the next seed"] if "shards" in facts else []),
        f"chunks: {facts['chunks']}, of up to {facts['largest_chunk_samples']} samples",
        f"side data: {', '.join(facts['side_data']) or 'none'}",
    ]
    for i, layer in enumerate(facts["layers"]):
        symbols = layer["symbols_per_sample"]
        count = (
            "symbols by each sample's shape" if symbols is None else f"{symbols} symbols a sample"
        )
        lines.append(f"layer {i}: {count}, identity {layer['identity']}")
    if pixels := facts.get("pixels"):
        lines.append(f"pixels: {pixels}, {facts['rate_bits_per_pixel']:.4f} bits each")
    lines += _codec_lines(facts, asked, wanted)
    parts = [
        ("header", size["header"]),
        ("chunk headers", size["chunk_headers"]),
        *((f"payload of layer {i}", payload) for i, payload in enumerate(size["payloads"])),
        ("side data", size["side_data"]),
        ("trailers", size["trailers"]),
        *([("ignored: an append that did not end", size["ignored"])] if size["ignored"] else []),
        *([("manifest", size["manifest"])] if "manifest" in size else []),
        ("all shards" if "shards" in facts else "whole file", size["total"]),
        *(
            [(f"with the first {count_of(wanted, 'layer')} alone", facts["first_layers"]["bytes"])]
            if wanted
            else []
        ),
    ]
    width = max(len(name) for name, _ in parts)
    lines += [f"{'':{width}}  {'bytes':>12}{'bits a sample' if samples else '':>16}"]
    lines += [
        f"{name:{width}}  {count:12d}" + (f"{8 * count / samples:16.4f}" if samples else "")
        for name, count in parts
    ]
    return "\n".join(lines)


def _codec_lines(facts: dict[str, Any], asked: str | None, wanted: int | None) -> list[str]:
    """Which codec reads the file."""
    codec, own_shapes = facts["codec"], None in facts["shape"]
    if codec is None:
        what = "it" if wanted is None else f"its first {count_of(wanted, 'layer')} alone"
        none = "none in the package reads" if asked is None else f"{asked} does not read"
        return [f"codec: {none} {what}"]
    layers = (
        f"{codec['layers']} of {len(facts['layers'])} layers"
        if codec["layers"] < len(facts["layers"])
        else "it"
    )
    bound = (
        ""
        if codec["rate_bound_bits"] is None
        else f"; bound sum log2 L = {codec['rate_bound_bits']:.4f} bits a sample"
    )
    decoders = f"; decoders {', '.join(codec['decoders'])}" if codec["decoders"] else ""
    lines = [f"codec: {codec['name']} reads {layers}{bound}{decoders}"]
    known = codec["familiar_samples"]
    if known:
        lines.append(
            f"codec: compress warns of samples unlike its own, of which it has seen {known}"
        )
    elif not own_shapes:
        lines.append("codec: compress cannot tell samples unlike its own")
    return lines
