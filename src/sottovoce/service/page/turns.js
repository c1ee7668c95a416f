// Long work in short turns, between which the page answers.

const TURN_MS = 10;

const { port1, port2 } = new MessageChannel();
/** @type {(() => void)[]} */
const waiting = [];
// Unlike those of setTimeout, these turns come as often in a tab that is not shown.
port1.onmessage = () => waiting.shift()?.();

/**
 * Makes a function that long work awaits now and then: it lets the page answer if its turn has been long enough.
 * @param {AbortSignal} [signal] Ends the work by its reason.
 * @returns {() => Promise<void> | undefined}
 */
export function turns(signal) {
  let begun = performance.now();
  return () => {
    signal?.throwIfAborted();
    if (performance.now() - begun < TURN_MS) return undefined;
    return new Promise((resolve, reject) => {
      waiting.push(() => {
        begun = performance.now();
        if (signal?.aborted) reject(signal.reason);
        else resolve();
      });
      port2.postMessage(null);
    });
  };
}
