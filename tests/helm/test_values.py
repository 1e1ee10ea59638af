"""Values are closed: a key that does not exist is refused where it stands."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from helm_chart import CHART, PROFILES, SCHEMA, HelmRefused, template, values_of

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
OPEN_BY_NATURE = {"global"}
"""Helm's own."""


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    return SCHEMA["definitions"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def objects(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of an object in a schema, with where it is."""
    schema = resolved(schema)
    if schema.get("type") == "object":
        yield path, schema
        for name, child in schema.get("properties", {}).items():
            if name not in OPEN_BY_NATURE:
                yield from objects(child, f"{path}.{name}")
        if isinstance(schema.get("additionalProperties"), dict):
            yield from objects(schema["additionalProperties"], f"{path}.*")
    if "items" in schema:
        yield from objects(schema["items"], f"{path}[]")


def closed_mappings(values: dict[str, Any], schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple]:
    """Every mapping in the values whose keys are fixed."""
    schema = resolved(schema)
    if "properties" in schema:
        yield path
        for name, child in values.items():
            if isinstance(child, dict):
                yield from closed_mappings(child, schema["properties"][name], (*path, name))


def test_every_level_is_closed():
    found = dict(objects(SCHEMA))
    assert len(found) > 60
    for path, schema in found.items():
        assert schema.get("additionalProperties") is False or (
            isinstance(schema.get("additionalProperties"), dict) and "properties" not in schema
        ), path


def test_every_value_is_in_the_schema_and_every_setting_of_the_schema_has_a_value():
    jsonschema.Draft7Validator(SCHEMA).validate(VALUES)
    for path in closed_mappings(VALUES, SCHEMA):
        values, schema = VALUES, SCHEMA
        for name in path:
            values, schema = values[name], resolved(schema["properties"][name])
        # Maps of one shape, and images, may leave keys out; settings may not.
        if "repository" not in schema["properties"] and "requests" not in schema["properties"]:
            assert set(schema["properties"]) - set(values) <= OPEN_BY_NATURE, path


@pytest.mark.parametrize("path", list(closed_mappings(VALUES, SCHEMA)), ids=lambda path: ".".join(path) or "top")
def test_a_typo_is_refused_with_its_place(path: tuple[str, ...]):
    values: dict[str, Any] = {"typpo": 1}
    for name in reversed(path):
        values = {name: values}
    found = jsonschema.Draft7Validator(SCHEMA).iter_errors(values)
    problems = [problem for problem in found if problem.validator == "additionalProperties"]
    assert [".".join(map(str, problem.absolute_path)) for problem in problems] == [".".join(path)]
    assert "'typpo' was unexpected" in problems[0].message


@pytest.mark.parametrize(
    ("setting", "place"),
    [
        ("typpo=1", "Additional property typpo is not allowed"),
        ("mlflow.database.volume.sizze=1Gi", "mlflow.database.volume: Additional property sizze"),
        ("networkPolicies.external.s3.cird=10.0.0.0/8", "networkPolicies.external.s3: Additional property cird"),
        ("queues.localQueues.a.clusterQeue=b", "queues.localQueues.a: Additional property clusterQeue"),
        ("access.submitter.subjects.me.knd=User", "access.submitter.subjects.me: Additional property knd"),
        ("images.mlflow.digest=latest", "images.mlflow.digest"),
        ("mlflow.database.kind=mysql", "mlflow.database.kind"),
        ("mlflow.artifacts.destination=/tmp/x", "mlflow.artifacts.destination"),
        ("mlflow.artifacts.endpointUrl=http://key:secret@s3", "mlflow.artifacts.endpointUrl"),
        ("monitoring.rules.create=yes-please", "monitoring.rules.create"),
        ("s3.service.port=99999", "s3.service.port"),
    ],
)
def test_helm_refuses_it_before_anything_is_sent(setting: str, place: str):
    with pytest.raises(HelmRefused, match=place.replace(".", r"\.")):
        template(settings=(setting,))


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_fit_the_schema(profile: str):
    values = yaml.safe_load(values_of(profile).read_text())
    values["networkPolicies"] = {  # helm removes what is null before it looks
        name: {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value
        for name, value in values.get("networkPolicies", {}).items()
    }
    jsonschema.Draft7Validator(SCHEMA).validate(values)


def test_every_value_is_explained():
    lines = (CHART / "values.yaml").read_text().splitlines()
    sections = [index for index, line in enumerate(lines) if line and line[0].isalpha()]
    undocumented = [lines[index] for index in sections if not lines[index - 1].startswith("#")]
    assert undocumented == []
