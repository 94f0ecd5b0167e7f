"""Configuration: keys, JSON, what is refused, and the recipes."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig, from_json, to_json
from quadrate.core.digests import digest
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes import RECIPES, find_recipe

weights = st.floats(0, 1e6, allow_nan=False)
operating_points = st.builds(
    OperatingPoint,
    st.lists(st.integers(2, 99), min_size=1, max_size=6).map(tuple),
    weights.filter(bool),
    weights,
    weights,
    st.integers(0, 2**31),
)


# --- operating points ---


@given(operating_points)
def test_a_point_survives_json_and_its_key_is_fit_for_a_folder(point):
    assert from_json(OperatingPoint, to_json(point)) == point
    assert (
        set(point.key) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.+-") and len(point.key) < 160
    )


@given(operating_points, operating_points)
def test_different_points_have_different_keys_and_different_texts(a, b):
    assert (a.key == b.key) == (a == b) == (to_json(a) == to_json(b))


def test_weights_that_agree_in_six_digits_have_different_keys():
    a, b = OperatingPoint(lambda_c=0.12345671), OperatingPoint(lambda_c=0.12345672)
    assert a.key != b.key, (
        "the key rounds the weights: two points would share a folder, the second would never be"
        " trained"
    )


def test_keys_are_the_ones_that_runs_are_stored_under():
    """A change here loses every trained model, and changes every draw."""
    assert OperatingPoint().key == "3x3_d1_p0_c0_s0"
    assert OperatingPoint((4, 4), 0.5, 0.015, 0.0072, 7).key == "2x4_d0.5_p0.015_c0.0072_s7"
    assert OperatingPoint((2, 3, 5), 0.0, 1e-5).key == "2-3-5_d0_p1e-05_c0_s0"


def test_equal_points_have_equal_texts():
    """Whole numbers are taken for weights too; the same point must find the same run folder."""
    assert OperatingPoint((3, 3), 1, 0, 1) == OperatingPoint((3, 3), 1.0, 0.0, 1.0)
    assert to_json(OperatingPoint((3, 3), 1, 0, 1)) == to_json(
        OperatingPoint((3, 3), 1.0, 0.0, 1.0)
    )


def test_the_rate_bound_is_the_sum_of_the_logarithms():
    assert OperatingPoint((3, 3, 3)).rate_bound_bits == pytest.approx(3 * math.log2(3))
    assert OperatingPoint((2, 4, 8)).rate_bound_bits == 6


def test_purposes():
    weights = {
        "faithful": (1, 0, 0),
        "realistic": (1, 1, 0),
        "recognizable": (1, 0, 1),
        "balanced": (0, 1, 1),
    }
    assert {
        purpose: OperatingPoint((3,), *map(float, w)).purpose for purpose, w in weights.items()
    } == {purpose: purpose for purpose in weights}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": ()}, r"at least one dimension and at least 2 levels in each; got levels=\(\)"),
        ({"levels": (3, 1)}, r"at least 2 levels in each; got levels=\(3, 1\)"),
        ({"levels": (2.5,)}, r"levels"),
        ({"lambda_d": -1.0}, "lambda_d must be finite and not negative; got -1.0"),
        ({"lambda_p": math.nan}, "lambda_p must be finite and not negative; got nan"),
        ({"lambda_c": math.inf}, "lambda_c must be finite and not negative; got inf"),
        ({"lambda_d": 0.0}, "at least one of lambda_d, lambda_p and lambda_c above 0"),
    ],
)
def test_points_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(QuadrateError, match=message):
        OperatingPoint(**arguments)


# --- settings, stages, recipes ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1; got 0"),
        ({"batch": 0}, "batch must be at least 1; got 0"),
        ({"critic_steps": 0}, "critic_steps must be at least 1; got 0"),
        ({"warmup": 1.5}, r"warmup is a share of the training and must lie in \[0, 1\]; got 1.5"),
        ({"anneal": -0.1}, r"anneal is a share .* got -0.1"),
        ({"anneal": math.nan}, r"anneal is a share .* got nan"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"critic_learning_rate": math.nan}, "critic_learning_rate"),
        ({"gradient_penalty": -1.0}, "gradient_penalty"),
        (
            {"surrogate": "hard"},
            "surrogate.*perturb.*soft",
        ),  # or it would silently train with the soft one
        (
            {"precision": "float16"},
            "precision.*auto.*float32.*bfloat16",
        ),  # or it would silently train in float32
    ],
)
def test_settings_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(QuadrateError, match=message):
        TrainingConfig(**arguments)


POINT = OperatingPoint()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "universal"}, "stage 's': mode 'universal' needs a base point"),
        ({"base": POINT}, "stage 's': mode 'end-to-end' takes no base point"),
        (
            {"points": (POINT, OperatingPoint(lambda_d=1.0))},
            "stage 's' names the same operating point twice",
        ),
        (
            {"mode": "universal", "base": OperatingPoint((4, 4, 4)), "base_stage": "b"},
            r"levels must be \(4, 4, 4\)",
        ),
        (
            {"mode": "universe", "base": POINT, "base_stage": "b"},
            "mode.*end-to-end.*universal.*refinement",
        ),
        ({"noise_std": -1.0}, "noise_std"),
    ],
)
def test_stages_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(QuadrateError, match=message):
        Stage(**{"name": "s", "points": (POINT,), **arguments})


def test_a_base_takes_the_seed_of_the_point_that_builds_on_it():
    base = OperatingPoint((3, 3), lambda_p=0.015)
    stage = Stage("u", (OperatingPoint((3, 3), seed=5),), "universal", base, "e")
    assert stage.base_of(stage.points[0]) == OperatingPoint((3, 3), lambda_p=0.015, seed=5)
    assert Stage("e", (POINT,)).base_of(POINT) is None


def test_a_recipe_finds_its_stages_and_names_them_all_once():
    recipe = Recipe("r", "", "digits", (Stage("a", (POINT,)), Stage("b", (POINT,))))
    assert recipe.stage("b") is recipe.stages[1]
    with pytest.raises(QuadrateError, match="recipe 'r' has no stage 'c'; it has a, b"):
        recipe.stage("c")
    with pytest.raises(
        QuadrateError, match="'a'"
    ):  # they would share their folders, and the second would never be trained
        Recipe("r", "", "digits", (Stage("a", (POINT,)), Stage("a", (OperatingPoint((4, 4)),))))


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json_and_are_whole(name):
    recipe = find_recipe(name)
    assert recipe.name == name and recipe.title
    again = from_json(type(recipe), to_json(recipe))
    assert again == recipe and to_json(again) == to_json(recipe) and hash(again) == hash(recipe)
    trained: set[tuple[str, str]] = set()
    for stage in getattr(recipe, "stages", ()):
        for point in stage.points:
            base = stage.base_of(point)
            assert base is None or (stage.base_stage, base.key) in trained, (
                f"{stage.name} builds on {base} of {stage.base_stage}, trained nowhere"
            )
        keys = {(stage.name, point.key) for point in stage.points}
        assert len(keys) == len(stage.points) and not keys & trained
        trained |= keys


def test_an_unknown_recipe_is_named_beside_the_known_ones():
    with pytest.raises(
        QuadrateError, match="unknown recipe 'rdc'; known: demo, .*rdc-mnist, .*restore-mnist"
    ):
        find_recipe("rdc")


# --- JSON ---


def test_strangers_are_written_where_there_are_some_only():
    recipe = Recipe("r", "", "digits", (Stage("a", (POINT,)),))
    assert "strangers" not in json.loads(to_json(recipe))
    judged = dataclasses.replace(recipe, strangers=["lenet", "residual"])
    assert judged.strangers == ("lenet", "residual")
    assert from_json(Recipe, to_json(judged)) == judged
    with pytest.raises(QuadrateError, match="names a stranger twice: lenet, conv, lenet; name"):
        dataclasses.replace(recipe, strangers=("lenet", "conv", "lenet"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '{"levels": 3}',
        '{"levels": ["a"]}',
        '{"levels": [3], "lambda_q": 1}',
        '{"lambda_d": NaN}',
        '{"lambda_d": "much"}',
        '{"levels": [1]}',
        '{"seed": "x"}',
        "[" * 100_000,
    ],
)
def test_what_is_no_configuration_is_refused_in_one_line(text):
    with pytest.raises(QuadrateError) as caught:
        from_json(OperatingPoint, text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_configuration_of_another_kind_is_refused():
    with pytest.raises(QuadrateError, match="not the configuration of a Recipe"):
        from_json(Recipe, to_json(POINT))


def test_texts_have_sorted_keys_and_digests_are_pinned():
    assert list(json.loads(to_json(POINT))) == sorted(
        field.name for field in dataclasses.fields(OperatingPoint) if not field.metadata
    )
    assert digest("a", "b") == "f04cdced9736" and digest("ab") != digest("a", "b") != digest(
        "b", "a"
    )
