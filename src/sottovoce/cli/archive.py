"""The command `archive`."""

import os
import time
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from sottovoce import interruption, terminal
from sottovoce.cli.arguments import DEFAULT_OPTIONS, DEFAULT_WRITING, Options, Writing
from sottovoce.errors import ConfigError

# An address is no path: `Path` would make s3:/bucket of s3://bucket.
Places = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IN [IN ...]", help_behavior_hint="")]
Output = Annotated[str, tyro.conf.arg(aliases=["-o"])]


@dataclass(frozen=True, kw_only=True)
class Make:
    """List recordings in a manifest: parts of about a thousand lines of JSON, and an index of them.

    Memory does not grow with the number of recordings, and equal files at equal places give an equal manifest. One that
    cannot be read is listed, and a sentence says why: enhancing tries it again.

    Args:
        inputs: Recordings, and folders that are searched with all folders below them; tar shards and Parquet files with
            recordings; addresses such as s3://BUCKET/FOLDER.
        output: Folder to make, or its address.
        hash: Do not read every file to list its SHA-256: a change is then noticed by the size alone, and of recordings
            in stores and shards not even the length is looked at.
        part_items: Recordings of each part.
        kind: Kind of file of the parts: lines of JSON, or Parquet.
        jobs: Number of processes that read the recordings.
    """

    inputs: Places
    output: Output
    hash: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = True
    part_items: int = 1000
    kind: Literal["jsonl", "parquet"] = "jsonl"
    jobs: int = os.cpu_count() or 1

    def run(self) -> int:
        """Make the manifest."""
        from sottovoce.archive.listing import make_manifest

        with terminal.progress() as show:
            manifest = make_manifest(
                self.inputs,
                self.output,
                hashes=self.hash,
                part_items=self.part_items,
                kind=self.kind,
                jobs=self.jobs,
                on_progress=show,
            )
        terminal.say(
            f"Listed {manifest.items} recordings, {terminal.duration(manifest.seconds)} of sound, in "
            f"{len(manifest.parts)} parts; see {self.output}."
        )
        return 0


@dataclass(frozen=True, kw_only=True)
class Enhance:
    """Enhance the recordings of a manifest, but for what earlier runs have finished.

    The output has a folder for each model and choice of options. In it, audio/ has the enhanced recordings, results/ a
    table for each part, with a line of JSON for each recording: length, levels, clipping, share of speech, or why it
    failed. A table is written when its part is finished, so the same command goes on after any interruption.

    Args:
        manifest: Folder that `sottovoce archive make` wrote, or its address.
        output: Folder to write to, or its address, such as s3://BUCKET/FOLDER.
        model: A bundled model, default or live; or the folder of a training or an adaptation, or a model file.
        options: How to enhance.
        writing: What is written beside the sound.
        pack: Put the enhanced recordings of each part into one file: a tar shard as of WebDataset, or Parquet as of
            Hugging Face's datasets.
        shard: Go through one share of the parts, such as 3/16 on the third of 16 machines.
        retry_failed: Try what failed in finished parts again.
        dnsmos: Have the tables say how DNSMOS rates the enhanced recordings, which takes several times as long.
        attempts: How often a recording is tried whose failure may pass, such as that of a network drive, or that made
            its process crash.
        jobs: Number of recordings at once, each in a process of its own, which takes about 90 MiB.
        address: Have actors of a Ray cluster do the work: auto or ray://HOST:PORT; or local, for a cluster that is this
            machine alone.
    """

    manifest: tyro.conf.Positional[str]
    output: Output
    model: str = "default"
    options: Options = DEFAULT_OPTIONS
    writing: Writing = DEFAULT_WRITING
    pack: Literal["webdataset", "parquet"] | None = None
    shard: str = "1/1"
    retry_failed: bool = False
    dnsmos: bool = False
    attempts: int = 3
    jobs: int = os.cpu_count() or 1
    address: str | None = None

    def run(self) -> int:
        """Enhance them; the exit code is 1 if some failed, or some parts were not gone through."""
        import sottovoce
        from sottovoce.archive.manifest import Manifest
        from sottovoce.archive.run import enhance_archive

        start = time.perf_counter()
        shard = _shard(self.shard)
        manifest = Manifest.open(self.manifest)
        with (
            interruption.noted(lambda: "what is finished is kept; the same command goes on from there"),
            terminal.progress() as show,
        ):
            summary = enhance_archive(
                manifest,
                self.output,
                sottovoce.load(self.model),
                self.options,
                output_options=self.writing,
                packing=self.pack,
                shard=shard,
                retry_failed=self.retry_failed,
                dnsmos=self.dnsmos,
                attempts=self.attempts,
                jobs=self.jobs,
                address=self.address,
                on_progress=lambda task, done, total, note="": show(
                    task, done, total, note or f"{terminal.duration(done)} of {terminal.duration(total)}"
                ),
            )
        elapsed_seconds = time.perf_counter() - start
        terminal.say(
            f"Enhanced {summary.enhanced} of {summary.enhanced + summary.failed} recordings, "
            f"{terminal.duration(summary.seconds)} of sound in {elapsed_seconds:.1f} s; {summary.failed} failed. "
            f"{summary.finished_parts} parts finished, {summary.kept_parts} kept from earlier, "
            f"{len(summary.unfinished)} not gone through. See {summary.place}."
        )
        return 1 if summary.failed or summary.unfinished else 0


def _shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise ConfigError(f"found the shard {text!r}, expected the number of this run and of all, such as 3/16")
    return int(number), int(count)


def archive(
    *,
    step: Annotated[
        Annotated[Make, tyro.conf.subcommand("make")] | Annotated[Enhance, tyro.conf.subcommand("enhance")],
        tyro.conf.arg(name=""),
    ],
) -> int:
    """Enhance so many recordings that a run is stopped, moved to other machines and repeated at any time.

    Example:
        sottovoce archive make recordings/ -o manifest
        sottovoce archive enhance manifest -o enhanced/
        sottovoce archive enhance manifest -o enhanced/ --shard 3/16
    """
    return step.run()
