"""What requests and answers hold, as OpenAPI describes it."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sottovoce.engine.enhancer import Enhancer
from sottovoce.engine.options import EnhanceOptions, RoomChoice
from sottovoce.errors import ConfigError
from sottovoce.service.errors import ServiceError, service_error
from sottovoce.service.uploads import FILE_FIELD, MAX_FILES
from sottovoce.service.work import AdaptationState
from sottovoce.signal.limits import implausible
from sottovoce.signal.output import OutputOptions

MAX_STEPS = 2000
"""The longest training that may be asked for: beyond a few hundred steps little is learned from a few recordings."""
MAX_SEED = 2**32 - 1

_EXPECTED = {
    **dict.fromkeys(
        ("int_parsing", "int_parsing_size", "int_type", "int_from_float", "finite_number"), "a whole number"
    ),
    **dict.fromkeys(("float_parsing", "float_type"), "a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "true or false"),
    "string_type": "text",
}


class _Fields(BaseModel):
    """What may be asked of sound; ranges are checked by the options of the engine."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field("default", description="One of those that /v1/models lists.")
    limit_db: float | None = Field(
        None,
        description="Maximum attenuation in dB: 20 leaves a little of the room. No limit if not given.",
        json_schema_extra={"minimum": 0},
    )
    mix: float = Field(
        1.0,
        description="Share of the enhanced signal, 0 (the recording) to 1 (enhanced only).",
        json_schema_extra={"minimum": 0, "maximum": 1},
    )
    full_band: bool = Field(True, description="Keep what lies above 8 kHz, and lower the noise there.")
    linked: bool = Field(False, description="Give all channels the same gains.")
    room: RoomChoice = Field(
        "natural",
        description="What of the room stays: its early reflections and a soft decay, all of it, or only the direct "
        "sound. /v1/models says which a model has.",
    )
    output: Literal["enhanced", "removed"] = Field(
        "enhanced", description="The enhanced sound, or what was removed from the recording."
    )

    def options(self) -> EnhanceOptions:
        """How to enhance."""
        return EnhanceOptions(
            limit_db=self.limit_db,
            mix=self.mix,
            full_band=self.full_band,
            linked=self.linked,
            room=self.room,
            removed=self.output == "removed",
        )


class EnhancementFields(_Fields):
    """What may be asked of a recording, beside the recording."""

    model_config = ConfigDict(json_schema_extra={"not": {"required": ["quality", "bitrate"]}})

    metadata: bool = Field(True, description="Keep tags, covers, chapters, markers and time references.")
    quality: float | None = Field(
        None,
        description="Quality of an MP3, Ogg Vorbis or Opus; about the bit rate of the recording if not given.",
        json_schema_extra={"minimum": 0, "maximum": 1},
    )
    bitrate: float | None = Field(
        None,
        description="Bit rate of an MP3, Ogg Vorbis or Opus in kbit/s, in place of a quality.",
        json_schema_extra={"minimum": 1, "maximum": 10_000},
    )

    @classmethod
    def checked(cls, fields: dict[str, str]) -> "EnhancementFields":
        """Read the fields of a form.

        Args:
            fields: Their text by name.

        Returns:
            The fields; whether there is such a model is not looked at.

        Raises:
            ServiceError: One is unknown, no number or out of its range.
        """
        try:
            found = cls.model_validate(fields)
            found.options()
            found.output_options()
        except ValidationError as error:
            raise _invalid_field(error, [FILE_FIELD, *sorted(cls.model_fields)]) from None
        except ConfigError as error:
            raise service_error(error) from None
        return found

    def output_options(self) -> OutputOptions:
        """What is kept beside the sound."""
        return OutputOptions(metadata=self.metadata, quality=self.quality, bitrate=self.bitrate)


class StreamFields(_Fields):
    """What the first frame of a stream says."""

    rate: int
    channels: int = 1
    format: Literal["s16le", "f32le"]

    @classmethod
    def checked(cls, fields: dict[str, Any]) -> "StreamFields":
        """Read what a client has sent.

        Args:
            fields: Values by name.

        Returns:
            The fields; whether there is such a model is not looked at.

        Raises:
            ServiceError: One is missing, unknown, of another type or out of its range.
        """
        try:
            found = cls.model_validate(fields)
            found.options()
        except ValidationError as error:
            raise _invalid_field(error, sorted(cls.model_fields)) from None
        except ConfigError as error:
            raise service_error(error) from None
        wrong = implausible(found.rate, found.channels)
        if wrong is not None:
            raise ServiceError(422, "invalid_field", f"found {wrong}")
        return found


