"""The Python interface: results, preprocessing taken from the run, wrong input."""

from __future__ import annotations

import copy
import dataclasses
import functools
import pickle
import subprocess
import sys
import types
from concurrent import futures

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import fer_jax
from fer_jax import run_dir as run_directory
from fer_jax.data.preprocess import Preprocessing
from fer_jax.errors import UserError
from fer_jax.faces.align import align, aligned_landmarks
from fer_jax.faces.crop import METHODS, FaceCrop, crop_square, pad_square, shrink
from fer_jax.faces.detect import Face
from fer_jax.faces.finder import FaceFinder
from fer_jax.inference import batches, locate
from fer_jax.inference.model import Model
from fer_jax.inference.outputs import Outputs
from fer_jax.inference.results import Prediction
from fer_jax.models import registry
from tests.small_runs import SIZE, write_run


def test_importing_the_package_imports_neither_jax_nor_opencv():
    program = "import sys, fer_jax; print(sorted({'jax', 'cv2', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_paths_and_arrays_give_the_same_results(model, media, portraits):
    path = media / "anna.png"
    (from_path,), (from_array,) = model.predict(path), model.predict(portraits[1])
    face = from_path.faces[0]
    assert from_path.source == str(path)
    assert from_array.source == ""
    assert face.to_json() == from_array.faces[0].to_json()
    assert tuple(face.probabilities) == model.labels
    assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert face.confidence == max(face.probabilities.values())
    assert face.pixels.shape == (SIZE, SIZE, 3)
    assert face.found == "mtcnn"


def test_all_faces_or_the_largest(model, media):
    (prediction,) = model.predict(media / "group.jpg", faces="all")
    assert len(prediction.faces) == 3
    sides = [face.box[2] for face in prediction.faces]
    assert sides == pytest.approx(sorted(sides, reverse=True), abs=1)  # detected boxes are ordered
    (largest,) = model.predict(media / "group.jpg")
    assert [face.box for face in largest.faces] == [prediction.faces[0].box]


def test_boxes_are_centered_on_the_faces_and_inside_the_image(model, portraits):
    wide = np.hstack(portraits)
    (prediction,) = model.predict(wide, faces="all")
    centers = sorted(face.box[0] + face.box[2] / 2 for face in prediction.faces)
    assert centers == pytest.approx([100, 300, 500, 700], abs=15)
    for x, y, width, height in (face.box for face in prediction.faces):
        assert 0 <= x < x + width <= wide.shape[1]
        assert 0 <= y < y + height <= wide.shape[0]


def test_an_image_without_a_face_is_classified_whole_or_skipped(model, media):
    (whole,) = model.predict(media / "wall.png")
    assert [(face.found, face.box) for face in whole.faces] == [("whole", (0, 0, 160, 120))]
    (skipped,) = model.predict(media / "wall.png", whole_image=False)
    assert skipped.faces == ()


def test_features_are_what_the_last_layer_makes_logits_of(model, portraits, media):
    """In `predict`'s framing: its last layer makes `predict`'s probabilities of them."""
    images = [*portraits, media / "wall.png"]
    features = model.embed(images)
    head = model.network.variables["params"]["head"]
    assert features.shape == (5, head["kernel"].shape[0])
    assert features.dtype == np.float32
    expected = [list(one.faces[0].probabilities.values()) for one in model.predict(images)]
    found = jax.nn.softmax(features @ head["kernel"] + head["bias"])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    whole = model.embed(portraits[0], faces="whole")
    assert not np.allclose(whole[0], features[0], atol=1e-3)
    assert model.embed([]).shape == (0, features.shape[1])
    with pytest.raises(UserError, match="faces of largest, whole, found 'all'"):
        model.embed(images, faces="all")


@pytest.mark.parametrize("name", registry.MODELS)
def test_every_network_has_features(model, name):
    """Their last layer is called `head`, and sees a vector per image."""
    network = copy.copy(model.network)
    network.model = registry.create_model(name, classes=7)
    images = jax.ShapeDtypeStruct((2, 112, 112, 3), jnp.uint8)
    floats = jax.ShapeDtypeStruct(images.shape, jnp.float32)
    initialize = functools.partial(network.model.init, train=False)
    variables = jax.eval_shape(initialize, jax.random.key(0), floats)
    width = variables["params"]["head"]["kernel"].shape[0]
    assert jax.eval_shape(network._features, variables, images).shape == (2, width)


