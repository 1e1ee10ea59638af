"""What holds for every command."""

import pytest
from typer.main import get_command

from lapactl.main import app


def all_commands(group, above=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from all_commands(command, (*above, name))
        else:
            yield (*above, name)


@pytest.mark.parametrize("command", all_commands(get_command(app)), ids=" ".join)
def test_help_is_an_imperative_line_with_an_example_and_json_output(command, lapactl):
    result = lapactl(*command, "--help")
    assert result.exit_code == 0
    assert f"Example: lapactl {' '.join(command)}" in result.stdout
    assert "--output" in result.stdout


def test_the_command_alone_shows_help(lapactl):
    assert "Commands:" in lapactl().output


def test_the_version_is_the_distribution_s(lapactl):
    assert lapactl("--version").stdout.strip().count(".") == 2


def test_an_unknown_command_is_a_usage_error(lapactl):
    result = lapactl("frobnicate")
    assert result.exit_code == 2
    assert "frobnicate" in result.stderr


def test_an_unexpected_error_is_short_and_says_where_its_traceback_is(lapactl, monkeypatch):
    def break_down(*_):
        raise RuntimeError("something odd")

    monkeypatch.setattr("lapa.config.load.load_run", break_down)
    result = lapactl("config", "show", "tabletop")
    assert result.exit_code == 70
    assert "unexpected RuntimeError: something odd" in result.stderr
    assert "Traceback" not in result.output
    log = result.stderr.split("details are in ")[1].split(";")[0]
    with open(log) as file:  # noqa: PTH123
        assert "break_down" in file.read()
