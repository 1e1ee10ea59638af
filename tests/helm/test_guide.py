"""What the chart prints after its installation, and what the platform guide shows, is what the rest understands."""

import re
import shlex
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml
from helm_chart import CHART, NAMESPACE, PROFILES, SCHEMA, helm, template, values_of

from lapa_k8s.profile import ClusterProfile


def notes(folder: Path, *arguments: str) -> str:
    """The chart's notes. Only an installation shows them, so they are rendered as an object of a copy."""
    chart = folder / "lapa"
    if not chart.exists():
        shutil.copytree(CHART, chart)
        text = (chart / "templates" / "NOTES.txt").read_text()
        holder = (
            'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\ndata: {notes: {{ include "notes" . | quote }}}\n'
        )
        (chart / "templates" / "notes.yaml").write_text(f'{{{{- define "notes" -}}}}{text}{{{{- end -}}}}\n{holder}')
    rendered = helm("template", "lapa", str(chart), "-n", NAMESPACE, "--show-only", "templates/notes.yaml", *arguments)
    return yaml.safe_load(rendered)["data"]["notes"]


def shown_profile(text: str) -> dict:
    """The cluster profile in the notes."""
    [block] = re.findall(r"clusters/lapa\.yaml:\n\n((?:     .*\n)+)", text)
    return yaml.safe_load(block)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_profile_in_the_notes_is_one_that_lapactl_takes(profile: str, tmp_path: Path):
    text = notes(tmp_path, "--values", str(values_of(profile)))
    found = ClusterProfile.model_validate(shown_profile(text))
    assert found.namespace == NAMESPACE
    assert found.service_account == "lapa-runner"
    assert found.scheduling.queue == (None if profile == "dev" else "lapa")
    inside = "http://lapa-mlflow.robotics.svc:5000"
    assert found.tracking.uri == ("https://mlflow.example.com" if profile == "production" else inside)
    assert found.storage.secret == ("lapa-s3" if profile == "dev" else None)


def test_the_notes_end_with_the_next_command(tmp_path: Path):
    text = notes(tmp_path, "--values", str(values_of("production")))
    assert "lapactl doctor --cluster lapa" in text
    assert "lapactl submit pretrain --nodes 8 --cluster lapa" in text
    assert "MLflow: https://mlflow.example.com" in text


def test_the_notes_name_what_the_cluster_lacks_and_warn_of_an_open_server(tmp_path: Path):
    values = ("--values", str(values_of("dev")))
    bare = notes(tmp_path, *values)
    assert all(name in bare for name in ("Kubeflow training-operator", "Kueue", "Prometheus operator"))
    assert "mlflow.auth.enabled is false" in bare
    kinds = (
        "kubeflow.org/v1/PyTorchJob",
        "kueue.x-k8s.io/v1beta2/LocalQueue",
        "monitoring.coreos.com/v1/PrometheusRule",
    )
    served = notes(tmp_path, *values, *(word for kind in kinds for word in ("--api-versions", kind)))
    assert "does not serve" not in served


@pytest.fixture(scope="module")
def guide() -> str:
    return (CHART.parents[1] / "docs" / "guide-platform.md").read_text()


def blocks(guide: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", guide, re.DOTALL)


@pytest.mark.parametrize("name", ["lapa", "robotics"])
def test_the_guides_profiles_are_ones_that_lapactl_takes(guide: str, name: str):
    [block] = [block for block in blocks(guide, "yaml") if block.startswith(f"# {name}.yaml")]
    profile = ClusterProfile.model_validate(yaml.safe_load(block))
    assert profile.namespace == NAMESPACE and profile.service_account == "lapa-runner"


def test_the_guides_profile_for_a_laptop_begins_as_the_notes_do(guide: str, tmp_path: Path):
    [block] = [block for block in blocks(guide, "yaml") if block.startswith("# lapa.yaml")]
    shown = shown_profile(notes(tmp_path, "--values", str(values_of("dev"))))
    assert shown.items() <= yaml.safe_load(block).items()


def test_the_guides_values_fit_the_schema(guide: str):
    found = [block for block in blocks(guide, "yaml") if block.startswith("# values")]
    assert found
    for block in found:
        jsonschema.Draft7Validator(SCHEMA).validate(yaml.safe_load(block))


def test_values_files_and_settings_that_the_guide_names_exist(guide: str, repository: Path):
    for path in set(re.findall(r"helm/lapa[\w/.-]*", guide)):
        assert (repository / path).exists(), path
    for setting in set(
        re.findall(r"`((?:access|mlflow|networkPolicies|monitoring|queues|images)\.[\w.]+)(?:=\w+)?`", guide)
    ):
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        for part in setting.split("."):
            assert part in values, setting
            values = values[part]


def test_the_guides_installation_renders(guide: str, repository: Path):
    lines = "\n".join(blocks(guide, "sh")).replace("\\\n", " ").splitlines()
    shown = [shlex.split(line) for line in lines if re.match(r"helm .*(install|upgrade).* helm/lapa ", line)]
    files = {words[words.index("--values") + 1] for words in shown if "--values" in words}
    assert "helm/lapa/ci/dev-values.yaml" in files
    for file in files:
        profile = Path(file).name.removesuffix("-values.yaml")
        assert template(profile if profile in PROFILES else "production")


def test_every_alert_is_in_the_guides_table(guide: str):
    alerts = re.findall(
        r"alert: (\w+)", "".join(path.read_text() for path in (CHART / "files" / "alerts").glob("*.yaml"))
    )
    table = re.findall(r"^\| (Lapa\w+) \|", guide, re.MULTILINE)
    assert set(table) == set(alerts) and len(table) == len(set(table))
