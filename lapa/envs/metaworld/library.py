"""The package `metaworld`, loaded when it is first needed, with a way to draw without a display."""

import os
import sys
import warnings
from ctypes.util import find_library
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

from lapa.config.metaworld import MetaWorldTask
from lapa.errors import MissingDependency

_SYSTEM_LIBRARIES = {"osmesa": "OSMesa", "egl": "EGL"}
"""Value of MUJOCO_GL -> library, in the order of preference: OSMesa draws the same pixels on every machine."""
_INSTALL = "pip install 'lapa[metaworld]'"
INSTALL_SYSTEM = "apt-get install libosmesa6 (or libegl1, with libegl-mesa0 or a GPU's driver, and set MUJOCO_GL=egl)"


class Library(NamedTuple):
    """What is used of the two packages."""

    mujoco: Any
    environments: dict[str, Any]
    """`push-v3-goal-observable` -> environment class."""
    experts: dict[str, Any]
    """`push-v3` -> policy class."""

    def environment(self, task: MetaWorldTask) -> Any:
        # Goals are observable to the expert only; policies see pictures. In the plain classes the goal is clipped to
        # zeros, and experts that need it fail.
        return self.environments[f"{task}-v3-goal-observable"](seed=0)

    def expert(self, task: MetaWorldTask) -> Any:
        return self.experts[f"{task}-v3"]()


@lru_cache(maxsize=1)
def load_library() -> Library:
    """MissingDependency, with what to install, where a package or the system library is absent."""
    if find_spec("metaworld") is None:
        raise MissingDependency(f"Meta-World is an option that is not installed: {_INSTALL}.")
    choose_renderer()
    try:
        import mujoco
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
        from metaworld.policies import ENV_POLICY_MAP
    except ImportError as error:
        raise MissingDependency(
            f"Meta-World is installed and cannot be loaded ({error}). Install it anew: {_INSTALL}."
        ) from error
    # The experts ask for more than the largest action all the time, and the environment clips it, as we do.
    warnings.filterwarnings("ignore", message=r"Constant\(s\) may be too high")
    return Library(mujoco, dict(ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE), dict(ENV_POLICY_MAP))


def choose_renderer() -> None:
    """Set MUJOCO_GL, which mujoco reads when it is imported, to what this machine has; MissingDependency if nothing."""
    if sys.platform != "linux":
        return
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    candidates = [wanted] if wanted else list(_SYSTEM_LIBRARIES)
    for name in candidates:
        # What we do not know (`glfw`, with a display) is the user's own choice.
        library = _SYSTEM_LIBRARIES.get(name)
        if library is None or find_library(library):
            os.environ["MUJOCO_GL"] = name
            return
    names = " or ".join(f"lib{_SYSTEM_LIBRARIES[name]}" for name in candidates)
    setting = f" (MUJOCO_GL={wanted})" if wanted else ""
    raise MissingDependency(
        f"Meta-World draws without a display through {names}{setting}, which this system does not have. "
        f"Install it: {INSTALL_SYSTEM}."
    )
