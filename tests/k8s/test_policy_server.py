"""A deployed policy's manifests: compared whole, and valid to Kubernetes' own schemas.

After a change that is meant: `LAPA_WRITE_GOLDEN=1 pytest tests/k8s/test_policy_server.py`.
"""

import os
from pathlib import Path

import kubernetes_validate
import pytest
from deployment_specs import GOLDEN, deployment_spec, pinned
from pydantic import ValidationError

from lapa_k8s.deployment import deployment_name
from lapa_k8s.parts import Images
from lapa_k8s.rendering.inference_service import inference_service
from lapa_k8s.rendering.manifests import to_yaml
from lapa_k8s.rendering.policy_server import policy_deployment, render_deployment, server_command
from lapa_k8s.serving import Serving

FOLDER = Path(__file__).parent / "golden" / "deployments"
RENDERED = {
    **{name: render_deployment(spec) for name, spec in GOLDEN.items()},
    "policy-kserve": [inference_service(GOLDEN["policy"])],
}


@pytest.mark.parametrize("name", RENDERED)
def test_a_deployment_renders_to_exactly_these_manifests(name: str):
    path, rendered = FOLDER / f"{name}.yaml", to_yaml(tuple(RENDERED[name]))
    if os.environ.get("LAPA_WRITE_GOLDEN"):
        path.write_text(rendered)
    assert rendered == path.read_text()


def test_every_golden_file_has_its_deployment():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(RENDERED)


@pytest.mark.parametrize("version", ["1.31", "1.37"])
@pytest.mark.parametrize("name", GOLDEN)
def test_manifests_are_valid_to_the_letter(name: str, version: str):
    for manifest in RENDERED[name]:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_kserve_s_predictor_is_a_pod():
    predictor = RENDERED["policy-kserve"][0]["spec"]["predictor"]
    spec = {name: value for name, value in predictor.items() if name not in ("minReplicas", "maxReplicas")}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
    kubernetes_validate.validate(pod, "1.37", strict=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"pinned": pinned(digest="f" * 64)},
        {"pinned": pinned(4)},
        {"images": Images(serve="lapa-serve:0.2.0")},
        {"serving": Serving(is_open=True)},
    ],
    ids=["bundle", "version", "image", "settings"],
)
def test_whatever_differs_is_another_release_with_pods_of_its_own(changes):
    one, other = deployment_spec(), deployment_spec(**changes)
    assert one.release != other.release
    assert policy_deployment(one)["spec"]["selector"] != policy_deployment(other)["spec"]["selector"], (
        "two releases must not share pods"
    )


def test_the_server_takes_only_the_bundle_that_was_pinned():
    command = server_command(deployment_spec())
    assert command[:3] == ["lapactl", "serve", "s3://robots/policies/red-block-3"]
    assert command[command.index("--digest") + 1] == f"{3:064x}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"serving": Serving()}, "robots must show a token"),
        ({"pinned": pinned(url="work/finetune/policy")}, "lies on one machine"),
        ({"pinned": pinned(url="https://user:secret@store/policy")}, "URL with a password"),
        ({"environment": {"API_KEY": "x"}}, "looks like a secret"),
    ],
)
def test_what_could_not_work_or_should_not_is_refused(changes, words: str):
    with pytest.raises(ValidationError, match=words):
        deployment_spec(**changes)


def test_settings_that_pin_the_version_are_not_taken_from_a_profile():
    with pytest.raises(ValidationError, match="expected_digest is decided by the deployment"):
        Serving(settings={"expected_digest": ""})


@pytest.mark.parametrize(
    ("model", "name"),
    [("lapa-policy", "lapa-policy"), ("Bridge_Policy.v2", "bridge-policy-v2"), ("7dof", "policy-7dof"),
     ("a" * 80, "a" * 40)],
)  # fmt: skip
def test_a_deployment_is_named_after_its_model_as_far_as_a_service_may_be(model: str, name: str):
    assert deployment_name(model) == name
