"""Meta-World's tasks and cameras: what may be asked for, and how it looks."""

from typing import Literal, get_args

MetaWorldTask = Literal[
    "reach",
    "push",
    "pick-place",
    "drawer-open",
    "drawer-close",
    "button-press-topdown",
    "window-open",
    "window-close",
    "faucet-open",
    "faucet-close",
]
"""As the package names them, without its `-v3`; those whose scripted expert hardly ever fails. Several share a
scene: the instruction, and at most the colour of the goal, tells them apart."""

METAWORLD_TASKS: tuple[MetaWorldTask, ...] = get_args(MetaWorldTask)

MetaWorldCamera = Literal["workspace", "corner2"]
"""`workspace` looks at the table alone, so that the puck covers a few pixels even at 64; `corner2` is the package's
own and the literature's view, turned upright."""
