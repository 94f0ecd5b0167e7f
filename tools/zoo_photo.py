"""Makes the codec `photo` in the package, with its card, from an evaluated run of photo-kodak.

quadrate train photo-kodak && quadrate evaluate runs/photo-kodak-…
python tools/photo_judges.py runs/photo-kodak-… pictures   # and labels
python tools/zoo_photo.py runs/photo-kodak-…
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from quadrate.codecs import BaseCodec, PhotoCodec
from quadrate.codecs.zoo_index import write_index
from quadrate.core.files import read_json, write_text
from quadrate.experiments.reports.photo_report import bjontegaard_rate, score_at
from quadrate.experiments.reports.summary import read_table
from quadrate.experiments.runs import Run, machine, read_results

ZOO = Path(__file__).parents[1] / "src" / "quadrate" / "codecs" / "zoo"
JUDGES = Path(__file__).parents[1] / "results" / "photo-judges"
MIDDLE = (0.25, 0.5)
MORE, ERROR = "more than faithful", "its standard error"
SHIPPED = ("faithful", "realistic")
RATES = (0.15, 0.25, 0.5, 0.75, 1.0)
WAYS = {
    "photo faithful": "photo",
    "jpeg": "JPEG, optimised, progressive",
    "webp": "WebP, method 6",
    "jpeg2000": "JPEG 2000",
    "jpegxl": "JPEG XL, effort 7",
    "avif": "AVIF",
}

CARD = """# photo

Photographs of any size, gray or in colour, from 1 x 1 to 2^26 pixels: one encoder for all rates.

    quadrate compress photos/ -o photos.quad --codec photo --bpp 0.5
    quadrate decompress photos.quad -o back/

PSNR in dB (RGB) on Kodak's {count} photographs, each in a file of its own, against bits a pixel of
whole files, interpolated in log bits a pixel. The last column is the mean difference of the bits
of this codec from those of the row's at equal PSNR (Bjøntegaard).

| | {rates} | bits against it |
|---|{bars}---:|
{rows}

Its decoders read the same file, by `--decoder`: *faithful*, for small squared error, and
*realistic*. The run trained a third one, *recognizable*, which is not in the package: judges that
did not guide it are not sure to read it better. On Kodak, PSNR in dB and LPIPS in AlexNet's
features, which guided the latter two, interpolated likewise:

| | PSNR at {middle} | LPIPS at {middle} |
|---|---:|---:|---:|---:|
{decoders}

Before judges that guided none of them (`results/photo-judges`): distances of the features of
Inception-v3 between real and decoded crops of {pictures} of CID22's photographs, kernel distances
times 1000, and LPIPS by VGG16. WebP has about as many bytes.

| | bits a pixel | kernel distance | Fréchet distance | LPIPS (VGG16) |
|---|---:|---:|---:|---:|
{realism}

And how often a linear probe of features, which learned from clean photographs of clothes, reads the
class of {clothes} others that were decoded, with the difference from *faithful* and its standard
error. EfficientNet-Lite0 guided *recognizable*. WebP cannot make these pictures as small:

| | bits a pixel | by Inception-v3 | by VGG16 | by EfficientNet-Lite0 |
|---|---:|---:|---:|---:|
{labels}

* The first of two layers alone, a small part of the file, gives a blurred picture: `--layers 1`.
* Fitted in {minutes:.0f} CPU minutes, {decoder_minutes:.0f} of them for the decoders, by
  `quadrate train photo-kodak` to {trained} photographs: the
  validation set of CLIC 2025 (Unsplash licence) and wallpapers of Budgie (CC0), elementary OS and
  Pop!_OS (Unsplash licence). Kodak's photographs test it; they chose nothing.
* Limits: it codes blocks, so coarse steps leave blocks, and rings at edges; by MS-SSIM, which sees
  structure, it is below WebP under a bit a pixel (results/photo-kodak); text and drawings cost
  more than photographs; the learned codecs of the literature reach some dB more. Pixels have 8
  bits; deeper ones are rounded.
