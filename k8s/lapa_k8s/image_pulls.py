"""Why an image does not arrive; pure.

A container that waits says why only while it tries: between tries it says no more than `Back-off pulling image`. The
cause is then in the pod's events, wrapped in the words of three programs.
"""

import re
from collections.abc import Sequence

from lapa_k8s.base import Manifest
from lapa_k8s.words import Diagnosis, first_sentence

WAITING_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName")
_FAILED = "Failed to pull image"
_SPELLING = "check images.train in the cluster profile: name, tag and spelling"
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"unauthorized|denied|authentication|authorization failed|\b40[13]\b",
        "the registry wants a login",
        "name a pull secret in images.pull_secrets",
    ),
    (
        r"toomanyrequests|\b429\b",
        "the registry gives no more images for now",
        "wait, or use a mirror: set images.train to it",
    ),
    (
        r"dial tcp: lookup (\S+)",
        "the node finds no registry of the name {0}",
        f"{_SPELLING}; if it is right, ask the platform team for the nodes' DNS",
    ),
    (
        r"dial tcp (\S+): |i/o timeout|connection refused|network is unreachable|TLS handshake timeout",
        "the node does not reach the registry",
        f"{_SPELLING}; if it is right, ask the platform team whether nodes may reach it",
    ),
    (r": not found|manifest unknown|does not exist", "the registry does not have it", _SPELLING),
    (
        r"no match for platform",
        "it is for machines of another kind than the node",
        "build it for the node's platform, or set gpu_node.node_selector",
    ),
    (r"no space left on device", "the node's disk is full", "ask the platform team; another node may have room"),
)
"""What a message matches, the cause in words, and what helps; the first match decides."""


def explain_pull(pod: Manifest, message: str, events: Sequence[Manifest]) -> Diagnosis:
    """Of a pod whose container waits with one of `WAITING_REASONS` and a message; events are oldest first."""
    image = pod["spec"]["containers"][0].get("image", "")
    tried = [
        str(event.get("message") or "")
        for event in events
        if (event.get("involvedObject") or {}).get("uid") == pod["metadata"]["uid"]
        and str(event.get("message") or "").startswith(_FAILED)
    ]
    told = message if not message.startswith("Back-off") or not tried else tried[-1]
    for pattern, cause, remedy in _CAUSES:
        if match := re.search(pattern, told, re.IGNORECASE):
            return Diagnosis(f"the image {image} cannot be pulled: {cause.format(*match.groups())}", remedy)
    words = first_sentence(re.sub(r"^.*?rpc error: code = \w+ desc = ", "", told))
    return Diagnosis(f"the image {image} cannot be pulled: {words or 'its name is not valid'}", _SPELLING)
