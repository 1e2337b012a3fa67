// Names, scores, marks and tags of images, fetched in chunks and dropped when there are too many.

import { json } from "./api.js";
import { $ } from "./dom.js";
import { emit, on, review, state } from "./state.js";

export const CHUNK = 60; // images that are fetched at a time
const HELD = 60 * CHUNK;

const rows = new Map(); // number of an image -> row, the least recently used first
const changed = new Map(); // number of an image -> what a change made of it, and when
const asked = new Map(); // place of a chunk -> AbortController of its request
let generation = 0; // rows of older generations are shown, but fetched again
let clock = 0; // counts requests and changes

export function reviewer() {
  return $("reviewer").value.trim() || "me";
}

/** Returns {name, score, shown, own, all, tags, why, findings, size, seen, group}; undefined: not loaded. */
export const row = (number) => rows.get(number);

/** Changes own and all (verdicts) or tags of a row; newer than any answer that is under way. */
export function change(number, values) {
  changed.set(number, { values: { ...changed.get(number)?.values, ...values }, clock: ++clock });
  if (rows.has(number)) Object.assign(rows.get(number), values);
  if ("all" in values) emit("changed", number, values.all);
}

/** Fetches the rows of images and keeps them. */
export async function load(numbers, signal) {
  const sent = ++clock;
  const of = generation;
  const parameters = { images: numbers.join(","), reviewer: reviewer(), group: state.group ? 1 : "" };
  const found = await json("/api/rows", parameters, signal);
  if (of !== generation) return;
  numbers.forEach((number, i) => {
    const fresh = {
      name: found.names[i], score: found.scores[i], shown: found.shown[i], own: found.own[i], all: found.all[i],
      tags: found.tags[i], why: found.why[i], findings: found.findings[i], size: found.sizes[i], seen: found.seen[i],
      group: found.group[i], generation: of,
    };
    const later = changed.get(number);
    if (later?.clock > sent) Object.assign(fresh, later.values);
    else changed.delete(number);
    rows.delete(number); // moved to the end
    rows.set(number, fresh);
  });
  for (const number of rows.keys()) {
    if (rows.size <= HELD) break;
    rows.delete(number);
  }
  if (sent >= progressClock) emit("progress", found.progress);
  emit("rows");
}

let progressClock = 0; // when a change last told the progress

/** Says how many images are marked; answers of earlier requests are dropped. */
export function showProgress(progress) {
  progressClock = ++clock;
  emit("progress", progress);
}

/** Fetches what is missing of the places from `first` to before `last`, and forgets what was asked far away. */
export function want(first, last) {
  for (const [start, controller] of asked) {
    if (start + CHUNK < first - CHUNK || start > last + CHUNK) {
      controller.abort();
      asked.delete(start);
    }
  }
  for (let start = Math.floor(first / CHUNK) * CHUNK; start < last; start += CHUNK) {
    if (asked.has(start)) continue;
    const numbers = Array.from(review.order.subarray(start, start + CHUNK));
    const missing = numbers.filter((number) => rows.get(number)?.generation !== generation);
    if (!missing.length) continue;
    const controller = new AbortController();
    asked.set(start, controller);
    load(missing, controller.signal)
      .catch(() => {}) // the error is shown; asked for again when it becomes visible again
      .finally(() => { if (asked.get(start) === controller) asked.delete(start); });
  }
}

/** Fetches one row if it is missing or old. */
export async function rowOf(number) {
  if (rows.get(number)?.generation !== generation) await load([number]);
  return rows.get(number);
}

/** Has all rows fetched again: others may have changed them. */
export function refresh() {
  generation++;
  forget();
}

function forget() {
  for (const controller of asked.values()) controller.abort();
  asked.clear();
}

on("order", forget);
