"""Recipes of photographs: folders, crops, runs that are resumed, and what their reports say."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from photos_made import ENDS, picture
from quadrate.errors import QuadrateError
from quadrate.evaluation.picture_scores import ms_ssim
from quadrate.experiments.claims import CHECKS
from quadrate.experiments.recipes import find_recipe
from quadrate.experiments.recipes.photo_recipes import PhotoRecipe, PhotoStorage
from quadrate.experiments.reports.photo_report import bjontegaard_rate, plot_rates, score_at
from quadrate.experiments.runs import Run
from quadrate.photo_config import CheckerboardConfig, RestorationConfig
from quadrate.sources.photographs import Photographs

POINTS = (
    PhotoStorage("photo", 30, "faithful"),
    PhotoStorage("photo", 60, "faithful"),
    PhotoStorage("webp", 10),
    PhotoStorage("webp", 80),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    (root / "deeper").mkdir()
    for number in range(12):
        pixels = picture(176 + number, 192, channels=1 if number == 5 else 3, seed=number)
        whole = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
        place = root / "deeper" if number % 2 else root
        Image.fromarray(whole).save(place / f"{number:02d}.png")
    return root


def small(folder) -> PhotoRecipe:
    contexts = CheckerboardConfig(
        ends=ENDS, hidden=(4, 4, 4), predicted=2, rounds=1, steps=10, batch=32
    )
    restoration = RestorationConfig(width=4, steps=4, batch=2, crop=32)
    return PhotoRecipe(
        "small-photo",
        "a small one",
        str(folder),
        POINTS,
        crops=4,
        side=80,
        contexts=contexts,
        decoders=(restoration, replace(restoration, name="sharp", depth=2, noise=2)),
        decoder_crops=4,
    )


# --- folders ---


def test_a_folder_is_read_with_its_sub_folders_and_by_patterns(folder):
    every = Photographs(folder)
    assert len(every) == 12 and every.names == sorted(every.names, key=lambda n: ("/" in n, n))
    assert len(Photographs(folder, skip="0[0-4]*")) == 7
    assert Photographs(folder, only="03*").names == ["deeper/03.png"]
    assert [p.shape[0] for p in every] == [3] * 12  # gray ones too
    with pytest.raises(QuadrateError, match="no photographs"):
        Photographs(folder, only="none*")
    with pytest.raises(QuadrateError, match="no such folder"):
        Photographs(folder / "missing")


def test_named_folders_need_the_data(monkeypatch):
    monkeypatch.delenv("QUADRATE_DATA", raising=False)
    with pytest.raises(QuadrateError, match="set QUADRATE_DATA"):
        Photographs("kodak")


def test_crops_depend_on_their_key_alone(folder):
    crops = list(Photographs(folder).crops(9, 64, "a", 1))
    assert all(crop.shape == (3, 64, 64) and crop.dtype == np.uint8 for crop in crops)
    again = list(Photographs(folder).crops(9, 64, "a", 1))
    others = list(Photographs(folder).crops(9, 64, "a", 2))
    assert all((a == b).all() for a, b in zip(crops, again, strict=True))
    assert any((a != b).any() for a, b in zip(crops, others, strict=True))


def test_crops_come_from_photographs_that_are_large_enough(folder):
    crops = list(Photographs(folder).crops(5, 187, "a"))  # only the largest has 187 rows
    assert len(crops) == 5
    with pytest.raises(QuadrateError, match="no photograph of 200 x 200"):
        list(Photographs(folder).crops(1, 200, "a"))


def test_the_fingerprint_is_that_of_the_contents(folder, tmp_path):
    Image.fromarray(picture(20, 20).transpose(1, 2, 0)).save(tmp_path / "a.png")
    before = Photographs(tmp_path).fingerprint
    assert Photographs(tmp_path).fingerprint == before
    Image.fromarray(picture(20, 20, seed=1).transpose(1, 2, 0)).save(tmp_path / "a.png")
    assert Photographs(tmp_path).fingerprint != before


# --- runs ---


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    run = Run(small(folder), tmp_path_factory.mktemp("runs"))
    run.train(report=None)
    run.evaluate(workers=1, report=None)
    return run


def test_a_run_scores_every_way_on_photographs_that_trained_nothing(run):
    rows = run.results()
    assert [row["way"] for row in rows] == ["photo faithful"] * 2 + ["webp"] * 2
    assert all(row["photographs"] == 2 for row in rows)  # every tenth of twelve
    assert not set(run.kind.train.names) & set(run.kind.test.names)
    coarse, fine = rows[:2]
    assert coarse["bits_per_pixel"] < fine["bits_per_pixel"]
    assert coarse["psnr_db"] < fine["psnr_db"] and coarse["ms_ssim"] < fine["ms_ssim"] < 1
    (drawn,) = run.kind.draw(rows)
    assert width_of(drawn) > 500


def digest_of(path) -> str:
    """Of everything in a codec's file, whose texts come in any order."""
    with safe_open(path, "pt") as file:
        return file.metadata()["digest"]


def test_a_run_goes_on_from_the_contexts(run, monkeypatch):
    path = run.folder / "codec.safetensors"
    before = digest_of(path)
    path.unlink()
    monkeypatch.setattr(
        "quadrate.experiments.runs.photo_kind.CheckerboardFit",
        lambda *arguments: pytest.fail("contexts are fitted anew"),
    )
    Run(run.recipe, run.root).train(report=None)
    assert digest_of(path) == before


def test_a_run_is_the_same_again(run, tmp_path):
    again = Run(run.recipe, tmp_path).train(report=None)
    assert again.folder.name == run.folder.name
    for path in ("contexts.safetensors", "codec.safetensors"):
        assert digest_of(again.folder / path) == digest_of(run.folder / path)


