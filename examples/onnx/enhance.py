"""Enhance a WAV file with a model file of Sotto voce, by numpy and onnxruntime alone.

    python enhance.py default.onnx noisy.wav enhanced.wav

It goes frame by frame, as a live program does, and gives what `sottovoce enhance - -o -` gives: see ../../docs/onnx.md.
"""

import json
import sys
import wave

import numpy as np
import onnxruntime


def hann(length):
    """Periodic Hann window."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


def tapers(window, synthesis, hop):
    """Window before the transform, and window for the last samples of what comes back."""
    rise, fall = window - synthesis // 2, synthesis // 2
    analysis = np.concatenate([hann(2 * rise)[:rise], hann(2 * fall)[fall:]])
    analysis = np.sqrt(analysis / analysis.sum())
    wanted, end = hann(synthesis), analysis[-synthesis:]
    # What overlapping frames add up to at each of the `hop` places, so that the sum becomes 1.
    total = np.pad(wanted, (0, -synthesis % hop)).reshape(-1, hop).sum(axis=0)
    taper = np.divide(wanted, end, out=np.zeros(synthesis), where=end > 0) / np.resize(total, synthesis)
    return analysis.astype(np.float32), taper.astype(np.float32)


def enhance(session, settings, signal):
    """Enhance `(channels, samples)` at the model's rate; the result has the same shape and is aligned."""
    (window,), synthesis, hop = settings["windows"], settings["synthesis_window"], settings["hop"]
    analysis, taper = tapers(window, synthesis, hop)
    channels, samples = signal.shape
    # All states are zero before the first frame. The first input is the spectra; states come and go in the same order.
    first, *others = session.get_inputs()
    states = [np.zeros((channels, *state.shape[1:]), np.float32) for state in others]

    # The last V - H samples of a frame wait for later frames, and so do the frames by which the network lags.
    delay = synthesis - hop + settings["delay_frames"] * hop
    frames = -(-(samples + delay) // hop)
    signal = np.pad(signal, ((0, 0), (0, frames * hop - samples)))
    past = np.zeros((channels, window), np.float32)
    added = np.zeros((channels, synthesis), np.float32)
    output = np.zeros_like(signal)
    for start in range(0, frames * hop, hop):
        past = np.concatenate([past[:, hop:], signal[:, start : start + hop]], axis=1)
        spectrum = np.fft.rfft(past * analysis)
        spectra = np.stack([spectrum.real, spectrum.imag], axis=1)[..., np.newaxis].astype(np.float32)
        feeds = {first.name: spectra} | {node.name: state for node, state in zip(others, states, strict=True)}
        enhanced, *states = session.run(None, feeds)
        frame = np.fft.irfft(enhanced[:, 0, :, 0] + 1j * enhanced[:, 1, :, 0], n=window)
        added += frame[:, -synthesis:] * taper
        output[:, start : start + hop] = added[:, :hop]
        added = np.pad(added[:, hop:], ((0, 0), (0, hop)))
    return output[:, delay : delay + samples]


def main(model, source, target):
    """Read, enhance, write."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    settings = json.loads(session.get_modelmeta().custom_metadata_map["sottovoce"])
    with wave.open(source) as file:
        channels, width, rate, count, *_ = file.getparams()
        pcm = np.frombuffer(file.readframes(count), "<i2" if width == 2 else "u1").reshape(-1, channels)
    if width != 2 or rate != settings["sample_rate"]:
        sys.exit(f"found {8 * width} bits at {rate} Hz in {source}, expected 16 bits at {settings['sample_rate']} Hz")
    enhanced = enhance(session, settings, pcm.T / np.float32(32768))
    with wave.open(target, "wb") as file:
        file.setparams((channels, width, rate, count, "NONE", ""))
        file.writeframes(np.clip(np.rint(enhanced.T * 32768), -32768, 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: enhance.py MODEL.onnx IN.wav OUT.wav")
    main(*sys.argv[1:])