def test_a_table_has_a_row_per_face_and_the_columns_of_predictions_csv(
    model, media, tmp_path, monkeypatch
):
    predictions = model.predict([media / "group.jpg", media / "wall.png"], faces="all")
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=Table))
    table = fer_jax.to_frame([*predictions, Prediction("none.jpg", ())])
    assert [row["source"] for row in table.rows] == [str(media / "group.jpg")] * 3 + [
        str(media / "wall.png")
    ]
    assert [row["face"] for row in table.rows] == [0, 1, 2, 0]
    face = predictions[0].faces[1]
    row = table.rows[1]
    assert (row["x"], row["y"], row["width"], row["height"]) == face.box
    assert (row["found"], row["label"]) == (face.found, face.label)
    assert row[f"probability_{face.label}"] == face.confidence
    with Outputs(tmp_path, {}, model.labels, 0, annotate=False):
        pass
    columns = (tmp_path / "predictions.csv").read_text().strip().split(",")
    assert list(row) == [name for name in columns if name not in ("frame", "seconds", "annotated")]
    assert fer_jax.to_frame([]).columns == list(row)[:8]


class Table:
    """pandas.DataFrame, as far as `to_frame` uses it."""

    def __init__(self, rows=(), columns=()):
        self.rows, self.columns = rows, columns


def test_a_table_without_pandas_is_a_user_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"expected pandas .* pip install pandas"):
        fer_jax.to_frame([])


@pytest.mark.slow
def test_pandas_takes_the_table(model, media):
    """With pandas itself, which `make check` installs with gradio."""
    frame = fer_jax.to_frame(model.predict([media / "group.jpg"], faces="all"))
    assert frame.shape == (3, 8 + len(model.labels))
    assert frame.filter(like="probability_").sum(axis=1).tolist() == pytest.approx([1] * 3)


def test_no_images_give_no_results(model):
    assert model.predict([]) == []
    assert model.predict_faces(np.zeros((0, 8, 8, 3), np.uint8)).shape == (0, 7)


def test_batches_of_any_size_compile_the_same_few_programs(model):
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 255, (70, 40, 40, 3)).astype(np.uint8)
    together = model.predict_faces(faces)
    for count in (1, 2, 7, 9, 33, 65):
        np.testing.assert_allclose(model.predict_faces(faces[:count]), together[:count], atol=1e-5)
    assert model.network._classify._cache_size() == len(batches.BATCH_SIZES)


@pytest.mark.parametrize(("channel", "label"), [(0, "red"), (1, "green"), (2, "blue")])
def test_channel_and_label_order_are_those_of_the_run(color_run, channel, label):
    """The run's network takes BGR input, and its classes are blue, green, red."""
    colored = np.full((1, 50, 50, 3), 20, np.uint8)
    colored[..., channel] = 200
    model = fer_jax.load(color_run.folder)
    assert model.labels[model.predict_faces(colored).argmax()] == label
    assert model.predict(colored[0])[0].faces[0].label == label


