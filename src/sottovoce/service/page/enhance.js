// Enhance: one recording, before and after.

import { enhance, requestJson } from "./api.js";
import { DecodingError, decode, isLossless } from "./decoding.js";
import { clock, download, element, sentenceOf } from "./dom.js";
import { openMicrophone } from "./microphone.js";
import { makeLimit, makeRoom } from "./options.js";
import { Player } from "./player.js";
import { WavRecording } from "./wav.js";
import { makeWork } from "./work.js";

/** @typedef {{file: File, fields: Record<string, string>, enhanced: import("./api.js").Answer}} Enhanced */

/**
 * Fills the section.
 * @param {HTMLElement} section
 */
export function mount(section) {
  const source = makeSource((file) => void take(file));
  const options = makeOptions();
  const strength = makeStrength();
  const work = makeWork();
  const result = element("div", { class: "result", hidden: true });
  /** @type {Player | null} */
  let player = null;
  /** @type {File | null} */
  let current = null;
  /** @type {{view: number, position: number} | null} What was heard of it before; null of a new recording. */
  let heard = null;

  section.append(
    element("h2", {}, "Enhance a recording"),
    element("p", { class: "lead" }, "Removes noise and reverberation from speech, and lets you hear what it did."),
    source.root,
    options.root,
    work.root,
    result,
  );
  section.addEventListener("dragover", (event) => {
    event.preventDefault();
    source.root.classList.add("over");
  });
  section.addEventListener("dragleave", () => source.root.classList.remove("over"));
  section.addEventListener("drop", (event) => {
    event.preventDefault();
    source.root.classList.remove("over");
    const [file] = event.dataTransfer?.files ?? [];
    if (file) void take(file);
  });
  options.root.addEventListener("change", () => {
    if (player) heard = { view: player.view, position: player.position };
    if (current) void enhanceFile(current);
  });

  /** @param {File} file A new recording. */
  async function take(file) {
    current = file;
    heard = null;
    await enhanceFile(file);
  }

  /** @param {File} file */
  async function enhanceFile(file) {
    player?.close();
    player = null;
    result.hidden = true;
    result.replaceChildren();
    await work.run(async (signal) => {
      const fields = options.fields();
      const enhanced = await enhance(file, file.name, fields, { signal, onProgress: work.show });
      const now = { file, fields, enhanced };
      work.say("Decoding\u2026");
      await showResult(now, await soundsOf(now, signal), signal);
    });
  }

  /**
   * Before and after as files that the browser decodes sample by sample.
   * @param {Enhanced} now
   * @param {AbortSignal} signal
   * @returns {Promise<Blob[]>}
   */
  async function soundsOf({ file, fields, enhanced }, signal) {
    if (await isLossless(file)) return [file, enhanced.body];
    // The samples of other kinds are shifted by their encoders, and browsers do not agree on them: the service
    // decodes those.
    const sounds = [];
    for (const mix of [0, 1]) sounds.push((await enhance(file, "recording.wav", { ...fields, mix }, { signal })).body);
    return sounds;
  }

  /**
   * @param {Enhanced} now
   * @param {Blob[]} sounds
   * @param {AbortSignal} signal
   */
  async function showResult(now, sounds, signal) {
    const facts = element("p", { class: "facts" });
    const root = element("div");
    /** @type {Node} */
    let shown = element("div", { class: "listen" }, strength.root, root);
    try {
      const tracks = [await decode(sounds[0]), await decode(sounds[1])];
      signal.throwIfAborted();
      player = new Player(root, {
        tracks,
        views: [
          { label: "Before", weights: [1, 0] },
          { label: "Enhanced", weights: [0, 1] },
          { label: "Removed", weights: [1, -1], isPart: true },
        ],
      });
      const [{ duration, sampleRate, numberOfChannels }] = tracks;
      facts.textContent = [clock(duration), `${sampleRate / 1000} kHz`, numberOfChannels > 1 ? "stereo" : "mono"].join(" \u00b7 ");
      strength.onChange = (mix) => {
        player?.setWeights(1, [1 - mix, mix]);
        player?.setWeights(2, [mix, -mix]);
      };
      if (strength.mix < 1) strength.onChange(strength.mix);
    } catch (error) {
      if (!(error instanceof DecodingError)) throw error;
      shown = element("p", { class: "notice" }, `It is enhanced, but ${error.message}: download it.`);
    }
    result.replaceChildren(
      element("div", { class: "title" }, element("h3", {}, now.file.name), facts),
      shown,
      element(
        "div",
        { class: "actions" },
        element("button", { type: "button", class: "primary", click: () => save(now, "enhanced", strength.mix) }, "Download enhanced"),
        element("button", { type: "button", click: () => save(now, "removed", strength.mix) }, "Download what was removed"),
      ),
      ...notesOf(now.enhanced).map((note) => element("p", { class: "notice" }, note)),
    );
    result.hidden = false;
    source.root.classList.add("compact");
    player?.show(heard?.view ?? 1);
    if (heard) player?.seek(heard.position);
    // Whoever is choosing how to enhance goes on choosing.
    if (!options.root.contains(document.activeElement)) player?.focus();
  }

  /**
   * Saves what the service makes: the same file as that of the command.
   * @param {Enhanced} now
   * @param {"enhanced" | "removed"} output
   * @param {number} mix
   */
  function save({ file, fields, enhanced }, output, mix) {
    void work.run(async (signal) => {
      const isHere = output === "enhanced" && mix === 1;
      const answer = isHere
        ? enhanced
        : await enhance(file, file.name, { ...fields, mix, output }, { signal, onProgress: work.show });
      // The kind may be another one than that of the recording: some are only read.
      const made = answer.header("Content-Disposition")?.match(/filename="([^"]+)"/)?.[1] ?? file.name;
      download(answer.body, `${splitName(file.name)[0]}-${output}${splitName(made)[1]}`);
    });
  }
}

