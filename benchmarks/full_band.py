"""What becomes of the band above the model's: speech there, noise there, and a copy of what the model does below."""

import argparse

import numpy as np
import soundfile
from _measure import ROOT, finish, table
from numpy.typing import NDArray

from sottovoce import Enhancer, load
from sottovoce.signal.levels import noise_gain_for_snr, rms_db
from sottovoce.signal.resampling import resample

RATE = 48_000
BAND_HZ = (8_000.0, 11_500.0)
SHIFT_HZ = 4_000.0
FRAME = RATE // 50
WHITE_SNR_DB = 10.0
# Frames of the clean upper band within this of its loudest are speech; those below the second number are pauses.
SPEECH_DB, PAUSE_DB = -25.0, -50.0


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


def main() -> None:
    """Measure, print and write benchmarks/results/full_band.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="what to measure: a bundled model or a model.onnx")
    enhancer = load(parser.parse_args().model)
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
            "**Material.** The repository has no speech that was recorded at 44.1 or 48 kHz with anything to hear "
            "above 8 kHz, so it is made: the five pairs of `examples/pairs` at 48 kHz, what is at 4 to 7.5 kHz copied "
            "to 8 to 11.5 kHz, in speech and noise alike; and the same speech in white noise, "
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
