"""Whether decoders of photographs keep their promise, before judges that did not guide them.

    quadrate train photo-kodak
    python tools/photo_judges.py runs/photo-kodak-… pictures
    python tools/photo_judges.py runs/photo-kodak-… labels

Writes results/photo-judges: `pictures.csv`, realism on CID22's photographs, which trained nothing:
distances of features of Inception-v3 and EfficientNet-Lite0 between real and decoded crops, and
LPIPS by VGG16; and `labels.csv`, how often probes read the class of clothes: linear classifiers of
a backbone's features that learn from clean photographs. AlexNet guided the realistic decoder, and
EfficientNet-Lite0 the recognizable one; so VGG16 and Inception-v3 are their judges.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from quadrate.codecs import PhotoCodec
from quadrate.codecs.photo_codec import exponent_of
from quadrate.codecs.photo_quad import psnr
from quadrate.core.files import write_text
from quadrate.evaluation.perception_scores import crossed_kid, frechet
from quadrate.experiments.runs import machine, to_csv
from quadrate.networks.backbones import load_backbone, load_lpips
from quadrate.sources.images import read_photograph
from quadrate.sources.photographs import Photographs

OUT = Path(__file__).parents[1] / "results" / "photo-judges"
WAYS: dict[str, Any] = {
    "faithful": "faithful",
    "half-way to realistic": {"faithful": 0.5, "realistic": 0.5},
    "realistic": "realistic",
    "recognizable": "recognizable",
}
PICTURE_QUALITIES, LABEL_QUALITIES = (14,), (8,)
SIDE, INCEPTION_SIDE = 256, 299
VGG_SIDE = 96  # of clothes, which have some 200; it takes its time
LEARNED = 1000  # photographs of clothes that a probe learns from
CACHE = Path(__file__).parents[1] / "runs" / "photo-judges"
COUNT = 80  # photographs of CID22
BLOCKS = 4  # in which the kernel distance's error is estimated
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def decodings(
    codec: PhotoCodec, photograph: Pixels, quality: float, number: int
) -> Iterator[tuple[str, float, Pixels]]:
    """A photograph by each way, with its bits a pixel; then by WebP of as many bytes."""
    exponent = exponent_of(quality)
    payloads = codec.encode(photograph, exponent)
    size = sum(map(len, payloads))
    coefficients, _ = codec.coefficients(payloads, photograph.shape)
    for way, decoder in WAYS.items():
        picture = codec.reconstruct(coefficients, exponent, photograph.shape, decoder, (0, number))
        yield way, 8 * size / photograph[0].size, picture
    data = webp_of(photograph, size)
    decoded = np.asarray(Image.open(io.BytesIO(data), formats=("WEBP",)).convert("RGB")).transpose(
        2, 0, 1
    )
    yield "webp", 8 * len(data) / photograph[0].size, decoded


def webp_of(photograph: Pixels, size: int) -> bytes:
    """WebP of the best quality that takes no more bytes, or else of the least quality."""
    whole, low, high, best = photograph.transpose(1, 2, 0), 0, 100, b""
    while low <= high:
        middle, file = (low + high) // 2, io.BytesIO()
        Image.fromarray(whole).save(file, "WEBP", quality=middle, method=6)
        fits = len(file.getvalue()) <= size
        if fits or not best:
            best = file.getvalue()
        low, high = (middle + 1, high) if fits else (low, middle - 1)
    return best


def middle(pixels: Tensor, side: int) -> Tensor:
    """The square of a side in the middle of pictures (…, H, W)."""
    top, left = (pixels.shape[-2] - side) // 2, (pixels.shape[-1] - side) // 2
    return pixels[..., top : top + side, left : left + side]


def corners(pixels: Tensor) -> Tensor:
    """Four squares that do not overlap, of a picture (C, H, W)."""
    return torch.stack(
        [pixels[:, y : y + SIDE, x : x + SIDE] for y in (0, SIDE) for x in (0, SIDE)]
    )


def pictures(codec: PhotoCodec, about: dict[str, Any]) -> list[dict[str, Any]]:
    """Score realism on CID22."""
    photographs = Photographs("photographs", only="cid22*")
    lite, inception = load_backbone("efficientnet-lite0"), load_backbone("inception-v3")
    alex, vgg16 = load_lpips("alex"), load_lpips("vgg16")

    def seen(pixels: Pixels) -> dict[str, Tensor]:
        whole = torch.from_numpy(np.ascontiguousarray(pixels))
        square = middle(whole, INCEPTION_SIDE)[None]
        return {
            "efficientnet": lite.features(corners(whole)),
            "inception": inception.features(square),
        }

    rows: list[dict[str, Any]] = []
    order = np.random.default_rng(0).permutation(len(photographs))[:COUNT]  # halves are compared
    real = [seen(photographs.read(int(number))) for number in order]
    for quality in PICTURE_QUALITIES:
        found: dict[str, list[dict[str, Any]]] = {}
        for place, number in enumerate(order):
            original = photographs.read(int(number))
            for way, bits, decoded in decodings(codec, original, quality, int(number)):
                pair = [
                    torch.from_numpy(np.ascontiguousarray(each))[None].float()
                    for each in (original, decoded)
                ]
                own = {"bits_per_pixel": bits, "psnr_db": psnr(original, decoded)}
                own["lpips_alex"] = float(alex(*pair))
                if place % 4 == 0:
                    own["lpips_vgg16"] = float(vgg16(*(middle(each, SIDE) for each in pair)))
                found.setdefault(way, []).append(own | {"features": seen(decoded)})
            print(f"quality {quality}: {place + 1} of {len(order)}", flush=True)
        for way, own in {"real": [{"features": each} for each in real], **found}.items():
            row: dict[str, Any] = {"quality": quality, "way": way, "photographs": len(own)}
            for name in ("bits_per_pixel", "psnr_db", "lpips_alex", "lpips_vgg16"):
                values = [each[name] for each in own if name in each]
                row[name] = float(np.mean(values)) if values else None
            for network in ("inception", "efficientnet"):
                one = torch.cat([each[network] for each in real])
                other = torch.cat([each["features"][network] for each in own])
                kernel = crossed_kid(one, other, BLOCKS)
                row[f"kernel_{network}"], row[f"kernel_{network}_error"] = kernel
                if way != "real":
                    row[f"frechet_{network}"] = frechet(one, other)
            rows.append(row | about)
            print(row, flush=True)
    return rows


def clothes(part: str) -> tuple[list[Pixels], list[str]]:
    """Photographs and classes of a part of the clothing data set."""
    root = Path(os.environ["QUADRATE_DATA"]) / "clothing" / part
    paths = sorted(root.glob("*/*.webp"))
    read = [read_photograph(path)[0] for path in paths]
    return [np.broadcast_to(p, (3, *p.shape[1:])) for p in read], [p.parent.name for p in paths]


def labels(codec: PhotoCodec, about: dict[str, Any]) -> list[dict[str, Any]]:
    """Score how well probes read clothes."""
    networks = {
        "efficientnet-lite0 (guided recognizable)": load_backbone("efficientnet-lite0"),
        "inception-v3": load_backbone("inception-v3"),
        "vgg16": load_backbone("vgg16", side=VGG_SIDE),
    }

    def features(name: str, pixels: Pixels) -> Tensor:
        return networks[name].features(torch.from_numpy(np.ascontiguousarray(pixels))[None])[0]

    train, classes = clothes("train")
    learned = np.random.default_rng(0).permutation(len(train))[:LEARNED]
    train, classes = [train[i] for i in learned], [classes[i] for i in learned]
    probes: dict[str, Callable[[Any], Any]] = {}
    for name in networks:
        kept = CACHE / f"{name.split()[0]}.safetensors"  # it takes minutes, and no codec has part
        if not kept.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            save_file({"x": torch.stack([features(name, each) for each in train])}, kept)
        x = load_file(kept)["x"].numpy()
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
        probes[name] = probe.fit(x, classes).predict
        print(f"{name}: the probe is fitted", flush=True)
    test, wanted = clothes("test")
    found: dict[tuple[float, str], list[list[float]]] = {}
    for number, (pixels, right) in enumerate(zip(test, wanted, strict=True)):
        ways = [(0.0, "original", 24.0, pixels)] + [
            (quality, *each)
            for quality in LABEL_QUALITIES
            for each in decodings(codec, np.ascontiguousarray(pixels), quality, number)
        ]
        for quality, way, bits, decoded in ways:
            hits = [
                float(probes[n](features(n, decoded)[None].numpy())[0] == right) for n in probes
            ]
            error = psnr(pixels, decoded) if way != "original" else np.inf
            found.setdefault((quality, way), []).append([bits, error, *hits])
        print(f"{number + 1} of {len(test)}", flush=True)
    rows: list[dict[str, Any]] = []
    base = {key: np.array(values) for key, values in found.items()}
    for (quality, way), table in base.items():
        row: dict[str, Any] = {"quality": quality, "way": way, "photographs": len(table)}
        row |= {"bits_per_pixel": table[:, 0].mean(), "psnr_db": table[:, 1].mean()}
        for column, name in enumerate(probes, 2):
            row[name] = table[:, column].mean()
            if way not in ("original", "faithful"):  # paired, so that the photographs' luck cancels
                gain = table[:, column] - base[quality, "faithful"][:, column]
                row[f"{name}: more than faithful"] = gain.mean()
                row[f"{name}: its standard error"] = gain.std() / np.sqrt(len(gain))
        rows.append(row | about)
        print(row, flush=True)
    return rows


def main(folder: str, what: str) -> None:
    """Score, and write the table."""
    torch.set_num_threads(1)
    codec = PhotoCodec.load(Path(folder) / "codec.safetensors")
    about = {key: machine()[key] for key in ("processor", "date")}
    rows = {"pictures": pictures, "labels": labels}[what](codec, about)
    write_text(OUT / f"{what}.csv", to_csv(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
