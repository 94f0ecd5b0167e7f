"""A run with more seeds goes on from one with fewer, and from no other.

Scores that are there are kept.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation_parts import QUICK
from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes import with_epochs, with_seeds
from quadrate.experiments.recipes.lossless_prediction import group_exact
from quadrate.experiments.reports.summary import read_table
from quadrate.experiments.runs import Run
from quadrate.experiments.runs.kind import Job

SHORT = TrainingConfig(epochs=1)
PLAIN = OperatingPoint((3, 3))
STAGES = (
    Stage("end-to-end", (PLAIN,), training=SHORT),
    Stage("universal", (PLAIN,), "universal", PLAIN, "end-to-end", SHORT),
)
RECIPE = Recipe("small", "a test", "digits", STAGES, judge="dense")


@pytest.fixture(autouse=True)
def quick_judges(monkeypatch):
    monkeypatch.setattr("quadrate.training.judges._LEAST_STEPS", 4)


def trained(run):
    """What a run trains, rather than finds."""
    messages = []
    run.train("single", report=messages.append)
    points = {(message["stage"], message["point"]) for message in messages}
    return {(stage, point) for stage, point in points if stage != "judge"}


def files(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "config.json"
    }


def test_seeds_that_were_trained_are_taken_over(tmp_path):
    one, two = Run(RECIPE, tmp_path), Run(with_seeds(RECIPE, 2), tmp_path)
    assert len(trained(one)) == 2
    assert trained(two) == {("end-to-end", "2x3_d1_p0_c0_s1"), ("universal", "2x3_d1_p0_c0_s1")}
    assert files(one.folder).items() <= files(two.folder).items()
    assert not list(two.folder.rglob(".*")), "temporary files are left"
    # Fewer seeds are found in more, too: a folder of its own is filled, and nothing trained.
    again = Run(with_seeds(RECIPE, 1), tmp_path)
    shutil.rmtree(again.folder / "universal")
    assert trained(again) == set()


def test_what_was_trained_otherwise_is_not_taken(tmp_path, monkeypatch):
    trained(Run(RECIPE, tmp_path))
    more = with_seeds(RECIPE, 2)
    everything = {(stage.name, point.key) for stage in more.stages for point in stage.points}
    assert trained(Run(with_epochs(more, 2), tmp_path)) == everything  # other settings
    assert trained(Run(more, tmp_path / "elsewhere")) == everything
    judged = tmp_path / "judged"
    trained(Run(RECIPE, judged))
    (folder,) = judged.glob("small-*")
    folder.rename(judged / "small-0123456789ab")  # as of another judge's weights, or other data
    assert trained(Run(more, judged)) == everything


def test_half_a_training_and_strange_folders_are_passed_by(tmp_path):
    one = Run(RECIPE, tmp_path)
    trained(one)
    (one.folder / "end-to-end" / "2x3_d1_p0_c0_s0" / "model.safetensors").unlink()
    (tmp_path / "small-notes").mkdir()
    (tmp_path / "small-broken").mkdir()
    (tmp_path / "small-broken" / "config.json").write_text("{")
    (tmp_path / "small-other").mkdir()
    (tmp_path / "small-other" / "config.json").write_text(
        json.dumps({"recipe": {"name": "small", "points": []}})
    )
    assert ("end-to-end", "2x3_d1_p0_c0_s0") in trained(Run(with_seeds(RECIPE, 2), tmp_path))


def test_a_decoder_is_taken_with_its_encoder_only(tmp_path):
    """The other run's base is trained anew here, so its decoders do not fit."""
    one = Run(RECIPE, tmp_path)
    trained(one)
    (one.folder / "end-to-end" / "2x3_d1_p0_c0_s0" / "model.safetensors").unlink()
    two = Run(with_seeds(RECIPE, 2), tmp_path)
    assert ("universal", "2x3_d1_p0_c0_s0") in trained(two)
    two.universal_codec("universal")


def test_two_processes_may_take_over_at_once(tmp_path, monkeypatch):
    one = Run(RECIPE, tmp_path)
    trained(one)
    two = Run(with_seeds(RECIPE, 2), tmp_path)
    place = Path("end-to-end", "2x3_d1_p0_c0_s0")
    copy = shutil.copytree

    def slower(source, target, **options):
        """Another process comes first."""
        if not (two.folder / place).exists():
            copy(one.folder / place, two.folder / place)
        return copy(source, target, **options)

    (one.folder / place / "checkpoint.safetensors").write_bytes(b"left over")
    monkeypatch.setattr("quadrate.experiments.runs.seeds.shutil.copytree", slower)
    assert ("end-to-end", "2x3_d1_p0_c0_s0") not in trained(two)
    assert not [
        path for path in two.folder.rglob("*") if path.is_dir() and path.name.startswith(".")
    ]


