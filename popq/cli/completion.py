"""`popq completion`: what makes a shell complete popq's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from popq.cli.main import cli


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print what makes SHELL complete popq's commands, options and their values.

    \b
    bash  eval "$(popq completion bash)"     in ~/.bashrc (bash 4.4 or newer)
    zsh   eval "$(popq completion zsh)"      in ~/.zshrc, after compinit
    fish  popq completion fish > ~/.config/fish/completions/popq.fish
    """  # noqa: D301 - \b is click's mark for lines that stay as they are
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click brings all three
    click.echo(kind(cli, {}, "popq", "_POPQ_COMPLETE").source())
