"""`quadrate completion`."""

from __future__ import annotations

import ast
import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from typing import Annotated, Any, Literal

import tyro

from quadrate.cli.modules import Modules
from quadrate.core.plugins import load_plugins
from quadrate.core.registry import load_installed

# The words that may follow are looked up by the verbs and subcommands so far: of options if the
# word begins with a hyphen, of an option's value where one stands before it. Without such words the
# shell completes names of files. Bash 3.2, which macOS has, knows no associative arrays.
_SCRIPT = """\
_quadrate_words() {{
  case "$1" in
{cases}
    *) return 1 ;;
  esac
}}
_quadrate() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" place="quadrate" word words
  for word in "${{COMP_WORDS[@]:1:$((COMP_CWORD - 1))}}"; do
    [[ $word != -* ]] && _quadrate_words "$place $word" >/dev/null && place="$place $word"
  done
  words=$(_quadrate_words "$place ${{COMP_WORDS[COMP_CWORD-1]}}" || _quadrate_words "$place")
  [[ $current == -* ]] && words=$(_quadrate_words "$place -")
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _quadrate quadrate"""
_ZSH = "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"


def completion(
    shell: Annotated[Literal["bash", "zsh"], tyro.conf.Positional],
    /,
    module: Modules = (),
) -> None:
    """Print a script by which a shell completes verbs, options and recipes.

    Put eval "$(quadrate completion bash)" into ~/.bashrc, or the same with zsh into ~/.zshrc.

    Args:
        shell: The shell.
        module: A Python file, or the name of a module, that registers what is your own
            (docs/extending.md); may be given several times.
    """
    load_plugins(module)
    load_installed()
    from quadrate.cli.verbs import VERBS
    from quadrate.experiments.recipes.catalogue import RECIPES

    words = {"quadrate": list(VERBS), "quadrate -": ["--help", "--version", "--module"]}
    for name, known in _described({name: verb.load(name) for name, verb in VERBS.items()}).items():
        _add(words, f"quadrate {name}", known)
    for name in ("train", "reproduce"):
        words[f"quadrate {name}"] = list(RECIPES)
    cases = (f'    "{place}") echo "{" ".join(known)}" ;;' for place, known in words.items())
    print((_ZSH if shell == "zsh" else "") + _SCRIPT.format(cases="\n".join(cases)))


def _described(verbs: dict[str, Callable[..., None]]) -> dict[str, Any]:
    """What tyro knows of the verbs, from the script that it would write itself.

    Ours takes no interpreter to complete a word, and leaves the rest to the names of files.
    """
    words, script = ["--tyro-write-completion", "bash", "-"], io.StringIO()
    with redirect_stdout(script), suppress(SystemExit):
        tyro.extras.subcommand_cli_from_dict(verbs, prog="quadrate", args=words)
    mark = "COMPLETION_SPEC = "
    line = next(line for line in script.getvalue().splitlines() if line.startswith(mark))
    described: dict[str, Any] = ast.literal_eval(line.removeprefix(mark))["subcommands"]
    return described


def _add(
    words: dict[str, list[str]], place: str, known: dict[str, Any], inherited: Sequence[str] = ()
) -> None:
    """Add what may follow at a place: options, their values, subcommands and what follows these."""
    options, passed_on = list(inherited), list(inherited)
    for option in known["options"]:
        long = [flag for flag in option["flags"] if flag.startswith("--")]
        options += long
        passed_on += long if option.get("cascade") else []
        if choices := [str(choice) for choice in option.get("choices", ()) if choice != "None"]:
            words.update({f"{place} {flag}": choices for flag in option["flags"]})
    words[place] = list(known["subcommands"])
    words[f"{place} -"] = list(dict.fromkeys(options))
    for name, inner in known["subcommands"].items():
        _add(words, f"{place} {name}", inner, passed_on)