def test_a_copy_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    trained(Run(RECIPE, tmp_path))
    two = Run(with_seeds(RECIPE, 2), tmp_path)

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("quadrate.experiments.runs.seeds.shutil.copytree", full)
    with pytest.raises(QuadrateError, match=r"cannot copy .*: No space left on device; make room"):
        two.train("single")
    assert not [
        path for path in two.folder.rglob("*") if path.is_dir() and path.name.startswith(".")
    ]


def test_invariant_runs_take_over_codecs_and_scores(tmp_path, monkeypatch):
    first = replace(group_exact().points[0], steps=2, batch=32)
    recipe = replace(group_exact(), points=(first,))
    monkeypatch.setattr("quadrate.experiments.runs.invariant_kind._FIT_SAMPLES", 2000)
    one = Run(recipe, tmp_path)
    one.train(workers=1).kind.keep(Job("", first), {"rows": [{"seed": 0}]}, lambda message: None)
    more = Run(with_seeds(recipe, 2), tmp_path)
    messages = []
    more.train(workers=1, report=messages.append)
    assert {message["point"] for message in messages} == {more.recipe.points[1].key}
    assert files(one.folder).items() <= files(more.folder).items()
    assert more.results() == [{"seed": 0}]


def test_lists_of_numbers_stand_on_one_line(tmp_path):
    long = OperatingPoint((16,) * 40)
    run = Run(replace(RECIPE, stages=(Stage("end-to-end", (long,), training=SHORT),)), tmp_path)
    run.train("single")
    text = (run.folder / "config.json").read_text()
    assert f'"levels": [{", ".join(["16"] * 40)}]' in text
    assert Run.open(run.folder).recipe == run.recipe


def test_what_was_scored_is_kept_and_what_is_new_is_added(tmp_path, monkeypatch):
    for module in ("scores", "references"):
        monkeypatch.setattr(f"quadrate.evaluation.{module}.Protocol", lambda: QUICK)
    run = Run(replace(RECIPE, stages=STAGES[:1], independent_judge="dense"), tmp_path)
    with pytest.raises(QuadrateError, match="nothing is trained"):
        run.evaluate(1)
    trained(run)
    (row,) = run.evaluate(1)
    path = run.place("end-to-end", PLAIN) / "evaluation.json"
    written = path.stat().st_mtime_ns
    run.evaluate(1)
    assert path.stat().st_mtime_ns == written
    old = {name: value for name, value in row.items() if not name.startswith("w1_certified")} | {
        "kid": 7.0,
        "rate_entropy_bits": 1.5,
    }
    path.write_text(json.dumps(old))

    def never(*arguments, **options):
        raise AssertionError("this was measured before")

    monkeypatch.setattr("quadrate.evaluation.protocol.fresh_critic_w1", never)
    (again,) = run.evaluate(1)
    assert again == row | {"kid": 7.0, "rate_entropy_bits": 1.5} and list(again) == list(row)
    table = read_table(run.folder / "results.csv")
    assert table[0]["w1_certified"] == pytest.approx(row["w1_certified"], rel=1e-5)


def test_a_universal_codec_has_the_decoders_of_all_stages_on_its_encoder(tmp_path):
    """Of two with one purpose the flow is called by it, whichever stage comes first."""
    levels = (2, 2, 2)
    encoder, faithful = OperatingPoint(levels, lambda_c=0.01), OperatingPoint(levels)
    critic = OperatingPoint(levels, lambda_p=0.01)
    flow = OperatingPoint(levels, decoder="flow")
    once = TrainingConfig(epochs=1, batch=128)
    stages = (
        Stage("encoder", (encoder,), training=once),
        Stage("decoders", (critic, faithful), "universal", encoder, "encoder", once),
        Stage("flow", (flow,), "universal", faithful, "decoders", once),
    )
    run = Run(Recipe("kinds", "a test", "digits", stages, judge="dense"), tmp_path)
    run.train("single", report=None)
    for stage in ("decoders", "flow"):
        codec = run.universal_codec(stage)
        assert list(codec.decoders) == ["faithful", "realistic", critic.key]
        assert codec.points == {"faithful": faithful, "realistic": flow, critic.key: critic}
    with pytest.raises(QuadrateError, match="no stage 'other'"):
        run.universal_codec("other")
