"""The Kubernetes manifests against the published schemas of their kinds, which schemas.json has."""

from __future__ import annotations

import copy
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from fer_jax.cli import predict, prepare, sweep

ROOT = Path(__file__).parents[2]
SCHEMAS = json.loads((Path(__file__).parent / "schemas.json").read_text())
KINDS = {"JobSet": "jobset.v1alpha2.JobSet", "RayJob": "ray.v1.RayJob"}
MANIFESTS = sorted((ROOT / "launch").glob("*.yaml"))
VERBS = {"predict": predict, "prepare": prepare, "sweep": sweep}


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def errors(manifest: dict) -> list[str]:
    from jsonschema import Draft202012Validator

    schema = SCHEMAS | {"$ref": f"#/$defs/{KINDS[manifest['kind']]}"}
    found = Draft202012Validator(schema).iter_errors(manifest)
    return [f"{one.json_path}: {one.message}" for one in found]


def nodes(part: object, path: tuple = ()) -> list[tuple]:
    """The paths of all mappings in a manifest."""
    below = part.items() if isinstance(part, dict) else enumerate(part)
    inner = [
        found
        for key, value in below
        if isinstance(value, dict | list)
        for found in nodes(value, (*path, key))
    ]
    return [path, *inner] if isinstance(part, dict) else inner


@pytest.mark.slow  # needs jsonschema, which comes with the other tools of `make check`
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_is_of_its_kind_and_a_misspelled_field_is_found_anywhere(path):
    manifest = read(path)
    assert errors(manifest) == []
    free = {"labels", "annotations", "limits", "requests", "rayStartParams"}
    for place in nodes(manifest):
        if free & set(place):
            continue
        wrong = copy.deepcopy(manifest)
        part = wrong
        for key in place:
            part = part[key]
        part["misspelled"] = 1
        assert errors(wrong), place


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "backoffLimit"), "ten"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec"), []),
        (("apiVersion",), "ray.io/v1alpha1"),
    ],
)
def test_a_value_of_another_type_is_found(place, value):
    manifest = read(ROOT / "launch" / "rayjob.yaml")
    part = manifest
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    assert errors(manifest)


def commands() -> list[list[str]]:
    """The commands of the Ray job and of the lines of `ray job submit` in launch/README.md."""
    text = (ROOT / "launch" / "README.md").read_text()
    lines = re.findall(r"^ray job submit (?:.*\\\n)*.*$", text, re.MULTILINE)
    assert len(lines) == 3
    submitted = [line.replace("\\\n", " ").split(" -- ", 1)[1] for line in lines]
    entry = read(ROOT / "launch" / "rayjob.yaml")["spec"]["entrypoint"]
    return [shlex.split(command) for command in [entry, *submitted]]


def test_the_submitted_commands_are_those_of_fer_jax():
    found = []
    for program, verb, *flags in commands():
        assert program == "fer-jax"
        options = VERBS[verb].parse(flags)
        options = options[0] if isinstance(options, tuple) else options
        found.append((verb, getattr(options, "cluster", None)))
    assert set(found) == {("predict", "auto"), ("prepare", "auto"), ("sweep", None)}


def test_the_image_of_the_nodes_has_the_locked_ray():
    spec = read(ROOT / "launch" / "rayjob.yaml")["spec"]["rayClusterSpec"]
    (locked,) = re.findall(
        r"^ray==(\S+)", (ROOT / "requirements" / "check.lock").read_text(), re.MULTILINE
    )
    dockerfile = (ROOT / "launch" / "Dockerfile.ray").read_text()
    assert spec["rayVersion"] == locked
    assert re.search(rf"^FROM rayproject/ray:{re.escape(locked)}-py3\d+-cpu$", dockerfile, re.M)
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == "fer_jax:ray"
        assert {one["name"] for one in container["volumeMounts"]} == {
            one["name"] for one in pod["volumes"]
        }
