"""The REST interface with FastAPI (the extra `rest`): /predict, /health, /metrics and their docs.

`schema` has its JSON, `predictor` does the work, and `guard` refuses requests before it sees them.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import fastapi
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

import fer_jax
from fer_jax.faces.decode import MAX_PIXELS, TooLargeError, UnreadableError
from fer_jax.faces.finder import Choice
from fer_jax.printable import printable
from fer_jax.serve import reference, schema
from fer_jax.serve.guard import CODES, MAX_REQUEST
from fer_jax.serve.metrics import Metrics
from fer_jax.serve.predictor import Answer, BusyError, Options, Predictor

MAX_PHOTOS = 16
"""Photos of one request."""

_BODY_SECONDS = 30.0  # for a body to arrive: a client that stalls must not hold its memory
_MEGABYTES = MAX_REQUEST // 1_000_000
_RAW_TYPES = ("image/", "application/octet-stream")
_MULTIPART = "multipart/form-data"
_LANDMARKS = tuple(schema.Landmarks.model_fields)

_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": schema.Error, "description": description}
    for status, description in {
        400: "The multipart body is damaged.",
        403: "The Host header is not this server's name, or the request is of another site's page.",
        408: f"The body took more than {_BODY_SECONDS:.0f} seconds to arrive.",
        411: "The request has no Content-Length.",
        413: f"More than {_MEGABYTES} MB, {MAX_PHOTOS} photos, or {MAX_PIXELS // 1_000_000} "
        "megapixels in one of them.",
        415: f"The Content-Type is neither {_MULTIPART} nor an image's.",
        422: "A file is no image that can be read, or an option has a wrong name or value.",
        503: "Too many photos are waiting; Retry-After says when to try again.",
        507: "The server holds too many uploads; try again later.",
    }.items()
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "required": True,
    "description": f"At most {MAX_PHOTOS} photos and {_MEGABYTES} MB.",
    "content": {
        _MULTIPART: {
            "schema": {
                "type": "object",
                "properties": {"photo": {"type": "array", "items": _BINARY["schema"]}},
            }
        },
        "image/*": _BINARY,
        "application/octet-stream": _BINARY,
    },
}


def make_app(
    predictor: Predictor, metrics: Metrics, faces: Choice | None = None
) -> fastapi.FastAPI:
    """Returns the REST interface of a run.

    Args:
      predictor: reads the photos; the caller closes it.
      metrics: of the server.
      faces: which faces are read unless a request says otherwise; None for the run's default.
    """
    model = predictor.model
    app = fastapi.FastAPI(
        title=f"fer_jax: {model.run.name}",
        description="Reads facial expressions in photos. Photos are not stored. An expression does "
        "not show what a person feels.",
        version=fer_jax.__version__,
        docs_url=None,  # FastAPI's own page loads its scripts from another host
        redoc_url=None,
    )
    add_error_handlers(app)
    metrics.watch_queue(lambda: predictor.pending)

    @app.post("/predict", responses=_RESPONSES, openapi_extra={"requestBody": _BODY})
    async def predict(
        request: Request, query: Annotated[schema.PredictQuery, fastapi.Query()]
    ) -> schema.Predictions:
        """Finds the faces of one or more photos and reads their expressions.

        The body is one image file, or a multipart form whose files are images. Where no face is
        found, the whole photo is classified. One photo that cannot be read refuses the request.
        """
        chosen = query.faces or faces or predictor.default_faces
        options = Options(chosen, query.no_face == "whole", query.min_face)
        uploads = await _read(request)
        try:
            waiting = predictor.submit([content for _, content in uploads], options)
        except BusyError as error:
            raise HTTPException(503, f"{error}; try again", {"Retry-After": "1"}) from None
        answers = await asyncio.gather(*map(asyncio.wrap_future, waiting), return_exceptions=True)
        photos = [_photo(name, one) for (name, _), one in zip(uploads, answers, strict=True)]
        return schema.Predictions(model=model.run.name, photos=photos)

    @app.get("/predict", include_in_schema=False)
    async def explain_post() -> None:
        raise HTTPException(405, "expected POST with a photo, found GET; /docs shows how")

    _add_information(app, predictor, metrics)
    return app


def _add_information(app: fastapi.FastAPI, predictor: Predictor, metrics: Metrics) -> None:
    """Adds the paths that describe the server."""
    model = predictor.model

    @app.get("/health", responses={503: {"model": schema.Health, "description": "Stopped."}})
    async def health(response: Response) -> schema.Health:
        """Says which model is served and whether it answers."""
        response.status_code = 200 if predictor.is_ready else 503
        return schema.Health(
            status="ready" if predictor.is_ready else "stopped",
            model=model.run.name,
            digest=model.classifier.digest,
            step=model.classifier.step,
            labels=list(model.labels),
            runtime=model.classifier.runtime,
            version=fer_jax.__version__,
        )

    @app.get("/metrics", response_class=Response)
    async def read_metrics() -> Response:
        """Counts requests, times, batches and the queue, in Prometheus' text format."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference.page(app.openapi()))


