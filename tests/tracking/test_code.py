"""Which code made something, as far as it can be known."""

import subprocess
from pathlib import Path

import pytest

from lapa.tracking import code


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (code.COMMIT_VARIABLE, code.IMAGE_VARIABLE):
        monkeypatch.delenv(variable, raising=False)


def test_an_image_says_its_commit_and_whoever_starts_it_its_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(code.COMMIT_VARIABLE, "f" * 40)
    monkeypatch.setenv(code.IMAGE_VARIABLE, "registry.example/lapa-train@sha256:8f3c")
    assert code.code_tags() == {"lapa.commit": "f" * 40, "lapa.image": "registry.example/lapa-train@sha256:8f3c"}


def test_a_checkout_says_its_commit_and_that_it_was_changed(bare: None, tmp_path: Path, monkeypatch):
    module = tmp_path / "lapa" / "tracking" / "code.py"
    module.parent.mkdir(parents=True)
    module.write_text("")

    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    git("init")
    monkeypatch.setattr(code, "__file__", str(module))
    assert code.code_tags() == {}, "a package inside somebody else's checkout is not of its commit"
    git("add", ".")
    git("commit", "-m", "first")
    clean = code.commit()
    assert len(clean) == 12
    module.write_text("changed")
    assert code.code_tags() == {"lapa.commit": f"{clean} with local changes"}
