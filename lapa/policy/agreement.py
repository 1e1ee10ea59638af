"""Whether a robot means by its actions what the policy learned, asked before it is sent any. Needs no torch."""

from typing import Any

from pydantic import ValidationError

from lapa.config.conventions import Conventions, difference
from lapa.errors import PolicyError
from lapa.policy.manifest import read_policy_card

CONVENTIONS = "conventions"
"""Key of `policy.json`."""
_SAME_RATE = 0.01
"""Share of a control rate by which two may differ: 29.97 and 30 are one."""


def bundle_conventions(url: str) -> Conventions:
    """Of the episodes that the policy was finetuned on; empty for a bundle that was made before they were kept."""
    card = read_policy_card(url)
    try:
        return Conventions.model_validate(card.get(CONVENTIONS) or {})
    except ValidationError as error:
        raise PolicyError(f"the conventions in {url} are damaged: {error}. Export the bundle again.") from error


def check_robot(url: str, robot: Conventions) -> None:
    """PolicyError, in one sentence, for the first thing that the policy at `url` and a robot mean differently."""
    policy = bundle_conventions(url)
    found = difference(policy.actions, robot.actions, here="the policy", there="the robot")
    found = found or _other_rate(policy, robot) or _other_cameras(policy, robot) or _other_body(policy, robot)
    if found is not None:
        raise PolicyError(
            f"the policy {url} is not for this robot: {found}. Take a policy that was finetuned on its episodes, or "
            "correct what is said of the robot"
        )


def card_of(conventions: Conventions) -> dict[str, Any]:
    """What clients are told: plain values, without what is not known."""
    return conventions.model_dump(mode="json", exclude_defaults=True)


def _other_rate(policy: Conventions, robot: Conventions) -> str | None:
    here, there = policy.control_hz, robot.control_hz
    if here is None or there is None or abs(here - there) <= _SAME_RATE * here:
        return None
    return f"the policy's actions are {here:g} a second, and the robot takes {there:g}"


def _other_cameras(policy: Conventions, robot: Conventions) -> str | None:
    missing = sorted(set(policy.cameras) - set(robot.cameras))
    if not robot.cameras or not missing:
        return None
    return f"the policy looks through {', '.join(missing)}, and the robot has {', '.join(robot.cameras)}"


def _other_body(policy: Conventions, robot: Conventions) -> str | None:
    if None in (policy.embodiment, robot.embodiment) or policy.embodiment == robot.embodiment:
        return None
    return f"the policy was finetuned on {policy.embodiment}, and the robot is {robot.embodiment}"
