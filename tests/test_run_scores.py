"""Scores are kept as long as what they were made with is there, and no longer.

Quick scores are never taken for full ones.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation_parts import QUICK
from quadrate.cli import main
from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig
from quadrate.errors import QuadrateError
from quadrate.evaluation import Protocol, prepare
from quadrate.experiments.claims import decide
from quadrate.experiments.page import report_page
from quadrate.experiments.recipes.contour_recipe import rdpc_contours
from quadrate.experiments.recipes.lossless_prediction import group_exact
from quadrate.experiments.reports import plot_run, results_table
from quadrate.experiments.reports.summary import read_table
from quadrate.experiments.runs import Run, read_results
from quadrate.sources import from_arrays
from quadrate.training.judges import save_judge
from rows_made import scored_recipe

POINT = OperatingPoint((3, 3))
STAGES = (Stage("end-to-end", (POINT,), training=TrainingConfig(epochs=1, batch=64)),)
FEWER = replace(QUICK, seed=3)


@pytest.fixture(autouse=True)
def _quick_terms(monkeypatch):
    monkeypatch.setattr("quadrate.training.judges._LEAST_STEPS", 4)
    monkeypatch.setattr(Protocol, "quick", classmethod(lambda cls: FEWER))
    for module in ("scores", "references"):
        monkeypatch.setattr(f"quadrate.evaluation.{module}.Protocol", lambda: QUICK)


@pytest.fixture
def run(digits, judge, tmp_path):
    for name in ("training", "independent"):
        save_judge(judge, tmp_path / f"{name}.safetensors")
    names = {
        "judge": str(tmp_path / "training.safetensors"),
        "independent_judge": str(tmp_path / "independent.safetensors"),
    }
    made = Run(Recipe("tiny", "a test", "digits", STAGES, **names), tmp_path, source=digits).train(
        "single"
    )
    made.evaluate(1)
    return made


def again(run, digits, **options):
    """The points that another process scores in the run's folder."""
    scored = []
    same = Run(run.recipe, run.root, source=digits)
    assert same.folder == run.folder
    rows = same.evaluate(1, lambda row: scored.append(row["point"]), **options)
    return scored, rows


def scores(run):
    return run.place("end-to-end", POINT) / "evaluation.json"


def forget(run, **changed):
    """The scores as version 0.1 wrote them."""
    row = json.loads(scores(run).read_text())
    row.pop("made_with", None)
    scores(run).write_text(json.dumps(row | changed))


def test_scores_are_kept_where_nothing_changed(run, digits):
    assert again(run, digits)[0] == []
    assert set(json.loads(scores(run).read_text())["made_with"]) == {
        "codec",
        "source",
        "protocol",
        "training judge",
        "independent judge",
    }


def test_codecs_that_restore_are_scored_on_noise_that_leaves_the_unit_interval(run, digits):
    stages = tuple(replace(stage, noise_std=1.0) for stage in STAGES)
    noisy = Run(replace(run.recipe, name="noisy", stages=stages), run.root, source=digits)
    (row,) = noisy.train("single").evaluate(1)
    (clean,) = run.results()
    assert row["noise_std"] == 1.0
    assert row["distortion_mse"] != clean["distortion_mse"]


def test_another_independent_judge_scores_anew(run, digits, judge):
    with torch.no_grad():
        other = dict(judge.module.state_dict())
        other["head.bias"] = other["head.bias"] + 1
    changed = replace(judge, module=type(judge.module)(digits.shape, 10))
    changed.module.load_state_dict(other)
    save_judge(changed, run.root / "independent.safetensors")
    before = read_results(run.folder)[1][0]["cross_entropy_independent_nats"]
    scored, rows = again(run, digits)
    assert scored == [POINT.key] and rows[0]["cross_entropy_independent_nats"] != before
    assert again(run, digits)[0] == []


def test_a_codec_that_was_trained_anew_is_scored_anew(run, digits):
    (run.place("end-to-end", POINT) / "model.safetensors").unlink()
    Run(run.recipe, run.root, source=digits).train("single")
    assert again(run, digits)[0] == [POINT.key]


def test_other_terms_score_anew(run, digits, monkeypatch):
    monkeypatch.setattr("quadrate.evaluation.protocol.VERSION", 2)
    assert again(run, digits)[0] == [POINT.key]


def test_scores_of_version_0_1_are_kept_unless_a_difference_can_be_seen(run, digits):
    forget(run)
    assert again(run, digits)[0] == []
    forget(run, accuracy_independent_clean=0.5)
    assert again(run, digits)[0] == [POINT.key]
    forget(run, train_cpu_seconds=1e6)
    assert again(run, digits)[0] == [POINT.key]


def test_floors_belong_to_a_judges_weights(digits, judge, tmp_path):
    other = replace(judge, module=type(judge.module)(digits.shape, 10))
    values = [
        prepare(digits, {"independent": own}, QUICK, tmp_path)["kid_floor"]
        for own in (judge, other, judge)
    ]
    assert values[0] == values[2] != values[1]


def test_damaged_floors_are_computed_anew(digits, judge, tmp_path, monkeypatch):
    right = prepare(digits, {"independent": judge}, QUICK, tmp_path)
    (path,) = tmp_path.iterdir()
    stored = json.loads(path.read_text())
    for wrong in ({"kid_floor": "x"}, {"kid_floor": None}, {"kid_floor": math.inf}):
        path.write_text(json.dumps(stored | {"values": stored["values"] | wrong}))
        monkeypatch.setattr("quadrate.evaluation.references._computed", {})
        assert prepare(digits, {"independent": judge}, QUICK, tmp_path) == right


