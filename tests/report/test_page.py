"""The page: self-contained, complete, names escaped."""

from __future__ import annotations

import dataclasses
import html.parser
import re

import numpy as np
import pytest

from fer_jax.report import page, scores, slices
from fer_jax.report.card import ReportCard
from fer_jax.report.predictions import Predictions

CARD = ReportCard(
    run="a <b>run</b>", dataset="kdef", config="face", protocol="paper", split="test",
    model="light_vgg", parameters=5, seed=3, step=40, train_seconds=12.0, stand_in=True, leaks=3,
    notes=("a & b",), training="adam, batch size 64", versions={"jax": "1.2.3"},
)  # fmt: skip
NAMES = ("neutral", "<script>alert(1)</script>", "fear")
HISTORY = ({"step": 1, "train/loss": 2.0}, {"step": 2, "train/loss": 1.0, "validation/loss": 3.0})


class Outline(html.parser.HTMLParser):
    """Collects tags, URLs and ids; raises if tags do not match."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack, self.tags, self.urls, self.ids = [], [], [], []
        self.feed(text)
        assert not self.stack

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            self.urls += [value] if name in ("src", "href", "xlink:href") else []
            self.ids += [value] if name == "id" else []
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def predict(rows: int = 30) -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(
        ids=tuple(f"id <{row}>" for row in range(rows)),
        labels=np.arange(rows) % 3,
        probabilities=rng.dirichlet(np.ones(3), rows),
        groups=tuple(f"g{row % 5}" for row in range(rows)),
        label_names=NAMES,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> str:
    predictions = predict()
    images = np.random.default_rng(1).integers(0, 256, (30, 300, 300, 3), np.uint8)
    parts = slices.slice_scores(predictions, {"view": ["left", "right"] * 15})
    path = tmp_path_factory.mktemp("page") / "index.html"
    details = {"Timing": [("steady", "9 images/s")]}
    page.write_page(
        path, predictions, images, scores.score(predictions), CARD, HISTORY, parts, details,
        lambda rows: [images[row][::-1] for row in rows],
    )  # fmt: skip
    return path.read_text()


def test_it_is_one_well_formed_self_contained_file(written):
    outline = Outline(written)
    external = [one for one in outline.urls if not one.startswith(("data:", "#"))]
    assert external == []
    assert "url(http" not in written
    assert "script" not in outline.tags
    assert len(set(outline.ids)) == len(outline.ids)
    assert {one[1:] for one in outline.urls if one.startswith("#")} <= set(outline.ids)


def test_names_are_escaped(written):
    assert "a &lt;b&gt;run&lt;/b&gt;" in written
    assert "a &amp; b" in written
    assert "id &lt;" in written


def test_it_shows_every_score_and_warning(written):
    result = scores.score(predict())
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", written))
    for expected in (
        *CARD.warnings, "adam, batch size 64", "jax 1.2.3", "paper", "9 images/s", "left", "right",
        f"{result.accuracy:.1%}", f"{result.balanced_accuracy:.1%}", f"{result.macro.f1:.3f}",
        f"{result.calibration_error:.3f}", result.interval_note,
        "8 people are needed", "no interval",
    ):  # fmt: skip
        assert re.sub(r"\s+", " ", expected) in text
    for row, support in zip(result.confusion, result.support, strict=True):
        for count in row:
            assert f"{100 * count / support:.0f}% {count}" in text
    assert "Learning curves" in text


def test_examples_are_shown_beside_their_heatmaps(written):
    shown = re.findall(r'<img src="([^"]+)" alt="(.*?)">', written)
    assert len(shown) == 2 * (8 + 8)
    assert sum(text.startswith("Grad-CAM of ") for _, text in shown) == 16
    assert len({source for source, _ in shown}) == 32


def test_figures_have_the_colors_of_the_page(written):
    figures = re.findall(r"<svg.*?</svg>", written, flags=re.DOTALL)
    assert len(figures) == 3
    for figure in figures:
        assert "var(--ink)" in figure
        assert "var(--blue)" in figure
        assert set(re.findall(r"#[0-9a-f]{6}\b", figure)) == set()


def test_best_are_correct_by_class_and_worst_have_the_lowest_true_probability():
    predictions = predict()
    best, worst = page.choose_best(predictions, 6), page.choose_worst(predictions, 6)
    truth = predictions.probabilities[np.arange(30), predictions.labels]
    assert all(predictions.predicted[row] == predictions.labels[row] for row in best)
    assert {int(predictions.labels[row]) for row in best[:3]} == {0, 1, 2}
    first = best[0]
    rivals = (predictions.labels == predictions.labels[first]) & (
        predictions.predicted == predictions.labels
    )
    assert truth[first] == truth[rivals].max()
    assert all(predictions.predicted[row] != predictions.labels[row] for row in worst)
    assert truth[worst].tolist() == sorted(truth[predictions.predicted != predictions.labels])[:6]


def test_slices_have_the_scores_of_their_images():
    predictions = predict()
    parts = slices.slice_scores(
        predictions,
        {"one": ["same"] * 30, "sex": ["f", "m", ""] * 10, "age": np.linspace(0, 1, 30)},
    )
    assert list(parts) == ["sex", "age"]
    assert [part.value for part in parts["sex"]] == ["unknown", "f", "m"]
    assert sum(part.count for part in parts["age"]) == 30
    assert len(parts["age"]) == 4
    correct = predictions.predicted == predictions.labels
    for index, part in enumerate(parts["sex"][1:]):
        chosen = np.arange(30) % 3 == index
        assert part.accuracy == pytest.approx(correct[chosen].mean())
        assert (part.low, part.high) == (None, None)
        assert part.method == "8 people are needed for an interval; there are 5"
    videos = dataclasses.replace(predictions, unit="video")
    for part in slices.slice_scores(videos, {"sex": ["f", "m"] * 15})["sex"]:
        assert part.method == "8 videos are needed for an interval; there are 5"
    without_people = dataclasses.replace(predictions, groups=("",) * 30)
    for part in slices.slice_scores(without_people, {"sex": ["f", "m"] * 15})["sex"]:
        assert part.low < part.accuracy < part.high
        assert part.method == "jackknife over 15 images"
    ages = slices.slice_scores(predictions, {"yaw": np.tile([-45.0, 0.0, 45.0], 10)})["yaw"]
    assert [part.value for part in ages] == ["-45", "0", "45"]


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_nothing_overflows_or_is_unreadable(
    chromium, written, tmp_path, width, scheme
):
    path = tmp_path / "index.html"
    path.write_text(written)
    browser = chromium()
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.resize(width, 900)
    browser.open(path.as_uri())
    browser.wait_for("footer")
    assert browser.errors() == []
    assert browser.foreign_requests("file:") == []
    assert not browser.overflows()
    contrasts = browser.driver.execute_script(_CONTRASTS)
    assert len(contrasts) > 40
    assert [text for contrast, text in contrasts if contrast < 3.0] == []


@pytest.mark.browser
def test_on_paper_a_matrix_of_eight_classes_fits_and_is_readable(chromium, tmp_path):
    """On A4, also where the system is dark: the pages are printed black on white."""
    names = tuple(f"a rather long class {number}" for number in range(8))
    labels = np.arange(400) % 8
    ids = tuple(f"id{row}" for row in range(400))
    predictions = Predictions(ids, labels, np.eye(8)[(labels + (labels > 3)) % 8], ids, names)
    images = np.zeros((400, 8, 8, 3), np.uint8)
    path = page.write_page(
        tmp_path / "index.html", predictions, images, scores.score(predictions), CARD, HISTORY
    )
    browser = chromium()
    feature = {"name": "prefers-color-scheme", "value": "dark"}
    emulated = {"media": "print", "features": [feature]}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)
    browser.resize(718, 1000)  # A4 with Chromium's margins, in CSS pixels
    browser.open(path.as_uri())
    browser.wait_for("footer")
    assert not browser.overflows()
    contrasts = browser.driver.execute_script(_CONTRASTS)
    assert [text for contrast, text in contrasts if contrast < 4.5] == []


# Contrast ratio (WCAG) of the text color and the background of every element with text.
_CONTRASTS = """
const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
const over = (front, back) => {
  const alpha = front.length > 3 ? front[3] : 1;
  return front.slice(0, 3).map((value, i) => value * alpha + back[i] * (1 - alpha));
};
const light = rgb => rgb.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92
  : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = element => {
  const layers = [];
  for (let at = element; at; at = at.parentElement)
    layers.push(parse(getComputedStyle(at).backgroundColor));
  return layers.reverse().reduce(
    (back, front) => front.length ? over(front, back) : back, [255, 255, 255]);
};
const shown = element => element.getClientRects().length && [...element.childNodes].some(
  node => node.nodeType === 3 && node.textContent.trim());
return [...document.querySelectorAll("body *")].filter(shown).map(element => {
  const style = getComputedStyle(element);
  const color = element instanceof SVGElement ? style.fill : style.color;
  const back = behind(element), front = over(parse(color), back);
  const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
  return [(a + 0.05) / (b + 0.05), element.tagName + ": " + element.textContent.trim()];
});
"""
