"""The `popq` command itself: the table of commands, loaded one by one, and the exit codes."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from typing import Final

import click
from click.shell_completion import CompletionItem

import popq
from popq.cli.voice import VOICE, printable, speak_as_told
from popq.errors import PopqError

#: Command to (file of popq.cli, what it does), in the order in which a newcomer needs them.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "demo": ("demo", "Run the whole chain on generated photos, no key or server needed."),
    "run": ("run", "Go from a list of links to scored photos in one go."),
    "init": ("catalogue", "Make the catalogue, or bring it to this version."),
    "doctor": ("doctor", "Check all that popq needs, and say what to do about what is wrong."),
    "config": ("config", "Show every setting, its value, and where that comes from."),
    "import": ("lists", "Import a list of photo links and scores."),
    "resolve": ("work", "Find the image URLs of listed photos, here and now."),
    "download": ("work", "Download the images of resolved photos, here and now."),
    "dataset": ("dataset", "Cut stored photos into tiers and splits; list and show data sets."),
    "train": ("runs", "Train a network to tell a photo's tier from its pixels."),
    "score": ("work", "Score stored photos with a trained run, here and now."),
    "predict": ("predict", "Score files, folders and links with a trained run, here and now."),
    "runs": ("runs", "List training runs; show, follow, stop one, or compare two."),
    "report": ("report", "Write one HTML page: labels, tiers, learning, mistakes, photos."),
    "evaluate": ("evaluate", "Judge a run's scores, or a submission's, by the labels."),
    "export": ("export", "Write models, scores, manifests, image folders for other programs."),
    "status": ("status", "Show where the photos are, and who works at what how fast."),
    "sql": ("sql", "Open the catalogue at the database's own prompt, read-only."),
    "browse": ("browse", "Show the catalogue in a browser, with questions ready to run."),
    "photo": ("catalogue", "Show all that is known of one photo."),
    "failures": ("catalogue", "List the newest failed tries and why they failed."),
    "recheck": ("recheck", "Take a second look at photos that were gone a day ago."),
    "purge": ("purge", "Take photos out for good: rows, files, crops, scores."),
    "enqueue-resolve": ("work", "Leave resolving to workers."),
    "enqueue-download": ("work", "Leave downloading to workers."),
    "enqueue-score": ("work", "Leave scoring to workers."),
    "jobs": ("jobs", "List the jobs; show, pause, resume, cancel or retry one."),
    "worker": ("worker", "Work what is enqueued until stopped."),
    "flower": ("flower", "Show workers and doorbells in a browser, behind a password."),
    "fake-flickr": ("fake_flickr", "Serve a folder of photos as a Flickr-compatible server."),
    "completion": ("completion", "Print what makes a shell complete popq's commands."),
}

#: Exit status of a command that was interrupted.
INTERRUPTED: Final = 130


class LazyGroup(click.Group):
    """A group whose commands are imported when they run, and listed from the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names in the table's order."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"popq.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_") + "_command")
        if cmd_name not in self.commands:
            self.commands[cmd_name] = speak_as_told(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant, or name the one that may have been."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{meant}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands from the table, without importing them."""
        fitting = [
            CompletionItem(name, help=short)
            for name, (_, short) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return fitting + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, short) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(popq.__version__, message="popq %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Resolve, download, learn from and score Flickr photos, with every photo in SQL.

    Start with `popq demo`, or with a list of your own: `popq import LIST --labels SCORES`, then
    `popq resolve`, `popq download`, `popq dataset create NAME`, `popq train --dataset NAME` and
    `popq score`. `popq COMMAND --help` explains each; every command takes the options below, too.
    Settings are POPQ_* variables or lines of popq.toml; `popq config show` lists them. Without a
    command, popq says what to do next.
    """
    if ctx.invoked_subcommand is None:
        from popq.cli.start import start  # noqa: PLC0415 - opens the catalogue

        start()


speak_as_told(cli, first=True)


def main() -> None:
    """Run the command line and exit: 0 done, 1 finished with failed items, 2 usage,
    3 configuration or key, 4 a service is down, 130 interrupted.
    """  # noqa: D205 - one sentence
    stdout = sys.stdout
    try:
        status = cli.main(prog_name="popq", standalone_mode=False)
        sys.stdout.flush()
    except PopqError as error:
        _complain(str(error))
        status = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:  # a group without a command
        error.show()
        status = error.exit_code
    except click.ClickException as error:
        _complain(_usage(error))
        status = error.exit_code
    except SystemExit as ended:
        # At a closed pipe (`| head`) click swaps stdout for a silent one and ends with 1; but the
        # reader has seen enough, so all is well.
        status = 0 if sys.stdout is not stdout else ended.code
    except (KeyboardInterrupt, click.Abort):
        click.echo("popq: interrupted; what was finished is kept", err=True)
        status = INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; Python must not complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception as error:  # noqa: BLE001 - a mistake of popq's, told in one line too
        status = _fail(error)
    sys.exit(status)


def _fail(error: Exception) -> int:
    """Print an error that popq does not expect; return the exit status."""
    if isinstance(error, UnicodeEncodeError) and any(error.object in text for text in sys.argv):
        _complain(f"{error.object!a} is no text: its bytes are no UTF-8.")
        return 2
    what = f"{type(error).__name__}: {error}".removesuffix(": ")
    _complain(f"a mistake of popq's own ({what}); `--debug` shows where, please report it.")
    return 1


def _complain(message: str) -> None:
    """Print an error as one line, and where it came from if that was asked for."""
    if VOICE.debug:
        traceback.print_exc()
    line = " ".join(printable(message).split())
    click.echo(f"popq: {line}", err=True)


def _usage(error: click.ClickException) -> str:
    """Return what was wrong with the command line, and what explains it."""
    message = error.format_message().rstrip()
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return message
    return f"{message} `{error.ctx.command_path} --help` explains."
