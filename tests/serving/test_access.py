"""Who may use a server is decided before it starts."""

import pytest

from lapa.config.serving import TOKEN_VARIABLE, ServingConfig
from lapa.errors import ConfigError
from lapa.serving.access import load_tokens


@pytest.fixture(autouse=True)
def _no_token(monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


def settings(**changes) -> ServingConfig:
    return ServingConfig(bundle="policy", **changes)


def test_a_server_that_anybody_could_use_does_not_start():
    with pytest.raises(ConfigError, match=r"listen on 0\.0\.0\.0 and answer whoever asks.*LAPA_SERVER_TOKEN"):
        load_tokens(settings(host="0.0.0.0"))


def test_it_starts_where_that_was_said_or_only_this_machine_reaches_it():
    assert not load_tokens(settings(host="0.0.0.0", is_open=True))
    assert not load_tokens(settings())


def test_a_token_that_can_be_guessed_is_refused(monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    with pytest.raises(ConfigError, match="6 characters; take at least 16"):
        load_tokens(settings())


def test_a_token_file_may_hold_two_tokens_while_one_replaces_the_other(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("the-old-token-of-robots\nthe-new-token-of-robots\n")
    tokens = load_tokens(settings(host="0.0.0.0", token_file=str(file)))
    assert tokens.accept("Bearer the-old-token-of-robots") and tokens.accept("Bearer the-new-token-of-robots")
    assert not tokens.accept("Bearer another-token-of-robots") and not tokens.accept(None)


@pytest.mark.parametrize("content", [None, "", " \n", b"\xff\xfe"])
def test_a_token_file_without_a_token_is_an_error(tmp_path, content):
    file = tmp_path / "tokens"
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError, match="token file"):
        load_tokens(settings(token_file=str(file)))
