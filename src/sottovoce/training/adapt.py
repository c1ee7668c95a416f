"""Adapters of a trained system learn from recordings of one place, and are kept only if it is better with them there.

The system itself is frozen. So a place is a small file beside a model that many places share, and none of them can make
it forget what it knows.
"""

import json
import logging
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sottovoce.atomic import replacing
from sottovoce.config import SimulatedNoiseSettings, SimulatedSpeechSettings, SystemSettings, changed
from sottovoce.data.corpora.manifest import Manifest
from sottovoce.data.corpora.place import BAND_CENTRES_HZ, Place, listen, source_names, take_excerpts
from sottovoce.data.sampling import UnpairedClips
from sottovoce.data.simulation.rooms import simulate_room
from sottovoce.engine.adapters import ADAPTED_SUFFIX, BASE_NAME, PLACE_SUFFIX, read_adapters
from sottovoce.engine.model_file import checked_metadata, read_content
from sottovoce.errors import ConfigError, DataError
from sottovoce.metrics import plots
from sottovoce.metrics.report import Mean, mean
from sottovoce.models.adapters import attach, merge
from sottovoce.models.checkpoint import load_checkpoint, save_checkpoint
from sottovoce.models.export import adapters_between, export_model, recorded_provenance
from sottovoce.models.joint import JointAutoencoder
from sottovoce.objectives.joint import UnpairedTensors
from sottovoce.progress import Progress, named, part
from sottovoce.signal import audio
from sottovoce.training.log import plot_run
from sottovoce.training.preparation import TrainingData, prepare, simulate_rooms
from sottovoce.training.run import CHECKPOINT, fit, keep_start, require_apart
from sottovoce.training.stages import joint_stages
from sottovoce.weights import MODELS

_log = logging.getLogger(__name__)

# Rank 8 gains no more than chance, in files of 165 kB; rank 1 loses a quarter of the gain.
_RANK = 4
# Three times what suits whole matrices: a factor moves its product by less than its own step.
_LEARNING_RATE = 6e-3
_HELD_BACK_SHARE = 0.25
# Many steps of few clips at such a rate lead further in the same time than half as many steps of twice the clips.
_SIMULATED_CLIPS = 6
_NOISE_SPEED = (0.9, 1.1)
_OTHER_NOISE_SHARE = 0.1
# Enough clips to tell a gain of a tenth of a dB from chance, a few at a time so that they take little memory.
_CHECK_BATCHES, _CHECK_CLIPS = 8, 16
_CHECK_ROOMS = 16
# Pauses are found where the noise is low, and voiced sounds are the loudest: what is measured is the upper end.
_BELOW_FOUND_DB, _ABOVE_FOUND_DB = 15.0, 5.0
_UNKNOWN_SNR_DB = (-5.0, 15.0)
# Rooms of a place: the reverberation time is known to a factor of two. Shorter ones are not simulated.
_T60_RATIO = (0.5, 1.5)
_MIN_T60_SECONDS = 0.15
_MAX_T60_SECONDS = 5.0
_ROOM_SHARE = 0.8
_CLEAN_SNR_DB = 35.0
# What an adapted system may lose elsewhere: level of clean speech, and of the noise that it used to take away.
_SPEECH_TOLERANCE_DB = 0.3
_NOISE_TOLERANCE_DB = 1.0


@dataclass(frozen=True)
class Comparison:
    """The adapted system against the one that it came from, on what was held back; no clean version is known.

    Attributes:
        gain_db: Error below that of the old system, on held-back noise of the place put on held-back clean speech.
        speech_change_db: Level of clean speech after the new system against the old one.
        noise_change_db: Level of held-back noise after the new system against the old one.
    """

    gain_db: Mean
    speech_change_db: float
    noise_change_db: float

    @property
    def is_better(self) -> bool:
        """Whether the gain is more than chance, speech is not eaten and noise not let through."""
        return (
            self.gain_db.value - self.gain_db.half_width > 0.0
            and self.speech_change_db >= -_SPEECH_TOLERANCE_DB
            and self.noise_change_db <= _NOISE_TOLERANCE_DB
        )


@dataclass(frozen=True)
class Adaptation:
    """What came out.

    Attributes:
        model: The exported model: the adapted one, or the old one.
        adopted: Whether it is the adapted one; `model.place` beside it is then what it adds to the old one.
        reason: Why, as a sentence.
        place: What was measured.
        comparison: What was compared; None where there was nothing to learn.
        refused: What was learned but not taken, for ears that doubt the check; None where there is no such thing.
    """

    model: Path
    adopted: bool
    reason: str
    place: Place
    comparison: Comparison | None
    refused: Path | None = None


