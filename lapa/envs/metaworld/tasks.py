"""What the tasks are called in English."""

from lapa.config.metaworld import MetaWorldTask

INSTRUCTIONS: dict[MetaWorldTask, str] = {
    "reach": "reach the goal",
    "push": "push the puck to the goal",
    "pick-place": "pick up the puck and place it at the goal",
    "drawer-open": "open the drawer",
    "drawer-close": "close the drawer",
    "button-press-topdown": "press the button from above",
    "window-open": "open the window",
    "window-close": "close the window",
    "faucet-open": "open the faucet",
    "faucet-close": "close the faucet",
}
"""The package knows tasks by name only; each has one wording here."""
