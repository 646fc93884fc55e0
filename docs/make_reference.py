"""Writes docs/reference from the code: `make reference`. A test holds the pages to the code."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
from sqlalchemy import CheckConstraint
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import DefaultClause

from popq import errors, settings
from popq.catalogue import states
from popq.catalogue.models import learning, photos, work
from popq.catalogue.views import VIEWS
from popq.cli.main import COMMANDS, cli

HERE = Path(__file__).parent / "reference"
MADE = "<!-- Made from the code by `make reference`; do not edit. -->"


def commands() -> str:
    """Return the page of all commands with their options."""
    lines = [
        "# Commands",
        MADE,
        "",
        "Every command also takes the options of `popq` itself. Exit status: 0 done, 1 finished with",
        "photos left, 2 wrong usage or input, 3 configuration or key, 4 a service is down, 130",
        "interrupted. Data goes to stdout, progress and remarks to stderr.",
        "",
        *_command(cli, "popq", 2),
    ]
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        lines += _command(command, f"popq {name}", 2)
        if isinstance(command, click.Group):
            for part, sub in sorted(command.commands.items()):
                lines += _command(sub, f"popq {name} {part}", 3)
    return "\n".join(lines).rstrip() + "\n"


def _command(command: click.Command, name: str, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    yield f"{'#' * level} {name}"
    yield ""
    yield f"`{usage}`"
    yield ""
    yield from _help(command.help or "")
    rows = [param.get_help_record(context) for param in command.get_params(context)]
    shown = [row for row in rows if row is not None and not row[0].endswith("--help")]
    if shown:
        yield "| option | what |"
        yield "|---|---|"
        for option, what in shown:
            yield f"| `{option}` | {_cell(what)} |"
        yield ""


def _help(text: str) -> Iterator[str]:
    for part in inspect.cleandoc(text).split("\n\n"):
        if part.startswith("\b"):
            yield from ("```text", *part.removeprefix("\b").strip().splitlines(), "```")
        else:
            yield from part.replace("<", "&lt;").splitlines()
        yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def settings_page() -> str:
    """Return the page of all settings."""
    lines = [
        "# Settings",
        MADE,
        "",
        "A setting may stand in four places. Each wins over those before it:",
        "",
        "1. `popq.toml` in the folder where popq is started: `io_threads = 4`. `popq init` writes one",
        "   with every setting as a comment.",
        "2. `.env` in the same folder: `POPQ_IO_THREADS=4`. Other names in it are left alone.",
        "3. the environment: `export POPQ_IO_THREADS=4`",
        "4. a flag: `popq --set io_threads=4 worker`",
        "",
        "`popq config show` prints each value and where it comes from, keys and passwords masked. A",
        "name that popq does not know is an error (exit status 3) that names the nearest one.",
        "",
        "| variable | default | what |",
        "|---|---|---|",
    ]
    for variable, what in settings.variables().items():
        default = settings.default(variable)
        lines.append(f"| `{variable}` | {f'`{default}`' if default else ''} | {what} |")
    return "\n".join(lines) + "\n"


def catalogue() -> str:
    """Return the page of all tables and views."""
    lines = [
        "# The catalogue",
        MADE,
        "",
        "SQLite and PostgreSQL have the same tables. Read them with any SQL client; write through",
        "popq. For people there are the views at the end.",
        "",
    ]
    rooms = (photos, work, learning)
    notes = {key: remark for room in rooms for key, remark in _remarks(room).items()}
    # In the order of the source, which tells of photos first.
    for model in (model for room in rooms for model in vars(room).values()):
        if not (isinstance(model, type) and hasattr(model, "__table__")):
            continue
        table = model.__table__
        lines += [f"## {table.name}", "", *inspect.cleandoc(model.__doc__ or "").splitlines(), ""]
        lines += ["| column | type | null | default | about |", "|---|---|---|---|---|"]
        for column in table.columns:
            about = [f"→ `{key.target_fullname}`" for key in column.foreign_keys]
            about += ["primary key"] if column.primary_key else []
            about += ["unique"] if column.unique else []
            about += (
                [_cell(notes[model.__name__, column.name])]
                if ((model.__name__, column.name) in notes)
                else []
            )
            kinds = {
                str(column.type.compile(dialect.dialect())) for dialect in (sqlite, postgresql)
            }
            default = column.server_default
            told = str(default.arg) if isinstance(default, DefaultClause) else ""
            cells = [
                f"`{column.name}`",
                ", ".join(sorted(kinds)),
                "yes" if column.nullable else "",
                f"`{told}`" if told else "",
                "; ".join(about),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        checks = [c for c in table.constraints if isinstance(c, CheckConstraint)]
        for check in sorted(checks, key=lambda check: str(check.name)):
            lines += ["", f"Always: `{' '.join(str(check.sqltext).split())}`"]
        lines.append("")
    lines += ["## Views", ""]
    for name, query in VIEWS.items():
        lines += [f"### {name}", "", "```sql", inspect.cleandoc(str(query)), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def outcomes() -> str:
    """Return the page of outcomes, states and errors."""
    notes = _remarks(errors)
    lines = [
        "# Outcomes, states and errors",
        MADE,
        "",
        "## Outcomes",
        "",
        "What one try at a photo, or one row of a list, came to. It stands in `failures.outcome`, in",
        "`photos.reason`, and beside the rejected rows of an import.",
        "",
        "| outcome | a photo leaves as | what |",
        "|---|---|---|",
    ]
    for outcome in errors.Outcome:
        leaves = [
            state
            for state, reasons in (
                ("gone", states.GONE_REASONS),
                ("rejected", states.REJECTED_REASONS),
            )
            if outcome in reasons
        ]
        what = _cell(notes["Outcome", outcome.name])
        lines.append(f"| `{outcome}` | {', '.join(leaves)} | {what} |")
    lines += ["", "## States of a photo", "", *inspect.cleandoc(states.__doc__ or "").splitlines()]
    lines += ["", "## Errors", "", *inspect.cleandoc(errors.__doc__ or "").splitlines()]
    return "\n".join(lines) + "\n"


def _remarks(module: ModuleType) -> dict[tuple[str, str], str]:
    """Return the `#:` remarks of a module's classes, by class and attribute."""
    source = inspect.getsource(module)
    lines, found = source.splitlines(), {}
    for node in ast.parse(source).body:
        for part in node.body if isinstance(node, ast.ClassDef) else []:
            target = getattr(part, "target", None) or (getattr(part, "targets", None) or [None])[0]
            if not isinstance(target, ast.Name):
                continue
            above, remark = part.lineno - 2, []
            while re.match(r"\s*#: ", lines[above]):
                remark.insert(0, lines[above].split("#: ", 1)[1])
                above -= 1
            if remark:
                found[node.name, target.id] = " ".join(remark)
    return found


PAGES = {
    "commands.md": commands,
    "settings.md": settings_page,
    "catalogue.md": catalogue,
    "outcomes.md": outcomes,
}

if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for file, make in PAGES.items():
        (HERE / file).write_text(make(), encoding="utf-8")
