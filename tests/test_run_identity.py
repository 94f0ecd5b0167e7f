"""A run's folder is named after all that decides its numbers, also the user's code and weights."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from quadrate.config import OperatingPoint, Recipe, Stage, TrainingConfig
from quadrate.errors import QuadrateError, QuadrateWarning
from quadrate.experiments.recipes import RECIPES
from quadrate.experiments.runs import Run
from quadrate.networks import Family
from quadrate.networks.classifiers import DenseClassifier
from quadrate.networks.family import FAMILIES
from quadrate.objectives import Term, squared_error
from quadrate.sources import Source, Split
from quadrate.training.judges import Judge, save_judge

POINT = OperatingPoint((3, 3, 3), 1.0, 0.0, 0.004)
STAGES = (
    Stage("base", (POINT,), training=TrainingConfig(epochs=2, warmup=0)),
    Stage(
        "universal",
        (OperatingPoint((3, 3, 3)),),
        "universal",
        POINT,
        "base",
        TrainingConfig(epochs=2),
    ),
)
RECIPE = Recipe("mine", "a test", "digits", STAGES, judge="judge.safetensors")
WEIGHT = 2.0


@pytest.fixture(autouse=True)
def _a_constant_judge(tmp_path, monkeypatch):
    """Weights that no processor rounds otherwise."""
    module = DenseClassifier((1, 8, 8), 10)
    for tensor in module.state_dict().values():
        tensor.fill_(0.01)
    of = {
        "architecture": "dense",
        "shape": "1x8x8",
        "classes": "10",
        "source": "digits",
        "fingerprint": "",
        "seed": "0",
        "epochs": "0",
    }
    save_judge(Judge("constant", module, 0.1, 2.3, of), tmp_path / "judge.safetensors")
    monkeypatch.chdir(tmp_path)


# --- what 0.1 has trained is found ---


@pytest.mark.parametrize(
    ("family", "digest"),
    [("compact", "7bb48b87ceee"), ("paper", "fd9a228aec8b"), ("compact-colour", "4347b6e3a694")],
)
def test_folders_of_built_in_networks_are_those_of_version_0_1(family, digest):
    assert Run(dataclasses.replace(RECIPE, family=family)).folder.name == f"mine-{digest}"
    assert (
        Run(RECIPE, family=FAMILIES[family]).folder.name != f"mine-{digest}" or family == "compact"
    )


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("rdpc-contours", "5ad699c676fb"),
        ("group-exact", "28cb5dcc18d7"),
        ("banana-rotation", "b2430da18e3b"),
    ],
)
def test_folders_of_points_that_stand_alone_are_those_of_version_0_1(name, digest):
    assert Run(RECIPES[name]()).folder.name == f"{name}-{digest}"


# --- the user's own code ---


def loss(batch):
    return (batch.reconstruction - batch.clean).flatten(2).mean((1, 2)) * WEIGHT


def other(batch):
    return (batch.reconstruction - batch.clean).flatten(2).mean((1, 2)) * WEIGHT + 1


def helped(batch):
    return helper(batch)


def helper(batch):
    return loss(batch)


def scaled(batch, by=1.0, *, shift=0.0):
    return by * loss(batch) + shift


def closed(by):
    return lambda batch: by * batch.reconstruction.flatten(1).mean(1)


@dataclass
class Weighted:
    by: float

    def __call__(self, batch):
        return self.by * loss(batch)

    def method(self, batch):
        return self(batch)


class Learned(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.layer = nn.Linear(2, 1)
        with torch.no_grad():
            self.layer.weight.fill_(0.5)
            self.layer.bias.fill_(bias)

    def forward(self, batch):
        return loss(batch) * self.layer(torch.ones(1, 2)).squeeze()


def folder(digits, value, weight=0.1, **more):
    return Run(RECIPE, source=digits, terms=(Term("edges", weight, value, **more),)).folder.name


OTHERS = {
    "body": (loss, other),
    "default": (functools.partial(scaled), functools.partial(scaled, by=2.0)),
    "keyword": (functools.partial(scaled, shift=1.0), functools.partial(scaled, shift=1)),
    "closure": (closed(1), closed(2)),
    "closed over a tensor": (closed(torch.ones(3)), closed(torch.zeros(3))),
    "object": (Weighted(1), Weighted(2)),
    "method": (Weighted(1).method, Weighted(2).method),
    "weights": (Learned(0.0), Learned(0.5)),
    "lambda": (lambda batch: loss(batch), lambda batch: 2 * loss(batch)),
    "library": (nn.L1Loss(), nn.MSELoss()),
    "setting of a library's": (nn.HuberLoss(delta=1.0), nn.HuberLoss(delta=2.0)),
    "array": (
        functools.partial(scaled, by=torch.ones(2).numpy()),
        functools.partial(scaled, by=torch.zeros(2).numpy()),
    ),
    "a set": (closed({"a", "b"}), closed({"a", "c"})),
    "C": (torch.sigmoid, torch.tanh),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_loss_has_another_folder_and_the_same_loss_its_own(digits, name):
    one, two = OTHERS[name]
    assert folder(digits, one) == folder(digits, one) != folder(digits, two)


def test_weight_ramp_and_name_of_a_term_count(digits):
    terms = [
        Term("edges", 0.1, loss),
        Term("edges", 50, loss),
        Term("edges", 0.1, loss, ramp=True),
        Term("other", 0.1, loss),
    ]
    runs = [Run(RECIPE, source=digits, terms=(term,)).folder.name for term in terms]
    assert len({*runs, Run(RECIPE, source=digits).folder.name}) == 5


@pytest.mark.parametrize("name", ["WEIGHT", "helper", "loss"])
def test_globals_that_code_reaches_count(digits, name, monkeypatch):
    before, alone = folder(digits, helped), folder(digits, squared_error)
    monkeypatch.setitem(globals(), name, 3.0 if name == "WEIGHT" else other)
    assert folder(digits, helped) != before and folder(digits, squared_error) == alone


def test_modules_of_the_users_count_by_what_is_used_of_them(digits, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_losses.py").write_text(
        "K = 2\ndef edges(batch):\n    return K * batch\ndef unused(batch):\n    return batch\n"
    )
    import my_losses

    def outside(batch):
        return my_losses.edges(batch)

    def inside(batch):
        import my_losses as mine

        return mine.edges(batch)

    def by_name(batch):
        return getattr(my_losses, "edges")(batch)  # noqa: B009

    uses = (outside, inside, by_name)
    before = [folder(digits, use) for use in uses]
    my_losses.unused = None
    assert [folder(digits, use) for use in uses] == before
    my_losses.K = 3
    assert not set(before) & {folder(digits, use) for use in uses}


def networks(width=4):
    def encoder(shape, dim):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, dim), nn.Tanh())

    def decoder(shape, dim):
        return nn.Sequential(nn.Linear(dim, 64), nn.Sigmoid(), nn.Unflatten(1, shape))

    def critic(shape):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))

    return encoder, decoder, critic


def test_other_networks_under_the_same_name_have_another_folder(digits):
    names = [
        Run(RECIPE, source=digits, family=Family("compact", *networks(width))).folder.name
        for width in (4, 4, 8)
    ]
    assert names[0] == names[1] != names[2] and Run(RECIPE, source=digits).folder.name not in names


@dataclass(frozen=True, eq=False)
class Dark(Source):
    def observe(self, x, generator):
        return x * 0.5


@dataclass(frozen=True, eq=False)
class Darker(Source):
    def observe(self, x, generator):
        return x * 0.25


def test_what_a_source_of_ones_own_shows_counts(digits):
    fields = {field.name: getattr(digits, field.name) for field in dataclasses.fields(Source)}
    names = [
        Run(RECIPE, source=kind(**fields)).folder.name for kind in (Source, Dark, Dark, Darker)
    ]
    assert names[1] == names[2] and len(set(names)) == 3


def test_a_source_is_what_it_holds_whatever_its_fingerprint_says(digits):
    turned = Split(digits.train.images.flip(3), digits.train.labels)
    changed = dataclasses.replace(digits, train=turned)  # with the fingerprint of before
    assert Run(RECIPE, source=changed).folder != Run(RECIPE, source=digits).folder


# --- what cannot be told ---


def unclear(batch):
    return eval("loss")(batch)


UNCLEAR = {
    "eval": unclear,
    "a lock": functools.partial(scaled, by=threading.Lock()),
    "a generator": functools.partial(scaled, by=(i for i in ())),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_cannot_be_told_is_trained_afresh_and_said_in_one_line(digits, name):
    found = []
    for _ in range(2):
        with pytest.warns(
            QuadrateWarning,
            match=r"what term 'edges' computes cannot be told .* version .* fresh folder",
        ) as caught:
            found.append(folder(digits, UNCLEAR[name]))
        assert len(caught) == 1 and "\n" not in str(caught[0].message)
    assert found[0] != found[1]


@pytest.mark.parametrize("name", UNCLEAR)
def test_a_version_decides_in_place_of_code(digits, name):
    assert (
        folder(digits, UNCLEAR[name], version="1")
        == folder(digits, loss, version="1")
        != folder(digits, loss, version="2")
    )


def test_config_json_says_what_was_the_users_own(digits):
    run = Run(
        RECIPE,
        source=digits,
        family=Family("mine", *networks(), version="3"),
        terms=(Term("edges", 0.5, loss),),
    )
    run.begin()
    config = json.loads((run.folder / "config.json").read_text())
    assert config["terms"] == ["edges"] and config["own"]["family"] == {
        "name": "mine",
        "version": "3",
    }
    (term,) = config["own"]["terms"]
    assert (term["name"], term["weight"], term["ramp"], len(term["code"])) == (
        "edges",
        0.5,
        False,
        16,
    )


def test_a_run_of_ones_own_is_opened_with_what_is_ones_own(digits):
    family, terms = Family("mine", *networks()), (Term("edges", 0.5, loss),)
    run = Run(RECIPE, source=digits, family=family, terms=terms)
    run.begin()
    assert Run.open(run.folder, source=digits, family=family, terms=terms).folder == run.folder
    with pytest.raises(
        QuadrateError, match="made with other data, judges, networks or terms than are found now"
    ):
        Run.open(run.folder, source=digits, family=family, terms=(Term("edges", 0.6, loss),))


SCRIPT = """
from quadrate.core.identity import code_digest
NAMES = {"b", "a", "c"}
class Edges:
    names = frozenset(NAMES)
    def __call__(self, batch): return [batch for name in self.names if name in NAMES]
def f(batch): return Edges()(batch) if batch in {"x", "y", "z"} else None
print(code_digest(f), code_digest(Edges()))
"""


def test_a_description_is_the_same_in_every_process(tmp_path):
    (tmp_path / "mine.py").write_text(SCRIPT)
    found = set()
    for seed, how in (
        (1, ["mine.py"]),
        (2, ["-c", "import mine"]),
        (3, ["-c", "import mine"]),
    ):  # from source, and from what was compiled before
        environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONDONTWRITEBYTECODE": ""}
        found.add(
            subprocess.run(
                [sys.executable, *how],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
    assert len(found) == 1


def test_terms_that_make_no_sense_are_refused():
    for weight in (True, "much", None, float("nan"), (1.0, "x")):
        with pytest.raises(QuadrateError, match="term 'a': weight"):
            Term("a", weight, loss)
    with pytest.raises(QuadrateError, match="loss must be a function"):
        Term("a", 1.0, 3)
    with pytest.raises(QuadrateError, match="control character"):
        Term("a\u2028b", 1.0, loss)
    assert Term("a", [torch.tensor(1), 2], loss).weight == (1.0, 2.0)
