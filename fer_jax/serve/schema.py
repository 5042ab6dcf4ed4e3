"""The JSON of the REST interface, as pydantic models: the source of its OpenAPI document."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from fer_jax.faces.finder import MIN_SHARE, Choice

Point = tuple[float, float]


class PredictQuery(BaseModel):
    """The options of /predict: the flags of `fer-jax predict`."""

    model_config = ConfigDict(extra="forbid")

    faces: Choice | None = Field(
        None,
        description="the largest face of each photo, all faces, or the whole photo as one face "
        "that is cropped already; the default is what fer-jax serve was started with, else all",
    )
    no_face: Literal["whole", "skip"] = Field(
        "whole", description="a photo without a face: classify the whole photo, or no face"
    )
    min_face: float = Field(
        MIN_SHARE, gt=0, le=1,
        description="smallest face side, as a share of the photo's shorter side",
    )  # fmt: skip


class Landmarks(BaseModel):
    """Five points of a face: x and y in pixels; left is the left of the photo."""

    left_eye: Point
    right_eye: Point
    nose: Point
    mouth_left: Point
    mouth_right: Point


class Face(BaseModel):
    """A classified face."""

    box: tuple[int, int, int, int] = Field(description="x, y, width and height in pixels")
    found: str = Field(
        description="detector that found the face, such as mtcnn; whole: none was found, so the "
        "whole photo was classified; given: the request said that the photo is a face"
    )
    label: str = Field(description="most probable class")
    confidence: float = Field(description="probability of the label")
    probabilities: dict[str, float] = Field(description="probability of each class; they sum to 1")
    landmarks: Landmarks | None = Field(description="null where the detector gives none")
    units: dict[str, float] | None = Field(
        None, description="probability of each action unit; null for a model without that head"
    )
    valence: float | None = Field(
        None, description="pleasure from -1 to 1; null for a model without that head"
    )
    arousal: float | None = Field(
        None, description="activation from -1 to 1; null for a model without that head"
    )


class Photo(BaseModel):
    """A photo and its faces."""

    name: str = Field(description="file name of the upload; empty for a raw body")
    width: int = Field(description="pixels, after the rotation that the file asks for")
    height: int
    faces: list[Face] = Field(description="the largest first")
    left_out: int = Field(description="how many faces were found beyond the limit")


class Predictions(BaseModel):
    """The answer to /predict."""

    model: str = Field(description="name of the run")
    photos: list[Photo] = Field(description="in the order of the request")


class Health(BaseModel):
    """The answer to /health."""

    status: Literal["ready", "stopped"]
    model: str = Field(description="name of the run")
    digest: str = Field(description="SHA-256 of the weights")
    step: int = Field(description="training step of the weights")
    labels: list[str] = Field(description="classes, in index order")
    version: str = Field(description="of fer_jax")
    runtime: str = Field(description="what computes the answers: JAX or ONNX Runtime, with version")


class Error(BaseModel):
    """The answer to a refused request, whatever the status."""

    error: str = Field(description="one word for programs, such as too_large")
    detail: str = Field(description="a sentence for people")
