"""Images without labels: codecs that need none train on them and are scored by what needs none.

What needs labels says so before it begins.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation_parts import QUICK
from quadrate.cli import main
from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig
from quadrate.errors import QuadrateError
from quadrate.experiments.runs import Run
from quadrate.sources import Source, from_arrays, from_dataset, from_folder, load_source
from quadrate.training import find_judge

PLAIN, READ = OperatingPoint((3, 3)), OperatingPoint((3, 3), lambda_c=0.1)


@pytest.fixture
def photos(tmp_path) -> Path:
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(load_source("digits").train.images[:400, 0]):
        Image.fromarray(image.numpy()).save(tmp_path / f"photos/{number:03}.png")
    return tmp_path / "photos"


def recipe(*points: OperatingPoint, source: str = "photos") -> Recipe:
    return Recipe(
        "small", "a test", source, (Stage("end-to-end", points, training=TrainingConfig(epochs=1)),)
    )


def test_a_folder_without_classes_trains_and_is_scored(tmp_path, photos, monkeypatch, capsys):
    monkeypatch.setattr("quadrate.evaluation.scores.Protocol", lambda: QUICK)
    monkeypatch.setattr("quadrate.evaluation.references.Protocol", lambda: QUICK)
    run = Run(
        recipe(PLAIN, OperatingPoint((3, 3), lambda_p=0.1), source=str(photos)), tmp_path / "runs"
    )
    assert run.judge is None
    run.train("single")
    rows = run.evaluate(workers=1)
    measured = {
        "distortion_mse",
        "w1_fresh",
        "w1_certified",
        "sliced_w2sq",
        "rate_entropy_bits",
        "rate_bound_bits",
    }
    for row in rows:
        assert measured <= row.keys() and not any(
            name.startswith(("accuracy", "cross_entropy", "kid")) for name in row
        )
    assert all(run.is_scored("end-to-end", point) for point in run.recipe.stages[0].points)
    with open(run.folder / "results.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2
    assert not (tmp_path / "runs/judges").exists()
    monkeypatch.chdir(tmp_path)
    main(["evaluate", str(run.folder)])
    main(["plot", str(run.folder)])
    main(["report", str(run.folder), "-o", "report.html"])
    assert "none, as the images have no labels" in Path("report.html").read_text(encoding="utf-8")
    assert Run.open(run.folder).judge is None


def test_what_needs_labels_says_so_before_it_begins(tmp_path, photos, monkeypatch, capsys):
    with pytest.raises(
        QuadrateError,
        match=(
            "^small: the point 2x3_d1_p0_c0.1_s0 of stage end-to-end has lambda_c > 0 and needs"
            " labels"
        ),
    ):
        Run(recipe(PLAIN, READ, source=str(photos)), tmp_path / "runs").prepare()
    with pytest.raises(
        QuadrateError,
        match="photos has no labels, or one class only: a judge tells at least two apart",
    ):
        find_judge("dense", from_folder(photos), tmp_path)
    monkeypatch.chdir(tmp_path)
    for verb in (["train", "rdc-mnist", "--data", "photos"], ["judge", "photos"]):
        with pytest.raises(SystemExit):
            main(verb)
        error = capsys.readouterr().err
        assert error.startswith("quadrate: ") and "labels" in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_arrays_and_data_sets_without_labels():
    images = np.random.default_rng(0).integers(0, 256, (24, 1, 4, 4), dtype=np.uint8)
    source = from_arrays("a", (images, None), (images, None))
    data = [(torch.tensor(image), None) for image in images]
    assert (
        not source.is_labelled and source.fingerprint == from_dataset("d", data, data).fingerprint
    )
    assert (
        source.fingerprint
        == from_arrays("z", (images, np.zeros(24, int)), (images, np.zeros(24, int))).fingerprint
    )
    for other in (
        lambda: from_arrays("a", (images, None), (images, np.zeros(24, int))),
        lambda: from_dataset("d", data, [(images[0], 0)]),
    ):
        with pytest.raises(
            QuadrateError, match="has no labels, but other splits have some|either all"
        ):
            other()
    with pytest.raises(
        QuadrateError, match="^d, train, sample 24: either all samples have labels, or no sample"
    ):
        from_dataset("d", [*data, (images[0], 0)], data)


# --- labels that are no class numbers ---

IMAGES = np.zeros((12, 1, 2, 2), np.uint8)


@pytest.mark.parametrize("bad", [10**9, 10**13, -1, 65_536, 2**63 - 1, 2**64 - 1])
def test_a_label_is_a_class_number(bad):
    labels = np.array([0] * 11 + [bad], np.uint64 if bad >= 2**63 else np.int64)
    with pytest.raises(
        QuadrateError,
        match=(
            rf"^a, train: labels are class numbers, which must lie in 0\.\.65535; found {bad}:"
            r" number the classes"
        ),
    ):
        from_arrays("a", (IMAGES, labels), (IMAGES, np.zeros(12, int)))
    with pytest.raises(
        QuadrateError, match=f"^d, train, sample 11: labels are class numbers, .*found {bad}"
    ):
        from_dataset("d", list(zip(IMAGES, labels.tolist(), strict=True)), [])
    with pytest.raises(QuadrateError, match="^d, train, sample 0: labels are class numbers"):
        from_dataset("d", [(IMAGES[0], 10**30)], [])


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["cat"] * 12),
        np.array([{}] * 12),
        [[0], [1, 2]] * 6,
        np.zeros(12, bool),
        torch.zeros(12),
        np.full(12, 10**30, object),
    ],
)
def test_labels_that_are_no_integers(labels):
    with pytest.raises(QuadrateError, match="^a, train: "):
        from_arrays("a", (IMAGES, labels), (IMAGES, np.zeros(12, int)))


def test_the_number_of_classes_is_bounded_and_gaps_are_allowed():
    labels = np.array([0, 7] * 6)
    assert (
        from_arrays("a", (IMAGES, labels), (IMAGES, labels)).classes == 8
    )  # classes 1 to 6 have no samples here
    assert from_arrays("a", (IMAGES, labels), (IMAGES, labels), classes=np.int64(10)).classes == 10
    for classes in (10**9, 0, -3, 2.5, "ten"):
        with pytest.raises(
            QuadrateError,
            match="a source has 1 to 65536 classes|the number of classes must be a whole number",
        ):
            from_arrays("a", (IMAGES, labels), (IMAGES, labels), classes=classes)
    split = from_arrays("a", (IMAGES, labels), (IMAGES, labels)).test
    with pytest.raises(QuadrateError, match="got 1000000000 classes"):
        Source("s", split, split, split, 10**9, "")


def test_any_number_of_channels_and_kinds_of_numbers():
    for channels in (2, 4, 5):
        images = np.zeros((12, channels, 2, 3), np.uint8)
        assert from_arrays("a", (images, None), (images, None)).shape == (channels, 2, 3)
    levels = torch.linspace(0, 1, 12).to(torch.bfloat16).view(12, 1, 1, 1)
    assert from_arrays("a", (levels, None), (levels, None)).test.images[-1].item() == 255
    for pair in ((IMAGES,), IMAGES, None, (torch.zeros(12, 1, 2, 2).to_sparse(), None)):
        with pytest.raises(QuadrateError):
            from_arrays("a", pair, (IMAGES, None))
