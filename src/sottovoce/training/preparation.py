"""From two unpaired folders, or what stands in their place, to what a training draws from."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sottovoce.config import RunSettings
from sottovoce.data.corpora.checks import suspicions
from sottovoce.data.corpora.harvest import Enhance, NoiseStretch, harvest, harvest_residuals, harvest_speechless
from sottovoce.data.corpora.manifest import Manifest, scan, split
from sottovoce.data.corpora.stream import RecordingStream
from sottovoce.data.simulation.rooms import Room, simulate_room
from sottovoce.errors import DataError
from sottovoce.progress import Progress, part
from sottovoce.training.streaming import KINDS, Streamed, keys_of, open_listing, open_stream

# What random numbers are drawn for.
_DIVISION = 100

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """Recordings of a run: what is trained on and what is held out, by speaker or session.

    Attributes:
        speech: Clean speech of the training.
        mixtures: Noisy recordings of the training.
        held_back_speech: Clean speech for the health checks.
        held_back_mixtures: Noisy recordings for the health checks.
        stretches: Noise-only stretches of the training's recordings.
        held_back_stretches: Noise-only stretches of the held-out ones.
        rooms: Simulated rooms.
        speech_stream: Clean speech of the training where a manifest lists it: `speech` is then empty.
        mixture_stream: Its noisy recordings, likewise: `mixtures` and `stretches` are empty.
    """

    speech: Manifest
    mixtures: Manifest
    held_back_speech: Manifest
    held_back_mixtures: Manifest
    stretches: tuple[NoiseStretch, ...]
    held_back_stretches: tuple[NoiseStretch, ...]
    rooms: tuple[Room, ...]
    speech_stream: RecordingStream | None = None
    mixture_stream: RecordingStream | None = None

    @property
    def is_streamed(self) -> bool:
        """Whether a manifest lists what is trained on, or a part of it."""
        return self.speech_stream is not None or self.mixture_stream is not None


def prepare(
    speech: Path | str,
    mixtures: Path | str,
    out: Path,
    settings: RunSettings,
    on_progress: Progress | None = None,
    *,
    enhance: Enhance | None = None,
    with_rooms: bool = True,
    may_stream: bool = True,
) -> TrainingData:
    """Look at two unpaired folders and write what was found to the run's folder.

    Args:
        speech: Folder of clean speech of anyone; or a manifest, shards, or an address of these or of recordings.
        mixtures: Folder of noisy recordings, or likewise.
        out: The run's folder.
        settings: All settings.
        on_progress: Called for every file.
        enhance: A trained system. Noise is where it finds no speech; from recordings without such a stretch, what it
            removes.
        with_rooms: Whether to simulate rooms; who does not know yet which ones does it later, by `simulate_rooms`.
        may_stream: Whether manifests, shards and addresses are taken; otherwise both are folders, whatever lies in
            them beside recordings.

    Returns:
        What the training draws from.

    Raises:
        DataError: A folder is missing or has nothing usable, or `out` holds a run on other recordings.
    """
    places = {"speech": speech, "mixtures": mixtures}
    looks = {}
    for name, place in places.items():
        listing = open_listing(place, out / "manifests" / name, on_progress) if may_stream else None
        if listing is None:
            looks[name] = _Look(_scanned(name, Path(place), out, on_progress))
        else:
            opened = open_stream(name, listing, out, settings.training, on_progress)
            looks[name] = _Look(opened.sample, opened)
    for suspicion in suspicions(*(look.recordings for look in looks.values())):
        _log.warning("%s", suspicion)
    if any(look.streamed for look in looks.values()):
        _warn_of_shared(looks["speech"], looks["mixtures"], places)
    of_speech, of_mixtures = (_divided(name, look, settings) for name, look in looks.items())
    streamed = looks["mixtures"].streamed
    stretches: tuple[NoiseStretch, ...] = ()
    if streamed is not None:
        found = held_back_stretches = streamed.held_back.stretches
    else:
        trained_on, held_back = of_mixtures
        found = held_back_stretches = stretches = _noise(trained_on, out, enhance, "to train on", on_progress)
        if held_back is not trained_on:
            held_back_stretches = _noise(held_back, out, enhance, "to check with", on_progress)
    if not found and enhance is None:  # with a trained system, who called says what that means
        _log.warning(
            "found no noise-only stretch in the mixtures: their stationary noise between words stands in; recordings "
            "with pauses of a second and more teach more"
        )
    return TrainingData(
        of_speech[0],
        of_mixtures[0],
        of_speech[1],
        of_mixtures[1],
        stretches,
        held_back_stretches,
        simulate_rooms(settings, on_progress) if with_rooms else (),
        *(None if look.streamed is None else look.streamed.stream for look in looks.values()),
    )


@dataclass(frozen=True)
class _Look:
    """What was seen of clean speech, or of noisy recordings: all of a folder, or some of a stream."""

    recordings: Manifest
    streamed: Streamed | None = None


def _warn_of_shared(speech: _Look, mixtures: _Look, places: dict[str, Path | str]) -> None:
    of_speech, of_mixtures = (
        keys_of(look.recordings) if look.streamed is None else look.streamed.keys for look in (speech, mixtures)
    )
    if shared := np.intersect1d(of_speech, of_mixtures).size:
        _log.warning(
            "found %d recordings both in %s and in %s; expected clean speech in one and noisy recordings in the other: "
            "take them out of one of the two",
            shared,
            *places.values(),
        )


def _divided(name: str, look: _Look, settings: RunSettings) -> tuple[Manifest, Manifest]:
    """What is trained on and what is held back; of a stream the latter alone."""
    share, seed = settings.training.data.held_back_share, settings.training.seed
    is_divided = len(look.recordings.groups) > 1 if look.streamed is None else look.streamed.is_divided
    if share and not is_divided:
        _log.warning("%s: one speaker or session alone, so the health checks use what is trained on", name)
    if look.streamed is not None:
        return Manifest(()), look.streamed.held_back.recordings
    if not share or not is_divided:
        return look.recordings, look.recordings
    rng = np.random.default_rng([seed, _DIVISION + KINDS.index(name)])
    trained_on, held_back = split(look.recordings, (1 - share, share), rng)
    return trained_on, held_back


def _scanned(name: str, folder: Path, out: Path, on_progress: Progress | None) -> Manifest:
    """Look at a folder of recordings, and see that they are those of the run in `out`."""
    manifest = scan(folder, progress=part(on_progress, f"looking at {name}"))
    recorded = out / f"{name}.jsonl"
    if (out / f"{name}.json").exists() or (recorded.exists() and not _same_sound(Manifest.load(recorded), manifest)):
        raise DataError(
            f"found a run on other recordings in {out} than those in {folder}: give another folder for the run, or "
            f"the recordings that {recorded} lists"
        )
    manifest.save(recorded)
    for unusable in manifest.unusable:
        _log.warning("left out: %s", unusable.reason)
    _log.info("%s: %.1f minutes, %d recordings", name, manifest.seconds / 60, len(manifest.recordings))
    return manifest


def simulate_rooms(settings: RunSettings, on_progress: Progress | None = None) -> tuple[Room, ...]:
    """The rooms of the settings' simulated mixtures.

    Args:
        settings: All settings.
        on_progress: Called for every room.

    Returns:
        The same rooms for the same settings and seed; none for settings without simulated mixtures.

    Raises:
        DataError: No room has such a reverberation time.
        MissingExtraError: pyroomacoustics is not installed.
    """
    training = settings.training
    wanted = training.data.simulation.room
    count = wanted.count if training.data.simulated_clips else 0
    rng, rooms = np.random.default_rng([training.seed, 102]), []
    for index in range(count):
        rooms.append(simulate_room(rng, settings.frontend.sample_rate, wanted.t60_seconds))
        if on_progress is not None:
            on_progress("simulating rooms", index + 1, count)
    return tuple(rooms)


def _noise(
    manifest: Manifest, out: Path, enhance: Enhance | None, purpose: str, on_progress: Progress | None
) -> tuple[NoiseStretch, ...]:
    """Noise-only stretches, by voicing; where there is a trained system, by its ears, and its residuals besides."""
    progress = part(on_progress, f"finding noise-only stretches {purpose}")
    if enhance is None:
        return harvest(manifest, progress=progress)
    stretches = harvest_speechless(manifest.recordings, enhance, progress=progress)
    paused = {stretch.recording for stretch in stretches}
    unpaused = [recording for recording in manifest.recordings if recording not in paused]
    if not unpaused:
        return stretches
    progress = part(on_progress, f"taking speech out of recordings {purpose}")
    return (*stretches, *harvest_residuals(unpaused, enhance, out / "residuals", progress=progress))


def _same_sound(one: Manifest, other: Manifest) -> bool:
    """Whether two manifests list the same recordings; their folder may have moved."""

    def known(manifest: Manifest) -> list[tuple[str, str, int, float]]:
        return [(r.path.name, r.group, r.frames, r.level_db) for r in manifest.recordings]

    return known(one) == known(other)
