"""What a shell expects of a program: JSON, quiet, completion, colours, exit statuses."""

import json
import os
import shutil
import subprocess
import sys
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

import quadrate
from quadrate.cli import main
from quadrate.cli.printer import Printer, plain
from quadrate.cli.verbs import VERBS
from quadrate.core.table import words_table

COMMAND = [sys.executable, "-c", "from quadrate.cli import main; main()"]


def printed(capsys, *arguments):
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def facts_of(capsys, *arguments):
    """The one JSON document that a verb prints."""

    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(printed(capsys, *arguments, "--json"), parse_constant=refuse)


def status_and_errors(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(VERBS.keys() - {"completion"}))
def test_every_verb_takes_both_options(name):
    assert isinstance(signature(VERBS[name].load(name)).parameters["printer"].default, Printer)


def test_facts_become_json():
    facts = {"a": (1, np.float32(0.5), np.inf, -np.inf, np.nan), 2: Path("x"), "c": np.arange(2)}
    assert plain(facts) == {"a": [1, 0.5, "inf", "-inf", None], "2": "x", "c": [0, 1]}


@pytest.mark.parametrize(
    ("printer", "result", "done", "remark"),
    [
        (Printer(), "text\n", "text\n", "text\n"),
        (Printer(quiet=True), "text\n", "", ""),
        (Printer(json=True), '{\n  "a": 1\n}\n', '{\n  "a": 1\n}\n', ""),
        (Printer(json=True, quiet=True), '{\n  "a": 1\n}\n', '{\n  "a": 1\n}\n', ""),
    ],
)
def test_what_is_printed(printer, result, done, remark, capsys):
    printer.result({"a": 1}, "text")
    assert capsys.readouterr().out == result
    printer.done({"a": 1}, "text")
    assert capsys.readouterr().out == done
    printer.remark("text")
    assert capsys.readouterr().out == remark
    assert printer.report == (None if printer.quiet else "auto")


def test_tables_are_printed_between_lines(capsys):
    Printer().result(None, words_table(("one", "two"), [("a", "b")]), "end")
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.split() == ["one", "two"] and last == "end"


def test_recipes(capsys):
    facts = facts_of(capsys, "recipes")
    by_name = {line["name"]: line for line in facts}
    assert by_name["rdc-mnist"]["data"] == "mnist" and by_name["demo"]["quick_points"] == 10
    text = printed(capsys, "recipes", "--quiet")
    assert all(f"  {name} " in text for name in by_name)


def test_theory(capsys):
    question = ["theory", "rate", "gaussian", "--distortion", ".25"]
    assert facts_of(capsys, *question) == {"distortion": 0.25, "rate_bits": 1.0}
    assert printed(capsys, *question, "--quiet") == "1\n"
    impossible = ["gaussian", "--label-variance", "1", "--correlation", ".5"]
    impossible += ["--classification", "-9"]
    assert facts_of(capsys, "theory", "rate", *impossible)["rate_bits"] == "inf"
    curve = ["theory", "curve", "gaussian", "--vary", "distortion", "--from", ".25", "--to", "1"]
    curve += ["--points", "2"]
    ends = [{"distortion": 0.25, "rate_bits": 1.0}, {"distortion": 1.0, "rate_bits": 0.0}]
    assert facts_of(capsys, *curve) == ends
    assert printed(capsys, *curve) == "distortion,rate_bits\n0.25,1\n1,0\n"


