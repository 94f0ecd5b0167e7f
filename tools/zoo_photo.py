"""Makes the codec `photo` in the package, with its card, from an evaluated run of photo-kodak.

quadrate train photo-kodak && quadrate evaluate runs/photo-kodak-…
python tools/zoo_photo.py runs/photo-kodak-…
"""

from __future__ import annotations

import sys
from pathlib import Path

from quadrate.codecs import BaseCodec, PhotoCodec
from quadrate.codecs.zoo_index import write_index
from quadrate.core.files import read_json, write_text
from quadrate.experiments.reports.photo_report import bjontegaard_rate, psnr_at
from quadrate.experiments.runs import Run, machine, read_results

ZOO = Path(__file__).parents[1] / "src" / "quadrate" / "codecs" / "zoo"
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

* Decoder: *faithful*, for small squared error. A decoder for realism and one for labels are not
  made yet. The first of the two layers alone, a small part of the file, gives a blurred picture:
  `--layers 1`.
* Fitted in {minutes:.0f} CPU minutes by `quadrate train photo-kodak` to {trained} photographs: the
  validation set of CLIC 2025 (Unsplash licence) and wallpapers of Budgie (CC0), elementary OS and
  Pop!_OS (Unsplash licence). Kodak's photographs test it; they chose nothing.
* Limits: it codes blocks, so coarse steps leave blocks, and rings at edges; by MS-SSIM, which sees
  structure, it is below WebP under a bit a pixel (results/photo-kodak); text and drawings cost
  more than photographs; the learned codecs of the literature reach some dB more. Pixels have 8
  bits; deeper ones are rounded.
* Made by `python tools/zoo_photo.py runs/photo-kodak-…` on {processor}, {date}. File of
  {size:.1f} MB. License: Apache-2.0, as the package.
"""


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
    codec.save(path)
    lines = []
    for way, title in WAYS.items():
        values = [f"{psnr_at(rows, way, rate):.2f}".replace("nan", "–") for rate in RATES]
        ours = way == "photo faithful"
        saved = "" if ours else f"{100 * bjontegaard_rate(rows, 'photo faithful', way):+.1f} %"
        lines.append(f"| {title} | {' | '.join(values)} | {saved} |")
    card = CARD.format(
        count=source["test_photographs"],
        rates=" | ".join(f"{rate:g}" for rate in RATES),
        bars="---:|" * len(RATES),
        rows="\n".join(lines),
        minutes=read_json(folder / "fit.json")["cpu_seconds"] / 60,
        trained=source["photographs"],
        size=path.stat().st_size / 1e6,
        **{name: machine()[name] for name in ("processor", "date")},
    )
    write_text(ZOO / "photo.md", card)
    write_index(BaseCodec.load)
    print(card)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
