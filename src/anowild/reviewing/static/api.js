// Requests to the server. A failed request shows a sentence and throws.

import { $ } from "./dom.js";

const secret = document.querySelector("meta[name=secret]").content;
const NO_ANSWER = "The server does not answer. Is the command that opened this page still running? Earlier marks are stored.";
const CHANGES = ["/api/mark", "/api/tag", "/api/undo", "/api/grouped"];
const STATUS = "/api/status"; // asked all the time: its answers do not end another error

let unanswered = false; // the error says that there is no answer
let lost = false; // the last change was not stored: the error stays until one is stored

/** An answer that says no; `status` is that of HTTP, 0 without any answer. */
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export function showError(text) {
  $("error").textContent = text;
  $("error").hidden = false;
}

export function address(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== "" && value !== null && value !== undefined) query.set(name, value);
  }
  return query.size ? `${path}?${query}` : path;
}

async function request(path, options, quiet = []) {
  const storing = CHANGES.includes(path.split("?")[0]);
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    lost ||= storing;
    unanswered = true;
    showError(NO_ANSWER);
    throw new Refused(0, NO_ANSWER);
  }
  if (!answer.ok) {
    const text = await answer.text();
    if (!quiet.includes(answer.status)) {
      lost ||= storing;
      unanswered = false;
      showError(text);
    }
    throw new Refused(answer.status, text);
  }
  if (storing) lost = false;
  if (unanswered || path !== STATUS) $("error").hidden = !lost;
  unanswered = false;
  return answer;
}

export async function json(path, parameters, signal) {
  return (await request(address(path, parameters), { signal })).json();
}

/** Returns an Int32Array: numbers of images. Its `total` says how many there are, if these are only some of them. */
export async function numbers(path, parameters, signal) {
  const answer = await request(address(path, parameters), { signal });
  const found = new Int32Array(await answer.arrayBuffer());
  found.total = Number(answer.headers.get("x-total") ?? found.length);
  return found;
}

/** Returns a Float32Array; an answer with a status in `quiet` throws without a message. */
export async function floats(path, parameters, quiet) {
  return new Float32Array(await (await request(address(path, parameters), {}, quiet)).arrayBuffer());
}

// Changes are sent one after the other, so that the last key pressed decides.
let changes = Promise.resolve();

export function post(path, body) {
  const options = {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "content-type": "application/json", "x-anowild": secret },
  };
  const answer = changes.then(() => request(path, options)).then((found) => found.json());
  changes = answer.catch(() => {});
  return answer;
}
