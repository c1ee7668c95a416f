// Live: the microphone, enhanced while one speaks.

import { requestJson } from "./api.js";
import { element, sentenceOf } from "./dom.js";
import { CAN_CHOOSE_OUTPUT, LiveStream } from "./live-stream.js";
import { makeLimit, makeRoom } from "./options.js";

const FLOOR_DB = -60;
// Numbers that change more often cannot be read.
const REPORTS_PER_LATENCY = 5;
// Beyond this, people begin to talk at the same time (ITU-T Recommendation G.114).
const CONVERSATION_MS = 400;

/**
 * Fills the section.
 * @param {HTMLElement} section
 */
export function mount(section) {
  const microphone = makeDevices("audioinput", "Microphone");
  const output = makeDevices("audiooutput", "Output");
  const model = element("select", {}, element("option", { value: "live" }, "live"));
  const limit = makeLimit();
  const room = makeRoom(model);
  const strength = element("input", { type: "range", min: 0, max: 100, step: 1, value: 100 });
  const percent = element("output", {}, "100 %");
  const headphones = element("input", { type: "checkbox" });
  const bypass = element("button", { type: "button", "aria-pressed": "false", disabled: true }, "Hear the microphone as it is");
  const start = element("button", { type: "button", class: "primary" }, "Start");
  const status = element("p", { class: "hint", role: "status" }, "Nothing is recorded or kept.");
  const error = element("p", { class: "error", role: "alert", hidden: true });
  const latency = element("p", { class: "facts latency" });
  const levels = { input: makeLevel("Microphone"), output: makeLevel("Output") };
  const meters = element("div", { class: "levels", hidden: true }, levels.input.root, levels.output.root, latency);
  /** @type {LiveStream | null} */
  let live = null;
  let isOpening = false;
  let reports = 0;

  section.append(
    element("h2", {}, "Live"),
    element("p", { class: "lead" }, "Takes noise and reverberation out of your microphone while you speak."),
    element(
      "div",
      { class: "options" },
      microphone.root,
      CAN_CHOOSE_OUTPUT
        ? output.root
        : element("span", {}, "This browser cannot choose the output: choose it in the sound settings of your system."),
      element("label", {}, "Model", model),
      limit.root,
      room.root,
    ),
    element(
      "div",
      { class: "notice" },
      element("label", { class: "check" }, headphones, "I wear headphones: play the sound"),
      element("p", { class: "hint" }, "Without headphones, the microphone picks up the loudspeakers, and they howl."),
    ),
    element("div", { class: "controls" }, start, bypass),
    element("label", { class: "strength" }, element("span", {}, "Strength"), strength, percent),
    meters,
    status,
    error,
  );

  start.addEventListener("click", () => void (live ? stop("Stopped.") : open()));
  bypass.addEventListener("click", () => {
    bypass.setAttribute("aria-pressed", String(!isBypassed()));
    apply();
  });
  strength.addEventListener("input", () => {
    percent.value = `${strength.value} %`;
    apply();
  });
  headphones.addEventListener("change", apply);
  for (const choice of [microphone.choice, model, limit.choice, room.choice]) {
    choice.addEventListener("change", () => void (live && restart()));
  }
  output.choice.addEventListener("change", () => void moveOutput());
  void requestJson("GET", "v1/models").then(
    (/** @type {{models: import("./options.js").Model[]}} */ { models }) => {
      model.replaceChildren(...models.map(({ name }) => element("option", { value: name, selected: name === "live" }, name)));
      room.offer(models);
    },
    () => {}, // a refusal is shown at the start
  );
  void listDevices();
  navigator.mediaDevices?.addEventListener("devicechange", () => void listDevices());

  function isBypassed() {
    return bypass.getAttribute("aria-pressed") === "true";
  }

  /** Lets what is chosen be heard. */
  function apply() {
    live?.setStrength(isBypassed() ? 0 : Number(strength.value) / 100);
    live?.setHeard(headphones.checked);
    if (live) {
      status.textContent = !headphones.checked
        ? "Running, but silent. Tick the box when you wear headphones."
        : isBypassed()
          ? "Running: you hear the microphone as it is."
          : "Running: you hear the enhanced sound.";
    }
  }

  async function open() {
    if (isOpening) return;
    isOpening = true;
    reports = 0;
    latency.textContent = "";
    error.hidden = true;
    status.textContent = "Starting\u2026";
    try {
      live = await LiveStream.open({
        microphoneId: microphone.choice.value,
        outputId: output.choice.value,
        fields: {
          model: model.value,
          ...room.fields(),
          ...(limit.choice.value && { limit_db: Number(limit.choice.value) }),
        },
        onState: show,
        onEnd: fail,
      });
      start.textContent = "Stop";
      bypass.disabled = false;
      meters.hidden = false;
      apply();
      void listDevices(); // now that they may be named
    } catch (reason) {
      fail(reason);
    } finally {
      isOpening = false;
    }
  }

  /** @param {string} message */
  function stop(message) {
    const ending = live?.stop();
    live = null;
    start.textContent = "Start";
    bypass.disabled = true;
    meters.hidden = true;
    status.textContent = message;
    return ending;
  }

  async function restart() {
    await stop("Starting\u2026");
    await open();
  }

  async function moveOutput() {
    error.hidden = true;
    try {
      await live?.setOutput(output.choice.value);
    } catch (reason) {
      fail(reason);
    }
  }

  /** @param {unknown} reason */
  function fail(reason) {
    void stop("Stopped.");
    error.textContent = sentenceOf(reason);
    error.hidden = false;
  }

  /** @param {import("./live-stream.js").LiveState} state */
  function show({ input, output, latency: now, gaps }) {
    levels.input.show(input);
    levels.output.show(output);
    if (now === null || reports++ % REPORTS_PER_LATENCY) return;
    const parts = { microphone: now.microphoneMs, model: now.modelMs, "network and service": now.networkMs, playback: now.playbackMs };
    const terms = Object.entries(parts).map(([name, ms]) => `${name} ${Math.max(0, ms).toFixed(0)}`);
    const sentences = [`Latency ${now.totalMs.toFixed(0)} ms: ${terms.join(" + ")}.`];
    if (gaps) sentences.push(`${gaps} ${gaps === 1 ? "gap" : "gaps"} in the sound.`);
    if (now.totalMs > CONVERSATION_MS) sentences.push("This is too slow for a conversation: the service or the network is busy.");
    latency.textContent = sentences.join(" ");
  }

  async function listDevices() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    microphone.offer(devices);
    output.offer(devices);
  }
}