/**
 * What the service has to say of a result.
 * @param {import("./api.js").Answer} answer
 * @returns {string[]}
 */
function notesOf(answer) {
  return JSON.parse(answer.header("Sottovoce-Notes") ?? "[]");
}

/**
 * @param {string} name
 * @returns {[string, string]} The name without its ending, and the ending with its dot.
 */
function splitName(name) {
  const dot = name.lastIndexOf(".");
  return dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
}

/**
 * Where recordings come from.
 * @param {(file: File) => void} onFile
 */
function makeSource(onFile) {
  const field = element("input", { type: "file", accept: "audio/*,video/*", hidden: true });
  field.setAttribute("aria-label", "Recording");
  field.addEventListener("change", () => {
    const [file] = field.files ?? [];
    field.value = "";
    if (file) onFile(file);
  });
  const choose = element("button", { type: "button", class: "primary", click: () => field.click() }, "Choose a recording");
  const record = element("button", { type: "button", class: "record", click: () => void toggle() }, "Record");
  const level = element("meter", { min: 0, max: 1, hidden: true, "aria-label": "Level of the microphone" });
  const status = element("p", { class: "hint", role: "status" }, "or drop one here");
  /** @type {{recording: WavRecording, close: () => Promise<void>} | null} */
  let running = null;
  let isOpening = false;

  async function toggle() {
    if (isOpening) return;
    if (running) {
      const { recording, close } = running;
      running = null;
      await close();
      record.textContent = "Record";
      status.textContent = "or drop one here";
      level.hidden = true;
      choose.disabled = false;
      if (recording.duration > 0) onFile(new File([recording.toBlob()], "recording.wav"));
      return;
    }
    isOpening = true;
    try {
      /** @type {WavRecording | null} */
      let recording = null;
      const { context, close } = await openMicrophone((samples) => {
        recording?.append(samples);
        level.value = Math.max(0.9 * level.value, ...samples.map(Math.abs));
        record.textContent = `Stop at ${clock(recording?.duration ?? 0)}`;
      });
      recording = new WavRecording(context.sampleRate);
      running = { recording, close };
      status.textContent = "Recording";
      level.hidden = false;
      choose.disabled = true;
    } catch (error) {
      status.textContent = sentenceOf(error);
    } finally {
      isOpening = false;
    }
  }

  return { root: element("div", { class: "source" }, choose, record, level, status, field) };
}

/** How to enhance. */
function makeOptions() {
  const model = element("select", {}, element("option", { value: "default" }, "default"));
  const limit = makeLimit();
  const room = makeRoom(model);
  const linked = element("input", { type: "checkbox" });
  void requestJson("GET", "v1/models").then(
    (/** @type {{models: import("./options.js").Model[]}} */ { models }) => {
      model.replaceChildren(...models.map(({ name }) => element("option", { value: name }, name)));
      room.offer(models);
    },
    () => {}, // a refusal is shown with the first recording
  );
  return {
    root: element(
      "div",
      { class: "options" },
      element("label", {}, "Model", model),
      limit.root,
      room.root,
      element("label", { class: "check" }, linked, "Keep voices in place in stereo"),
    ),
    /** @returns {Record<string, string>} */
    fields: () => ({
      model: model.value,
      ...(limit.choice.value && { limit_db: limit.choice.value }),
      ...room.fields(),
      ...(linked.checked && { linked: "true" }),
    }),
  };
}

/** How much of what was found is removed. */
function makeStrength() {
  const slider = element("input", { type: "range", min: 0, max: 100, step: 1, value: 100 });
  const percent = element("output", {}, "100 %");
  const made = {
    root: element("label", { class: "strength" }, element("span", {}, "Strength"), slider, percent),
    /** @type {(mix: number) => void} */
    onChange: () => {},
    /** Share of the enhanced sound, 0 to 1. */
    get mix() {
      return Number(slider.value) / 100;
    },
  };
  slider.addEventListener("input", () => {
    percent.value = `${slider.value} %`;
    made.onChange(made.mix);
  });
  return made;
}
