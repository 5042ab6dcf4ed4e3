"""The REST interface over real connections, and the batches behind it."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import time
from concurrent import futures

import cv2
import jax
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fer_jax.faces import decode
from fer_jax.faces.finder import LocatedFace
from fer_jax.serve import guard, response, rest, schema
from fer_jax.serve.batcher import Batcher, batches
from fer_jax.serve.predictor import Options
from tests.serve.process import form, free_port, send, start, wait_for

JPEG = {"Content-Type": "image/jpeg"}
CLOSE = 1e-4  # between the network's batch sizes


def read(port: int, content: bytes, query: str = "") -> dict:
    """Posts one photo and returns its JSON."""
    status, _, answer = send(port, "POST", f"/predict{query}", content, JPEG)
    assert status == 200, answer
    (photo,) = answer["photos"]
    return photo


def values(faces) -> list[list[float]]:
    return [list(face["probabilities"].values()) for face in faces]


def test_predict_the_page_and_rest_give_the_same(model, predictor, port, media, monkeypatch):
    path = media / "group.jpg"
    (prediction,) = model.predict(path, faces="all")
    expected = [list(face.probabilities.values()) for face in prediction.faces]
    shown = []
    monkeypatch.setattr(response, "details", lambda faces: shown.extend(faces) or "")
    response.respond(predictor, str(path), "all", explain=False)
    photo = read(port, path.read_bytes())
    on_page = [list(face.probabilities.values()) for face in shown]
    np.testing.assert_allclose(on_page, expected, atol=CLOSE)
    np.testing.assert_allclose(values(photo["faces"]), expected, atol=CLOSE)
    assert [face["label"] for face in photo["faces"]] == [face.label for face in prediction.faces]
    assert [tuple(face["box"]) for face in photo["faces"]] == [f.box for f in prediction.faces]


def test_a_face_has_its_confidence_and_landmarks(port, media):
    photo = read(port, (media / "anna.png").read_bytes())
    assert (photo["name"], photo["width"], photo["height"], photo["left_out"]) == ("", 200, 200, 0)
    (face,) = photo["faces"]
    assert face["found"] == "mtcnn"
    assert face["confidence"] == max(face["probabilities"].values())
    points = face["landmarks"]
    x, y, width, height = face["box"]
    assert points["left_eye"][0] < points["nose"][0] < points["right_eye"][0]
    assert points["left_eye"][1] < points["nose"][1] < points["mouth_left"][1]
    assert x < points["nose"][0] < x + width
    assert y < points["nose"][1] < y + height


def test_several_photos_are_answered_in_order(port, media):
    names = ["wall.png", "group.jpg", "anna.png"]
    body, headers = form(*((name, (media / name).read_bytes()) for name in names))
    status, _, answer = send(port, "POST", "/predict", body, headers)
    assert (status, answer["model"]) == (200, "small")
    assert [photo["name"] for photo in answer["photos"]] == names
    assert [len(photo["faces"]) for photo in answer["photos"]] == [1, 3, 1]
    for photo, name in zip(answer["photos"], names, strict=True):
        alone = read(port, (media / name).read_bytes())
        np.testing.assert_allclose(values(photo["faces"]), values(alone["faces"]), atol=CLOSE)


@pytest.mark.parametrize(
    ("file", "query", "found"),
    [
        ("group.jpg", "", ["mtcnn"] * 3),
        ("group.jpg", "?faces=largest", ["mtcnn"]),
        ("group.jpg", "?faces=whole", ["given"]),
        ("wall.png", "", ["whole"]),
        ("wall.png", "?no_face=skip", []),
        ("anna.png", "?min_face=0.99", ["whole"]),
        ("anna.png", "?min_face=0.99&no_face=skip", []),
    ],
)
def test_options_are_those_of_predict(port, media, file, query, found):
    photo = read(port, (media / file).read_bytes(), query)
    assert [face["found"] for face in photo["faces"]] == found
    assert all((face["landmarks"] is None) == (face["found"] != "mtcnn") for face in photo["faces"])


def test_faces_beyond_the_limit_are_counted(port, media, monkeypatch):
    monkeypatch.setattr("fer_jax.serve.predictor.MAX_FACES", 2)
    photo = read(port, (media / "group.jpg").read_bytes())
    assert (len(photo["faces"]), photo["left_out"]) == (2, 1)


FORM = {"Content-Type": "multipart/form-data; boundary=xyz"}
FIELD = b'--xyz\r\nContent-Disposition: form-data; name="faces"\r\n\r\nall\r\n--xyz--\r\n'


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "text"),
    [
        ("POST", "/predict", FORM, b"--abc\r\nno part", 400, "found a damaged one: Invalid"),
        ("POST", "/predict", JPEG | {"Host": "rebound.example.org"}, b"x", 403, "its address"),
        ("POST", "/predict", JPEG | {"Origin": "https://example.org"}, b"x", 403, "another site"),
        ("GET", "/nothing", {}, None, 404, "nothing at this path"),
        ("GET", "/predict", {}, None, 405, "expected POST with a photo"),
        ("DELETE", "/health", {"Content-Length": "0"}, None, 405, "Method Not Allowed"),
        ("POST", "/predict", {"Transfer-Encoding": "chunked"}, b"0\r\n\r\n", 411, "how long it is"),
        ("POST", "/predict", JPEG, bytes(11_000_001), 413, "more than 11 MB"),
        ("POST", "/predict", *form(*[("a", b"")] * 17)[::-1], 413, "at most 16 photos, found 17"),
        ("POST", "/predict", {"Content-Type": "text/plain"}, b"x", 415, "found text/plain"),
        ("POST", "/predict", {"Content-Type": "application/json"}, b"{}", 415, "-F photo=@"),
        ("POST", "/predict", JPEG, b"hello", 422, "the photo cannot be read: not a JPEG"),
        ("POST", "/predict", JPEG, b"", 422, "the photo cannot be read: empty file"),
        ("POST", "/predict", *form(("a\n.jpg", b"x"))[::-1], 422, "cannot be read: not a JPEG"),
        ("POST", "/predict", FORM, b"--xyz--\r\n", 422, "found an empty form"),
        ("POST", "/predict", FORM, FIELD, 422, "options belong to the URL"),
        ("POST", "/predict?faces=most", JPEG, b"x", 422, "faces: Input should be 'largest'"),
        ("POST", "/predict?face=all", JPEG, b"x", 422, "expected options of faces, no_face"),
        ("POST", "/predict?min_face=0", JPEG, b"x", 422, "min_face: Input should be greater"),
        ("POST", "/predict?min_face=nan", JPEG, b"x", 422, "min_face: Input should be"),
    ],
)  # fmt: skip
def test_every_refusal_has_its_status_and_one_form(port, method, path, headers, body, status, text):
    found, _, answer = send(port, method, path, body, headers)
    assert (found, answer["error"]) == (status, guard.CODES[status]), answer
    assert text in answer["detail"]
    assert answer.keys() == schema.Error.model_fields.keys()


@pytest.mark.parametrize(
    ("target", "value", "status", "text"),
    [
        ("fer_jax.faces.decode.MAX_PIXELS", 30_000, 413, "200 x 200 pixels, more than 30,000"),
        ("fer_jax.serve.guard.MAX_STORED", 100, 507, "holds too many uploads"),
        ("fer_jax.serve.predictor.Predictor._finder", None, 500, "TypeError; the server's output"),
    ],
)
def test_a_limit_or_a_failure_is_a_status(port, media, monkeypatch, target, value, status, text):
    monkeypatch.setattr(target, value)
    content = (media / "anna.png").read_bytes()
    found, _, answer = send(port, "POST", "/predict", content, JPEG)
    assert (found, answer["error"]) == (status, guard.CODES[status]), answer
    assert text in answer["detail"]
    monkeypatch.undo()
    assert len(read(port, content)["faces"]) == 1


def test_a_full_queue_is_503_and_says_when_to_try_again(port, predictor, media, monkeypatch):
    monkeypatch.setattr(predictor, "max_queue", 1)
    body, headers = form(*[("anna.png", (media / "anna.png").read_bytes())] * 2)
    status, answered, answer = send(port, "POST", "/predict", body, headers)
    assert (status, answer["error"], answered["retry-after"]) == (503, "busy", "1")
    assert predictor.pending == 0
    result = response.respond(predictor, str(media / "anna.png"), "all", explain=False)
    assert "<section" in result.details
    monkeypatch.setattr(predictor, "max_queue", 0)
    result = response.respond(predictor, str(media / "anna.png"), "all", explain=False)
    assert "The server is busy" in result.details


def test_a_body_that_does_not_arrive_is_408_and_its_memory_is_free_again(port, media, monkeypatch):
    monkeypatch.setattr(rest, "_BODY_SECONDS", 0.1)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            b"Content-Length: 10000000\r\n\r\nstart"
        )
        assert b" 408 " in client.recv(10_000)
    monkeypatch.setattr(guard, "MAX_STORED", 1_000_000)  # less than the body that did not arrive
    assert len(read(port, (media / "anna.png").read_bytes())["faces"]) == 1


def test_a_client_that_hangs_up_changes_nothing(port, predictor, media):
    content = (media / "group.jpg").read_bytes()
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    for sent in (head.encode(), head.encode() + content):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(sent)
    assert len(read(port, content)["faces"]) == 3
    deadline = time.monotonic() + 30
    while predictor.pending:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_health_names_the_model(port, model, predictor, monkeypatch):
    status, _, health = send(port, "GET", "/health")
    assert status == 200
    assert health == {
        "status": "ready", "model": "small", "step": 0, "labels": list(model.labels),
        "digest": model.network.digest, "version": rest.fer_jax.__version__,
        "runtime": f"JAX {jax.__version__}",
    }  # fmt: skip
    assert re.fullmatch("[0-9a-f]{64}", health["digest"])
    monkeypatch.setattr(type(predictor), "is_ready", False)
    status, _, health = send(port, "GET", "/health")
    assert (status, health["status"]) == (503, "stopped")


def samples(port: int) -> dict[tuple, float]:
    text = send(port, "GET", "/metrics")[2].decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_requests_by_status_times_and_batches(port, media):
    before = samples(port)
    read(port, (media / "group.jpg").read_bytes())
    send(port, "POST", "/predict", b"hello", JPEG)
    send(port, "GET", "/any/path", headers={"Host": "rebound.example.org"})
    after = samples(port)

    def grown(*key: str) -> float:
        return after[key] - before.get(key, 0)

    assert grown("fer_jax_requests_total", "POST", "/predict", "200") == 1
    assert grown("fer_jax_requests_total", "POST", "/predict", "422") == 1
    assert grown("fer_jax_requests_total", "GET", "other", "403") == 1
    assert grown("fer_jax_predict_seconds_count") == 1
    assert grown("fer_jax_batch_faces_sum") == 3
    assert after["fer_jax_queue_photos",] == 0


def test_the_openapi_document_and_the_page_drawn_from_it(port):
    _, _, document = send(port, "GET", "/openapi.json")
    assert document["paths"].keys() == {"/predict", "/health", "/metrics"}
    predict = document["paths"]["/predict"]["post"]
    assert {one["name"] for one in predict["parameters"]} == {"faces", "no_face", "min_face"}
    assert set(map(int, predict["responses"])) == {200, *guard.CODES} - {404, 405, 500}
    _, headers, page = send(port, "GET", "/docs")
    assert headers["content-type"].startswith("text/html")
    text = page.decode()
    for name in (*document["paths"], *document["components"]["schemas"], "min_face", "507"):
        assert name in text
    assert re.findall(r'(?:src|href)="(?!#|data:|openapi\.json")', text) == []
    assert send(port, "GET", "/")[1]["location"] == "/docs"


def located(number: int) -> LocatedFace:
    return LocatedFace((number, 0, 1, 1), "given", np.zeros((1, 1, 3), np.uint8), (0, 0, 1))


@pytest.mark.parametrize(
    ("faces", "sizes"),
    [
        (0, []), (1, [1]), (3, [1, 1, 1]), (4, [4]), (8, [8]), (9, [8, 1]), (12, [8, 4]),
        (16, [16]), (32, [32]), (40, [32, 8]),
    ],
)  # fmt: skip
def test_batches_are_at_least_half_full(faces, sizes):
    found = list(batches([located(number) for number in range(faces)]))
    assert [len(batch) for batch in found] == sizes
    assert [face.box[0] for batch in found for face in batch] == list(range(faces))


def test_faces_that_come_while_the_network_works_share_a_batch():
    begun, may_go, sizes, calls = threading.Event(), threading.Event(), [], []

    def classify(faces, explain):
        begun.set()
        assert may_go.wait(10)
        calls.append(explain)
        return [face.box[0] for face in faces]

    batcher = Batcher(classify, max_wait=0.0, observe=sizes.append)
    results = [batcher.submit([located(0)])]
    assert begun.wait(10)
    results += [batcher.submit([located(number)], explain=number == 9) for number in range(1, 10)]
    results.append(batcher.submit([]))
    may_go.set()
    assert [one.result(10) for one in results] == [[number] for number in range(10)] + [[]]
    assert (sizes, calls) == ([1, 8, 1], [False, False, True])
    batcher.close()
    assert not batcher.is_alive


def test_an_error_of_the_network_reaches_its_callers_only():
    def classify(faces, explain):
        if faces[0].box[0] == 0:
            raise ValueError("broken")
        return [face.box[0] for face in faces]

    batcher = Batcher(classify, max_wait=0.0)
    failed = batcher.submit([located(0)])
    assert isinstance(failed.exception(10), ValueError)
    last = batcher.submit([located(7)])
    batcher.close()  # what was submitted before is done
    assert last.result(0) == [7]


def test_heat_maps_go_the_same_way(model, predictor, media):
    image = decode.read_image(media / "anna.png")
    (answer,) = predictor.submit([image], Options("all", explain=True))
    (expected,) = model.predict(image, explain=True)
    np.testing.assert_allclose(answer.result(60).faces[0].heat, expected.faces[0].heat, atol=1e-3)


@pytest.mark.slow
def test_fifty_clients_get_the_right_answers_and_sigterm_finishes_them(run, model, portraits):
    """Real processes; gradio cannot be imported there."""
    rng = np.random.default_rng(0)
    people = [
        np.hstack([portraits[n] for n in rng.choice(4, rng.integers(1, 4))]) for _ in range(50)
    ]
    photos = [cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in people]
    expected = [
        [list(face.probabilities.values()) for face in one.faces]
        for one in model.predict(photos, faces="all")
    ]
    process = start(run, free_port(), "--no_page")
    port = int(re.search(r":(\d+)/", wait_for(process)).group(1))
    try:
        with futures.ThreadPoolExecutor(50) as pool:
            for _ in range(2):
                for photo, right in zip(
                    pool.map(lambda content: read(port, content), photos), expected, strict=True
                ):
                    np.testing.assert_allclose(values(photo["faces"]), right, atol=CLOSE)
            counted = samples(port)
            assert counted["fer_jax_predict_seconds_count",] == 100
            assert counted["fer_jax_batch_faces_sum",] == 2 * sum(map(len, expected))
            last = [pool.submit(read, port, content) for content in photos]
            while samples(port)["fer_jax_queue_photos",] == 0:
                pass
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate(timeout=60)
            assert process.returncode == 143, stderr
            assert "Traceback" not in stderr
            for one, right in zip(last, expected, strict=True):
                if not isinstance(one.exception(60), OSError):  # not accepted any more
                    np.testing.assert_allclose(values(one.result()["faces"]), right, atol=CLOSE)
    finally:
        process.kill()
        process.communicate()


def test_the_answer_fits_the_documented_schema(port, media):
    content = (media / "group.jpg").read_bytes()
    status, headers, answer = send(port, "POST", "/predict", *form(("group.jpg", content)))
    assert (status, headers["content-type"]) == (200, "application/json")
    schema.Predictions.model_validate_json(json.dumps(answer))
