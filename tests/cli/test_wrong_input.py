"""Wrong input: one clear message, exit code 2, no traceback, nothing written."""

from __future__ import annotations

import pytest

from tests import commands

DEMO = "--config=configs/demo.py"

# arguments, part of the message
REFUSED = [
    ([DEMO, "--config.train.epoch=5"], ["train.epoch", "did you mean train.epochs"]),
    ([DEMO, "--epochs=5"], ["unknown argument '--epochs=5'"]),
    (["--config=configs/dmeo.py"], ["did you mean configs/demo.py"]),
    ([DEMO, "--config.model.name=light_vg"], ["light_vg", "did you mean 'light_vgg'"]),
    ([DEMO, "--config.data.name=kdeff"], ["kdeff", "'kdef'", "synthetic_faces"]),
    ([DEMO, "--config.data.config=dem"], ["dem", "'demo'"]),
    ([DEMO, "--config.data.protocol=subjects"], ["subject, fold1of10", "'subjects'"]),
    ([DEMO, "--config.data.crop.margin=0.2"], ["stored whole", "found margin"]),
    ([DEMO, "--config.data.mask=oval"], ["none, ellipse, landmarks for data.mask", "'oval'"]),
    (
        ["--config=configs/kdef.py", "--config.data.crop.fallback=drop"],
        ["view or whole for fallback", "config.data.crop"],
    ),
    ([DEMO, "--config.data.normalize=minmax"], ["data.normalize", "standardize", "'minmax'"]),
    ([DEMO, "--config.data.size=0"], ["data.size", "found 0"]),
    ([DEMO, "--config.optim.name=adamx"], ["optim.name", "adamw", "'adamx'"]),
    ([DEMO, "--config.model.dtype=float8"], ["model.dtype", "bfloat16", "'float8'"]),
    (
        [DEMO, "--config.model.pooling=max"],
        ["light_vgg has no pooling", "leave config.model.pooling"],
    ),
    ([DEMO, "--config.model.pooling=mean"], ["average, max for model.pooling", "'mean'"]),
    ([DEMO, "--config.model.head_widths=8,0"], ["model.head_widths", "found (8, 0)"]),
    ([DEMO, "--config.model.name=inception_resnet_v2"], ["at least 75 pixels", "found 48"]),
    ([DEMO, "--config.model.widths=8,0"], ["model.widths", "found (8, 0)"]),
    ([DEMO, "--config.model.widths="], ["one or more integers for model.widths"]),
    ([DEMO, "--config.model.widths=4,4,4,4,4,4"], ["at least 64 pixels for light_vgg", "found 48"]),
    (
        [DEMO, "--config.model.name=resnet18", "--config.model.widths=8,16"],
        ["expected 4 widths", "found 2: 8, 16"],
    ),
    (
        [DEMO, "--config.model.name=vgg16", "--config.model.widths=8,16"],
        ["vgg16 has no widths", "leave config.model.widths unset"],
    ),
    ([DEMO, "--config.train.epochs=0"], ["train.epochs above 0, found 0"]),
    (
        [DEMO, "--config.train.batch_size=0"],
        ["train.batch_size", "positive multiple of the 2 devices, found 0"],
    ),
    ([DEMO, "--config.augment.flip=2"], ["augment.flip in [0, 1], found 2"]),
    ([DEMO, "--config.augment.rotation=200"], ["augment.rotation in [0, 180], found 200"]),
    ([DEMO, "--config.augment.mixup_alpha=0"], ["augment.mixup_alpha above 0"]),
    (
        [DEMO, "--config.augment.mixup=0.6", "--config.augment.cutmix=0.6"],
        ["sum to at most 1, found 0.6 and 0.6"],
    ),
    ([DEMO, "--config.train.balance=over"], ["oversample", "train.balance", "'over'"]),
    ([DEMO, "--config.train.monitor=f1"], ["macro_f1", "train.monitor", "'f1'"]),
    ([DEMO, "--config.train.accumulate=3"], ["train.accumulate to divide train.batch_size=64"]),
    ([DEMO, "--config.train.epochs=5%"], ["train.epochs", "'5%'"]),
    ([DEMO, "--config.train.epochs=soon"], ["--config.train.epochs", '"30ep"', "'soon'"]),
    ([DEMO, "--config.train.focal_gamma=-1"], ["train.focal_gamma of at least 0"]),
    ([DEMO, "--config.train.label_noise=0.5"], ["train.label_noise in [0, 0.5)", "found 0.5"]),
    (
        [DEMO, "--config.train.label_noise=0.1", "--config.train.focal_gamma=2"],
        ["train.label_noise or train.focal_gamma", "found both: 0.1 and 2.0"],
    ),
    ([DEMO, "--config.optim.ema_decay=1"], ["optim.ema_decay in [0, 1), found 1"]),
    ([DEMO, "--config.optim.sam_rho=-1"], ["optim.sam_rho of at least 0"]),
    ([DEMO, "--config.optim.warmup=2"], ["optim.warmup to be a share", "500st"]),
    ([DEMO, "--config.eval.tta=crop"], ["tencrop", "eval.tta", "'crop'"]),
    ([DEMO, "--workdir=/dev/null/run"], ["/dev/null/run", "choose another with --workdir"]),
    (["--config=configs/kdef.py"], ["KDEF_and_AKDEF", "stand_in"]),
]