class AdaptationFields(BaseModel):
    """What may be asked of an adaptation, beside the recordings."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field("default", description="What to start from: a model that /v1/models calls adaptable.")
    name: str = Field("", description="What the place is called; the model's file is named after it.")
    steps: int = Field(
        150,
        description="Steps of the training; 150 take about 5 minutes on two cores.",
        json_schema_extra={"minimum": 1, "maximum": MAX_STEPS},
    )
    seed: int = Field(1, description="Seed of all draws.", json_schema_extra={"minimum": 0, "maximum": MAX_SEED})

    @classmethod
    def checked(cls, fields: dict[str, str], models: Collection[str]) -> "AdaptationFields":
        """Read the fields of a form.

        Args:
            fields: Their text by name.
            models: Models that can be adapted.

        Returns:
            The fields.

        Raises:
            ServiceError: One is unknown, no number or out of its range.
        """
        try:
            found = cls.model_validate(fields)
        except ValidationError as error:
            raise _invalid_field(error, [FILE_FIELD, *sorted(cls.model_fields)]) from None
        for name, value, low, high in (("steps", found.steps, 1, MAX_STEPS), ("seed", found.seed, 0, MAX_SEED)):
            if not low <= value <= high:
                raise ServiceError(422, "invalid_field", f"found {name} {value}, expected {low} to {high}")
        if found.model not in models:
            sentence = f"found the model {found.model[:100]!r}, expected one that can be adapted: {', '.join(models)}"
            raise ServiceError(422, "unknown_model", sentence)
        return found


def _invalid_field(error: ValidationError, known: list[str]) -> ServiceError:
    first = error.errors()[0]
    name, found = str(first["loc"][0])[:100], str(first["input"])[:100]
    if first["type"] == "extra_forbidden":
        sentence = f"found the field {name!r}, expected one of {', '.join(known)}"
    elif first["type"] == "missing":
        sentence = f"found no {name}, expected one"
    elif first["type"] == "literal_error":
        sentence = f"found {name} {found!r}, expected {first['ctx']['expected'].replace(chr(39), '')}"
    else:
        sentence = f"found {name} {found!r}, expected {_EXPECTED[first['type']]}"
    return ServiceError(422, "invalid_field", sentence)


class ErrorContent(BaseModel):
    """What went wrong."""

    code: str = Field(description="For programs: it stays the same when the sentence is improved.")
    message: str = Field(description="One sentence: what was found, what was expected, what to do.")


class ErrorAnswer(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorContent


class ModelDescription(BaseModel):
    """A model that may be named."""

    name: str
    sample_rate: int = Field(description="Rate at which it works, in Hz; recordings of any rate are taken.")
    latency_seconds: float = Field(description="Algorithmic latency of a stream.")
    rooms: list[str] = Field(description="What of the room it can keep.")
    parameters: int
    licence: str
    training_data: list[str]
    adaptable: bool = Field(description="Whether an adaptation may start from it.")

    @classmethod
    def of(cls, name: str, enhancer: Enhancer, *, adaptable: bool) -> "ModelDescription":
        """Describe a model.

        Args:
            name: Its name here.
            enhancer: The model.
            adaptable: Whether an adaptation may start from it.
        """
        metadata = enhancer.model.metadata
        return cls(
            name=name,
            sample_rate=metadata.sample_rate,
            latency_seconds=metadata.latency_seconds,
            rooms=list(metadata.rooms),
            parameters=metadata.parameters,
            licence=metadata.licence,
            training_data=list(metadata.training_data),
            adaptable=adaptable,
        )


class Models(BaseModel):
    """The models that may be named."""

    models: list[ModelDescription]


class JobAnswer(BaseModel):
    """How far a job is."""

    id: str = Field(description="Whoever knows it may see, take and delete the job; nobody else may.")
    kind: Literal["enhancement", "adaptation"]
    state: Literal["queued", "running", "done", "failed"]
    progress: float = Field(description="Share that is done, 0 to 1.")
    created: datetime
    expires: datetime | None = Field(description="When it is deleted; null until it has ended.")
    seconds: float | None = Field(description="Length of the recording; null until it is done.")
    notes: list[str] = Field(
        description="Sentences worth knowing: tags for which there is no place, or what was measured in a place."
    )
    adaptation: AdaptationState | None = Field(
        description="The training of an adapted model; null before it begins, and for other jobs."
    )
    result: str | None = Field(description="Where the result is; null until it is done.")
    error: ErrorContent | None = Field(description="Why there is no result, if it failed.")


class Status(BaseModel):
    """That all is well."""

    status: Literal["ok"] = "ok"


def form_schema() -> dict[str, Any]:
    """Describe the form of an enhancement for OpenAPI."""
    file = {"type": "string", "format": "binary", "description": "The recording, in any format that is read."}
    return _form(
        EnhancementFields,
        file,
        {
            "all of it": {"file": "interview.wav"},
            "a little of the room": {"file": "interview.wav", "limit_db": 20},
            "what was removed": {"file": "interview.wav", "output": "removed"},
        },
    )


def adaptation_schema(models: Collection[str]) -> dict[str, Any]:
    """Describe the form of an adaptation for OpenAPI.

    Args:
        models: Models that can be adapted.
    """
    files = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "minItems": 1,
        "maxItems": MAX_FILES,
        "description": "Noisy recordings of the place, half a minute together at least, with pauses.",
    }
    described = _form(
        AdaptationFields,
        files,
        {
            "a place": {"file": ["monday.wav", "tuesday.wav"], "name": "my room"},
            "for live sound": {"file": ["monday.wav", "tuesday.wav"], "model": "live"},
        },
    )
    described["content"]["multipart/form-data"]["schema"]["properties"]["model"]["enum"] = sorted(models)
    return described


def _form(fields: type[BaseModel], file: dict[str, Any], examples: dict[str, dict[str, Any]]) -> dict[str, Any]:
    schema = fields.model_json_schema()
    for field in schema["properties"].values():
        # A form leaves out what is not given: it has no null.
        if "anyOf" in field:
            (kind,) = (kind for kind in field.pop("anyOf") if kind != {"type": "null"})
            del field["default"]
            field.update(kind)
    schema["properties"] = {FILE_FIELD: file, **schema["properties"]}
    schema["required"] = [FILE_FIELD]
    content = {"schema": schema, "examples": {name: {"value": value} for name, value in examples.items()}}
    return {"required": True, "content": {"multipart/form-data": content}}
