"""Do two folders look like clean speech and noisy recordings, and are they really two?"""

import numpy as np

from sottovoce.data.corpora.manifest import Manifest, Recording
from sottovoce.signal import levels

_FRAME_SECONDS = 0.032
_LOOKED_AT_SECONDS = 30.0
_LOOKED_AT_RECORDINGS = 20
_CLEARLY_NOISIER_DB = 6.0


def dynamic_range_db(recording: Recording) -> float:
    """Distance from the quiet frames of a recording to its loud ones.

    Args:
        recording: Anything readable.

    Returns:
        95th minus 10th percentile of the frame level in dB: above 35 in a clean recording of speech, less in noise.
    """
    looked_at = min(recording.frames, round(_LOOKED_AT_SECONDS * recording.sample_rate))
    waveform, rate = recording.read(frames=looked_at)
    mono = waveform.mean(axis=0)
    size = max(1, round(_FRAME_SECONDS * rate))
    power = levels.frame_power(mono, size)
    if not power.size:
        return 0.0
    level_db = 10 * np.log10(power + 1e-10)
    low, high = np.percentile(level_db, [10, 95])
    return float(high - low)


def suspicions(speech: Manifest, mixtures: Manifest) -> list[str]:
    """What looks wrong about two folders that should be clean speech and noisy recordings.

    Args:
        speech: What was given as clean speech.
        mixtures: What was given as noisy recordings.

    Returns:
        Sentences for the user; none if all looks well.
    """
    found = []
    paths = {recording.path.resolve() for recording in speech.recordings}
    contents = {(recording.frames, round(recording.level_db, 6)) for recording in speech.recordings}
    shared = [
        recording
        for recording in mixtures.recordings
        if recording.path.resolve() in paths or (recording.frames, round(recording.level_db, 6)) in contents
    ]
    if shared:
        found.append(
            f"found {len(shared)} recordings in both folders, such as {shared[0].path}; expected clean speech in one "
            "and noisy recordings in the other: take them out of one of the two"
        )
    speech_db, mixture_db = (
        float(np.median([dynamic_range_db(recording) for recording in _sample(manifest)]))
        for manifest in (speech, mixtures)
    )
    if mixture_db > speech_db + _CLEARLY_NOISIER_DB:
        found.append(
            f"the mixtures look cleaner than the speech (quiet to loud: {mixture_db:.0f} dB against {speech_db:.0f} "
            "dB): perhaps --speech and --mixtures are swapped"
        )
    return found


def _sample(manifest: Manifest) -> list[Recording]:
    """Some recordings, evenly spread."""
    step = max(1, len(manifest.recordings) // _LOOKED_AT_RECORDINGS)
    return list(manifest.recordings[::step][:_LOOKED_AT_RECORDINGS])
