"""Strangers: judges that no codec ever meets, and what they read of its reconstructions."""

import json
from dataclasses import replace

import pytest
import torch

from evaluation_parts import QUICK
from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig
from quadrate.errors import QuadrateError
from quadrate.evaluation import columns_of, evaluate, prepare
from quadrate.evaluation.score import SCORES
from quadrate.experiments.page import report_page
from quadrate.experiments.reports import mean_over_seeds, results_table
from quadrate.experiments.reports.summary import read_table
from quadrate.experiments.runs import Run
from quadrate.sources import pixels
from quadrate.training.judges import load_judge, save_judge, train_judge
from rows_made import scored

POINT = OperatingPoint((3, 3))
STAGES = (Stage("end-to-end", (POINT,), training=TrainingConfig(epochs=1, batch=64)),)
RECIPE = Recipe(
    "tiny", "a test", "digits", STAGES, "compact", "dense", "conv", strangers=("dense", "lenet")
)
DENSE, LENET = "stranger.dense-s2", "stranger.lenet-s2"


@pytest.fixture(scope="module")
def judges(digits, judge):
    """The first stranger was trained for one pass only, and reads less than the second."""
    return {
        "training": None,
        "independent": judge,
        "stranger.hasty": train_judge(digits, "dense", seed=2, epochs=1, report=None),
        "stranger.lenet": train_judge(digits, "lenet", seed=2, epochs=60, report=None),
    }


def blurred(images, seed):
    """Halfway to the mean of each row."""
    x = pixels(images)
    return (x + x.mean(3, keepdim=True)) / 2


def test_the_worst_and_the_mean_stranger_stand_beside_what_each_reads(digits, judges):
    row = evaluate(blurred, digits, judges, QUICK)
    for end in ("", "_clean"):
        hasty, lenet = (row[f"accuracy_stranger.{name}{end}"] for name in ("hasty", "lenet"))
        assert hasty < lenet and row[f"accuracy_stranger_worst{end}"] == hasty
        assert row[f"accuracy_stranger_mean{end}"] == pytest.approx((hasty + lenet) / 2)
    assert row["accuracy_stranger.lenet_clean"] == judges["stranger.lenet"].accuracy
    assert row["accuracy_stranger.lenet"] < row["accuracy_stranger.lenet_clean"]
    logits = judges["stranger.lenet"].module(blurred(digits.test.images, 0))
    right = (logits.argmax(1) == digits.test.labels).double().mean().item()
    assert row["accuracy_stranger.lenet"] == pytest.approx(right)
    roles = ("stranger.hasty", "stranger.lenet")
    assert set(columns_of(digits, roles)) <= row.keys()
    assert set(columns_of(digits, roles)) - set(columns_of(digits)) == {
        *(f"accuracy_{role}{end}" for role in roles for end in ("", "_clean")),
        "accuracy_stranger_worst",
        "accuracy_stranger_mean",
    }


def test_a_codec_that_changes_nothing_scores_what_stands_beside_it(digits, judges):
    row = evaluate(lambda images, seed: pixels(images), digits, judges, QUICK)
    for name in ("accuracy_stranger_worst", "accuracy_stranger_mean"):
        score = SCORES[name]
        assert row[name] == pytest.approx(row[score.floor]) and "never in the loss" in score.title


def test_without_strangers_nothing_is_other_than_it_was(digits, judges):
    known = {role: judge for role, judge in judges.items() if "." not in role}
    row = evaluate(blurred, digits, judges, QUICK)
    plain = evaluate(blurred, digits, known | {"stranger.none": None}, QUICK)
    assert not any("stranger" in name for name in plain)
    assert list(plain.items()) == [item for item in row.items() if "stranger" not in item[0]]
    assert prepare(digits, judges, QUICK) == prepare(digits, known, QUICK)


def test_known_scores_of_more_strangers_do_not_decide_the_worst_of_fewer(digits, judges):
    row = evaluate(blurred, digits, judges, QUICK)

    def never(images, seed):
        raise AssertionError("nothing is lacking")

    assert evaluate(never, digits, judges, QUICK, known=row) == row
    fewer = {role: judge for role, judge in judges.items() if role != "stranger.hasty"}
    kept = evaluate(never, digits, fewer, QUICK, known=row)
    assert kept["accuracy_stranger_worst"] == kept["accuracy_stranger.lenet"]
    assert "accuracy_stranger.hasty" not in kept


@pytest.mark.parametrize("role", ["retrained", "strange", "stranger", "stranger-lenet", ""])
def test_an_unknown_role_is_refused(digits, judges, role):
    with pytest.raises(
        QuadrateError,
        match=rf"^unknown role of a judge '{role}'; known: training, .* and stranger.NAME for",
    ):
        evaluate(blurred, digits, judges | {role: judges["independent"]}, QUICK)


