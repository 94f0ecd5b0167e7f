"""The model card of a codec: metadata for the Hugging Face Hub, what the codec is for, its limits.

All of it comes from the codec itself and from scores that were measured: nothing is claimed that
was not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quadrate.codecs.zoo_index import CodecSummary, read_index, zoo
from quadrate.errors import QuadrateError

if TYPE_CHECKING:
    from quadrate.codecs.base_codec import BaseCodec

Scores = Mapping[str, Mapping[str, float]]
"""What was measured: numbers by name, by decoder."""

ZOO_LICENSE = "apache-2.0"
_METRICS = {"distortion_mse": "mse", "accuracy_independent": "accuracy"}  # the hub's names
_RELATIVE = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]*\)")  # links that lead nowhere on the hub
_SECTIONS = ("license", "scores")  # details that have a place of their own on the card


@dataclass(frozen=True)
class _Kind:
    """What cards say of a kind of codec.

    Attributes:
        task: The hub's name of the task.
        what: What the codec does.
        use: Python that uses it, after the line that loads it.
        imports: What this takes besides the codec's class.
        limits: What it is not for.
    """

    task: str
    what: str
    use: str
    limits: str
    imports: str = ""


_KINDS = {
    "tradeoff": _Kind(
        "image-to-image",
        "A lossy codec of images {shape}: one encoder, and decoders that read its files, each for a"
        " purpose",
        "data = codec.compress(images)  # uint8, or float in [0, 1], (N, {axes})\npictures ="
        ' codec.decompress(data, decoder="{decoder}")',
        "It takes images of this shape that are like those it was trained on; others it may code"
        " badly, and `compress` warns of them where it can tell.",
    ),
    "invariant": _Kind(
        "feature-extraction",
        "A lossy codec of samples {shape} that keeps what prediction needs and drops what a group"
        " of changes of the samples leaves open",
        "data = codec.compress(samples)  # (N, {axes})\nlatents = codec.decompress_latents(data)",
        "It is for predictors that read its latents, of tasks that the changes it was trained with"
        " leave unchanged. What it drops cannot be had back: a picture decoded from it, if it"
        " decodes any, is not the original.",
    ),
    "features": _Kind(
        "feature-extraction",
        "A lossy codec of feature vectors of {shape} numbers",
        "data = codec.compress(features)  # (N, {axes})\nagain = codec.decompress(data)",
        "Its tables were fitted to one population of features; those of another network or of other"
        " data cost more bits.",
    ),
    "photographs": _Kind(
        "image-to-image",
        "A lossy codec of photographs of any size, gray or in colour, at any rate",
        'photographs = [Photograph(pixels, name="a.png")]  # uint8 (C, H, W)\n'
        'photo_quad.compress(codec, photographs, "photos.quad", Rate(bits_per_pixel=0.5))',
        "Coarse steps leave blocks, and rings at edges. Text and drawings cost more than"
        " photographs. Pixels have 8 bits.",
        imports=", Photograph, Rate, photo_quad",
    ),
}
_OTHER = _Kind("other", "A lossy codec of samples {shape}", "", "")
_PURPOSES = {
    "faithful": "small squared error; the safest to measure or to judge by",
    "realistic": "pictures that are distributed like real ones; it invents detail",
    "recognizable": "pictures that a classifier reads; where it decides for a wrong class, its"
    " picture shows that class clearly",
    "balanced": "a compromise of squared error, realism and labels",
}


def card_text(
    codec: BaseCodec, repo: str | None, license: str | None, scores: Scores | None
) -> str:
    """The card of a codec as Markdown, behind its metadata in YAML.

    A codec that comes with the package has the card that it has there.

    Args:
        codec: The codec.
        repo: The repository, if it is known.
        license: Its licence by the hub's name, such as "apache-2.0".
        scores: What was measured; by default the scores that the codec's details have.

    Raises:
        QuadrateError: If the scores are not numbers of the codec's decoders.
    """
    details: dict[str, Any] = dict(getattr(codec, "details", {}))
    scores = _checked(codec, scores if scores is not None else _own_scores(details))
    packaged = _packaged(codec, details)
    license = license or details.get("license") or (ZOO_LICENSE if packaged else None)
    title = str(details.get("name") or (repo or "").rpartition("/")[2] or "A codec of Quadrate")
    body = packaged or _body(codec, title, details, license, scores)
    return f"---\n{_metadata(codec, title, details, license, scores)}\n---\n\n" + _with_use(
        codec, body, repo
    )


def _own_scores(details: Mapping[str, Any]) -> Any:
    """The scores in a codec's details, where they stand as an object or as its JSON text."""
    own = details.get("scores", {})
    try:
        return json.loads(own) if isinstance(own, str) else own
    except ValueError:
        raise QuadrateError(
            f"the scores in the codec's details are no JSON: {own[:80]!a}"
        ) from None


def _checked(codec: BaseCodec, scores: Any) -> Scores:
    if not isinstance(scores, Mapping) or not all(isinstance(v, Mapping) for v in scores.values()):
        raise QuadrateError(
            "scores are numbers by name, by decoder, such as {'faithful':"
            " {'distortion_mse': 0.05}};"
            f" got {str(scores)[:80]!a}"
        )
    for decoder, own in scores.items():
        if decoder not in codec.decoders:
            raise QuadrateError(
                f"there are scores of a decoder {decoder!r}; this codec has"
                f" {', '.join(codec.decoders) or 'none'}"
            )
        for name, value in own.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise QuadrateError(f"score {name!r} of {decoder!r} is not a number: {value!r}")
    return scores