def adapt(
    mixtures: Path,
    out: Path,
    *,
    checkpoint: Path,
    speech: Path,
    steps: int = 150,
    seed: int = 1,
    command: str = "",
    on_progress: Progress | None = None,
) -> Adaptation:
    """Let a trained system learn from noisy recordings of a place; an interrupted adaptation in `out` goes on.

    Noise is taken from where the old system finds no speech, and from what it removes where it always finds some.
    It is put on clean speech of anyone in simulated rooms that reverberate as the place does, by ear, and all late
    reverberation is to be removed; the losses of the joint stage are taken on the recordings themselves, as in the
    training. A quarter of the recordings and speakers is held out; whether the new system is better is measured on
    these alone.

    Args:
        mixtures: A noisy recording, or a folder of them.
        out: Folder to write to: `model.onnx`, `model.place`, `checkpoint.safetensors`, `adaptation.json`, pictures; and
            `base.onnx`, to which the place belongs, where that is not a bundled model.
        checkpoint: Training checkpoint of a joint system.
        speech: Folder of clean speech of anyone.
        steps: Steps of the training.
        seed: Seed of all draws.
        command: The command line, to be kept in the model.
        on_progress: Called with every task's progress.

    Returns:
        The model and what was found.

    Raises:
        DataError: There is too little to learn from, or `out` holds something else.
        ModelError: The checkpoint cannot be used.
        AudioError: There is no recording at `mixtures`.
        ConfigError: `steps` is not above 0.
    """
    if steps < 1:
        raise ConfigError(f"found {steps} steps, expected 1 or more")
    require_apart(checkpoint, out)
    old, original = load_checkpoint(checkpoint)
    rate = original.frontend.sample_rate

    take_excerpts(mixtures, out / "excerpts", rate, progress=part(on_progress, "cutting excerpts"))
    out.mkdir(parents=True, exist_ok=True)
    keep_start(out, checkpoint)
    data = prepare(
        speech,
        out / "excerpts",
        out,
        _settings(original, steps, seed),
        on_progress,
        enhance=lambda waveform: old.enhance(torch.from_numpy(waveform).unsqueeze(0))[0].numpy(),
        with_rooms=False,
        may_stream=False,
    )
    for held_back, trained_on, what in (
        (data.held_back_speech, data.speech, "speakers below --speech"),
        (data.held_back_mixtures, data.mixtures, "usable recordings, or parts of one,"),
    ):
        if held_back is trained_on:
            raise DataError(
                f"found one of the {what}, expected two or more: one is held back to see what has become better"
            )
    recordings = Manifest((*data.mixtures.recordings, *data.held_back_mixtures.recordings))
    place = listen(recordings, (*data.stretches, *data.held_back_stretches))
    noises = _noises(place, out / "excerpts")
    settings = _for_place(_settings(original, steps, seed), place)
    chosen = new = old
    comparison = None
    reason = _nothing_to_learn(place, data)
    if not reason:
        if not place.has_speech:
            _log.warning("found no clear voice in the recordings: what is steady in their sound is taken for noise")
        data = replace(data, rooms=simulate_rooms(settings, on_progress))
        new = load_checkpoint(checkpoint)[0]
        adapters = attach(new.adapted_parts(), _RANK, torch.Generator().manual_seed(seed))
        stage = replace(joint_stages(new, settings)[-1], trained=adapters)
        fit(new, [stage], data, out, settings, on_progress=on_progress)
        merge(new)
        with named("comparing with the old model", on_progress):
            comparison = compare(old, new, data, settings)
        chosen, reason = (new if comparison.is_better else old), _verdict(comparison, place)
        plot_run(out)
    adopted = chosen is not old
    refused = out / "refused.onnx" if comparison is not None and not adopted else None
    with named("writing the model", on_progress):
        base = _base(checkpoint, out, old, original)
        sentences = ("Recordings of a place.",)
        file = adapters_between(base, old, new, rank=_RANK, training_data=sentences, command=command)
        adapted = read_adapters(file, "the file of the place").applied(base, "the place")
        _write(out / "model.onnx", adapted if adopted else base)
        if adopted:
            _write(out / f"model{PLACE_SUFFIX}", file)
        if refused is not None:
            _write(refused, adapted)
        save_checkpoint(out / CHECKPOINT, chosen, settings if adopted else original)
    adaptation = Adaptation(out / "model.onnx", adopted, reason, place, comparison, refused)
    _write(out / "adaptation.json", (json.dumps(_as_json(adaptation, noises), indent=2) + "\n").encode())
    if len(place.noise_bands_db):
        plots.save(plots.noise_spectra(place.noise_bands_db, BAND_CENTRES_HZ), out / "noise.png")
    _draw_before_after(out / "before_after.png", data.held_back_mixtures, {"before": old, "after": chosen})
    return adaptation