@pytest.mark.parametrize(("arguments", "says"), REFUSED, ids=lambda value: str(value[-1])[-40:])
def test_one_message_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    with pytest.raises(SystemExit) as left:
        commands.run(*arguments)
    message = capsys.readouterr().err
    assert left.value.code == 2
    assert message.startswith("error: ")
    for part in says:
        assert part in message
    assert not [file for file in tmp_path.rglob("*") if file.name != ".lock" and file.is_file()]


# Arguments that take a bucket, {0}, and those that do not.
SERVED = [
    f"train {DEMO} --workdir {{0}}",
    f"train {DEMO} --config.data.dir={{0}}",
    "train --config configs/kdef.py --config.data.manual_dir={0}",
    "train --data {0}",
    "prepare kdef --manual_dir {0}",
    "prepare synthetic_faces --data_dir {0}",
    "evaluate ferplus --data kdef --data_dir {0}",
    "evaluate {0}",
    "predict {0}",
    "predict ferplus {0}",
    "predict ferplus . --out {0}",
    "serve {0}",
    "export {0} --format onnx --out m.onnx",
    "publish {0} --to folder",
]
LOCAL = [
    f"train {DEMO} --config.model.pretrained={{0}}",
    f"train {DEMO} --config.train.teacher={{0}}",
    f"sweep {DEMO} --grid model.name=light_vgg --workdir {{0}}",
    f"crossval {DEMO} --workdir {{0}}",
    f"preview {DEMO} --out {{0}}",
    "summary {0}",
    "summary ferplus --out {0}",
    "export --format onnx --out {0}",
    "publish --to {0}",
    "port-weights {0} --model vgg16 --out w.safetensors",
    "stand-in kdef {0}",
    "labels {0}",
    "labels ferplus --out {0}",
    "prepare kdef --relabel {0}",
]


@pytest.mark.parametrize(
    ("command", "url", "says"),
    [(command, "nowhere://b/x", "or the URL of a folder in a bucket") for command in SERVED]
    + [(command, "gs://b/x", "expected a local path, found the URL") for command in LOCAL]
    + [("train --config configs/demo.py --workdir {0}", "s3://b/x", "'fer-jax[s3]'")],
)
def test_a_url_is_refused_and_no_folder_of_its_name_is_made(
    tmp_path, monkeypatch, capsys, command, url, says
):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr("fsspec.get_filesystem_class", refuse)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        commands.run(*command.format(url).split())
    assert left.value.code == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_url_in_the_environment_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", "nowhere://b/data")
    with pytest.raises(SystemExit):
        commands.run("prepare", "synthetic_faces")
    assert "found the URL nowhere://b/data" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments", [[DEMO, "--config.train.epoch=5"], ["--config=configs/kdef.py"]]
)
def test_the_process_ends_without_a_traceback(bare_cli, monkeypatch, arguments):
    monkeypatch.setenv("TFDS_DATA_DIR", str(bare_cli.folder / "tfds"))
    done = bare_cli.run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_evaluate_without_a_run(bare_cli):
    done = bare_cli.run("runs/none", verb="evaluate")
    assert done.returncode == 2
    assert "expected a run directory" in done.stderr
    assert "Traceback" not in done.stderr
