"""`--print_completion`: a script by which a shell completes commands, configs and keys."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

from presel_lightning.cli.configs import configs_folder
from presel_lightning.cli.light import LIGHT, LISTS, WEB, web_command
from presel_lightning.cli.mistakes import suggest
from presel_lightning.cli.short_help import keys_of
from presel_lightning.errors import UserError

BASH = """\
# bash: source this file, or put it into ~/.local/share/bash-completion/completions/presel-lightning
_presel_lightning() {{
  local IFS=$'\\n' word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" known=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    known="{commands}"
  elif [ "$before" = --config ]; then
    COMPREPLY=($(compgen -W "{configs}" -- "$word") $(compgen -f -- "$word"))
    return
  else
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
  fi
  COMPREPLY=($(compgen -W "$known" -- "$word"))
}}
complete -o default -F _presel_lightning presel-lightning
"""
ZSH = """\
#compdef presel-lightning
# zsh: put this file into a folder of $fpath, under the name _presel-lightning
_presel_lightning() {{
  local known=""
  if (( CURRENT == 2 )); then
    known="{commands}"
  elif [[ "${{words[CURRENT-1]}}" == --config ]]; then
    known="{configs}"
    _files
  else
    case "${{words[2]}}" in
{cases}
    esac
    [[ "${{words[CURRENT]}}" == -* ]] || _files
  fi
  compadd -- ${{(f)known}}
}}
compdef _presel_lightning presel-lightning
"""
SHELLS = {"bash": BASH, "zsh": ZSH}


def completion(shell: str, training: Sequence[str]) -> str:
    """Return the script of a shell.

    Args:
        shell: `bash` or `zsh`.
        training: the commands of the recipe.

    Raises:
        UserError: another shell.
    """
    if shell not in SHELLS:
        cure = suggest(shell, list(SHELLS))
        raise UserError(f"--print_completion needs {' or '.join(SHELLS)}{cure}")
    options = options_by_command(training)
    return SHELLS[shell].format(
        commands="\n".join(options),
        configs="\n".join(sorted(path.name for path in configs_folder().glob("*.yaml"))),
        cases="\n".join(_case(command, words) for command, words in options.items()),
    )


def options_by_command(training: Sequence[str]) -> Mapping[str, list[str]]:
    """Return the options of every command, those of the recipe as the short help has them."""
    found = {
        command: [f"--{key.name}" for keys in keys_of(command).values() for key in keys]
        for command in training
    }
    for command in (*LIGHT, *WEB):
        lists = LISTS.get(command, {})
        function = LIGHT.get(command) or web_command(command)
        filled = {details.get("dest", name.removeprefix("--")) for name, details in lists.items()}
        own = [f"--{name}" for name in inspect.signature(function).parameters if name not in filled]
        found[command] = [*(["--config"] if command in WEB else []), *own, *lists]
    return {command: [*words, "--help"] for command, words in found.items()}


def _case(command: str, words: Sequence[str]) -> str:
    lines = "\n".join(words)
    return f'      {command}) known="{lines}" ;;'
