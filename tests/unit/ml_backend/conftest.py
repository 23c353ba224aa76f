"""The command line, run inside the test's own process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ml_backend import cli, table

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command as a shell would; return the exit code and everything it printed."""
    monkeypatch.setattr(table.console, "width", 200)

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["clinicoco", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = capsys.readouterr()
        code = stopped.value.code
        return (code if isinstance(code, int) else 0 if code is None else 1), said.out + said.err

    return run