def _packaged(codec: BaseCodec, details: Mapping[str, Any]) -> str | None:
    """The card that the package has of the codec, if it is one of those in the package."""
    name = details.get("name")
    if name not in zoo() or read_index().get(name) != CodecSummary.of(codec):
        return None
    card = zoo()[name].with_suffix(".md").read_text(encoding="utf-8")
    return _RELATIVE.sub(r"\1", card)


def _metadata(
    codec: BaseCodec, title: str, details: Mapping[str, Any], license: str | None, scores: Scores
) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    kind, source = _KINDS.get(codec.kind, _OTHER), details.get("source")
    results = [
        EvalResult(
            task_type=kind.task,
            dataset_type=str(source),
            dataset_name=f"{source}, test",
            metric_type=_METRICS.get(name, name),
            metric_name=f"{name}, {decoder} decoder",
            metric_value=float(value),
        )
        for decoder, own in scores.items()
        for name, value in own.items()
        if source  # the hub wants to know what was scored on
    ]
    data = ModelCardData(
        library_name="quadrate",
        pipeline_tag=kind.task,
        license=license,
        datasets=[str(source)] if source else None,
        tags=["quadrate", "compression", "lossy-compression", "rate-distortion", codec.kind],
        model_name=title if results else None,
        eval_results=results or None,
    )
    return str(data.to_yaml())


def _with_use(codec: BaseCodec, body: str, repo: str | None) -> str:
    """The body with how to use it after its first paragraph."""
    kind, name = _KINDS.get(codec.kind, _OTHER), type(codec).__name__
    heading, first, rest = body.split("\n\n", 2)
    place, decoder = repo or "FOLDER", next(iter(codec.decoders), "")
    python = [
        f"from quadrate.codecs import {name}{kind.imports}",
        "",
        f'codec = {name}.from_pretrained("{place}")',
        kind.use.format(axes=", ".join(map(str, codec.shape)), decoder=decoder),
    ]
    use = ["## Use", "```python\n" + "\n".join(python).rstrip() + "\n```"]
    if repo:
        use.append(f"    quadrate compress … --codec hf://{repo} -o compressed.quad")
    return "\n\n".join([heading, first, *use, rest])


def _body(
    codec: BaseCodec,
    title: str,
    details: Mapping[str, Any],
    license: str | None,
    scores: Scores,
) -> str:
    kind, bound = _KINDS.get(codec.kind, _OTHER), codec.rate_bound_bits
    what = kind.what.format(shape=" × ".join(map(str, codec.shape)))
    rate = "" if bound is None else f" Rate: at most {bound:.3f} bits a sample (Σ log2 L)."
    source = details.get("source")
    of = f" It was trained on {source}." if source else ""
    parts = [f"# {title}", f"{what}.{rate}{of}"]
    if codec.decoders:
        parts += ["## Decoders", _decoders(codec)]
    if scores:
        parts += ["## Scores", _table(scores), _OF_SCORES]
    parts += ["## Intended use", _INTENDED, "## Limits", f"{kind.limits} {_LIMITS}"]
    origin = [
        f"* {name}: {value}"
        for name, value in sorted(details.items())
        if name not in _SECTIONS and isinstance(value, str | int | float)
    ]
    if family := getattr(getattr(codec, "family", None), "name", ""):
        origin.append(f"* family of networks: {family}")
    origin.append(f"* license: {license or 'not stated by who published it'}")
    return "\n\n".join([*parts, "## Origin", "\n".join(origin)]) + "\n"


_INTENDED = (
    "To store and send samples like those that it was made for, in `.quad` files that say which"
    " codec reads them, and to study the trade-off of rate, distortion, perception and"
    " classification."
)
_LIMITS = (
    "It was not examined for fairness or for any use where an error does harm; do not judge"
    " persons, evidence or medical images by decoded pictures."
)
_OF_SCORES = (
    "Measured when the codec was made, on test samples. Weights that were rounded for the file"
    " after that may change the last digits."
)


def _decoders(codec: BaseCodec) -> str:
    points = getattr(codec, "points", {})
    lines = []
    for name in codec.decoders:
        point, purpose = points.get(name), _PURPOSES.get(name, "")
        weights = (
            f"{point.decoder}; λd = {point.lambda_d:g}, λp = {point.lambda_p:g},"
            f" λc = {point.lambda_c:g}"
            if point
            else ""
        )
        lines.append(f"| {name} | {purpose} | {weights} |")
    return "\n".join(["| decoder | made for | training |", "|---|---|---|", *lines])


def _table(scores: Scores) -> str:
    names = list(dict.fromkeys(name for own in scores.values() for name in own))
    lines = [
        f"| {decoder} | {' | '.join(f'{own[n]:.4g}' if n in own else '' for n in names)} |"
        for decoder, own in scores.items()
    ]
    head = [f"| decoder | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    return "\n".join(head + lines)