/**
 * Makes the choice of a device, whose value is empty while the browser chooses.
 * @param {MediaDeviceKind} kind
 * @param {string} name
 */
function makeDevices(kind, name) {
  const choice = element("select");
  /** @param {MediaDeviceInfo[]} devices */
  const offer = (devices) => {
    const chosen = choice.value;
    // Some browsers list their own choice as a device.
    const found = devices.filter((device) => device.kind === kind && device.deviceId && device.deviceId !== "default");
    choice.replaceChildren(
      element("option", { value: "" }, "browser default"),
      ...found.map(({ deviceId, label }, number) =>
        element("option", { value: deviceId, selected: deviceId === chosen }, label || `${name} ${number + 1}`),
      ),
    );
  };
  offer([]);
  return { choice, offer, root: element("label", {}, name, choice) };
}

/** @param {string} name */
function makeLevel(name) {
  const meter = element("meter", { min: FLOOR_DB, max: 0, high: -1, value: FLOOR_DB, "aria-label": `${name}, level in dB` });
  const text = element("output", { "aria-live": "off" });
  return {
    root: element("div", { class: "level" }, element("span", {}, name), meter, text),
    /** @param {number} peak 0 to 1. */
    show: (peak) => {
      const levelDb = Math.max(20 * Math.log10(peak), FLOOR_DB);
      meter.value = levelDb;
      text.value = levelDb > FLOOR_DB ? `${levelDb.toFixed(0)} dB` : "silent";
    },
  };
}
