"""What became of an archive: the folder of a run, and a table of results per part, which is written last."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from sottovoce.archive.manifest import Part
from sottovoce.archive.stores import Store, open_store
from sottovoce.engine.model import Model
from sottovoce.engine.options import EnhanceOptions
from sottovoce.errors import DataError, StorageError
from sottovoce.signal.output import OutputOptions

RUN_NAME = "run.json"
"""The file that says what the recordings of a run were enhanced with."""

RESULTS_NAME = "results"
"""The folder of the tables of a run."""

AUDIO_NAME = "audio"
"""The folder of the enhanced recordings of a run."""

_FORMAT = "sottovoce-run-1"
_KEY_DIGITS = 12
_UNSAFE = re.compile(r"[^\w.-]")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one recording.

    Attributes:
        id: Its name in the manifest.
        uri: Where it is.
        status: Whether there is an enhanced version.
        output: Path of that below the folder of the run; None if there is none.
        seconds: Length of the recording; None if it cannot be read.
        input_db: RMS level of the recording over all channels, in dB re full scale.
        output_db: The same of the enhanced version.
        clipped: Share of the recording's samples at full scale, 0 to 1.
        speech: Share of time with speech in the enhanced version, 0 to 1: the activity factor of ITU-T P.56.
        dnsmos_ovrl: Overall quality of the enhanced version as DNSMOS P.835 predicts it, about 1 to 5; None if it was
            not asked for, or the enhanced version is silent.
        dnsmos_sig: The same of the speech itself.
        dnsmos_bak: The same of the background.
        error: The kind of error; None if there was none.
        message: What was found, what was expected, what to do.
        attempts: How often it was tried.
        work_seconds: How long the last attempt took; None if the process died that made it.
    """

    id: str
    uri: str
    status: Literal["enhanced", "failed"]
    output: str | None = None
    seconds: float | None = None
    input_db: float | None = None
    output_db: float | None = None
    clipped: float | None = None
    speech: float | None = None
    dnsmos_ovrl: float | None = None
    dnsmos_sig: float | None = None
    dnsmos_bak: float | None = None
    error: str | None = None
    message: str | None = None
    attempts: int = 1
    work_seconds: float | None = None