def test_a_stranger_has_a_name_and_was_not_in_the_loss(digits, judges):
    with pytest.raises(QuadrateError, match="the name of a stranger"):
        evaluate(blurred, digits, judges | {"stranger.": judges["independent"]}, QUICK)
    met = judges | {"training": judges["stranger.lenet"]}
    with pytest.raises(QuadrateError, match="^stranger.lenet is the training judge, lenet-s2, so"):
        evaluate(blurred, digits, met, QUICK)


# --- runs ---


@pytest.fixture
def _quick(monkeypatch):
    monkeypatch.setattr("quadrate.training.judges._LEAST_STEPS", 4)
    for module in ("scores", "references"):
        monkeypatch.setattr(f"quadrate.evaluation.{module}.Protocol", lambda: QUICK)


def again(run, digits):
    """The points that another process scores in the run's folder, and the rows."""
    told = []
    rows = Run(run.recipe, run.root, source=digits).evaluate(1, told.append)
    return [message["point"] for message in told if message["stage"] != "judge"], rows


@pytest.mark.usefixtures("_quick")
def test_a_run_trains_its_strangers_keeps_them_and_scores_by_them(digits, tmp_path):
    run = Run(RECIPE, tmp_path, source=digits).train("single")
    assert len(list((tmp_path / "judges").iterdir())) == 1, "training needs the judge in the loss"
    (row,) = run.evaluate(1)
    kept = {"-".join(path.stem.split("-")[-2:]): path for path in (tmp_path / "judges").iterdir()}
    assert kept.keys() == {"dense-s0", "conv-s1", "dense-s2", "lenet-s2"}
    for role in (DENSE, LENET):
        stranger = load_judge(kept[role.removeprefix("stranger.")], digits)
        assert row[f"accuracy_{role}_clean"] == stranger.accuracy
        assert 0 <= row[f"accuracy_{role}"] <= 1
    path = run.place("end-to-end", POINT) / "evaluation.json"
    stored = json.loads(path.read_text())
    judges = {"training judge", "independent judge", f"{DENSE} judge", f"{LENET} judge"}
    assert judges <= stored["made_with"].keys()
    (written,) = read_table(run.folder / "results.csv")
    assert written[f"accuracy_{LENET}"] == pytest.approx(row[f"accuracy_{LENET}"], rel=1e-5)
    assert again(run, digits)[0] == []

    lacking = {name: value for name, value in stored.items() if LENET not in name} | {"kid": 7.0}
    path.write_text(json.dumps(lacking))
    assert again(run, digits) == ([POINT.key], [row | {"kid": 7.0}]), "one stranger is added"

    changed = load_judge(kept["lenet-s2"], digits)
    with torch.no_grad():
        changed.module.head.bias += 1
    save_judge(changed, kept["lenet-s2"])
    points, (other,) = again(run, digits)
    assert points == [POINT.key] and other["kid"] == row["kid"], "all is scored anew"

    page = report_page([run.folder])
    assert "judges never in the loss" in page and "lenet-s2; on clean images accuracy" in page


@pytest.mark.usefixtures("_quick")
def test_a_recipe_without_strangers_has_rows_as_before(digits, tmp_path):
    run = Run(replace(RECIPE, strangers=()), tmp_path, source=digits).train("single")
    (row,) = run.evaluate(1)
    assert not any("stranger" in name for name in row) and again(run, digits)[0] == []
    assert "judges never in the loss" not in report_page([run.folder])
    assert Run(RECIPE, tmp_path, source=digits).folder != run.folder


def test_strangers_that_cannot_judge_are_refused_before_training(digits, tmp_path):
    with pytest.raises(QuadrateError, match="unknown classifier 'resnet'; known: conv, dense"):
        Run(replace(RECIPE, strangers=("resnet",)), tmp_path, source=digits).prepare()
    with pytest.raises(QuadrateError, match="not of 1x8x8"):
        Run(replace(RECIPE, strangers=("paper",)), tmp_path, source=digits).prepare()
    assert not (tmp_path / "judges").exists()


def test_tables_say_of_strangers_that_they_were_never_in_the_loss():
    strangers = {
        f"accuracy_stranger_{which}{end}": value
        for which, value in (("worst", 0.9), ("mean", 0.95))
        for end in ("", "_clean")
    }
    rows = [scored(seed=seed, **strangers) for seed in (0, 1)]
    table = results_table(rows)
    assert "acc. worst stranger" in table.markdown() and "never in the loss" in table.caption
    assert "accuracy_stranger_worst_high" in mean_over_seeds(rows)[0]
    plain = results_table([scored(seed=seed) for seed in (0, 1)])
    assert "stranger" not in plain.markdown().lower()
