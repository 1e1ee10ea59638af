"""Pictures of a world, drawn without a display.

The package's own `render` takes half a second per picture on a CPU: it casts shadows from a 4096 x 4096 map and
samples every pixel four times, over 67,000 mesh faces. Without shadows, reflections and samples it is 9 ms.
"""

import atexit
import os
from typing import Any, assert_never

import numpy as np

from lapa.config.metaworld import MetaWorldCamera, MetaWorldTask
from lapa.envs.metaworld.library import INSTALL_SYSTEM, load_library
from lapa.envs.metaworld.world import World
from lapa.errors import MissingDependency
from lapa.types.episodes import Frame


class Camera:
    """Draws any world of one task: the worlds' models differ in positions only, so they can share one renderer."""

    def __init__(self, model: Any, view: MetaWorldCamera, image_size: int) -> None:
        self._mujoco = mujoco = load_library().mujoco
        model.vis.quality.offsamples = 0
        model.vis.quality.shadowsize = 0  # unused, and 64 MB
        model.vis.global_.offwidth = model.vis.global_.offheight = image_size
        self._renderer = _renderer(mujoco, model, image_size)
        flags = self._renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._options = mujoco.MjvOption()
        self._camera, self._is_upside_down = _viewpoint(mujoco, model, view)

    def picture(self, world: World) -> Frame:
        mujoco = self._mujoco
        mujoco.mjv_updateScene(
            world.model, world.data, self._options, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._renderer.scene
        )
        image = self._renderer.render()
        return np.ascontiguousarray(image[::-1, ::-1] if self._is_upside_down else image)

    def close(self) -> None:
        self._renderer.close()


_cameras: dict[tuple[MetaWorldTask, MetaWorldCamera, int], Camera] = {}
"""Of this process: a camera takes 60 MB and a third of a second to make."""


def camera_for(world: World, view: MetaWorldCamera, image_size: int) -> Camera:
    """The process's camera for the world's task."""
    key = (world.task, view, image_size)
    if key not in _cameras:
        camera = _cameras[key] = Camera(world.model, view, image_size)
        # Left to the interpreter's end, contexts are freed after the module that frees them, which prints many errors.
        atexit.register(camera.close)
    return _cameras[key]


def _renderer(mujoco: Any, model: Any, image_size: int) -> Any:
    try:
        return mujoco.Renderer(model, height=image_size, width=image_size)
    except (ImportError, RuntimeError, mujoco.FatalError) as error:
        raise MissingDependency(
            f"MuJoCo cannot draw with MUJOCO_GL={os.environ.get('MUJOCO_GL')} on this machine ({error}). "
            f"Install a renderer that needs no display: {INSTALL_SYSTEM}."
        ) from error


def _viewpoint(mujoco: Any, model: Any, view: MetaWorldCamera) -> tuple[Any, bool]:
    """MuJoCo's camera, and whether it hangs head down."""
    camera = mujoco.MjvCamera()
    match view:
        case "workspace":
            camera.type = mujoco.mjtCamera.mjCAMERA_FREE
            camera.lookat[:] = (0.0, 0.7, 0.16)  # metres: above the middle of the reachable table
            camera.distance, camera.azimuth, camera.elevation = 1.15, 225.0, -40.0
            return camera, False
        case "corner2":
            camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
            camera.fixedcamid = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, view)
            return camera, True
        case _:
            assert_never(view)