* Made by `python tools/zoo_photo.py runs/photo-kodak-…` on {processor}, {date}. File of
  {size:.1f} MB. License: Apache-2.0, as the package.
"""


def judged() -> dict[str, Any]:
    """What the card says of judges that guided no decoder."""
    realism, labels, counts = [], [], {}
    for row in read_table(JUDGES / "pictures.csv"):
        counts["pictures"] = row["photographs"]
        error = 1e3 * row["kernel_inception_error"]
        kernel = f"{1e3 * row['kernel_inception']:.1f} ± {error:.1f}"
        texts = [
            f"{row['bits_per_pixel']:.2f}" if "bits_per_pixel" in row else "",
            kernel,
            *(
                f"{row[name]:.{digits}f}" if name in row else ""
                for name, digits in (("frechet_inception", 1), ("lpips_vgg16", 3))
            ),
        ]
        realism.append(f"| {row['way']} | {' | '.join(texts)} |")
    for row in read_table(JUDGES / "labels.csv"):
        counts["clothes"] = row["photographs"]
        shares = []
        for name in ("inception-v3", "vgg16", "efficientnet-lite0 (guided recognizable)"):
            gain, error = (row.get(f"{name}: {what}") for what in (MORE, ERROR))
            aside = "" if gain is None else f" ({100 * gain:+.1f} ± {100 * error:.1f})"
            shares.append(f"{100 * row[name]:.1f} %{aside}")
        labels.append(f"| {row['way']} | {row['bits_per_pixel']:.2f} | {' | '.join(shares)} |")
    return {"realism": "\n".join(realism), "labels": "\n".join(labels), **counts}


def main(folder: Path) -> None:
    """Write the codec, its card and the index of the zoo."""
    run = Run.open(folder)
    _, rows = read_results(folder)
    codec = PhotoCodec.load(folder / "codec.safetensors")
    source = run.kind.described["source"]
    codec.details = {
        **{"name": "photo", "recipe": run.recipe.name, "source": source["name"]},
        **{"fingerprint": source["fingerprint"], **machine()},
    }
    path = ZOO / "photo.safetensors"
    shipped = PhotoCodec(
        codec.transform,
        codec.model,
        {name: codec.networks[name] for name in SHIPPED},
        codec.rate_weight,
    )
    shipped.details = codec.details
    shipped.save(path)
    lines = []
    for way, title in WAYS.items():
        values = [f"{score_at(rows, way, rate):.2f}".replace("nan", "–") for rate in RATES]
        ours = way == "photo faithful"
        saved = "" if ours else f"{100 * bjontegaard_rate(rows, 'photo faithful', way):+.1f} %"
        lines.append(f"| {title} | {' | '.join(values)} | {saved} |")
    minutes = {
        name: read_json(folder / f"{name}.json")["cpu_seconds"] / 60
        for name in ("contexts", *codec.networks)
    }
    decoders = []
    for name in codec.networks:
        texts = [
            f"{score_at(rows, f'photo {name}', rate, score):.{digits}f}"
            for score, digits in (("psnr_db", 2), ("lpips_alex", 3))
            for rate in MIDDLE
        ]
        decoders.append(f"| {name} | {' | '.join(texts)} |")
    card = CARD.format(
        count=source["test_photographs"],
        rates=" | ".join(f"{rate:g}" for rate in RATES),
        bars="---:|" * len(RATES),
        rows="\n".join(lines),
        minutes=sum(minutes.values()),
        decoder_minutes=sum(minutes.values()) - minutes["contexts"],
        **judged(),
        middle=" | ".join(f"{rate:g}" for rate in MIDDLE),
        decoders="\n".join(decoders),
        trained=source["photographs"],
        size=path.stat().st_size / 1e6,
        **{name: machine()[name] for name in ("processor", "date")},
    )
    write_text(ZOO / "photo.md", card)
    write_index(BaseCodec.load)
    print(card)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