@torch.no_grad()
def compare(old: JointAutoencoder, new: JointAutoencoder, data: TrainingData, settings: SystemSettings) -> Comparison:
    """Compare two systems on held-out recordings and speakers, without the clean version of any recording.

    Args:
        old: The system before, in evaluation mode.
        new: The system after, in evaluation mode.
        data: Holds the held-out recordings and speakers.
        settings: Settings of the training.

    Returns:
        The comparison.
    """
    drawn = settings.training.data
    counts = {
        "speech_clips": _CHECK_CLIPS // 4,
        "noise_clips": _CHECK_CLIPS // 4,
        "mixture_clips": 1,
        "simulated_clips": _CHECK_CLIPS,
    }
    # Speech and noise as they are: a system that has met altered voices alone is better on these, and not on people.
    unaltered = {
        "quiet_share": 0.0,
        "random_filter": 0.0,
        "band_limited_share": 0.0,
        "speech": SimulatedSpeechSettings(),
        "noise": SimulatedNoiseSettings(),
    }
    simulation = drawn.simulation.model_copy(update=unaltered)
    rng = np.random.default_rng([settings.training.seed, 103])
    rate, t60_seconds = settings.frontend.sample_rate, simulation.room.t60_seconds
    clips = UnpairedClips(
        data.held_back_speech,
        data.held_back_mixtures,
        data.held_back_stretches,
        rooms=[simulate_room(rng, rate, t60_seconds) for _ in range(min(_CHECK_ROOMS, len(data.rooms)))],
        settings=drawn.model_copy(update={**counts, "simulation": simulation}),
        sample_rate=rate,
        seed=settings.training.seed + 1,
    )

    def error_db(model: JointAutoencoder, batch: UnpairedTensors) -> Tensor:
        target, estimate = (
            model.compressed(model.analyse(waveforms))
            for waveforms in (batch.simulated_targets, model.enhance(batch.simulated_mixtures))
        )
        return 10.0 * torch.log10((estimate - target).square().mean(dim=(1, 2)) + 1e-12)

    gains_db: list[float] = []
    power = np.zeros((2, 2))  # of speech and noise, after the old and the new system
    for step in range(_CHECK_BATCHES):
        batch = UnpairedTensors(*map(torch.from_numpy, clips.batch(step, "check")))
        gains_db += (error_db(old, batch) - error_db(new, batch)).tolist()
        power += [
            [float(model.enhance(waveforms).square().mean()) for model in (old, new)]
            for waveforms in (batch.speech, batch.noise)
        ]
    speech_change_db, noise_change_db = 10.0 * np.log10((power[:, 1] + 1e-12) / (power[:, 0] + 1e-12))
    return Comparison(mean(gains_db), float(speech_change_db), float(noise_change_db))


