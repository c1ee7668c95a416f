// Requests to the service that serves this page.

const TOKEN_KEY = "sottovoce.token";

/** An error of the service, with the sentence that it has for people. */
export class ServiceError extends Error {
  /**
   * @param {number} status 0 if there was no answer.
   * @param {string} code
   * @param {string} message
   */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * What every request carries, where the service needs a token.
 * @returns {string | null}
 */
export function token() {
  return sessionStorage.getItem(TOKEN_KEY);
}

/**
 * An answer of the service.
 * @typedef {{status: number, header: (name: string) => string | null, body: Blob}} Answer
 */

/**
 * Sends a request; asks for the token once it is needed.
 * @param {string} method
 * @param {string} path Relative to the page, such as `v1/models`.
 * @param {{body?: FormData, signal?: AbortSignal, onUpload?: (share: number) => void}} [options]
 * @returns {Promise<Answer>}
 * @throws {ServiceError} The service refuses, or is not there.
 * @throws {DOMException} AbortError: the signal was given.
 */
export async function request(method, path, options = {}) {
  for (;;) {
    const answer = await send(method, path, options);
    if (answer.status < 400) return answer;
    const error = await errorOf(answer);
    if (error.code !== "token_needed" || !(await askForToken())) throw error;
  }
}

/**
 * The same for an answer in JSON.
 * @param {string} method
 * @param {string} path
 * @param {Parameters<typeof request>[2]} [options]
 * @returns {Promise<any>}
 */
export async function requestJson(method, path, options) {
  const answer = await request(method, path, options);
  return JSON.parse(await answer.body.text());
}

/**
 * XMLHttpRequest says how much of an upload is sent; fetch does not.
 * @param {string} method
 * @param {string} path
 * @param {Parameters<typeof request>[2]} options
 * @returns {Promise<Answer>}
 */
function send(method, path, { body, signal, onUpload } = {}) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const call = new XMLHttpRequest();
    call.open(method, path);
    call.responseType = "blob";
    for (const [name, value] of Object.entries(authorization())) call.setRequestHeader(name, value);
    if (onUpload) {
      call.upload.addEventListener("progress", (event) => {
        if (event.lengthComputable) onUpload(event.loaded / event.total);
      });
    }
    const abort = () => call.abort();
    signal?.addEventListener("abort", abort);
    call.addEventListener("loadend", () => signal?.removeEventListener("abort", abort));
    call.addEventListener("abort", () => reject(signal?.reason));
    call.addEventListener("error", () => {
      reject(new ServiceError(0, "no_answer", "found no answer from the service: check that it runs, and try again"));
    });
    call.addEventListener("load", () => {
      resolve({ status: call.status, header: (name) => call.getResponseHeader(name), body: call.response });
    });
    call.send(body);
  });
}

/**
 * @param {Answer} answer
 * @returns {Promise<ServiceError>}
 */
async function errorOf(answer) {
  try {
    const { code, message } = JSON.parse(await answer.body.text()).error;
    return new ServiceError(answer.status, code, message);
  } catch {
    // A proxy in between has sentences of its own.
    return new ServiceError(answer.status, "refused", `found status ${answer.status}, expected a result: try again later`);
  }
}

/** @type {Promise<boolean> | null} */
let asking = null;

/**
 * Asks for the token; requests that fail meanwhile wait for the same answer.
 * @returns {Promise<boolean>} Whether there is one to try.
 */
export function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("token"));
    const field = /** @type {HTMLInputElement} */ (document.getElementById("token-value"));
    sessionStorage.removeItem(TOKEN_KEY);
    dialog.returnValue = "";
    field.value = "";
    dialog.showModal();
    dialog.addEventListener(
      "close",
      () => {
        asking = null;
        const isGiven = dialog.returnValue === "ok";
        if (isGiven) sessionStorage.setItem(TOKEN_KEY, field.value.trim());
        field.value = "";
        resolve(isGiven);
      },
      { once: true },
    );
  });
  return asking;
}

// What takes longer than a moment is worth a job, which says how far it is.
const JOB_BYTES = 4e6;
const POLL_MS = 300;

/**
 * Where a recording is on its way.
 * @typedef {{stage: "upload" | "wait" | "enhance", share: number | null}} Progress
 */

/**
 * Enhances a recording: a short one at once, a long one as a job.
 * @param {Blob} file
 * @param {string} name Its ending says which kind of file comes back.
 * @param {Record<string, string | number | boolean>} fields As of `POST /v1/audio/enhancements`.
 * @param {{signal?: AbortSignal, onProgress?: (progress: Progress) => void}} [options] A job is deleted once there is
 *   the result, or the signal.
 * @returns {Promise<Answer>}
 * @throws {ServiceError} The service refuses.
 */
export async function enhance(file, name, fields, { signal, onProgress = () => {} } = {}) {
  const body = new FormData();
  for (const [field, value] of Object.entries(fields)) body.append(field, String(value));
  body.append("file", file, name);
  /** @param {number} share */
  const onUpload = (share) => onProgress(share < 1 ? { stage: "upload", share } : { stage: "wait", share: null });
  onProgress({ stage: "upload", share: 0 });
  if (file.size < JOB_BYTES) return request("POST", "v1/audio/enhancements", { body, signal, onUpload });
  const { id } = await requestJson("POST", "v1/jobs", { body, signal, onUpload });
  const path = `v1/jobs/${id}`;
  // Nobody else can delete it when this page is gone.
  const leave = () => void fetch(path, { method: "DELETE", keepalive: true, headers: authorization() });
  addEventListener("pagehide", leave);
  try {
    for (;;) {
      const job = await requestJson("GET", path, { signal });
      if (job.state === "failed") throw new ServiceError(422, job.error.code, job.error.message);
      if (job.state === "done") return await request("GET", `${path}/result`, { signal });
      onProgress(job.state === "queued" ? { stage: "wait", share: null } : { stage: "enhance", share: job.progress });
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  } finally {
    removeEventListener("pagehide", leave);
    await request("DELETE", path).catch(() => {});
  }
}

/** @returns {Record<string, string>} */
function authorization() {
  const found = token();
  return found === null ? {} : { Authorization: `Bearer ${found}` };
}
