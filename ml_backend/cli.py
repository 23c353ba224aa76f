"""The `clinicoco` command: every step of the loop, the servers, experiments and benchmarks."""

from __future__ import annotations

import logging
import sys

import typer

from label_config.errors import ClinicocoError
from ml_backend.commands import (
    coverage,
    data,
    experiment,
    exports,
    jobs,
    migrate,
    model,
    project,
    review,
    server,
)
from ml_backend.table import complain

app = typer.Typer(
    name="clinicoco",
    help=(
        "Human-automatic collaborative ICD coding on Label Studio.\n\n"
        "The loop: init, import, auto-label, train, set-up, then select, push, pull and train "
        "again until every code has its quota of clean EMRs. `clinicoco demo` shows all of it."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for room in (data, exports, migrate, project, coverage, model, review, jobs, server, experiment):
    room.add_to(app)


def main() -> None:
    """Run the command; an expected error is one line on stderr and exit code 1, wrong usage 2."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app(prog_name="clinicoco")
    except ClinicocoError as error:
        complain(str(error))
        sys.exit(1)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        complain(f"{error.strerror or error}{where}")
        sys.exit(1)


if __name__ == "__main__":
    main()
