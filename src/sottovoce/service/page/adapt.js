// Adapt: a model for one's own room.

import { ServiceError, enhance, request, requestJson } from "./api.js";
import { drawCurve } from "./curve.js";
import { DecodingError, decode, isLossless } from "./decoding.js";
import { download, element, sentenceOf } from "./dom.js";
import { Player } from "./player.js";
import { makeWork } from "./work.js";

/**
 * @typedef {object} Job
 * @property {string} id
 * @property {"queued" | "running" | "done" | "failed"} state
 * @property {string[]} notes
 * @property {{message: string} | null} error
 * @property {{task: string, step: number, steps: number, seconds_left: number | null, adopted: boolean | null,
 *   curve: {step: number, loss: number}[]} | null} adaptation
 */

// The tab remembers its job: only who knows the name has the model.
const JOB_KEY = "sottovoce.adaptation";
const POLL_MS = 1000;

/**
 * Fills the section.
 * @param {HTMLElement} section
 */
export function mount(section) {
  /** @type {File[]} */
  let files = [];
  const field = element("input", { type: "file", accept: "audio/*,video/*", multiple: true, hidden: true, "aria-label": "Recordings of your room" });
  const choose = element("button", { type: "button", class: "primary", click: () => field.click() }, "Choose recordings");
  const list = element("ul", { class: "files", "aria-label": "Chosen recordings" });
  const name = element("input", { type: "text", maxlength: 60, placeholder: "My room" });
  const model = element("select");
  const start = element("button", { type: "button", class: "primary", disabled: true, click: () => void begin() }, "Adapt");
  const work = makeWork();
  const source = element("div", { class: "source" }, choose, element("p", { class: "hint" }, "or drop them here"), field);
  const form = element(
    "div",
    {},
    source,
    list,
    element("div", { class: "options" }, element("label", {}, "Name of the room", name), element("label", {}, "Start from", model), start),
  );
  const result = element("div", { class: "result", hidden: true });

  section.append(
    element("h2", {}, "Adapt to a room"),
    element(
      "p",
      { class: "lead" },
      "A few minutes of noisy recordings teach a model the noise of your room. It needs no clean recordings, but pauses in which nobody speaks.",
    ),
    form,
    work.root,
    result,
  );
  field.addEventListener("change", () => {
    add([...(field.files ?? [])]);
    field.value = "";
  });
  section.addEventListener("dragover", (event) => {
    event.preventDefault();
    source.classList.add("over");
  });
  section.addEventListener("dragleave", () => source.classList.remove("over"));
  section.addEventListener("drop", (event) => {
    event.preventDefault();
    source.classList.remove("over");
    if (!form.hidden) add([...(event.dataTransfer?.files ?? [])]);
  });
  void requestJson("GET", "v1/models").then(
    (/** @type {{models: {name: string, adaptable: boolean}[]}} */ { models }) => {
      const adaptable = models.filter((found) => found.adaptable);
      model.replaceChildren(...adaptable.map((found) => element("option", { value: found.name }, found.name)));
      if (adaptable.length) return;
      const sentence = "This service adapts no models. The command ";
      form.replaceChildren(
        element("p", { class: "notice" }, sentence, element("code", {}, "sottovoce adapt"), " does it on your own machine."),
      );
    },
    () => {}, // a refusal is shown at the start
  );
  const known = sessionStorage.getItem(JOB_KEY);
  if (known !== null) void follow(known);

  /** @param {File[]} more */
  function add(more) {
    files = [...files, ...more];
    list.replaceChildren(
      ...files.map((file) => {
        const remove = element("button", { type: "button", "aria-label": `Remove ${file.name}` }, "Remove");
        remove.addEventListener("click", () => {
          files = files.filter((other) => other !== file);
          add([]);
          choose.focus();
        });
        return element("li", {}, element("span", {}, file.name), element("span", { class: "facts" }, `${(file.size / 1e6).toFixed(1)} MB`), remove);
      }),
    );
    start.disabled = files.length === 0;
  }

  async function begin() {
    await work.run(async (signal) => {
      const body = new FormData();
      body.append("model", model.value);
      body.append("name", name.value);
      for (const file of files) body.append("file", file, file.name);
      /** @param {number} share */
      const onUpload = (share) => work.show({ stage: "upload", share });
      /** @type {Job} */
      const job = await requestJson("POST", "v1/adaptations", { body, signal, onUpload });
      sessionStorage.setItem(JOB_KEY, job.id);
      await watch(job.id, signal);
    });
  }

  /** @param {string} id */
  async function follow(id) {
    await work.run((signal) => watch(id, signal));
  }

  /**
   * Shows a job until it has ended.
   * @param {string} id
   * @param {AbortSignal} signal Given, it is deleted.
   */
  async function watch(id, signal) {
    const curve = element("div", { class: "curve" });
    if (form.contains(document.activeElement)) work.root.focus();
    form.hidden = true;
    result.hidden = false;
    result.replaceChildren(
      element("p", { class: "hint" }, "This takes some minutes. You can do something else meanwhile, as long as this tab stays open."),
      element("p", { class: "hint" }, "The loss jumps from step to step. What counts is the comparison of both models at the end."),
      curve,
    );
    const path = `v1/jobs/${id}`;
    try {
      for (;;) {
        const job = await look(path, signal);
        if (job?.adaptation) drawCurve(curve, job.adaptation.curve, job.adaptation.steps);
        if (job?.state === "failed") throw new Error(job.error?.message);
        if (job?.state === "done") {
          showResult(job, curve);
          return;
        }
        work.say(job ? sentenceOfState(job) : "No answer from the service: it may be starting again\u2026");
        work.setShare(job?.adaptation?.step ? job.adaptation.step / job.adaptation.steps : null);
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
    } catch (error) {
      sessionStorage.removeItem(JOB_KEY);
      reset();
      // Nobody could take it any more.
      await request("DELETE", path).catch(() => {});
      throw error;
    }
  }

  function reset() {
    form.hidden = false;
    result.hidden = true;
    result.replaceChildren();
  }

  /**
   * @param {Job} job
   * @param {HTMLElement} curve
   */
  function showResult(job, curve) {
    const path = `v1/jobs/${job.id}`;
    const heard = element("div");
    const trial = element("input", { type: "file", accept: "audio/*,video/*", hidden: true, "aria-label": "Recording to compare with" });
    const compare = element("button", { type: "button", class: "primary", click: () => trial.click() }, "Hear it on a recording");
    trial.addEventListener("change", () => {
      const [file] = trial.files ?? [];
      trial.value = "";
      if (file) void hear(file, job, heard);
    });
    const save = () =>
      work.run(async (signal) => {
        const answer = await request("GET", `${path}/result`, { signal });
        download(answer.body, answer.header("Content-Disposition")?.match(/filename="([^"]+)"/)?.[1] ?? "place.onnx");
      });
    const forget = () =>
      work.run(async () => {
        await request("DELETE", path);
        sessionStorage.removeItem(JOB_KEY);
        player?.close();
        player = null;
        reset();
        choose.focus();
      });
    const again = element("button", { type: "button", click: () => void forget() }, "Delete the model and start again");
    const title = element("h3", { tabindex: -1 }, "The model of your room is ready");
    const notes = element("ul", { class: "notes" }, ...job.notes.map((note) => element("li", {}, note)));
    const actions = element(
      "div",
      { class: "actions" },
      compare,
      element("button", { type: "button", click: () => void save() }, "Download the model"),
      again,
      trial,
    );
    const hint = element(
      "p",
      { class: "hint" },
      "The service deletes it after a day. The downloaded file works with the command: ",
      element("code", {}, "sottovoce enhance meeting.wav -o clear.wav --model my_room.onnx"),
    );
    if (!job.adaptation?.adopted) {
      // The result is the old model, which nobody needs to hear or to take.
      title.textContent = "The old model stays: the new one is not better";
      again.textContent = "Start again";
      again.className = "primary";
      actions.replaceChildren(again);
      hint.textContent = "More recordings of the room, in which it is noisy while nobody speaks, may make a better one.";
    }
    result.replaceChildren(title, notes, curve, actions, hint, heard);
    title.focus();
  }

  /** @type {Player | null} */
  let player = null;

  /**
   * Lets a recording be heard as it is, and with both models.
   * @param {File} file
   * @param {Job} job
   * @param {HTMLElement} place
   */
  async function hear(file, job, place) {
    player?.close();
    player = null;
    place.replaceChildren();
    await work.run(async (signal) => {
      const isKept = await isLossless(file);
      const named = isKept ? file.name : "recording.wav";
      /** @param {Record<string, string | number>} fields */
      const made = async (fields) => (await enhance(file, named, fields, { signal, onProgress: work.show })).body;
      const base = model.value || "default";
      const sounds = [
        isKept ? file : await made({ model: base, mix: 0 }),
        await made({ model: base }),
        await made({ model: job.id }),
      ];
      try {
        const tracks = [];
        for (const sound of sounds) tracks.push(await decode(sound));
        signal.throwIfAborted();
        const root = element("div");
        place.replaceChildren(element("div", { class: "listen" }, element("h3", {}, file.name), root));
        player = new Player(root, {
          tracks,
          views: [
            { label: "Before", weights: [1, 0, 0] },
            { label: `Model ${base}`, weights: [0, 1, 0] },
            { label: "Your room", weights: [0, 0, 1] },
          ],
        });
        player.show(2);
        player.focus();
      } catch (error) {
        if (!(error instanceof DecodingError)) throw error;
        place.replaceChildren(element("p", { class: "notice" }, sentenceOf(error)));
      }
    });
  }
}

/** @param {Job} job */
function sentenceOfState({ state, adaptation }) {
  if (state === "queued") return "Waiting: another adaptation is running\u2026";
  if (!adaptation?.step) return `Preparing: ${adaptation?.task ?? "starting"}\u2026`;
  const { task, step, steps, seconds_left: left } = adaptation;
  if (step === steps) return `Almost done: ${task}\u2026`;
  const minutes = left === null ? "" : left < 90 ? `, about ${Math.ceil(left / 10) * 10} s left` : `, about ${Math.round(left / 60)} min left`;
  return `Learning: step ${step} of ${steps}${minutes}`;
}

/**
 * @param {string} path
 * @param {AbortSignal} signal
 * @returns {Promise<Job | null>} Null while the service does not answer: jobs outlive its restart.
 */
async function look(path, signal) {
  try {
    return await requestJson("GET", path, { signal });
  } catch (error) {
    if (error instanceof ServiceError && (error.status === 0 || error.status >= 502)) return null;
    throw error;
  }
}
