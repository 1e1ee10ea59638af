"""The gates file: the shipped one, and what is said about mistakes."""

from pathlib import Path

import pytest

from lapa.errors import ConfigError
from lapa.promotion.config import dump_gates, gate_names, load_gates


def test_the_shipped_gates_judge_everything_that_the_guide_promises():
    assert gate_names(load_gates().gates) == [
        "files", "loads", "success-rate", "not-below-production", "codebook", "probe", "latency", "provenance",
        "licence",
    ]  # fmt: skip


def test_dumped_gates_load_as_the_same_gates(tmp_path: Path):
    (tmp_path / "gates.yaml").write_text(dump_gates(load_gates()))
    assert load_gates(str(tmp_path / "gates.yaml")) == load_gates()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gates: [{kind: files}, {kind: success-rate, at_leats: 0.5}]", r"gates\.1\.at_leats.*Did you mean 'at_least'"),
        ("gates: [{kind: files}, {kind: sucess-rate}]", r"gates\.1\.kind.*Did you mean 'success-rate'"),
        ("gats: []", "Did you mean 'gates'"),
        ("gates: [{kind: success-rate}]", "never promoted"),
        ("gates: [{kind: files}, {kind: metric, name: held_out/ratio}]", "has no limit"),
        ("gates: [{kind: files}, {kind: success-rate, at_least: 50}]", r"gates\.1\.at_least.*not 50"),
        ("- kind: files", "mapping"),
        ("gates: [", "not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_nearest_choice(text: str, said: str, tmp_path: Path):
    (tmp_path / "gates.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_gates(str(tmp_path / "gates.yaml"))


def test_repeated_gates_have_names_of_their_own(tmp_path: Path):
    (tmp_path / "g.yaml").write_text(
        "gates: [{kind: files}, {kind: success-rate}, {kind: success-rate, benchmark: abc}, "
        "{kind: metric, name: held_out/ratio, at_most: 1}]"
    )
    names = gate_names(load_gates(str(tmp_path / "g.yaml")).gates)
    assert names == ["files", "success-rate", "success-rate#2", "metric:held_out/ratio"]
