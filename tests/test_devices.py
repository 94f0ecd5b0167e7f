"""Devices by name, wherever one is asked for."""

import pytest
import torch

from quadrate import Codec
from quadrate.cli import main
from quadrate.config import OperatingPoint, Recipe, Stage
from quadrate.core.devices import find_device
from quadrate.errors import QuadrateError
from quadrate.experiments.recipes.lossless_prediction import group_exact
from quadrate.experiments.runs import Run

BAD = [
    "mps",
    "nonsense",
    "meta",
    "cpu:1",
    "cuda:",
    "cuda:-1",
    "cuda:99999999999",
    "CPU",
    "",
    "cpu\n",
    "xla",
    "\x1b[31m",
    "cuda:7",
    "cuda",
]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_the_processor_is_always_there():
    for name in ("cpu", torch.device("cpu"), torch.device("cpu", 0)):
        assert find_device(name) == torch.device("cpu")


def test_a_gpu_is_found_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("cuda") == torch.device("cuda") and find_device("cuda:1") == find_device(
        torch.device("cuda", 1)
    ) == torch.device("cuda", 1)
    with pytest.raises(
        QuadrateError, match="'cuda:2' was asked for, but this machine has 2: cuda:0 to cuda:1"
    ):
        find_device("cuda:2")


@pytest.mark.parametrize("name", BAD)
def test_other_devices_are_one_line_everywhere(digits, tmp_path, name):
    recipe = Recipe("r", "t", "digits", (Stage("s", (OperatingPoint(),)),))
    for ask in (
        lambda: find_device(name),
        lambda: Codec.load("mnist-4.75bit", device=name),
        lambda: Run(recipe, tmp_path, device=name, source=digits).prepare(),
        lambda: Run(group_exact(), tmp_path, name).prepare(),
        lambda: digits.to(name),
    ):
        with pytest.raises(QuadrateError, match="device") as caught:
            ask()
        assert "\n" not in str(caught.value) and str(caught.value).isprintable()
    assert not list(tmp_path.iterdir())


VERBS = [
    "train demo",
    "train group-exact",
    "train urdc-mnist",
    "reproduce rdc-mnist",
    "reproduce group-exact",
]


@pytest.mark.parametrize("verb", VERBS)
def test_the_command_line_says_so_too(verb, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*verb.split(), "--device", "mps", "--runs", str(tmp_path)])
    error = capsys.readouterr().err
    assert (
        caught.value.code == 1
        and error.startswith("quadrate: unknown device 'mps': ")
        and error.count("\n") == 1
    )
