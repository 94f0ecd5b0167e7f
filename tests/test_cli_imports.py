"""The command line answers at once: a verb imports what it needs when it runs."""

import json
import subprocess
import sys
from inspect import getdoc
from pathlib import Path

import pytest

from quadrate.cli.verbs import VERBS
from quadrate.codecs import BaseCodec
from quadrate.codecs.zoo_index import CodecSummary, read_index, zoo

GOLDEN = Path(__file__).parent / "golden"
FIGURES_AND_SOLVERS = {"scipy", "matplotlib", "PIL", "sklearn"}
TRAINING = {"torch", "safetensors", "constriction"}
SCRIPT = """
import sys
from quadrate.cli import main
try:
    main(sys.argv[1:])
finally:
    print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


def imported(*arguments: str) -> tuple[str, set[str]]:
    """What a command prints, and what it has imported by its end."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return ended.stdout, set(ended.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "arguments", [[], *([name] for name in VERBS)], ids=lambda words: str(words)
)
def test_help_imports_next_to_nothing(arguments):
    printed, modules = imported(*arguments, "--help")
    assert printed.startswith(" ".join(["usage: quadrate", *arguments]))
    assert not modules & (TRAINING | FIGURES_AND_SOLVERS)
    assert arguments or not modules & {"numpy", "tyro", "rich"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recipes"], "rdc-mnist"),
        (["theory", "rate", "gaussian", "--distortion", ".25"], "1\n"),
        (
            ["inspect", str(GOLDEN / "zoo-0.2" / "mnist-4.75bit.quad")],
            "codec: mnist-4.75bit reads it",
        ),
    ],
)
def test_what_needs_no_torch_imports_none(arguments, said):
    printed, modules = imported(*arguments)
    assert said in printed
    assert not modules & (TRAINING | {"matplotlib"})


def test_help_names_all_verbs_by_the_first_line_of_their_own_help():
    printed, _ = imported("--help")
    for name, verb in VERBS.items():
        assert f" {name} {verb.summary} " in " ".join(printed.split()) + " "
        assert getdoc(verb.load(name)).partition("\n")[0] == verb.summary


def test_an_unknown_verb_is_one_line():
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, "trian"], capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 2
    line = ended.stderr.splitlines()[0]
    assert line.startswith("quadrate: unknown verb 'trian'; known: recipes, reproduce, ")
    assert line.endswith("; see `quadrate --help`")


def test_a_plug_in_adds_a_verb(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from quadrate.cli.verbs import register_verb\n"
        "def greet(name: str, /, times: int = 1) -> None:\n"
        '    """Greet someone.\n\n    Args:\n        name: Whom.\n'
        '        times: How often.\n    """\n'
        "    print('hello', *[name] * times)\n"
        "register_verb(greet)\n"
    )
    assert imported("--module", str(plugin), "greet", "you", "--times", "2")[0] == "hello you you\n"
    assert "How often." in imported("--module", str(plugin), "greet", "--help")[0]
    assert "Greet someone." in imported("--module", str(plugin), "--help")[0]


def test_the_index_of_the_codecs_in_the_package_is_true():
    index = read_index()
    assert list(index) == list(zoo())
    for name, summary in index.items():
        assert CodecSummary.of(BaseCodec.load(name)) == summary


def test_the_benchmark_keeps_its_promise():
    """`--help` takes at most three times the processor time of importing tyro alone."""
    path = Path(__file__).parents[1] / "results" / "command-line.json"
    cases = json.loads(path.read_text())["cases"]
    assert cases["--help"]["ratio"] <= 3 and cases["train --help"]["ratio"] <= 3