def test_files(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", np.zeros((3, 1, 28, 28), np.uint8))
    command = ["compress", "images.npy", "--codec", "mnist-4.75bit", "-o", "a.quad"]
    made = facts_of(capsys, *command)
    size = Path("a.quad").stat().st_size
    assert (made["file"], made["samples"], made["bytes"]) == ("a.quad", 3, size)
    assert made["rate_bits_per_sample"] == 8 * size / 3
    assert printed(capsys, *command, "--overwrite", "--quiet") == ""
    opened = ["decompress", "a.quad", "-o", "a.npy", "--overwrite"]
    assert facts_of(capsys, *opened) == {"output": "a.npy", "samples": 3, "shape": [1, 28, 28]}
    assert printed(capsys, *opened, "--quiet") == ""
    assert facts_of(capsys, "verify", "a.quad")["codec"] == "mnist-4.75bit"
    assert printed(capsys, "verify", "a.quad", "--quiet") == ""
    assert facts_of(capsys, "inspect", "a.quad")["bytes"]["total"] == size
    Path("a.quad").write_bytes(Path("a.quad").read_bytes()[:-9])
    status, errors = status_and_errors(capsys, "verify", "a.quad", "--quiet", "--json")
    assert status == 1 and errors.startswith("quadrate: a.quad")


def test_the_judge(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("quadrate.training.judges._LEAST_STEPS", 2)
    command = ["judge", "digits", "--architecture", "dense", "--runs", str(tmp_path), "--quiet"]
    main([*command, "--json"])
    out, err = capsys.readouterr()
    assert json.loads(out)["data"] == "digits" and not err  # no line of progress either
    assert printed(capsys, *command).startswith("judge dense")


@pytest.mark.parametrize(
    ("arguments", "status", "hint"),
    [
        (["trian"], 2, "see `quadrate --help`"),
        (["--json"], 2, "usage: quadrate "),
        ([], 2, "usage: quadrate "),
        (["recipes", "--jsn"], 2, "quadrate recipes --help"),
        (["train"], 2, "quadrate train --help"),
        (["theory", "rate", "gauss"], 2, "quadrate theory --help"),
        (["completion", "csh"], 2, "quadrate completion --help"),
        (["inspect", "nowhere.quad"], 1, "quadrate: no such file: nowhere.quad"),
    ],
)
def test_statuses_and_where_help_is(arguments, status, hint, capsys):
    ended, errors = status_and_errors(capsys, *arguments)
    assert ended == status and hint in " ".join(errors.split())


def test_the_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"quadrate {quadrate.__version__}\n"


def on_terminal(*arguments, **environment):
    """What a terminal gets to see."""
    import pty

    clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    clean |= {"TERM": "xterm-256color"} | environment
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*COMMAND, *arguments], stdout=theirs, stderr=theirs, env=clean)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # Linux's way to say that the other side is closed
        pass
    os.close(ours)
    process.wait(timeout=60)
    return shown.decode()


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("arguments", [["theory", "rate", "--help"], ["recipes", "--jsn"]])
def test_colours_are_for_terminals_that_want_them(arguments):
    assert "\x1b[" in on_terminal(*arguments)
    assert "\x1b[" not in on_terminal(*arguments, NO_COLOR="1")
    piped = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
    assert "\x1b[" not in piped.stdout + piped.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_completion(capsys, tmp_path):
    script = tmp_path / "quadrate.bash"
    script.write_text(printed(capsys, "completion", "bash"))
    assert printed(capsys, "completion", "zsh").endswith(script.read_text())
    cases = {
        "re": "recipes reproduce report",
        "recipes --q": "--quiet",
        "train --exec": "--execution",
        "train --execution s": "single spread stacked",
        "reproduce rdc-": "rdc-mnist rdc-svhn",
        "theory c": "classification curve contours",
        "theory curve --vary p": "perception",
        "theory rate one": "one-shot-bernoulli",
        "theory rate gaussian --js": "--json",
        "inspect file": "",  # left to the shell, which completes names of files
        "--v": "--version",
    }
    ask = 'COMP_WORDS=(quadrate "$@"); COMP_CWORD=$#; _quadrate; echo "${COMPREPLY[@]}"'
    for words, answer in cases.items():
        command = ["bash", "-c", f'source "$0"; {ask}', str(script), *words.split()]
        ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert set(ended.stdout.split()) == set(answer.split()), words


def test_completion_knows_verbs_of_plug_ins(capsys, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from quadrate.cli.verbs import register_verb\n"
        "def wave(times: int = 1) -> None:\n"
        '    """Wave."""\n'
        "register_verb(wave)\n"
    )
    ended = subprocess.run(
        [*COMMAND, "completion", "bash", "--module", str(plugin)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert '"quadrate wave -") echo "--help --times"' in ended.stdout
