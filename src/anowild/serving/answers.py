"""What the routes take and answer, for the schema at /openapi.json."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from anowild.serving.uploads import MULTIPART, RAW


class Image(BaseModel):
    """One image: what it scores and why, or why it could not be scored."""

    name: str = Field(
        description="Of the file; of a page of several, with its number: scan.tif[2]."
    )
    error: str | None = Field(
        None, description="Why it could not be scored; then there is no more."
    )
    score: float | None = Field(
        None, description="About one in 10^score training images is as odd, or odder."
    )
    p_value: float | None = Field(
        None, description="10^-score: the share of such training images.", ge=0, le=1
    )
    flagged: bool | None = Field(None, description="Whether the score reaches the threshold.")
    views: dict[str, float] | None = Field(None, description="The score of each view alone.")
    cues: dict[str, float] | None = Field(None, description="What the views have measured.")
    reasons: list[str] | None = Field(None, description="Why it is odd, the strongest first.")
    box: list[int] | None = Field(
        None, description="Its oddest tile: left, top, width and height in pixels.", min_length=4, max_length=4
    )  # fmt: skip


class Scores(BaseModel):
    """The images of a request, in its order."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "5bbad0cc8d6d3a3a",
                "threshold": 1.3,
                "images": [
                    {
                        "name": "part.png", "score": 2.41, "p_value": 0.0039, "flagged": True,
                        "views": {"pixels": 2.41}, "cues": {"contrast": 0.19},
                        "reasons": ["much plainer (less contrast) than 99.6 % of the training images"],
                    },
                    {"name": "notes.txt", "error": "cannot identify it as an image"},
                ],
            }
        }
    )  # fmt: skip
    model: str = Field(description="Checksum of the model's weights.")
    threshold: float = Field(description="Score from which images are flagged.")
    images: list[Image]


class Cue(BaseModel):
    """One number that a view measures."""

    name: str
    view: str
    meaning: str


class Model(BaseModel):
    """The model that scores."""

    anowild: str = Field(description="Version of the program.")
    checksum: str = Field(description="Of the weights.")
    views: list[str]
    cues: list[Cue]
    preprocess: dict[str, Any]
    training_images: int | None
    threshold: float
    threshold_from: str = Field(description="given, saved with the model, or default.")


class State(BaseModel):
    """Whether the service is alive, or ready."""

    status: str


class Problem(BaseModel):
    """Why a request is refused, in one sentence."""

    detail: str


class Png(Response):
    """A picture."""

    media_type = "image/png"


class Text(Response):
    """Numbers in Prometheus's format."""

    media_type = "text/plain; version=0.0.4; charset=utf-8"


def problem(meaning: str) -> dict[str, Any]:
    """Describe a refusal for the schema."""
    content = {"application/json": {"schema": Problem.model_json_schema()}}
    return {"description": meaning, "content": content}


_BINARY = {"type": "string", "format": "binary"}
_FORM = {
    "type": "object",
    "required": ["images"],
    "properties": {"images": {"type": "array", "items": _BINARY, "minItems": 1}},
}
#: The body of a request with images, for the schema.
REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {MULTIPART: {"schema": _FORM}} | {kind: {"schema": _BINARY} for kind in RAW},
    },
    "parameters": [
        {
            "name": "name", "in": "query", "schema": {"type": "string"},
            "description": "Of the image, where the body is one.",
        }
    ],
}  # fmt: skip
#: Refusals by status.
PROBLEMS: dict[int | str, str] = {
    400: "No well-formed body",
    401: "The token is missing or wrong",
    403: "A foreign host",
    408: "The body came too slowly",
    413: "Too many images, or too large",
    415: "No type of images",
    422: "The only image cannot be used",
    429: "Too many images wait",
    503: "Stopping, or too slow",
}
