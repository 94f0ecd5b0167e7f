"""Values of configurations: scalars of NumPy and PyTorch, lists, what is no number.

Names that become folders; files that say otherwise.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from quadrate.config import (
    InvariantConfig,
    OperatingPoint,
    Recipe,
    Stage,
    TrainingConfig,
    from_json,
    to_json,
)
from quadrate.errors import QuadrateError
from quadrate.evaluation import Protocol
from quadrate.experiments.recipes.contour_recipe import Contour, ContourRecipe
from quadrate.experiments.recipes.feature_recipes import ClipBottleneck, FeatureRecipe, Storage
from quadrate.experiments.recipes.lossless_prediction import InvariantRecipe
from quadrate.experiments.runs import Run, read_results

POINT = OperatingPoint((3, 3))


@pytest.mark.parametrize(
    ("made", "plain"),
    [
        (OperatingPoint(levels=[3, 3]), OperatingPoint((3, 3))),
        (OperatingPoint(levels=np.array([3, 3])), OperatingPoint((3, 3))),
        (OperatingPoint(levels=torch.tensor([3, 3])), OperatingPoint((3, 3))),
        (
            OperatingPoint(
                (np.int64(3), torch.tensor(3)),
                np.float64(0.5),
                np.array(0.1),
                torch.tensor(0.25),
                np.int64(1),
            ),
            None,
        ),
        (
            TrainingConfig(
                epochs=np.int32(2),
                learning_rate=np.float32(0.5),
                betas=[0, np.float64(0.9)],
                alternate=np.bool_(True),
            ),
            None,
        ),
        (Stage("a", [POINT], noise_std=np.float32(0.5)), Stage("a", (POINT,), noise_std=0.5)),
        (
            Recipe("a", "", "digits", [Stage("a", [POINT])]),
            Recipe("a", "", "digits", (Stage("a", (POINT,)),)),
        ),
        (
            InvariantConfig(beta=np.float64(0.1), steps=np.int64(5), seed=torch.tensor(2)),
            InvariantConfig(beta=0.1, steps=5, seed=2),
        ),
        (
            Storage("features", "linear", np.float32(32), np.int64(1)),
            Storage("features", "linear", 32.0, 1),
        ),
        (
            ContourRecipe("a", "", [Contour(np.float64(0.5))]),
            ContourRecipe("a", "", (Contour(0.5),)),
        ),
        (Protocol(critic_widths=[16], seed=np.int64(0)), Protocol(critic_widths=(16,))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_scalars_and_lists_become_numbers_and_tuples(made, plain):
    assert plain is None or (made == plain and to_json(made) == to_json(plain))
    assert from_json(type(made), to_json(made)) == made and hash(made) == hash(
        from_json(type(made), to_json(made))
    )


NO_NUMBERS = (True, np.True_, "3", None, 1j, [1], np.ones(2), torch.ones(2), {}, object())


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    ("kind", "name", "arguments"),
    [
        (OperatingPoint, "seed", {}),
        (OperatingPoint, "lambda_c", {}),
        (TrainingConfig, "epochs", {}),
        (TrainingConfig, "learning_rate", {}),
        (Stage, "noise_std", {"name": "a", "points": (POINT,)}),
        (InvariantConfig, "dims", {}),
        (InvariantConfig, "beta", {}),
        (Protocol, "critic_steps", {}),
        (Contour, "rate", {}),
    ],
)
def test_what_is_no_number_is_refused_in_one_line(kind, name, arguments, value):
    with pytest.raises(QuadrateError, match=f"{name} must be a (whole )?number; got ") as caught:
        kind(**arguments, **{name: value})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": 3}, r"levels must be a tuple, such as levels=\(3,\); got 3"),
        ({"levels": "33"}, "levels must be a tuple"),
        ({"levels": None}, "levels must be a tuple"),
        ({"levels": {3}}, "levels must be a tuple"),
        ({"levels": [3, True]}, r"levels\[1\] must be a whole number; got True"),
        ({"levels": (3, 3.0)}, r"levels\[1\] must be a whole number; got 3.0"),
        ({"seed": 10**400}, "seed must be a whole number of at most 64 bits"),
        ({"lambda_c": 10**400}, "lambda_c must be finite"),
    ],
)
def test_a_point_says_what_would_be_right(arguments, message):
    with pytest.raises(QuadrateError, match=message):
        OperatingPoint(**arguments)


def test_settings_say_what_would_be_right():
    for arguments, message in (
        ({"betas": (0.5,)}, "betas must have 2 numbers"),
        ({"betas": (0.5, 1)}, r"in \[0, 1\)"),
        ({"alternate": 1}, "True or False"),
    ):
        with pytest.raises(QuadrateError, match=message):
            TrainingConfig(**arguments)
    with pytest.raises(QuadrateError, match=r"points must be a tuple"):
        Stage("a", POINT)
    with pytest.raises(QuadrateError, match=r"points\[0\] must be an OperatingPoint; got 3"):
        Stage("a", (3,))


# --- names ---

NAMES = [
    "org/name",
    "../x",
    "/etc/x",
    "",
    "x" * 300,
    ".",
    "..",
    ".x",
    "a\u2028b",
    "a\nb",
    "\x1b[31m",
    "a\\b",
    "nul",
    "a:b",
    "a ",
    "\ud800",
    None,
    3,
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_that_are_not_fit_for_a_folder_are_refused_on_construction(name):
    makes = (
        lambda: Stage(name, (POINT,)),
        lambda: Stage("a", (POINT,), "universal", POINT, name),
        lambda: Recipe(name, "", "digits", ()),
        lambda: InvariantRecipe(name, "", "banana", ()),
        lambda: ContourRecipe(name, "", ()),
        lambda: FeatureRecipe(name, "", "digits", "resnet50", 1, 1, 1, ()),
        lambda: Storage(name, "linear"),
        lambda: ClipBottleneck(name),
    )
    for make in makes:
        with pytest.raises(QuadrateError) as caught:
            make()
        assert str(caught.value).isprintable() and len(str(caught.value)) < 500


def test_a_stage_is_not_called_as_a_file_of_the_run_or_as_another():
    with pytest.raises(QuadrateError, match="file in the run's folder"):
        Stage("results.csv", (POINT,))
    with pytest.raises(QuadrateError, match="share their folder"):
        Recipe("a", "", "digits", (Stage("a", (POINT,)), Stage("A", (POINT,))))


def test_long_lists_of_levels_have_short_keys_of_their_own():
    keys = [
        OperatingPoint(levels).key
        for levels in ((2, 3) * 65, (3, 2) * 65, (2, 3) * 66, (2,) * 65 + (3,) * 65)
    ]
    assert len(set(keys)) == 4 and all(len(key) < 60 for key in keys)
    assert OperatingPoint((2, 3) * 40).key == "-".join(["2-3"] * 40) + "_d1_p0_c0_s0"
    assert OperatingPoint((16,) * 1568).key == "1568x16_d1_p0_c0_s0"


def test_a_path_that_is_too_long_is_refused_before_anything_is_trained(
    digits, judge, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "quadrate.experiments.runs.tradeoff_kind.find_judge", lambda *arguments, **options: judge
    )
    deep = tmp_path.joinpath(*["x" * 200] * 19, "x" * (4096 - len(str(tmp_path)) - 19 * 201 - 60))
    run = Run(Recipe("a", "", "digits", (Stage("long" * 30, (POINT,)),)), deep, source=digits)
    with pytest.raises(QuadrateError, match="too long"):
        run.train("single")
    assert not list(tmp_path.iterdir())


# --- files that say otherwise ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../../x"}, "becomes the name of a folder"),
        ({"stages": [{"name": "/etc", "points": []}]}, "becomes the name of a folder"),
        ({"stages": [{"name": "a", "points": [{"seed": "x"}]}]}, "seed must be a whole number"),
        ({"stages": [{"name": "a", "points": [{"seed": 1.5}]}]}, "seed must be a whole number"),
        ({"stages": [{"name": "a\u2028b", "points": []}]}, "control character"),
        ({"stages": [{"name": "a", "points": [], "\x1b": 1}]}, "no setting '\\\\x1b'"),
        ({"stages": 3}, "stages must be a tuple"),
        ({"source": None}, "source is a text"),
    ],
)
def test_a_config_json_cannot_lead_out_of_its_folder(tmp_path, change, message):
    recipe = Recipe("a", "", "digits", (Stage("a", (POINT,)),))
    fields = json.loads(to_json(recipe)) | change
    folder = tmp_path / "a-0123456789ab"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"recipe": fields, "source": {"name": "digits"}})
    )
    for read in (read_results, Run.open):
        with pytest.raises(QuadrateError, match=message) as caught:
            read(folder)
        assert str(folder / "config.json") in str(caught.value) and str(caught.value).isprintable()


def test_whole_numbers_in_place_of_others_keep_their_text():
    """Folders of 0.1 are found by it."""
    assert '"warmup": 0}' in to_json(TrainingConfig(warmup=0)) and '"warmup": 0.0}' in to_json(
        TrainingConfig(warmup=0.0)
    )
    assert replace(TrainingConfig(), warmup=0) == TrainingConfig(warmup=0.0)
