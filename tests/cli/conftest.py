"""How the tests call the command."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lapactl.main import app

Lapactl = Callable[..., Result]


@pytest.fixture
def lapactl() -> Lapactl:
    """`lapactl("config", "show", "tabletop")` in this process."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def lapactl_json(lapactl: Lapactl) -> Callable[..., Any]:
    """The same with `--output json`; gives the value on stdout."""

    def call(*arguments: object) -> Any:
        result = lapactl(*arguments, "--output", "json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return call
