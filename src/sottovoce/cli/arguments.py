"""Arguments that several commands take, and their checks."""

from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from sottovoce.engine.options import FOR_ASR_MIX, EnhanceOptions
from sottovoce.errors import ConfigError, DataError
from sottovoce.paths import require_writable
from sottovoce.signal.output import OutputOptions

STANDARD = Path("-")
"""Standard input or output, in place of a file."""

Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


class Paths(tuple[Path, ...]):
    """Paths of a command line.

    A class, and `Optional` in place of `X | None`, in the commands that should start quickly: tyro knows how to check
    their defaults, and loads typeguard, asyncio and unittest, which takes 45 ms, to check those of other types.
    """


Inputs = Annotated[
    Paths,
    PrimitiveConstructorSpec(
        nargs="*",
        metavar="IN",
        instance_from_str=lambda words: Paths(map(Path, words)),
        is_instance=lambda value: isinstance(value, Paths),
        str_from_instance=lambda paths: [str(path) for path in paths],
    ),
    tyro.conf.arg(metavar="IN [IN ...]"),
]


FOR_ASR = (
    f"For a speech recogniser: short for --mix {FOR_ASR_MIX:g}. Whisper tiny.en then makes fewer errors than after "
    "full enhancement, and about as many as without any: see docs/measures.md."
)


@dataclass(frozen=True, kw_only=True)
class EnhanceFlags(EnhanceOptions):
    """The options as flags, and `--for-asr`, which stands for a value of one of them.

    The help of `--no-full-band` says what the flag does, not what its field means.
    """

    full_band: Annotated[
        bool, tyro.conf.arg(help="Remove what lies above the model's band (8 kHz).", help_behavior_hint="")
    ] = True
    for_asr: Annotated[bool, tyro.conf.arg(help=FOR_ASR, help_behavior_hint="")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.for_asr:
            if self.mix != EnhanceOptions.mix:
                raise ConfigError(f"found --for-asr and --mix {self.mix:g}, expected one of them: both set the mix")
            object.__setattr__(self, "mix", FOR_ASR_MIX)

    def __reduce__(self) -> tuple[Any, ...]:
        # Workers get plain options: this module would make them load tyro.
        return partial(
            EnhanceOptions, **{field.name: getattr(self, field.name) for field in fields(EnhanceOptions)}
        ), ()


Options = Annotated[EnhanceFlags, tyro.conf.arg(name="")]
"""Flags for the fields of `EnhanceOptions`, whose documentation is their help."""

DEFAULT_OPTIONS = EnhanceFlags()


@dataclass(frozen=True, kw_only=True)
class OutputFlags(OutputOptions):
    """The options as flags; the help of `--no-metadata` says what the flag does, not what its field means."""

    metadata: Annotated[
        bool,
        tyro.conf.arg(help="Leave out tags, covers, chapters, markers and time references.", help_behavior_hint=""),
    ] = True

    def __reduce__(self) -> tuple[Any, ...]:
        # Workers get plain options: this module would make them load tyro.
        return partial(OutputOptions, **vars(self)), ()


Writing = Annotated[OutputFlags, tyro.conf.arg(name="")]
"""Flags for the fields of `OutputOptions`."""

DEFAULT_WRITING = OutputFlags()


def refuse_existing(*paths: Path, overwrite: bool) -> None:
    """Keep the files that are there already, and see that the others can be made.

    Args:
        paths: Files to be written.
        overwrite: They may be replaced.

    Raises:
        DataError: One of them exists and may not be replaced, or cannot be written.
    """
    for path in paths:
        require_writable(path)
        if path.exists() and not overwrite:
            raise DataError(f"found {path}, which is kept: name another output, or add --overwrite")
