// What the page shows: the part that stands in the address, what was loaded, and events between modules.

const DEFAULTS = {
  sort: "score", reverse: false,
  mark: "", side: "", finding: "", tag: "", folder: "", view: "", by: "", q: "", disagree: false,
  like: null, members: null, group: false, start: 0,
  limit: null, image: null, size: 168, detail: false, map: false,
};
const NUMBERS = new Set(["like", "members", "start", "limit", "image", "size"]);
const PAUSE = 300; // milliseconds between two changes of the address; browsers allow about 100 in 30 seconds

/** Names of the filters in the state. */
export const FILTERS = ["mark", "side", "finding", "tag", "folder", "view", "by", "q", "disagree"];

/** Returns whether a filter leaves images out. */
export const hasFilters = () => FILTERS.some((name) => state[name] !== "" && state[name] !== false);

/** The part that stands in the address; its fields are those of DEFAULTS. */
export const state = { ...DEFAULTS };

/** What was loaded. */
export const review = {
  info: null, // facts about the review
  order: new Int32Array(0), // number of the image at each place; in long orders of the places from state.start on
  total: 0, // images in the whole order
  place: 0, // place of the current image
  levels: null, // histogram of the scores, and how many reach each limit
  chosen: new Set(), // numbers of the images that are selected together
  since: 0, // marks made since the order was asked for
};

/** Returns whether the server can do something beside showing images: like, groups, map, marks, explain, limit. */
export const offers = (what) => review.info.offers.includes(what);

export const current = () => review.order[review.place];

const listeners = {};

/**
 * Calls `action` after each `emit(event)`.
 *
 * Events: order, place, rows, limit, chosen, progress, marked, changed, tags.
 */
export function on(event, action) {
  (listeners[event] ??= []).push(action);
}

export function emit(event, ...values) {
  for (const action of listeners[event] ?? []) action(...values);
}

export function readAddress() {
  const found = new URLSearchParams(location.hash.slice(1));
  for (const [name, usual] of Object.entries(DEFAULTS)) {
    const text = found.get(name);
    if (text === null) state[name] = usual;
    else if (NUMBERS.has(name)) state[name] = text !== "" && isFinite(text) ? Number(text) : usual;
    else state[name] = typeof usual === "boolean" ? text === "1" : text;
  }
  state.size = Math.min(320, Math.max(96, state.size));
}

/** Returns the hash of the address: only what differs from the defaults. */
export function hash() {
  const query = new URLSearchParams();
  for (const [name, usual] of Object.entries(DEFAULTS)) {
    if (state[name] !== usual) query.set(name, state[name] === true ? "1" : state[name]);
  }
  return `#${query}`;
}

let timer = null;
let written = 0; // when the address was last changed

/** Writes the state into the address: now, or soon if it was just changed. */
export function writeAddress() {
  timer ??= setTimeout(writeAddressNow, Math.max(0, written + PAUSE - performance.now()));
}

export function writeAddressNow() {
  clearTimeout(timer);
  timer = null;
  written = performance.now();
  history.replaceState(history.state, "", hash());
}