def add_redirect(app: fastapi.FastAPI) -> None:
    """Sends visitors of / to the documentation, where no page is served."""

    @app.get("/", include_in_schema=False)
    async def home() -> RedirectResponse:
        return RedirectResponse("/docs")


async def _read(request: Request) -> list[tuple[str, bytes]]:
    """Returns the names and contents of the uploaded photos.

    Raises:
      HTTPException: there is none, or the body is not one of `_BODY`.
    """
    kind = request.headers.get("content-type", _RAW_TYPES[-1]).lower()
    if not kind.startswith((_MULTIPART, *_RAW_TYPES)):
        raise HTTPException(
            415,
            f"expected the Content-Type {_MULTIPART}, image/jpeg or another image's, found "
            f"{printable(kind)}; with curl: -F photo=@photo.jpg",
        )
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            if not kind.startswith(_MULTIPART):
                return [("", await request.body())]
            async with request.form() as form:
                return [await _upload(name, value) for name, value in _checked(form.multi_items())]
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise HTTPException(
            400, f"expected a multipart form, found a damaged one: {error.detail}"
        ) from None
    except TimeoutError:
        raise HTTPException(408, f"the body took more than {_BODY_SECONDS:.0f} seconds") from None
    except ClientDisconnect:
        raise HTTPException(400, "the connection ended before the body did") from None


def _checked(items: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Checks how many photos a form has."""
    if not items:
        raise HTTPException(422, "expected a photo, found an empty form; curl: -F photo=@photo.jpg")
    if len(items) > MAX_PHOTOS:
        raise HTTPException(
            413, f"expected at most {MAX_PHOTOS} photos, found {len(items)}; send several requests"
        )
    return items


async def _upload(field: str, value: UploadFile | str) -> tuple[str, bytes]:
    """Returns the name and the content of a form's file."""
    if isinstance(value, str):
        raise HTTPException(
            422,
            f"expected files, found a value for {printable(field)}; options belong to the URL, "
            "such as /predict?faces=all; files are sent with curl -F photo=@photo.jpg",
        )
    return value.filename or "", await value.read()


def _photo(name: str, answer: Answer | BaseException) -> schema.Photo:
    """Returns the JSON of a photo.

    Raises:
      HTTPException: it could not be read.
    """
    if isinstance(answer, UnreadableError):
        status = 413 if isinstance(answer, TooLargeError) else 422
        raise HTTPException(status, f"{printable(name) or 'the photo'} cannot be read: {answer}")
    if isinstance(answer, BaseException):
        raise answer
    return schema.Photo(
        name=name,
        width=answer.width,
        height=answer.height,
        faces=[
            schema.Face(
                box=face.box,
                found=face.found,
                label=face.label,
                confidence=face.confidence,
                probabilities=dict(face.probabilities),
                landmarks=_landmarks(located.landmarks),
                units=None if face.units is None else dict(face.units),
                valence=face.valence,
                arousal=face.arousal,
            )
            for located, face in zip(answer.located, answer.faces, strict=True)
        ],
        left_out=answer.left_out,
    )


def _landmarks(points: tuple[tuple[float, float], ...] | None) -> schema.Landmarks | None:
    if points is None:
        return None
    rounded = [(round(x, 1), round(y, 1)) for x, y in points]
    return schema.Landmarks(**dict(zip(_LANDMARKS, rounded, strict=True)))


def add_error_handlers(app: fastapi.FastAPI) -> None:
    """Gives every refusal the form of `schema.Error`."""

    def answer(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
        code = CODES.get(status, "refused")
        return JSONResponse({"error": code, "detail": detail}, status, headers)

    async def refused(_: Request, error: Any) -> JSONResponse:
        is_plain = error.status_code == 404 and error.detail == "Not Found"
        detail = "there is nothing at this path; see /docs" if is_plain else str(error.detail)
        return answer(error.status_code, detail, error.headers)

    async def invalid(_: Request, error: Any) -> JSONResponse:
        first = error.errors()[0]
        name = printable(str(first["loc"][-1]))
        known = ", ".join(schema.PredictQuery.model_fields)
        message = (
            f"expected options of {known}"
            if first["type"] == "extra_forbidden"
            else f"{name}: {first['msg']}"
        )
        found = name if first["type"] == "extra_forbidden" else repr(first["input"])
        return answer(422, f"{message}; found {printable(found)}; /docs lists the options")

    async def failed(_: Request, error: Exception) -> JSONResponse:
        return answer(500, f"{type(error).__name__}; the server's output says more")

    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, failed)
