"""Who may do what: all of it, and nothing else."""

import chart_rights
import pytest
from helm_chart import OPERATORS, PROFILES, one, render

from lapa_k8s.access import PIPELINE, QUEUES, SUBMITTER, Right
from lapa_k8s.profile import ClusterProfile

RECONCILING = ("reconciler.enabled=true", "reconciler.trackingSecret=mlflow-reader")


def rights(role: dict) -> chart_rights.Table:
    """Verbs by (group, resource)."""
    return {
        (group, resource): tuple(sorted(rule["verbs"]))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def asked(wanted: tuple[Right, ...]) -> dict[tuple[str, str], set[str]]:
    """The control plane's own list of rights, as `rights` has them."""
    return {(right.group, right.words): set(right.verbs) for right in wanted}


def test_a_submitter_may_do_what_lapactl_does_and_nothing_else():
    assert rights(one(render(), "Role", "lapa-submitter")) == chart_rights.SUBMITTER


def test_a_pipeline_may_submit_and_watch_stages_and_nothing_else():
    assert rights(one(render(), "Role", "lapa-pipeline")) == chart_rights.PIPELINE
    binding = one(render(), "RoleBinding", "lapa-pipeline")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "lapa-pipeline", "namespace": "robotics"}]


def test_submitters_have_every_right_that_lapactl_asks_for():
    granted = rights(one(render(), "Role", "lapa-submitter"))
    for place, verbs in asked((*SUBMITTER, *QUEUES)).items():
        assert verbs <= set(granted[place]), place


def test_pipelines_have_the_rights_that_their_driver_asks_for_under_the_name_it_uses():
    role = one(render(), "Role", ClusterProfile().pipeline_service_account)
    assert {place: set(verbs) for place, verbs in rights(role).items()} == asked(PIPELINE)


def test_a_shell_in_a_pod_is_a_right_of_its_own_and_off():
    assert "lapa-executor" not in [item["metadata"]["name"] for item in render() if item["kind"] == "Role"]
    role = one(render(settings=("access.executor.create=true",)), "Role", "lapa-executor")
    assert rights(role) == chart_rights.EXECUTOR


def test_a_deployer_may_roll_out_servers_and_nothing_else():
    assert rights(one(render("production"), "Role", "lapa-deployer")) == chart_rights.DEPLOYER


def test_a_reconciler_switches_what_is_deployed_and_is_off():
    assert not [item for item in render("production") if "reconciler" in item["metadata"]["name"]]
    objects = render("production", settings=RECONCILING)
    role = one(objects, "Role", "lapa-reconciler")
    assert rights(role) == chart_rights.RECONCILER
    of_people = rights(one(objects, "Role", "lapa-deployer"))
    assert all(set(verbs) <= set(of_people[place]) for place, verbs in rights(role).items())
    assert one(objects, "ServiceAccount", "lapa-reconciler")["automountServiceAccountToken"] is False


def test_the_jobs_pods_have_an_identity_without_rights_and_without_a_token():
    objects = render("production", apis=OPERATORS)
    account = one(objects, "ServiceAccount", "lapa-runner")
    assert account["automountServiceAccountToken"] is False
    assert account["metadata"]["annotations"] == {
        "eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/lapa-runner"
    }
    bound = [subject["name"] for item in objects if item["kind"] == "RoleBinding" for subject in item["subjects"]]
    assert "lapa-runner" not in bound


@pytest.mark.parametrize("profile", PROFILES)
def test_nobody_reads_secrets_and_nothing_is_granted_by_wildcard_or_cluster_wide(profile: str):
    everything = ("access.deployer.create=true", "access.executor.create=true", *RECONCILING)
    objects = render(profile, apis=OPERATORS, settings=everything)
    assert not [item for item in objects if item["kind"] in ("ClusterRole", "ClusterRoleBinding")]
    roles = [item for item in objects if item["kind"] == "Role"]
    assert len(roles) == 5
    for role in roles:
        for rule in role["rules"]:
            words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert "*" not in words
            assert not {"secrets", "serviceaccounts/token", "roles", "rolebindings"} & set(words)
            assert not {"escalate", "bind", "impersonate"} & set(words)


def test_people_are_bound_as_the_values_name_them():
    binding = one(render("production"), "RoleBinding", "lapa-submitter")
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lapa-submitter"}
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "lapa-submitter", "namespace": "robotics"},
        {"kind": "Group", "name": "robotics-researchers", "apiGroup": "rbac.authorization.k8s.io"},
    ]


def test_without_people_there_is_a_role_to_bind_and_no_empty_binding():
    assert [item["metadata"]["name"] for item in render() if item["kind"] == "RoleBinding"] == ["lapa-pipeline"]
    one(render(), "Role", "lapa-submitter")
