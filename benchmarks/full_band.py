"""What becomes of the band above the model's: speech there, noise there, and a copy of what the model does below.

    python benchmarks/full_band.py

Real speech and noise of 48 kHz are taken from `SOTTOVOCE_DATA`, where there is such data; without it, only what is made
of the repository's own recordings is measured.
"""

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile
from _measure import ROOT, finish, table
from numpy.typing import NDArray

from sottovoce import Enhancer, load
from sottovoce.engine import upper_band
from sottovoce.metrics import plots
from sottovoce.signal.levels import noise_gain_for_snr, rms_db
from sottovoce.signal.resampling import resample

RATE = 48_000
BAND_HZ = (8_000.0, 11_500.0)
SHIFT_HZ = 4_000.0
FRAME = RATE // 50
WHITE_SNR_DB = 10.0
# Frames of the clean upper band within this of its loudest are speech; those below the second number are pauses.
SPEECH_DB, PAUSE_DB = -25.0, -50.0

FULL_BAND = Path(os.environ.get("SOTTOVOCE_DATA", ROOT.parent / "shared" / "data")) / "fullband"
# Speakers and kinds of noise that took no part in choosing the engine's constants. Those were p228, p233, p243 and
# p254, in hiss and in fuse, cicada, bicycle, electrical and bumble_bee, and, for clicks, in watch_tick, chalk_write,
# chain and grasshopper.
SPEAKERS = ("p230", "p236", "p244", "p258")
NOISES = {
    "hiss (made)": None,
    "heavy rain": "antum_sounds/rain_heavy/sounds_rain_heavy_01",
    "light rain": "antum_sounds/rain_light/sounds_rain_light",
    "compressor": "antum_sounds/compressor_motor/sounds_compressor_motor_02",
    "fire": "antum_sounds/fire_crackle/sounds_fire_crackle",
    "keyboard": "mechvibes/keyboard/cherrymx-blue-pbt",
}
SNRS_DB = (0.0, 5.0, 10.0, 20.0)
LEAD_IN_SECONDS, SPEECH_SECONDS = 1.0, 8.0
ABOVE_HZ, BELOW_HZ = (8_000.0, 20_000.0), (100.0, 4_000.0)
# In a vowel, speech above the model's band is at least so far below the noise there.
HIDDEN_DB = -10.0
# What is drawn: noise, SNR in dB, speaker, first and last second; highs are soft, so they are drawn brighter.
PICTURE = ("heavy rain", 20.0, "p236", 1.5, 5.5)
BRIGHTER_DB = 45.0


def in_band(
    waveform: NDArray[np.floating], low_hz: float, high_hz: float, shift_hz: float = 0.0
) -> NDArray[np.floating]:
    """Keep a band of a signal, and move it up."""
    spectrum = np.fft.rfft(waveform)
    hertz = np.fft.rfftfreq(len(waveform), 1 / RATE)
    spectrum[(hertz < low_hz) | (hertz >= high_hz)] = 0
    bins = round(shift_hz * len(waveform) / RATE)
    return np.fft.irfft(np.roll(spectrum, bins), len(waveform))


def widened(waveform: NDArray[np.floating], rate: int) -> NDArray[np.float32]:
    """Make a signal at 48 kHz that goes on above 8 kHz as it is between 4 and 7.5 kHz."""
    wide = resample(waveform, rate, RATE)
    return (wide + in_band(wide, BAND_HZ[0] - SHIFT_HZ, BAND_HZ[1] - SHIFT_HZ, SHIFT_HZ)).astype(np.float32)


