"""`python -m lapa`: what a pod runs."""

import pytest

from lapa.__main__ import PROGRAMS, main
from lapa.errors import ConfigError


@pytest.mark.parametrize("program", sorted(set(PROGRAMS) - {"doctor"}))
def test_a_program_without_its_run_says_how_to_name_one(program):
    with pytest.raises(ConfigError, match=f"name a preset or a YAML file, for example: python -m lapa {program} "):
        main([program])