@dataclass(frozen=True)
class Run:
    """The folder of one model with one choice of options: other ones have other folders, so that nothing is mixed.

    Attributes:
        store: The folder, or its place in a store.
        model: Name of the model.
        options: How its recordings are enhanced.
        output_options: What is written beside the sound.
        packing: Kind of file in which the enhanced recordings of a part are put together; None if they are not.
    """

    store: Store
    model: str
    options: EnhanceOptions
    output_options: OutputOptions
    packing: str | None = None

    @classmethod
    def begin(
        cls,
        output: Path | str,
        model: Model,
        options: EnhanceOptions,
        output_options: OutputOptions,
        packing: str | None = None,
    ) -> "Run":
        """Make the folder of a run, or go on with it.

        Args:
            output: Folder of all runs of an archive, which is made; or an address such as `s3://bucket/enhanced`.
            model: The network.
            options: How to enhance.
            output_options: What is written beside the sound.
            packing: Kind of file in which the enhanced recordings of a part are put together.

        Returns:
            The run.

        Raises:
            StorageError: The folder cannot be made or written.
            DataError: It was begun with other versions of what makes the samples.
            ConfigError: The address is of no kind that is known.
            MissingExtraError: What reaches it is not installed.
        """
        # What a subclass adds, such as a flag of the command line, is no option of its own.
        options = EnhanceOptions(**{field.name: getattr(options, field.name) for field in fields(EnhanceOptions)})
        output_options = OutputOptions(
            **{field.name: getattr(output_options, field.name) for field in fields(OutputOptions)}
        )
        settings: dict[str, Any] = {
            "model_sha256": model.hash,
            "options": asdict(options),
            "writing": asdict(output_options),
            **({} if packing is None else {"packing": packing}),
        }
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:_KEY_DIGITS]
        name = model.metadata.name
        store = open_store(output).within(f"{_UNSAFE.sub('_', name)[:40]}-{key}")
        run = cls(store, name, options, output_options, packing)
        store.prepare(RESULTS_NAME, AUDIO_NAME)
        run._agree({"format": _FORMAT, "model": name, **settings, "versions": versions()})
        return run

    def _agree(self, wanted: dict[str, Any]) -> None:
        """Write what the run is made with, or see that it was begun with the same."""
        path = self.store.address(RUN_NAME)
        try:
            if self.store.size(RUN_NAME) is None:
                content = json.dumps(wanted, indent=2) + "\n"
                self.store.write(RUN_NAME, content.encode(), overwrite=False)
                return
        except DataError:  # another machine was faster
            pass
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            found = json.loads(self.store.read(RUN_NAME))
            begun_with = {**found.pop("versions")}
            here = wanted.pop("versions")
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            raise DataError(f"{path} is cut or was altered: name another output folder") from None
        if found != wanted:
            raise DataError(f"{path} describes another run than its folder's name says: name another output folder")
        for package in sorted({*begun_with, *here}):
            if begun_with.get(package) != here.get(package):
                raise DataError(
                    f"{self.store.address()} was begun with {package} {begun_with.get(package, 'missing')}, found "
                    f"{here.get(package, 'none')}: use the same version, or name another output folder, since the "
                    "samples may differ"
                )

    def table_of(self, part: Part) -> str:
        """Name the table of a part: that it is there says that the part is finished.

        Args:
            part: A part of a manifest; if it was edited since, it is another one.

        Returns:
            The name of its table.
        """
        return f"{Path(part.name).stem}-{part.sha256[:_KEY_DIGITS]}.jsonl"

    def finished_tables(self) -> set[str]:
        """List the names of the tables that are there.

        Raises:
            DataError: The folder cannot be read.
        """
        try:
            return self.store.names(RESULTS_NAME)
        except OSError as error:
            folder = self.store.address(RESULTS_NAME)
            raise DataError(f"cannot read {folder} ({error.strerror or error}): check that you may read it") from error

    def write(self, part: Part, rows: Sequence[Row]) -> None:
        """Write the table of a part that is finished, whole or not at all.

        Args:
            part: The part.
            rows: What became of its recordings, in its order.

        Raises:
            StorageError: The disk does not take it.
        """
        name = f"{RESULTS_NAME}/{self.table_of(part)}"
        try:
            self.store.write(name, "".join(f"{json.dumps(vars(row))}\n" for row in rows).encode())
        except OSError as error:
            raise _unwritable(self.store.address(name), error) from error

    def read(self, part: Part) -> list[Row]:
        """Read the table of a part that is finished.

        Args:
            part: The part.

        Returns:
            What became of its recordings, in its order.

        Raises:
            DataError: It cannot be read, was altered, or has other rows than the part has recordings.
        """
        name = f"{RESULTS_NAME}/{self.table_of(part)}"
        path = self.store.address(name)
        try:
            rows = [Row(**json.loads(line)) for line in self.store.read(name).splitlines()]
        except OSError as error:
            raise DataError(f"cannot read {path} ({error.strerror or error}): check that you may read it") from error
        except (ValueError, TypeError, RecursionError):
            rows = []
        if len(rows) != part.items:
            raise DataError(f"{path} is cut or was altered: delete it, and the part is gone through again")
        return rows


def versions() -> dict[str, str]:
    """Say which versions of what makes the samples are installed.

    Returns:
        Versions by the names of packages and libraries.
    """
    import numpy
    import soundfile
    import soxr

    import sottovoce
    from sottovoce.runtime import load_onnxruntime

    return {
        "sottovoce": sottovoce.__version__,
        "onnxruntime": load_onnxruntime().__version__,
        "numpy": numpy.__version__,
        "soxr": soxr.__version__,
        "soundfile": soundfile.__version__,
        "libsndfile": soundfile.__libsndfile_version__,
    }


def _unwritable(path: str, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write {path} ({error.strerror or error}): free some space, see whether you may write there, or name "
        "another output folder"
    )