# --- quick scores ---


def test_quick_scores_are_labelled_and_replaced(run, digits):
    assert again(run, digits, quick=True)[0] == [], "full scores are better than quick ones"
    full = read_results(run.folder)[1]
    scores(run).unlink()
    again(run, digits, quick=True)
    (row,) = read_results(run.folder)[1]
    assert (
        row["protocol"] == "quick"
        and read_table(run.folder / "results.csv")[0]["protocol"] == "quick"
    )
    assert again(run, digits, quick=True)[0] == []
    caption = results_table([row]).caption
    assert caption.startswith("All scores are quick ones") and "protocol quick" in caption
    assert "All scores are quick ones" in report_page(
        [run.folder]
    ) and "quick scores" in report_page([run.folder])
    scored, rows = again(run, digits)
    assert scored == [POINT.key] and rows == full and "protocol" not in rows[0]
    assert (
        "quick" not in (run.folder / "results.csv").read_text()
        and "quick" not in results_table(rows).markdown()
    )


def test_quick_scores_decide_nothing_and_are_not_averaged_with_others(tmp_path):
    rows = scored_recipe("rdp-mnist")
    quick = [row | {"protocol": "quick"} for row in rows]
    assert all(
        verdict.holds == "undecided" and "quick" in verdict.here
        for verdict in decide("rdp-mnist", quick, "")
    )
    mixed = [*quick[:1], *rows[1:]]
    assert "Some scores are quick ones" in results_table(mixed).markdown() and all(
        v.holds == "undecided" for v in decide("rdp-mnist", mixed, "")
    )
    plot_run("rdp-mnist", mixed, tmp_path / "mixed.png")


def test_the_quick_protocol_costs_a_fraction(monkeypatch):
    monkeypatch.undo()
    full, quick = Protocol(), Protocol.quick()
    assert (
        quick != full
        and quick.critic_steps * 8 <= full.critic_steps
        and quick.judge_steps * 6 <= full.judge_steps
    )
    assert quick.training_images <= 2000 and quick.test_images == 1000


def test_the_command_line_has_quick_scores(run, digits, monkeypatch, capsys):
    scores(run).unlink()
    monkeypatch.setattr("quadrate.experiments.runs.tradeoff_kind.load_source", lambda name: digits)
    main(["evaluate", str(run.folder), "--quick", "--workers", "1"])
    assert "quick ones (--quick)" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        Run(rdpc_contours(), run.root).train()
        main(["evaluate", str(next(run.root.glob("rdpc-contours-*"))), "--quick"])
    assert "leave --quick out" in capsys.readouterr().err


# --- channels ---


@pytest.mark.parametrize("channels", [2, 4])
def test_images_of_any_channels_are_scored_without_a_picture(channels, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (120, channels, 8, 8), dtype=np.uint8)
    labels = np.arange(120) % 3
    source = from_arrays("channels", (images, labels), (images[:40], labels[:40]))
    run = Run(
        Recipe("tiny", "a test", "channels", STAGES, judge="dense", independent_judge="dense"),
        tmp_path,
        source=source,
    ).train("single")
    (row,) = run.evaluate(1)
    assert math.isfinite(row["distortion_mse"]) and not list(run.folder.rglob("samples.png"))
    assert "no pictures" in report_page([run.folder])


# --- points that stand alone ---


def test_a_row_is_kept_as_long_as_what_it_was_made_from(tmp_path, monkeypatch):
    monkeypatch.setattr("quadrate.experiments.runs.invariant_kind._FIT_SAMPLES", 2000)
    point = replace(group_exact().points[0], steps=2, batch=32)
    run = Run(replace(group_exact(), points=(point,)), tmp_path).train(workers=1)
    rows = run.evaluate(1)
    assert {"train_cpu_seconds", "train_wall_seconds"} <= rows[0].keys() and not list(
        run.folder.rglob("spent.json")
    )

    def scored(same):
        messages = []
        same.evaluate(1, messages.append)
        return len(messages)

    same = Run(run.recipe, tmp_path)
    assert scored(same) == 0
    model = run.place("", point) / "model.safetensors"
    model.unlink()
    same.train(workers=1)
    assert scored(same) == 1 and scored(same) == 0
    path = run.folder / "rows" / f"{point.key}.json"
    row = json.loads(path.read_text())
    del row["made_with"]
    path.write_text(json.dumps(row))  # as of version 0.1
    assert scored(same) == 0


@pytest.mark.parametrize(
    "text",
    ["[]", "3", '{"rows": 3}', '{"rows": []}', '{"rate_nats": [1]}', '{"a\\u2028b": 1}', "{"],
)
def test_damaged_rows_are_one_line_that_names_the_file(tmp_path, text):
    run = Run(rdpc_contours(), tmp_path).train()
    run.evaluate(1)
    path = run.folder / "rows" / "rate0.3.json"
    path.write_text(text)
    with pytest.raises(QuadrateError, match=r"rate0\.3\.json"):
        run.evaluate(1)
    assert Path(run.folder / "results.csv").exists()
