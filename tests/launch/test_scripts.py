"""Tests of the cluster launchers that need no cluster."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "launch"


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", *arguments], env=os.environ | environment, capture_output=True, text=True
    )


def fake(folder: Path, name: str, body: str) -> str:
    """Returns a PATH on which `name` is a script with `body`."""
    folder.mkdir(exist_ok=True)
    tool = folder / name
    tool.write_text(f"#!/bin/bash\n{body}\n")
    tool.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize("name", ["slurm.sbatch", "tpu_pod.sh"])
def test_scripts_are_bash(name):
    assert call("-n", str(LAUNCH / name)).returncode == 0


def test_slurm_dry_run_quotes_arguments():
    done = call(str(LAUNCH / "slurm.sbatch"), "--workdir", "a b", DRY_RUN="1", SLURM_JOB_ID="77")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("JAX_COORDINATOR_ADDRESS=localhost:20077 srun ")
    assert done.stdout.rstrip().endswith(r"python -m fer_jax.main --workdir a\ b")


def test_slurm_tasks_get_the_environment_variables(tmp_path):
    # A fake srun: the environment of task 1 of 2, then the command after srun's flags.
    path = fake(
        tmp_path / "bin", "srun",
        'while [[ $1 == --* ]]; do shift; done; SLURM_NTASKS=2 SLURM_PROCID=1 exec "$@"',
    )  # fmt: skip
    fake(tmp_path / "bin", "scontrol", 'printf "node7\\nnode8\\n"')
    python = tmp_path / "bin" / "fake_python"
    python.write_text(
        "#!/bin/bash\necho $JAX_COORDINATOR_ADDRESS $JAX_NUM_PROCESSES $JAX_PROCESS_ID; "
        'printf "<%s>" "$@"\n'
    )
    python.chmod(0o755)
    done = call(
        str(LAUNCH / "slurm.sbatch"), "--workdir", "a b", PATH=path, SLURM_JOB_ID="5",
        SLURM_JOB_NODELIST="node[7-8]", FER_JAX_PYTHON=str(python),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "node7:20005 2 1", "<-m><fer_jax.main><--workdir><a b>",
    ]  # fmt: skip


@pytest.mark.parametrize(("code", "requeued"), [(143, True), (2, False), (0, False)])
def test_slurm_requeues_a_saved_run_only(tmp_path, code, requeued):
    path = fake(tmp_path / "bin", "srun", f"exit {code}")
    fake(tmp_path / "bin", "scontrol", f'echo "$@" >> {tmp_path}/calls')
    done = call(str(LAUNCH / "slurm.sbatch"), "--config", "x", PATH=path, SLURM_JOB_ID="5")
    assert done.returncode == code
    calls = (tmp_path / "calls").read_text() if (tmp_path / "calls").exists() else ""
    assert ("requeue 5" in calls) == requeued


def test_slurm_without_arguments_is_an_error():
    done = call(str(LAUNCH / "slurm.sbatch"))
    assert done.returncode == 2
    assert "expected the arguments of fer-jax train" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["create", "pod", "--zone", "z", "--type", "v4-32", "--spot"],
            "create pod --zone z --accelerator-type v4-32 --version tpu-ubuntu2204-base --spot",
        ),
        (["delete", "pod", "--zone", "z"], "delete pod --zone z --quiet"),
    ],
)  # fmt: skip
def test_tpu_commands(arguments, expected):
    done = call(str(LAUNCH / "tpu_pod.sh"), *arguments, "--dry_run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip() == f"gcloud compute tpus tpu-vm {expected}"


def test_tpu_run_quotes_arguments(tmp_path):
    if not shutil.which("git"):
        pytest.fail("git is missing")
    # A fake gcloud: prints the arguments of the command that it should run on the hosts.
    path = fake(
        tmp_path / "bin", "gcloud",
        'for last; do :; done; [[ $last == *fer_jax.main* ]] || exit 0\n'
        'last=${last#*python }; eval "printf \'<%s>\' $last"',
    )  # fmt: skip
    fake(tmp_path / "bin", "git", "exit 0")
    done = call(
        str(LAUNCH / "tpu_pod.sh"), "run", "pod", "--zone", "z", "--", "--workdir", "/a b",
        "--config.data.dir=gs://a/b", PATH=path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "<-m><fer_jax.main><--workdir></a b><--config.data.dir=gs://a/b>"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "pod", "--zone", "z", "--dry_run"], "expected --type"),
        (["run", "pod", "--zone", "z", "--dry_run"], "after --"),
        (["run", "pod"], "expected --zone"),
        (["run", "pod", "--zone", "z", "--", "--workdir", "s3://a/b"], "found the URL s3://a/b"),
        (["list", "pod", "--zone", "z", "--dry_run"], "expected create, run or delete"),
        (["run", "pod", "--zoen", "z"], "unknown argument --zoen"),
        ([], "launch/tpu_pod.sh create NAME"),
    ],
)
def test_tpu_errors_have_a_message(arguments, message):
    done = call(str(LAUNCH / "tpu_pod.sh"), *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_jobset_is_consistent():
    jobset = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (replicated,) = jobset["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    values = {one["name"]: one.get("value") for one in container["env"]}
    assert job["completionMode"] == "Indexed"
    assert str(job["parallelism"]) == str(job["completions"]) == values["JAX_NUM_PROCESSES"]
    host, _, port = values["JAX_COORDINATOR_ADDRESS"].partition(":")
    name = jobset["metadata"]["name"]
    assert host == f"{name}-{replicated['name']}-0-0.{name}"
    assert int(port) == container["ports"][0]["containerPort"]
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {one["name"] for one in pod["volumes"]}


def test_the_image_installs_locked_versions_and_copies_no_secrets():
    text = (LAUNCH / "Dockerfile").read_text()
    assert "--require-hashes" in text
    assert text.index("-r requirements/run.lock") < text.index("COPY . .")
    assert re.search(r"^USER (?!root)", text, re.MULTILINE)
    for path in re.findall(r"^COPY (.*) requirements/$", text, re.MULTILINE)[0].split():
        assert (LAUNCH.parent / path).is_file()
    ignored = (LAUNCH.parent / ".dockerignore").read_text().split()
    assert {".git", "runs", "data"} <= set(ignored)
