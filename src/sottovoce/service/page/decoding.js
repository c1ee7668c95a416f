// Files of sound, decoded at their own rate.

const HEAD_BYTES = 65_536;
const MAX_PLAYED_CHANNELS = 2;
/** Samples of a recording that are decoded at most, all played channels together: twice as many take 1 GB. */
const MAX_SAMPLES = 2 ** 27;

/** A recording that this browser cannot show. */
export class DecodingError extends Error {}

/**
 * Says which rate a file has whose samples every browser decodes as they are.
 * @param {Uint8Array} head The first bytes of the file.
 * @returns {number | null} In Hz; null if it is neither WAV nor FLAC.
 */
export function losslessRate(head) {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  /** @param {number} offset */
  const text = (offset) => String.fromCharCode(...head.subarray(offset, offset + 4));
  if (text(0) === "fLaC" && head.length >= 21) return view.getUint32(18) >>> 12;
  if (text(0) !== "RIFF" || text(8) !== "WAVE") return null;
  for (let offset = 12; offset + 16 <= head.length; offset += 8 + 2 * Math.ceil(view.getUint32(offset + 4, true) / 2)) {
    if (text(offset) === "fmt ") return view.getUint32(offset + 12, true);
  }
  return null;
}

/**
 * Says whether every browser decodes the samples of a file as they are.
 * @param {Blob} file
 * @returns {Promise<boolean>}
 */
export async function isLossless(file) {
  return losslessRate(await headOf(file)) !== null;
}

/** @param {Blob} file */
async function headOf(file) {
  return new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer());
}

/**
 * Decodes a WAV or FLAC file.
 * @param {Blob} file
 * @returns {Promise<AudioBuffer>} At the file's own rate, with one or two channels: the mean of all if there are more.
 * @throws {DecodingError} It is of another kind, or too long.
 */
export async function decode(file) {
  const rate = losslessRate(await headOf(file));
  if (rate === null) throw new DecodingError("this browser cannot decode the recording");
  // A FLAC file is rarely below a third of its samples; what comes out is counted as well.
  if (file.size > 4 * MAX_SAMPLES) throw new DecodingError("the recording is too long to be shown here");
  /** @type {AudioBuffer} */
  let decoded;
  try {
    decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  } catch (error) {
    throw new DecodingError("this browser cannot decode the recording", { cause: error });
  }
  const { numberOfChannels: channels, length } = decoded;
  if (length * Math.min(channels, MAX_PLAYED_CHANNELS) > MAX_SAMPLES) {
    throw new DecodingError("the recording is too long to be shown here");
  }
  if (channels <= MAX_PLAYED_CHANNELS) return decoded;
  const mean = new AudioBuffer({ length, sampleRate: rate });
  const sum = mean.getChannelData(0);
  for (let channel = 0; channel < channels; channel++) {
    const samples = decoded.getChannelData(channel);
    for (let n = 0; n < length; n++) sum[n] += samples[n] / channels;
  }
  return mean;
}