def test_margin_and_size_are_those_of_the_run(tmp_path, portraits):
    """A wider margin shows more of the image; framing is done by the run's preprocessing."""
    wide = write_run(tmp_path / "wide", preprocessing=Preprocessing(48, "unit", face_margin=0.5))
    face = fer_jax.load(wide.folder).predict(portraits[0])[0].faces[0]
    np.testing.assert_array_equal(face.pixels, wide.preprocessing.framed(portraits[0], face.box))
    assert face.square[2] == round(max(face.box[2:]) * 2)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("nowhere.jpg", "expected an image, found nowhere.jpg: no such file"),
        (np.zeros((9, 9, 3), np.float32), r"expected an image as a path.*found float32\[9, 9, 3\]"),
        (np.zeros((9, 9, 2), np.uint8), r"found uint8\[9, 2\]: 2 x 9 pixels, too narrow"),
        (np.zeros((1, 3000, 3), np.uint8), r"uint8\[1, 3000, 3\]: 3000 x 1 pixels, too narrow"),
        (np.zeros((0, 9, 3), np.uint8), "no pixels"),
        (b"hello", "expected an image, found 5 bytes: not a JPEG"),
        ("a\0b.jpg", r"found a\\x00b.jpg: .*embedded null"),
        (None, "found None, which cv2.imread returns for a file that it cannot read"),
        ([None], "found None, which"),
        (3, "or several, found a int"),
        ([3], "found a int"),
        (Image.new("F", (9, 9)), "found a PIL image of mode F; pass the file's path"),
    ],
)
def test_wrong_images_are_a_user_error(model, images, message):
    with pytest.raises(UserError, match=message):
        model.predict(images)


def test_faces_of_wrong_shape_are_a_user_error(model):
    with pytest.raises(UserError, match=r"uint8\[height, width, 3\].*found float64\[2, 3\]"):
        model.predict_faces(np.zeros((2, 3)))


def test_a_misspelt_word_for_faces_is_a_user_error(model, portraits):
    with pytest.raises(UserError, match="expected faces='all', found its former name, choice"):
        model.predict(portraits[0], choice="all")
    with pytest.raises(UserError, match="faces of largest, all, whole, found 'everything'"):
        model.predict(portraits[0], faces="everything")


KINDS = {
    "path": lambda path: str(path),
    "bytes": lambda path: path.read_bytes(),
    "PIL": Image.open,
    "PIL with a palette": lambda path: Image.fromarray(np.asarray(Image.open(path))),
    "array": lambda path: np.asarray(Image.open(path)),
    "RGBA": lambda path: np.asarray(Image.open(path).convert("RGBA")),
    "device array": lambda path: jnp.asarray(np.asarray(Image.open(path))),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [lambda x: x, lambda x: [x], lambda x: (y for y in [x])])
def test_every_kind_of_image_gives_the_same_face(model, media, kind, make):
    path = media / "anna.png"
    (expected,) = model.predict(path)
    (prediction,) = model.predict(make(KINDS[kind](path)))
    assert prediction.faces[0].to_json() == expected.faces[0].to_json()


def test_a_turned_transparent_or_gray_image_is_taken(model, portraits, tmp_path):
    turned = Image.fromarray(np.rot90(portraits[0]))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    opened = Image.open(tmp_path / "turned.png")
    assert model.predict(opened)[0].faces[0].box == model.predict(portraits[0])[0].faces[0].box
    clear = Image.new("RGBA", (40, 40), (255, 0, 255, 0))
    (face,) = model.predict(clear, faces="whole")[0].faces
    assert face.pixels.min() == 255
    gray = portraits[0][..., 1]
    (face,), (same,) = (
        prediction.faces
        for prediction in model.predict([gray, np.repeat(gray[..., None], 3, 2)])
    )  # fmt: skip
    assert face.to_json() == same.to_json()


def test_faces_of_several_sizes_are_taken(model, portraits):
    crops = [portraits[0], portraits[1][::2, ::2], portraits[2][..., 0]]
    together = model.predict_faces(crops)
    one_by_one = np.concatenate([model.predict_faces(crop) for crop in crops])
    np.testing.assert_allclose(together, one_by_one, atol=1e-5)
    stack = np.zeros((4, 48, 48), np.uint8)
    assert model.predict_faces(stack).shape == (4, 7)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["image_folder/keep/1.0.0", "fer2013/default/1.0.0"])
