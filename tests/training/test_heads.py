"""Action units, valence and arousal in training: columns, losses, metrics, views, flips."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.data.augment import OFF
from fer_jax.data.mixing import Labels, mix_extras
from fer_jax.data.preprocess import Preprocessing
from fer_jax.heads import Heads, concordance
from fer_jax.training import head_losses, metrics, tta
from fer_jax.training.loop_state import MetricWindow
from fer_jax.training.step import make_examples

HEADS = Heads(2, ("AU04", "AU12L", "AU12R", "AU14L"), affect=True)
NAN = float("nan")


def test_columns_are_the_classes_the_units_and_the_dimensions():
    assert HEADS.names == ("AU04", "AU12L", "AU12R", "AU14L", "valence", "arousal")
    assert HEADS.columns[-3:] == ("unit_AU14L", "valence", "arousal")
    assert HEADS.outputs == 8
    # AU14R is no unit here, so AU14L stays.
    assert HEADS.mirrored == (0, 2, 1, 3, 4, 5)
    classes, extras = HEADS.split(np.arange(8.0))
    np.testing.assert_array_equal(classes, [0, 1])
    np.testing.assert_array_equal(extras, [2, 3, 4, 5, 6, 7])
    plain = np.arange(3.0)
    assert Heads(3).split(plain) == (plain, None)


def by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """Lin 1989, equation 1."""
    return 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def test_concordance_is_lins_on_the_device_and_from_moments():
    draw = np.random.default_rng(0)
    labels = draw.uniform(-1, 1, (50, 2)).astype(np.float32)
    found = (0.5 * labels + draw.normal(0.1, 0.2, (50, 2))).astype(np.float32)
    expected = [by_hand(*columns) for columns in zip(found.T, labels.T, strict=True)]
    # Rows without labels count in neither, and not in the gradient.
    masked = np.concatenate([labels, np.full((7, 2), NAN, np.float32)])
    answers = np.concatenate([found, np.ones((7, 2), np.float32)])
    np.testing.assert_allclose(head_losses.concordance(answers, masked), expected, rtol=1e-4)
    slope = jax.grad(lambda x: head_losses.concordance(x, masked).sum())(jnp.asarray(answers))
    assert np.isfinite(slope).all()
    assert not np.asarray(slope[50:]).any()
    sums = metrics.head_sums(answers, masked, np.ones(57), Heads(3, (), affect=True))
    np.testing.assert_allclose(concordance(np.asarray(sums).reshape(2, 6)), expected, rtol=1e-4)
    assert concordance(np.array([3.0, 3, 3, 3, 3, 3])) == 0  # constant


def test_the_unit_loss_is_the_mean_over_known_units():
    outputs = jnp.array([[2.0, -1.0], [0.5, 3.0], [1.0, 1.0]])
    labels = jnp.array([[1.0, 0.0], [NAN, 1.0], [NAN, NAN]])
    log = np.logaddexp
    expected = [(log(0, -2.0) + log(0, -1.0)) / 2, log(0, -3.0), 0]
    np.testing.assert_allclose(head_losses.unit_losses(outputs, labels), expected, rtol=1e-5)
    slope = jax.grad(lambda x: head_losses.unit_losses(x, labels).sum())(outputs)
    assert np.isfinite(slope).all()
    assert slope[1, 0] == 0


def test_sums_count_known_rows_and_give_the_scores():
    heads = Heads(2, ("AU01", "AU02", "AU04"))
    answers = jnp.array([[0.9, 0.2, 0.1], [0.8, 0.7, 0.1], [0.1, 0.9, 0.9], [0.9, 0.9, 0.9]])
    labels = jnp.array([[1, 1, 0], [0, 1, 0], [1, NAN, 0], [1, 1, 1]], jnp.float32)
    sums = metrics.head_sums(answers, labels, jnp.array([1.0, 1.0, 1.0, 0.0]), heads)
    np.testing.assert_array_equal(sums, [1, 1, 1, 1, 0, 1, 0, 1, 0])
    # AU04 is never shown: the mean is over the other two.
    found = metrics.head_scalars(np.asarray(sums, np.float64), heads)
    assert found == {"units_f1": pytest.approx((2 / 4 + 2 / 3) / 2)}


def test_a_flipped_image_has_its_sides_swapped():
    settings = dataclasses.replace(OFF, flip=0.5)
    images = np.zeros((32, 4, 4, 3), np.uint8)
    images[:, :, 0] = 255
    extras = np.tile(np.array([1, 0, 1, 0, NAN, 0.5], np.float32), (32, 1))
    batch = {"image": images, "label": np.zeros(32, np.int32), "extras": extras}
    preprocessing = Preprocessing(4, "unit")
    found = make_examples(batch, jax.random.key(0), settings, preprocessing, HEADS)
    is_flipped = np.asarray(found.inputs[:, 0, 0, 0] == 0)
    assert 0 < is_flipped.sum() < 32
    swapped = extras[:, [0, 2, 1, 3, 4, 5]]
    np.testing.assert_array_equal(found.extras, np.where(is_flipped[:, None], swapped, extras))


def test_views_are_averaged_with_the_sides_of_mirror_images_swapped():
    images = np.random.default_rng(0).uniform(0, 1, (3, 4, 4, 3)).astype(np.float32)

    def outputs_of(view: jax.Array) -> jax.Array:
        left, right = view[:, :, 0].mean(axis=(1, 2)), view[:, :, -1].mean(axis=(1, 2))
        none = jnp.zeros_like(left)
        return jnp.stack([left, right, none, left, right, none, left - right, none], axis=1)

    plain, both = (
        np.asarray(tta.mean_answers(outputs_of, images, views, HEADS)) for views in ("none", "flip")
    )
    # A mirror image shows the left side on the right: after the swap both views agree.
    np.testing.assert_allclose(both[:, 2:6], plain[:, 2:6], atol=1e-6)
    np.testing.assert_allclose(both[:, 6], 0, atol=1e-6)
    np.testing.assert_allclose(plain[:, :2].sum(axis=1), 1, rtol=1e-6)
    logs = tta.mean_log_probabilities(lambda x: outputs_of(x)[:, :2], images, "flip")
    np.testing.assert_allclose(both[:, :2], np.exp(logs), rtol=1e-5)


def test_mixed_images_have_mixed_labels_and_unknown_ones_stay_unknown():
    extras = jnp.array([[1.0, NAN], [0.0, 0.5]])
    mixing = dataclasses.replace(OFF, mixup=1.0)
    labels = Labels(jnp.array([0, 1]), jnp.array([1, 0]), jnp.array([0.75, 1.0]))
    found = mix_extras(extras, labels, mixing)
    np.testing.assert_array_equal(found, [[0.75, NAN], [0.0, 0.5]])
    assert mix_extras(extras, labels, OFF) is extras


def test_a_resumed_window_of_metrics_goes_on_where_it_was():
    heads = Heads(2, ("AU01", "AU02"))
    stored = {"confusion": [[3, 1], [0, 4]], "loss_sum": 4.0, "head_sums": [2, 1, 1, 0, 0, 2]}
    window = MetricWindow(2, stored, heads)
    assert window.to_json() == stored
    assert window.means["units_f1"] == pytest.approx((2 * 2 / (4 + 1 + 1) + 0) / 2)
    window.close()
    assert window.means == {}
    assert not np.any(window.to_json()["head_sums"])
    assert "head_sums" not in MetricWindow(2).to_json()
