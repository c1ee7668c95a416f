"""From two unpaired folders to what a training draws from."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sottovoce.config import RunSettings
from sottovoce.data.corpora.checks import suspicions
from sottovoce.data.corpora.harvest import Enhance, NoiseStretch, harvest, harvest_residuals, harvest_speechless
from sottovoce.data.corpora.manifest import Manifest, scan, split
from sottovoce.data.simulation.rooms import Room, simulate_room
from sottovoce.errors import DataError
from sottovoce.progress import Progress, part

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
    """

    speech: Manifest
    mixtures: Manifest
    held_back_speech: Manifest
    held_back_mixtures: Manifest
    stretches: tuple[NoiseStretch, ...]
    held_back_stretches: tuple[NoiseStretch, ...]
    rooms: tuple[Room, ...]


def prepare(
    speech: Path,
    mixtures: Path,
    out: Path,
    settings: RunSettings,
    on_progress: Progress | None = None,
    *,
    enhance: Enhance | None = None,
    with_rooms: bool = True,
) -> TrainingData:
    """Look at two unpaired folders and write what was found to the run's folder.

    Args:
        speech: Folder of clean speech of anyone.
        mixtures: Folder of noisy recordings.
        out: The run's folder.
        settings: All settings.
        on_progress: Called for every file.
        enhance: A trained system. Noise is where it finds no speech; from recordings without such a stretch, what it
            removes.
        with_rooms: Whether to simulate rooms; who does not know yet which ones does it later, by `simulate_rooms`.

    Returns:
        What the training draws from.

    Raises:
        DataError: A folder is missing or has nothing usable, or `out` holds a run on other recordings.
    """
    manifests = {}
    for name, folder in (("speech", speech), ("mixtures", mixtures)):
        manifest = scan(folder, progress=part(on_progress, f"looking at {name}"))
        recorded = out / f"{name}.jsonl"
        if recorded.exists() and not _same_sound(Manifest.load(recorded), manifest):
            raise DataError(
                f"found a run on other recordings in {out} than those in {folder}: give another folder for the run, or "
                f"the recordings that {recorded} lists"
            )
        manifest.save(recorded)
        for unusable in manifest.unusable:
            _log.warning("left out: %s", unusable.reason)
        _log.info("%s: %.1f minutes, %d recordings", name, manifest.seconds / 60, len(manifest.recordings))
        manifests[name] = manifest
    for suspicion in suspicions(manifests["speech"], manifests["mixtures"]):
        _log.warning("%s", suspicion)

    training = settings.training
    parts = {}
    for index, (name, manifest) in enumerate(manifests.items()):
        share = training.data.held_back_share
        if share and len(manifest.groups) > 1:
            parts[name] = split(manifest, (1 - share, share), np.random.default_rng([training.seed, 100 + index]))
        else:
            if share:
                _log.warning("%s: one speaker or session alone, so the health checks use what is trained on", name)
            parts[name] = (manifest, manifest)
    trained_on, held_back = parts["mixtures"]
    stretches = _noise(trained_on, out, enhance, "to train on", on_progress)
    held_back_stretches = stretches
    if held_back is not trained_on:
        held_back_stretches = _noise(held_back, out, enhance, "to check with", on_progress)
    if not stretches and enhance is None:  # with a trained system, who called says what that means
        _log.warning(
            "found no noise-only stretch in the mixtures: their stationary noise between words stands in; recordings "
            "with pauses of a second and more teach more"
        )
    return TrainingData(
        parts["speech"][0],
        parts["mixtures"][0],
        parts["speech"][1],
        parts["mixtures"][1],
        stretches,
        held_back_stretches,
        simulate_rooms(settings, on_progress) if with_rooms else (),
    )


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