def test_runs_on_uncropped_images_get_whole_images(tmp_path, portraits, method, name):
    """The images that such a run was trained on reach the network as they did in training."""
    whole = Preprocessing(SIZE, "unit")
    run = write_run(tmp_path / "run", preprocessing=whole)
    crop = FaceCrop(method=method, margin=0.0).to_json()
    run = dataclasses.replace(run, data={"name": name, "crop": crop})
    image = np.hstack(portraits[:2])
    model = Model(run)
    (prediction,) = model.predict(image)
    is_whole = method in ("keep", "pad") and name.startswith("image_folder")
    assert (prediction.faces[0].found == "given") == is_whole
    (given,) = model.predict(image, faces="whole")[0].faces
    assert given.box == (0, 0, 400, 200)
    stored = shrink(image, FaceCrop().longest_side)
    stored = pad_square(stored) if method == "pad" else stored
    np.testing.assert_array_equal(given.pixels, whole.framed(stored, (0, 0, *stored.shape[1::-1])))
    detector = "haar" if method == "detect" else "mtcnn"
    assert model.predict(image, faces="largest")[0].faces[0].found == detector


def test_a_long_image_without_a_face_is_padded_within_bounds(run):
    """Padded at full size, it would take a gigabyte."""
    image = np.full((200, 19_000, 3), 127, np.uint8)
    (face,) = FaceFinder(locate.framing_of(run)).find(image)
    assert (face.found, face.box) == ("whole", (0, 0, 19_000, 200))
    assert np.ptp(face.pixels.astype(int)) <= 1


def test_threads_share_a_model(run, portraits):
    model = fer_jax.load(run.folder)
    rng = np.random.default_rng(0)
    images = [np.roll(np.tile(image, (2, 3, 1)), rng.integers(90), 1) for image in portraits]
    alone = [model.predict(image, faces="all")[0].to_json() for image in images]
    with futures.ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda image: model.predict(image, faces="all"), images * 6)
        for number, (prediction,) in enumerate(together):
            assert prediction.to_json() == alone[number % 4]


def test_a_pickle_opens_the_run_anew(model, portraits):
    again = pickle.loads(pickle.dumps(model))
    assert again.predict(portraits[0])[0].to_json() == model.predict(portraits[0])[0].to_json()


