// The microphone as it is, without what browsers do to voices.

/** @type {Record<string, string>} */
const SENTENCES = {
  NotAllowedError: "the browser may not use the microphone: allow it beside the address, and try again",
  NotFoundError: "found no microphone: connect one, and try again",
  OverconstrainedError: "the chosen microphone is gone: choose another one",
  NotReadableError: "the microphone cannot be opened: another program may be using it",
};

/**
 * Asks for the microphone.
 * @param {string} [deviceId] Which one; the browser's own choice if empty or not given.
 * @returns {Promise<MediaStream>} One channel.
 * @throws {Error} It cannot be opened; the message says why.
 */
export async function openStream(deviceId) {
  if (!navigator.mediaDevices) {
    throw new Error("a microphone needs an encrypted address: open the page by https, or on the machine of the service");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: {
        ...(deviceId && { deviceId: { exact: deviceId } }),
        channelCount: 1,
        echoCancellation: false,
        noiseSuppression: false,
        autoGainControl: false,
      },
    });
  } catch (found) {
    const error = /** @type {DOMException} */ (found);
    throw new Error(SENTENCES[error.name] ?? `the microphone cannot be opened (${error.message})`, { cause: error });
  }
}

/**
 * Hands on what the microphone gives.
 * @param {(samples: Float32Array) => void} onBlock Takes the next samples, one channel.
 * @returns {Promise<{context: AudioContext, close: () => Promise<void>}>} A context of the microphone's own rate, and
 *   what ends it.
 * @throws {Error} It cannot be opened; the message says why.
 */
export async function openMicrophone(onBlock) {
  const stream = await openStream();
  const context = new AudioContext();
  const close = async () => {
    for (const track of stream.getTracks()) track.stop();
    await context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL("microphone-worklet.js", import.meta.url));
    await context.resume();
  } catch (error) {
    await close();
    throw error;
  }
  const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
  node.port.onmessage = ({ data }) => onBlock(data);
  context.createMediaStreamSource(stream).connect(node);
  return { context, close };
}