def test_other_settings_take_another_folder(run, folder):
    other = Run(replace(run.recipe, skip="03*"), run.root)
    assert other.folder != run.folder


def test_the_recipes_are_there():
    assert find_recipe("photo-kodak").test == "kodak" and not find_recipe("photo").test


# --- reports ---


def width_of(path) -> int:
    with Image.open(path, formats=["PNG"]) as image:
        return image.width


def curve(way: str, factor: float) -> list[dict]:
    return [
        {"way": way, "bits_per_pixel": factor * 2**k / 8, "psnr_db": 28 + 3 * k, "ms_ssim": None}
        for k in range(-1, 5)
    ]


def test_rates_at_equal_quality_are_compared():
    rows = curve("ours", 0.8) + curve("theirs", 1.0)
    assert bjontegaard_rate(rows, "ours", "theirs") == pytest.approx(-0.2)
    assert bjontegaard_rate(rows, "theirs", "ours") == pytest.approx(0.25)
    assert score_at(rows, "theirs", 0.25) == pytest.approx(31)
    assert score_at(rows, "theirs", 0.25 * math.sqrt(2)) == pytest.approx(32.5)
    assert math.isnan(score_at(rows, "theirs", 4.0))
    far = [{**row, "psnr_db": row["psnr_db"] + 50, "way": "far"} for row in curve("far", 1.0)]
    with pytest.raises(QuadrateError, match="no PSNR in common"):
        bjontegaard_rate(rows + far, "ours", "far")
    with pytest.raises(QuadrateError, match="not scored at two rates"):
        score_at(rows[:1], "ours", 0.2)


def test_the_figure_needs_rows(tmp_path):
    plot_rates("rates", curve("photo faithful", 1.0), tmp_path / "a.png")
    assert width_of(tmp_path / "a.png") > 500
    with pytest.raises(QuadrateError):
        plot_rates("rates", [], tmp_path / "b.png")


# --- MS-SSIM ---


def test_similarity_is_one_for_equal_pictures_and_falls_with_noise():
    original = torch.from_numpy(picture(180, 170))
    assert ms_ssim(original, original) == pytest.approx(1.0)
    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(0))
    levels = [
        ms_ssim(original, (original + strength * noise).round().clamp(0, 255).byte())
        for strength in (2, 8, 32)
    ]
    assert 1 > levels[0] > levels[1] > levels[2] > 0
    assert math.isnan(ms_ssim(original[:, :160], original[:, :160]))


def test_similarity_of_two_flat_pictures_is_that_of_their_luminance():
    x, y = (torch.full((1, 176, 176), value, dtype=torch.uint8) for value in (100, 150))
    c = (0.01 * 255) ** 2
    luminance = (2 * 100 * 150 + c) / (100**2 + 150**2 + c)
    assert ms_ssim(x, y) == pytest.approx(luminance**0.1333, abs=1e-6)


# --- claims ---


def decided(factor: float) -> list[str]:
    """The answers where other codecs take so many times the bits of ours."""
    rows = curve("photo faithful", 1.0)
    for way, own in (("webp", 1.0), ("jpeg", 1.5), ("jpegxl", 1.0)):
        rows += curve(way, own * factor)
    *nearer, realistic = (check.decide(rows)[1] for check in CHECKS["photo-kodak"])
    assert realistic == "undecided"  # it is not scored
    return nearer


def test_claims_compare_equal_bytes():
    assert decided(1.1) == ["yes"] * 3  # JPEG has 1.65 times the bits, and 3 dB a doubling
    assert decided(0.9) == ["no"] * 3
    assert decided(40.0) == ["undecided"] * 3  # no rate in common


@pytest.mark.parametrize(
    ("price", "share", "answer"), [(0.7, 0.45, "yes"), (0.7, 0.55, "no"), (0.9, 0.45, "no")]
)
def test_realism_has_a_price_and_a_worth(price, share, answer):
    faithful = [row | {"lpips_alex": 0.2} for row in curve("photo faithful", 1.0)]
    realistic = [
        row
        | {"way": "photo realistic", "psnr_db": row["psnr_db"] - price, "lpips_alex": 0.2 * share}
        for row in faithful
    ]
    text, found = CHECKS["photo-kodak"][-1].decide(faithful + realistic)
    assert found == answer and f"LPIPS × {share:.2f}, -{price:.2f} dB at 0.25" in text


# --- settings ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ends": (3, 3)}, "ends rise"),
        ({"hidden": (4,)}, "as many numbers of hidden units"),
        ({"rounds": 0}, "rounds"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"rate_weight": -1.0}, "rate_weight"),
    ],
)
def test_settings_of_contexts_are_checked(change, message):
    with pytest.raises(QuadrateError, match=message):
        replace(CheckerboardConfig(), **change)


def test_settings_of_recipes_are_checked(folder):
    with pytest.raises(QuadrateError, match="multiple of 16"):
        RestorationConfig(crop=40)
    with pytest.raises(QuadrateError, match="hold none of 96"):
        replace(small(folder), decoders=(RestorationConfig(),))
    with pytest.raises(QuadrateError, match="the coarsest is larger"):
        replace(small(folder), coarsest=2.0)
    with pytest.raises(QuadrateError, match="a name of its own; got a, a"):
        replace(small(folder), decoders=(RestorationConfig(name="a", crop=32),) * 2)
    with pytest.raises(QuadrateError, match="got none"):
        replace(small(folder), decoders=())
    with pytest.raises(QuadrateError, match="all 0"):
        RestorationConfig(distortion=0)
    with pytest.raises(QuadrateError, match="at least 64; got 32"):
        RestorationConfig(lpips=1, crop=32)
    with pytest.raises(QuadrateError, match="a depth of at least 2; got 1"):
        RestorationConfig(noise=1, depth=1)
