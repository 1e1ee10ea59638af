"""Meta-World: a Sawyer arm at a table in MuJoCo, ten of its fifty tasks, its scripted experts, templated English.

An option: the extra `metaworld` and one system library that draws without a display (`library.py` names them).
Its pictures cost about 9 ms of a CPU each, a hundred times the tabletop's, so this is where results are
checked, not where settings are searched.
"""