def _base(checkpoint: Path, out: Path, system: JointAutoencoder, settings: SystemSettings) -> bytes:
    """The exported model that adapters are added to; one that is not bundled is put beside the file of the place."""
    base = out / BASE_NAME
    for exported in (checkpoint.with_suffix(".onnx"), checkpoint.with_name("model.onnx")):
        if exported.exists():
            content = read_content(exported)
            checked_metadata(content, str(exported))
            if exported not in MODELS.values():
                _write(base, content)
            return content
    export_model(base, system, settings, recorded_provenance(checkpoint))
    return read_content(base)


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _settings(settings: SystemSettings, steps: int, seed: int) -> SystemSettings:
    """A short joint stage, on simulated mixtures above all."""
    training = settings.training
    noise = {
        # The noise is that of the place; a little of what any place may have keeps the rest from being forgotten.
        "speed": _NOISE_SPEED,
        "reversed_share": 0.0,
        "swelling_share": 0.0,
        "babble_share": 0.0,
        "synthetic_share": min(_OTHER_NOISE_SHARE, training.data.simulation.noise.synthetic_share),
    }
    data = {
        "mixture_clips": 1,
        "noise_clips": 1,
        "simulated_clips": _SIMULATED_CLIPS if training.data.simulated_clips else 0,
        "held_back_share": _HELD_BACK_SHARE,
        "simulation": {"noise": noise},
    }
    optimiser = {"learning_rate": _LEARNING_RATE, "final_learning_rate": 0.05 * _LEARNING_RATE, "warmup_steps": 10}
    update = {
        "seed": seed,
        "speech_steps": max(1, training.speech_steps),
        "joint_steps": steps,
        "joint_learning": None,  # the speech autoencoder stays what clean speech has taught
        "check_every": max(1, steps // 4),
        "processes": 1,
        "accumulate": 1,  # however many batches a step of the training had
        "optimiser": optimiser,
        "data": data,
    }
    name = settings.name if settings.name.endswith(ADAPTED_SUFFIX) else settings.name + ADAPTED_SUFFIX
    return changed(settings, {"name": name, "training": update}, "the adaptation")


def _for_place(settings: SystemSettings, place: Place) -> SystemSettings:
    """Simulated mixtures with ratios and rooms like those of the place."""
    # What the place is measured by, and most ask for, is the natural room.
    room: dict[str, object] = {"keep_share": 0.0, "dry_share": 0.0}
    if not math.isnan(place.t60_seconds):
        shortest, longest = (ratio * min(place.t60_seconds, _MAX_T60_SECONDS) for ratio in _T60_RATIO)
        room["t60_seconds"] = max(_MIN_T60_SECONDS, shortest), max(2 * _MIN_T60_SECONDS, longest)
        room["share"] = _ROOM_SHARE
        # Damped, as in the training, a room that has little reverberation would stay as it is.
        room["target_t60_seconds"] = 0.0
    simulation = {"snr_db": _snr_range(place), "room": room}
    return changed(settings, {"training": {"data": {"simulation": simulation}}}, "the adaptation")


def _snr_range(place: Place) -> tuple[float, float]:
    if math.isnan(place.snr_db) or not place.has_speech:
        return _UNKNOWN_SNR_DB
    found_db = round(min(max(place.snr_db, 0.0), _CLEAN_SNR_DB))
    return found_db - _BELOW_FOUND_DB, found_db + _ABOVE_FOUND_DB


def _nothing_to_learn(place: Place, data: TrainingData) -> str:
    """Why the old system is kept without a training; nothing if there is something to learn."""
    if place.has_speech and place.snr_db > _CLEAN_SNR_DB:
        return f"the recordings are clean already (voices {place.snr_db:.0f} dB above the noise): nothing to learn here"
    if not data.stretches or not data.held_back_stretches:
        return (
            "no pause shows noise alone, and the old model takes away little, or only what is like a voice: nothing to "
            "learn here; record the place with pauses in which nobody speaks"
        )
    return ""


def _verdict(comparison: Comparison, place: Place) -> str:
    gain = f"{comparison.gain_db:+.2f} dB less error"
    if comparison.is_better:
        return f"better on what was held back: {gain}"
    if comparison.speech_change_db < -_SPEECH_TOLERANCE_DB:
        return f"not better: clean speech would lose {-comparison.speech_change_db:.1f} dB ({gain})"
    if comparison.noise_change_db > _NOISE_TOLERANCE_DB:
        return f"not better: {comparison.noise_change_db:.1f} dB more noise would pass ({gain})"
    also = "; the recordings seem to be of several places: adapt each by itself" if place.is_several else ""
    return f"not better by more than chance on what was held back ({gain}){also}"


def _noises(place: Place, excerpts: Path) -> list[dict[str, object]]:
    """How many excerpts have each kind of noise, and the first recording that has it; says so where it is several."""
    names = source_names(excerpts)
    noises = [{"like": names[members[0].path], "excerpts": len(members)} for members in place.noises]
    if place.is_several:
        _log.warning(
            "found %d kinds of noise, more than one place has (%s): adapt each place by itself",
            len(noises),
            ", ".join(f"{noise['excerpts']} excerpts like {noise['like']}" for noise in noises),
        )
    return noises


def _as_json(adaptation: Adaptation, noises: list[dict[str, object]]) -> dict[str, object]:
    """All numbers; what is unknown is null."""

    def known(value: object) -> object:
        if isinstance(value, dict):
            return {name: known(part) for name, part in value.items()}
        return None if isinstance(value, float) and math.isnan(value) else value

    place = {name: value for name, value in vars(adaptation.place).items() if name not in ("noise_bands_db", "noisy")}
    bands = adaptation.place.noise_bands_db
    place["noise_bands_db"] = (
        dict(zip(map(round, BAND_CENTRES_HZ.tolist()), bands.mean(axis=0).round(1).tolist(), strict=True))
        if len(bands)
        else None
    )
    place["noises"] = noises
    comparison = None if adaptation.comparison is None else asdict(adaptation.comparison)
    return {
        "adopted": adaptation.adopted,
        "reason": adaptation.reason,
        "place": known(place),
        "compared": known(comparison),
        "refused": None if adaptation.refused is None else adaptation.refused.name,
    }


def _draw_before_after(path: Path, held_back: Manifest, systems: dict[str, JointAutoencoder]) -> None:
    """Spectrograms of a recording that was held back, as it is and as two systems give it."""
    waveform, rate = audio.read(held_back.recordings[0].path)
    signals = [("held-back recording", waveform[0], rate)]
    for name, system in systems.items():
        signals.append((name, system.enhance(torch.from_numpy(waveform))[0].numpy(), rate))
    plots.save(plots.recordings(signals), path)