@pytest.mark.slow
def test_a_forked_process_is_refused_instead_of_hanging(run):
    program = f"""
import multiprocessing, numpy, fer_jax
model = fer_jax.load({str(run.folder)!r})
image = numpy.zeros((40, 40, 3), numpy.uint8)
model.predict(image)
def shared(_): return model.predict(image)
for work in (shared, model.predict):
    try:
        multiprocessing.get_context("fork").Pool(1).map(work, [image])
    except fer_jax.errors.UserError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.count('use multiprocessing.get_context("spawn")') == 2, done.stderr


def test_a_folder_without_a_run_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="expected a run directory"):
        fer_jax.load(tmp_path)


def test_a_run_of_a_newer_version_is_a_user_error(tmp_path, run, monkeypatch):
    monkeypatch.setattr(run_directory, "FORMAT", 1)
    with pytest.raises(UserError, match="written by a newer fer_jax"):
        fer_jax.load(run.folder)


class OneFace:
    """A detector that always finds the same face."""

    def __init__(self, face: Face) -> None:
        self.face = face

    def detect(self, image: np.ndarray) -> list[Face]:
        return [self.face]


@pytest.mark.parametrize("settings", [{"margin": 0.4}, {"margin": 0.0, "longest_side": 40}])
def test_faces_are_cropped_like_the_runs_data(run, portraits, settings):
    crop = FaceCrop(**settings)
    whole = dataclasses.replace(run.preprocessing, face_margin=None, mask="ellipse")
    same = dataclasses.replace(run, preprocessing=whole, data={**run.data, "crop": crop.to_json()})
    (face,) = FaceFinder(locate.framing_of(same)).find(portraits[0])
    stored = shrink(crop_square(portraits[0], face.box, crop.margin), crop.longest_side)
    expected = whole.framed(stored, (0, 0, *stored.shape[1::-1]))
    np.testing.assert_array_equal(face.pixels, expected)
    assert face.square[2] == round(max(face.box[2:]) * (1 + 2 * crop.margin))


def test_a_run_on_aligned_faces_aligns_faces_with_landmarks(run, portraits):
    crop = FaceCrop(method="align", longest_side=112)
    whole = dataclasses.replace(run.preprocessing, face_margin=None, mask="landmarks")
    same = dataclasses.replace(run, preprocessing=whole, data={**run.data, "crop": crop.to_json()})
    finder = FaceFinder(locate.framing_of(same))
    points = ((30.0, 40.0), (60.0, 38.0), (45.0, 55.0), (33.0, 70.0), (58.0, 69.0))
    finder._detector = OneFace(Face((20, 20, 50, 60), "yunet", points))
    (face,) = finder.find(portraits[0])
    stored = align(portraits[0], np.array(points), 112)
    expected = whole.framed(stored, (0, 0, 112, 112), aligned_landmarks(np.array(points), 112))
    np.testing.assert_array_equal(face.pixels, expected)


@pytest.mark.parametrize(
    ("crop", "detector"),
    [
        (None, "mtcnn"),
        ({"method": "keep"}, "mtcnn"),
        ({"method": "shipped"}, "mtcnn"),
        ({"method": "align"}, "mtcnn"),
        ({"method": "detect"}, "haar"),
        ({"method": "detect", "detector": "haar_frontal"}, "haar_frontal"),
        ({"method": "detect", "detector": "mtcnn"}, "mtcnn"),
        ({"method": "shipped", "detector": "yunet.onnx"}, "yunet.onnx"),
    ],
)
def test_the_detector_follows_the_runs_data(run, crop, detector):
    data = {**run.data, "crop": crop and FaceCrop(**crop).to_json()}
    assert locate.framing_of(dataclasses.replace(run, data=data)).detector == detector


@pytest.mark.parametrize(
    ("name", "crop", "found", "box"),
    [
        ("kdef", {}, "mtcnn", (23, 22, 94, 94)),  # as the Haar cascade frames it
        ("kdef", {}, "haar", (30, 20, 80, 100)),
        ("kdef", {"detector": "mtcnn"}, "mtcnn", (30, 20, 80, 100)),
        ("kdef", {"detector": "mtcnn"}, "haar", (16, 17, 107, 107)),
        ("fer2013", {"method": "keep"}, "mtcnn", (22, 21, 95, 95)),
        ("ferplus", {"method": "keep"}, "mtcnn", (22, 21, 95, 95)),
        ("ck_plus", {"method": "keep"}, "mtcnn", (23, 22, 94, 94)),
        ("kdef", {}, "yunet", (30, 20, 80, 100)),
    ],
)
def test_detected_boxes_become_those_of_the_runs_data(run, portraits, name, crop, found, box):
    whole = dataclasses.replace(run.preprocessing, face_margin=None)
    data = {"name": f"{name}/face/1.0.0", "crop": FaceCrop(**crop).to_json()}
    same = dataclasses.replace(run, preprocessing=whole, data=data)
    finder = FaceFinder(locate.framing_of(same))
    finder._detector = OneFace(Face((30, 20, 80, 100), found))
    assert finder.find(portraits[0])[0].box == box


def test_mtcnn_frames_faces_like_the_haar_cascades(run, portraits):
    """A run on crops of the cascades sees the same square, whichever detector finds the face."""
    whole = dataclasses.replace(run.preprocessing, face_margin=None)
    data = {**run.data, "crop": FaceCrop().to_json()}
    framing = locate.framing_of(dataclasses.replace(run, preprocessing=whole, data=data))
    haar, mtcnn = (FaceFinder(framing, detector=name) for name in (None, "mtcnn"))
    for portrait in portraits:
        (one,), (other,) = haar.find(portrait), mtcnn.find(portrait)
        assert (one.found, other.found) == ("haar", "mtcnn")
        np.testing.assert_allclose(other.square, one.square, atol=0.1 * one.square[2])


def test_prediction_uses_averaged_weights(model, tmp_path):
    """Zero params with an average of random weights predict like a run with those weights."""
    zeros = functools.partial(jax.tree.map, jnp.zeros_like)
    averaged = write_run(tmp_path / "run", overrides=("optim.ema_decay=0.9",), edit=zeros)
    faces = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    expected = model.predict_faces(faces)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(fer_jax.load(averaged.folder).predict_faces(faces), expected)