def frame_power(waveform: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean power of frames of 20 ms."""
    return np.square(waveform[: len(waveform) // FRAME * FRAME].reshape(-1, FRAME)).mean(axis=1)


def decibel(ratio: float) -> float:
    """Express a ratio of powers in dB."""
    return float(10 * np.log10(ratio))


def distortion_ratio_db(clean: NDArray[np.floating], estimate: NDArray[np.floating]) -> float:
    """Power of the clean signal over that of what differs from it."""
    return decibel(np.sum(clean**2) / np.sum((estimate - clean) ** 2))


def measure(enhancer: Enhancer, clean: NDArray[np.float32], noisy: NDArray[np.float32]) -> list[float]:
    """Return the numbers of one row."""
    low_hz, high_hz = BAND_HZ
    enhanced = enhancer.enhance(noisy, RATE)
    upper = [in_band(part, low_hz, high_hz) for part in (clean, noisy, enhanced)]
    lower = [in_band(part, low_hz - SHIFT_HZ, high_hz - SHIFT_HZ) for part in (clean, noisy, enhanced)]
    cut = in_band(enhancer.enhance(noisy, RATE, full_band=False), low_hz, high_hz)
    alone = in_band(enhancer.enhance(clean, RATE), low_hz, high_hz)
    power, before, after = (frame_power(part) for part in upper)
    speech = power > power.max() * 10 ** (SPEECH_DB / 10)
    pause = power < power.max() * 10 ** (PAUSE_DB / 10)
    return [
        rms_db(alone) - rms_db(upper[0]),
        decibel(after[speech].sum() / before[speech].sum()),
        decibel(after[pause].sum() / before[pause].sum()),
        distortion_ratio_db(upper[0], upper[1]),
        distortion_ratio_db(upper[0], cut),
        distortion_ratio_db(upper[0], upper[2]),
        distortion_ratio_db(lower[0], lower[1]),
        distortion_ratio_db(lower[0], lower[2]),
    ]


@contextlib.contextmanager
def by_the_models_gain_alone() -> Iterator[None]:
    """Enhance as up to commit c8d5ff2: no frame counts as a pause, so no noise floor is learned above the band."""
    with mock.patch.object(upper_band, "_PAUSE", 0.0):
        yield


def sentence(speaker: str) -> NDArray[np.float32]:
    """Speech at 48 kHz with a silent lead-in."""
    speech, rate = soundfile.read(FULL_BAND / f"speech/vctk/{speaker}/{speaker}_023.flac", dtype="float32")
    assert rate == RATE
    return np.concatenate([np.zeros(round(LEAD_IN_SECONDS * RATE)), speech[: round(SPEECH_SECONDS * RATE)]], dtype="f4")


def noise_of(file: str | None, count: int) -> NDArray[np.float32]:
    """Noise at 48 kHz, repeated to a length."""
    if file is None:
        return np.random.default_rng(0).standard_normal(count).astype(np.float32)
    noise, rate = soundfile.read(FULL_BAND / f"noise/{file}.flac", dtype="float32", always_2d=True)
    assert rate == RATE
    return np.resize(noise[:, 0], count)


def measure_real(
    clean: NDArray[np.float32], noisy: NDArray[np.float32], enhanced: NDArray[np.float32]
) -> dict[str, float]:
    """Changes of level and SDR above the model's band, all in dB."""
    upper = [in_band(part, *ABOVE_HZ) for part in (clean, noisy, enhanced)]
    speech, before, after = (frame_power(part) for part in upper)
    noise = frame_power(upper[1] - upper[0])
    below = frame_power(in_band(clean, *BELOW_HZ))
    spoken = below > below.max() * 10 ** (SPEECH_DB / 10)
    frames = {
        "speech": speech > speech.max() * 10 ** (SPEECH_DB / 10),
        "vowels": spoken & (speech < noise * 10 ** (HIDDEN_DB / 10)),
        "pauses": below < below.max() * 10 ** (PAUSE_DB / 10),
    }
    # What the model needs to find its level is no pause that a listener would know.
    frames["pauses"][: round(LEAD_IN_SECONDS / 2 * RATE / FRAME)] = False
    row = {kind: decibel(after[chosen].sum() / before[chosen].sum()) for kind, chosen in frames.items()}
    row["vowels over pauses"] = row["vowels"] - row["pauses"]
    row["SDR noisy"] = distortion_ratio_db(upper[0], upper[1])
    row["SDR"] = distortion_ratio_db(upper[0], upper[2])
    return row


def real_rows(enhancer: Enhancer) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of the tables of real mixtures and of clean speech: by the model's gain alone -> with the noise floor."""
    sentences = {speaker: sentence(speaker) for speaker in SPEAKERS}

    def both(clean: NDArray[np.float32], noisy: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        with by_the_models_gain_alone():
            alone = enhancer.enhance(noisy, RATE)
        return [alone, enhancer.enhance(noisy, RATE)]

    mixtures, everything = [], []
    for name, file in NOISES.items():
        for snr_db in SNRS_DB:
            measured = []
            for clean in sentences.values():
                noise = noise_of(file, len(clean))
                noisy = clean + np.float32(noise_gain_for_snr(clean, noise, snr_db, RATE)) * noise
                measured.append([measure_real(clean, noisy, enhanced) for enhanced in both(clean, noisy)])
            everything += measured
            mixtures.append([name, f"{snr_db:g}", *before_and_after(measured)])
    mixtures.append(["**mean**", "", *before_and_after(everything)])
    alone = []
    for speaker, clean in sentences.items():
        upper = in_band(clean, *ABOVE_HZ)
        kept = [in_band(enhanced, *ABOVE_HZ) for enhanced in both(clean, clean)]
        levels = [rms_db(part) - rms_db(upper) for part in kept]
        ratios = [distortion_ratio_db(upper, part) for part in kept]
        alone.append([speaker, arrow(*levels), arrow(*ratios)])
    return mixtures, alone


def before_and_after(measured: list[list[dict[str, float]]]) -> list[str]:
    """Cells of a row: means over recordings."""
    first, second = (
        {key: float(np.mean([pair[place][key] for pair in measured])) for key in measured[0][0]} for place in (0, 1)
    )
    return [f"{first[key]:.1f}" if key == "SDR noisy" else arrow(first[key], second[key]) for key in first]


def arrow(before: float, after: float) -> str:
    """Two numbers of one cell."""
    return " → ".join(f"{round(number, 1) + 0.0:.1f}" for number in (before, after))


def real(enhancer: Enhancer) -> list[str]:
    """Paragraphs about real recordings, or why there are none."""
    if not FULL_BAND.is_dir():
        print(f"found no folder {FULL_BAND.name} in SOTTOVOCE_DATA: real 48 kHz recordings are left out")
        return ["## Real speech and noise", "Left out: there was no 48 kHz data when this was written."]
    mixtures, alone = real_rows(enhancer)
    header = [
        "noise",
        "SNR",
        "speech, level",
        "vowels, level",
        "pauses, level",
        "vowels over pauses",
        "SDR noisy",
        "SDR enhanced",
    ]
    return [
        "## Real speech and noise",
        f"**Material.** One sentence each of {len(SPEAKERS)} speakers of VCTK (CC BY 4.0), {SPEECH_SECONDS:g} s at "
        f"48 kHz behind {LEAD_IN_SECONDS:g} s of noise, in noise that reaches beyond 10 kHz. The constants of the "
        "engine were chosen with other speakers and, made hiss apart, other noises.",
        f"**What is measured**, at {ABOVE_HZ[0] / 1000:g} to {ABOVE_HZ[1] / 1000:g} kHz, in dB, means over "
        "speakers: the change of level in frames with speech in this band; in vowels, which are frames with speech"
        " below 4 kHz but with noise alone in this band; and in pauses. Vowels over pauses is the difference of "
        "the latter two: the hiss that comes back with words. SDR is the ratio of clean speech to what differs "
        "from it; without the band it is 0. Before the arrow: with the model's own gain alone, as up to commit "
        "c8d5ff2. Behind it: with the noise floor.",
        table(header, mixtures),
        "Clean speech alone, the same band:",
        table(["speaker", "level", "SDR"], alone),
        "## Made of the repository's own recordings",
    ]


def draw(enhancer: Enhancer, path: Path) -> None:
    """Draw a mixture above 6 kHz, enhanced by the model's gain alone and with the noise floor."""
    name, snr_db, speaker, start, end = PICTURE
    clean = sentence(speaker)
    noise = noise_of(NOISES[name], len(clean))
    noisy = clean + np.float32(noise_gain_for_snr(clean, noise, snr_db, RATE)) * noise
    with by_the_models_gain_alone():
        alone = enhancer.enhance(noisy, RATE)
    panels = {
        f"{name}, {snr_db:g} dB SNR": noisy,
        "by the model's own gain": alone,
        "with the noise floor": enhancer.enhance(noisy, RATE),
    }
    figure = plots.new_figure(9.0, 2.3)
    axes = figure.subplots(1, len(panels), sharey=True)
    for axis, (title, samples) in zip(axes, panels.items(), strict=True):
        level_db = plots.spectrogram_db(samples[round(start * RATE) : round(end * RATE)], RATE)
        plots.draw_spectrogram(axis, level_db + BRIGHTER_DB, end - start, RATE)
        axis.set_title(title, fontsize=10)
        axis.set_ylim(6.0, 16.0)
        axis.set_xlabel("time in s", fontsize=9)
        plots.tidy(axis)
    axes[0].set_ylabel("frequency in kHz", fontsize=9)
    plots.save(figure, path)


def main() -> None:
    """Measure, print and write benchmarks/results/full_band.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="what to measure: a bundled model or a model.onnx")
    parser.add_argument(
        "--picture", type=Path, help="draw a mixture before and after into this file, and measure nothing"
    )
    arguments = parser.parse_args()
    enhancer = load(arguments.model)
    if arguments.picture:
        draw(enhancer, arguments.picture)
        return
    rng = np.random.default_rng(0)
    rows = {"its own": [], "white": []}
    names = []
    for path in sorted((ROOT / "examples" / "pairs" / "noisy").glob("*.flac")):
        names.append(path.stem)
        noisy, rate = soundfile.read(path, dtype="float32")
        speech, _ = soundfile.read(path.parents[1] / "clean" / path.name, dtype="float32")
        clean = widened(speech, rate)
        rows["its own"].append(measure(enhancer, clean, widened(noisy, rate)))
        noise = rng.standard_normal(len(clean)).astype(np.float32)
        gain = noise_gain_for_snr(clean, noise, WHITE_SNR_DB, RATE)
        rows["white"].append(measure(enhancer, clean, clean + np.float32(gain) * noise))

    header = [
        "recording",
        "noise",
        "clean speech alone, level",
        "frames with speech, level",
        "pauses, level",
        "SDR noisy",
        "SDR `full_band` off",
        "SDR `full_band` on",
        "band below: SDR noisy",
        "band below: SDR enhanced",
    ]
    lines = [
        [name, noise, *(f"{round(number, 1) + 0.0:.1f}" for number in row)]
        for noise, numbers in rows.items()
        for name, row in zip([*names, "**mean**"], [*numbers, np.mean(numbers, axis=0)], strict=True)
    ]
    finish(
        "full_band",
        "Above the model's band",
        [
            *real(enhancer),
            "**Material.** The repository has no speech that was recorded at 44.1 or 48 kHz with audible sound "
            "above 8 kHz, so it is made: the five pairs of `examples/pairs` at 48 kHz, what is at 4 to 7.5 kHz copied "
            "to 8 to 11.5 kHz, in both speech and noise; and the same speech in white noise, "
            f"{WHITE_SNR_DB:g} dB SNR over all of 24 kHz. Real highs are like the band below, but no copy of it: the "
            "second kind says more.",
            "**What is measured**, all in the band of 8 to 11.5 kHz unless said otherwise, all in dB: what enhancing "
            "does to the level of clean speech, of frames of the mixture in which there is speech in this band, and of "
            "its pauses; and the ratio of clean speech to what differs from it (SDR) in the mixture, without the band, "
            "and with it. Beside it the same ratio at 4 to 7.5 kHz, which the model itself works on.",
            table(header, lines),
        ],
    )


if __name__ == "__main__":
    main()
