// Live: the microphone, enhanced while one speaks.

import { requestJson } from "./api.js";
import { element, sentenceOf } from "./dom.js";
import { LiveStream } from "./live-stream.js";
import { makeLimit, makeRoom } from "./options.js";

const FLOOR_DB = -60;

/**
 * Fills the section.
 * @param {HTMLElement} section
 */
export function mount(section) {
  const microphone = element("select", {}, element("option", { value: "" }, "as the browser chooses"));
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
  const levels = { input: makeLevel("Microphone"), output: makeLevel("Enhanced") };
  const meters = element("div", { class: "levels", hidden: true }, levels.input.root, levels.output.root, latency);
  /** @type {LiveStream | null} */
  let live = null;
  let isOpening = false;

  section.append(
    element("h2", {}, "Live"),
    element("p", { class: "lead" }, "Takes noise and reverberation out of your microphone while you speak."),
    element(
      "div",
      { class: "options" },
      element("label", {}, "Microphone", microphone),
      element("label", {}, "Model", model),
      element("label", {}, "Lowers noise", limit),
      room.root,
    ),
    element(
      "p",
      { class: "notice" },
      element("label", { class: "check" }, headphones, "I wear headphones: play the sound"),
      " Loudspeakers would be heard by the microphone again, and howl.",
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
  for (const choice of [microphone, model, limit, room.choice]) {
    choice.addEventListener("change", () => void (live && restart()));
  }
  void requestJson("GET", "v1/models").then(
    (/** @type {{models: import("./options.js").Model[]}} */ { models }) => {
      model.replaceChildren(...models.map(({ name }) => element("option", { value: name, selected: name === "live" }, name)));
      room.offer(models);
    },
    () => {}, // who is refused is told so at the start
  );
  void listMicrophones();
  navigator.mediaDevices?.addEventListener("devicechange", () => void listMicrophones());

  function isBypassed() {
    return bypass.getAttribute("aria-pressed") === "true";
  }

  /** Lets what is chosen be heard. */
  function apply() {
    live?.setStrength(isBypassed() ? 0 : Number(strength.value) / 100);
    live?.setHeard(headphones.checked);
    if (live) {
      status.textContent = !headphones.checked
        ? "Running, but silent until you say that you wear headphones."
        : isBypassed()
          ? "Running: you hear the microphone as it is."
          : "Running: you hear the enhanced sound.";
    }
  }

  async function open() {
    if (isOpening) return;
    isOpening = true;
    start.disabled = true;
    error.hidden = true;
    status.textContent = "Starting\u2026";
    try {
      live = await LiveStream.open({
        deviceId: microphone.value || undefined,
        fields: { model: model.value, ...room.fields(), ...(limit.value && { limit_db: Number(limit.value) }) },
        onState: show,
        onEnd: fail,
      });
      start.textContent = "Stop";
      bypass.disabled = false;
      meters.hidden = false;
      apply();
      void listMicrophones(); // now that they may be named
    } catch (reason) {
      fail(reason);
    } finally {
      isOpening = false;
      start.disabled = false;
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

  /** @param {unknown} reason */
  function fail(reason) {
    void stop("Stopped.");
    error.textContent = sentenceOf(reason);
    error.hidden = false;
  }

  /** @param {import("./live-stream.js").LiveState} state */
  function show({ input, output, modelMs, waitMs, deviceMs, gaps }) {
    levels.input.show(input);
    levels.output.show(output);
    const parts = `model ${modelMs.toFixed(0)} ms, network and buffers ${waitMs.toFixed(0)} ms, sound output ${deviceMs.toFixed(0)} ms`;
    const sum = (modelMs + waitMs + deviceMs).toFixed(0);
    const lost = gaps ? ` \u00b7 ${gaps} ${gaps === 1 ? "gap" : "gaps"}` : "";
    latency.textContent = waitMs ? `Latency ${sum} ms (${parts})${lost}` : "";
  }

  async function listMicrophones() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    const chosen = microphone.value;
    const named = devices.filter(({ kind, deviceId }) => kind === "audioinput" && deviceId);
    microphone.replaceChildren(
      element("option", { value: "" }, "as the browser chooses"),
      ...named.map(({ deviceId, label }, number) =>
        element("option", { value: deviceId, selected: deviceId === chosen }, label || `Microphone ${number + 1}`),
      ),
    );
  }
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
