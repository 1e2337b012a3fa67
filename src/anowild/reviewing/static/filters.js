// Order and filters: their controls, the line that says what is shown, and asking for the order.

import { numbers } from "./api.js";
import { $, count, debounce, element, images, say } from "./dom.js";
import { choose, moveTo } from "./grid.js";
import { refresh, reviewer, rowOf } from "./rows.js";
import { FILTERS, current, emit, hasFilters, offers, on, review, state, writeAddress } from "./state.js";

const GROUPS = { verdict: "Verdict", view: "One view", cue: "Measured", check: "Checks", file: "File" };
const LEARNED = "marks"; // the order that is learned from the marks
const PATIENCE = 20; // marks after which the learned order is asked for again

let asked = 0; // answers to older questions are dropped
let progress = null;
let taught = null; // whether there were marks enough to learn from when the order was asked for; null: not known

/** Returns whether there are marks enough to learn an order from; null: not known. */
const canLearn = () =>
  progress && Math.min(progress.keep, progress.remove + progress.interesting) >= review.info.least_marks;

/** Returns the parameters of the present order and filters. */
export function query() {
  return {
    sort: state.sort, reverse: state.reverse ? 1 : "", mark: state.mark, reviewer: state.by,
    disagree: state.disagree ? 1 : "", above: state.side === "above" ? state.limit : "",
    below: state.side === "below" ? state.limit : "", folder: state.folder, finding: state.finding,
    view: state.view, tag: state.tag, q: state.q, like: state.like, group: state.group ? 1 : "",
  };
}

/**
 * Asks for the order again and shows it.
 *
 * `to`: "current" stays at the current image where it is still shown, "first" goes to the first image,
 * "under" puts the current image first, before the new order. Of a long order, the part from the place `start` on is
 * shown.
 */
export async function reorder(to = "current", start = 0) {
  const question = ++asked;
  $("grid").ariaBusy = true;
  try {
    const found = state.members === null
      ? await numbers("/api/order", { ...query(), start: start || "" })
      : await numbers("/api/members", { ...query(), image: state.members });
    if (question !== asked) return;
    if (!found.length && start && found.total) return void await reorder("first"); // there are fewer by now
    state.start = start;
    review.total = found.total;
    show(found, to);
  } catch (error) {
    if (question === asked && !review.order.length) throw error;
  } finally {
    if (question === asked) $("grid").ariaBusy = false;
  }
  describe();
}

function show(found, to) {
  const number = state.image;
  if (to === "under" && found.includes(number)) {
    found = Int32Array.from([number, ...found.filter((other) => other !== number)]);
  }
  review.order = found;
  review.since = 0;
  taught = canLearn();
  review.place = to === "first" ? 0 : Math.max(0, found.indexOf(number));
  state.image = found.length ? current() : null;
  if (review.chosen.size) choose([]);
  refresh();
  emit("order");
  emit("place");
  showEmpty();
  showWindow();
  writeAddress();
}

/** Shows which part of a long order is there. */
function showWindow() {
  const { order, total } = review;
  $("window").hidden = total <= order.length;
  $("window-text").textContent = `${count(state.start + 1)} to ${count(state.start + order.length)} of ${count(total)}`;
  $("window-back").disabled = state.start === 0;
  $("window-on").disabled = state.start + order.length >= total;
  $("window-place").max = total;
}

/** Whether a place lies before or behind the part of the order that is shown, and there is more of it. */
export const isBeyond = (place) =>
  place < 0 ? state.start > 0 : place >= review.order.length && state.start + review.order.length < review.total;

/** Goes to a place of the whole order, from 0. */
export async function goTo(place) {
  const wanted = Math.min(review.total - 1, Math.max(0, place));
  const start = Math.floor(wanted / review.info.window) * review.info.window;
  if (start !== state.start) await reorder("first", start);
  moveTo(wanted - state.start);
}

function showEmpty() {
  $("empty").hidden = review.order.length > 0;
  if (review.order.length) return;
  $("empty").textContent = isFiltered()
    ? "No image is like this. Show all, or change the filters."
    : state.sort === LEARNED ? "All images are marked." : "There are no images.";
}

const isFiltered = () => state.like !== null || state.members !== null || hasFilters();

// The line above the grid

const titleOf = (kind, value) => review.info[kind].find((one) => (one.kind ?? one.name) === value)?.title ?? value;

/** Says which images come first. */
function orderText() {
  const untaught = state.sort === LEARNED && !taught; // then the order is that of the scores
  const sort = review.info.sorts.find((one) => one.name === (untaught ? "score" : state.sort));
  const titles = { view: `oddest to ${sort.title} first`, cue: `oddest ${sort.title} first` };
  return (titles[sort.group] ?? sort.title) + (state.reverse ? ", reversed" : "");
}

async function describe() {
  const question = asked;
  const { info, order, total } = review;
  const least = info.least_marks;
  $("untaught").textContent = `Mark at least ${least} images to keep and ${least} odd ones (remove or interesting) first.`;
  $("untaught").hidden = state.sort !== LEARNED || state.like !== null || taught !== false;
  const words = [];
  if (state.mark) words.push(state.mark);
  if (state.by) words.push(`marks of ${state.by}`);
  if (state.disagree) words.push("reviewers disagree");
  if (state.side) words.push(`${state.side} the limit`);
  if (state.finding) words.push(titleOf("findings", state.finding));
  if (state.tag) words.push(`#${state.tag}`);
  if (state.view) words.push(`oddest to ${titleOf("views", state.view)}`);
  if (state.folder) words.push(`in ${state.folder}`);
  if (state.q) words.push(`named “${state.q}”`);
  let start = words.length ? `${count(total)} of ${count(info.count)}: ${words.join(", ")}` : images(info.count);
  if (state.group && state.members === null) {
    start = `${count(order.length)} groups and single images${words.length ? `: ${words.join(", ")}` : ""}`;
  }
  let end = `, ${orderText()}`;
  if (state.members !== null) {
    start = `${images(order.length)} that ${order.length === 1 ? "looks" : "look"} alike`;
    end = "";
  } else if (state.like !== null) {
    const { name } = await rowOf(state.like).catch(() => ({ name: "one image" }));
    if (question !== asked) return;
    const text = `most like ${name.split("/").pop()} first`;
    if ($("sort-like")) $("sort-like").textContent = text;
    end = `, ${text}`;
  }
  if (question !== asked) return;
  $("summary").textContent = start + end;
  $("show-all").textContent = state.members !== null ? "back to the groups" : "show all";
  $("show-all").hidden = !isFiltered();
  const active = FILTERS.filter((name) => name !== "q" && state[name] !== "" && state[name] !== false).length;
  $("toggle-side").textContent = active ? `Filters (${active})` : "Filters";
}

/** Leaves the group that is shown, or drops all filters. */
export function showAll() {
  if (state.members !== null) state.members = null;
  else {
    for (const name of FILTERS) state[name] = typeof state[name] === "boolean" ? false : "";
    state.like = null;
  }
  showControls();
  return reorder();
}

/** Shows all images, the most similar to the current one first. */
export function moreLike() {
  if (!review.order.length) return;
  state.like = current();
  state.members = null;
  state.q = "";
  showControls();
  reorder("first");
}

/** Shows one tile for each group of alike images, or each image again. */
export function toggleGroups() {
  state.group = !state.group;
  state.members = null;
  showControls();
  reorder();
}

/** Shows the members of the current group; returns whether there is one. */
export async function openGroup() {
  if (!state.group || state.members !== null) return false;
  const number = current();
  if ((await rowOf(number)).group < 2) return false;
  state.members = number;
  reorder();
  return true;
}

// Controls

function chips(id, field, entries) {
  $(id).replaceChildren(...entries.map(({ value, text, title = "", found, key }) => {
    const parts = key ? [element("kbd", { textContent: key }), text] : [text];
    if (found !== undefined) parts.push(element("span", { className: "count", textContent: found }));
    const chip = element("button", { className: "chip", title, "data-value": value }, ...parts);
    chip.ariaPressed = state[field] === value;
    return chip;
  }));
}

function listenToChips(id, field) {
  $(id).addEventListener("click", (event) => {
    const hit = event.target.closest(".chip");
    if (!hit) return;
    const { value } = hit.dataset;
    set(field, state[field] === value ? "" : value);
    // The chip was made anew: a keyboard stays on it.
    if (!event.detail) $(id).querySelector(`[data-value="${CSS.escape(value)}"]`)?.focus();
  });
}

/** Sets a filter and asks for the order. */
function set(field, value, to = "current") {
  state[field] = value;
  state.members = null;
  showControls();
  return reorder(to);
}

function fillSelect(id, first, entries) {
  $(id).replaceChildren(element("option", { value: "", textContent: first }),
    ...entries.map(([value, text]) => element("option", { value, textContent: text })));
}

/** Returns how many images have a mark, as text. */
function marked(kind) {
  if (!progress) return "";
  if (kind === "unmarked") return count(review.info.count - progress.all);
  return count((kind === "marked" ? progress.all : progress[kind]) ?? 0);
}

/** Shows the state in the controls. */
export function showControls() {
  const { info } = review;
  showSort();
  $("reverse").ariaPressed = state.reverse;
  $("disagree").checked = state.disagree;
  $("groups").ariaPressed = state.group;
  $("search").value = state.q;
  for (const name of ["folder", "view", "by"]) $(name).value = state[name];
  chips("filter-mark", "mark", ["unmarked", "marked", ...info.marks].map((kind) =>
    ({ value: kind, text: kind, found: marked(kind) })));
  chips("filter-side", "side", [{ value: "above", text: "above the limit" }, { value: "below", text: "below" }]);
  chips("filter-finding", "finding", info.findings.map((finding) =>
    ({ value: finding.kind, text: finding.title, title: finding.meaning, found: count(finding.count) })));
  chips("filter-tag", "tag", info.tags.map((tag, i) =>
    ({ value: tag, text: tag, key: i < 9 ? String(i + 1) : "", title: i < 9 ? `Key ${i + 1} tags` : "" })));
  $("findings-part").hidden = !info.findings.length;
  $("tags-part").hidden = !info.tags.length;
}

/** Shows all images in another order, from its first. */
function sortBy(sort) {
  // The learned order is for going on with marking: without those that are marked.
  if (sort === LEARNED && !state.mark) state.mark = "unmarked";
  else if (state.sort === LEARNED && state.mark === "unmarked") state.mark = "";
  state.sort = sort;
  state.like = state.members = null;
  showControls();
  reorder("first");
  $("grid").focus();
}

/** Shows the order; that by likeness to an image stands there only while it is on. */
function showSort() {
  const on = state.like !== null;
  if (!on) $("sort-like")?.remove();
  else if (!$("sort-like")) $("sort").prepend(element("option", { id: "sort-like", value: "like", textContent: "most like one image first" }));
  $("sort").value = on ? "like" : state.sort;
}

/** Fills the controls with what the server offers. */
export function fillControls() {
  const { info } = review;
  const groups = [...new Set(info.sorts.map((sort) => sort.group))];
  $("sort").replaceChildren(...groups.map((group) =>
    element("optgroup", { label: GROUPS[group] ?? group },
      ...info.sorts.filter((sort) => sort.group === group).map((sort) =>
        element("option", { value: sort.name, textContent: sort.title })))));
  fillSelect("folder", "all", info.folders.map((folder) => [folder, folder]));
  fillSelect("view", "any view", info.views.map((view) => [view.name, view.title]));
  for (const name of ["folder", "view"]) {
    $(name).hidden = $(`${name}-label`).hidden = !info[`${name}s`].length;
  }
  fillSelect("by", "all reviewers", info.reviewers.map((name) => [name, name]));
  $("seen").textContent = [info.seen, info.warning].filter(Boolean).join(" ");
  const passed = info.left_out.reduce((sum, one) => sum + one.count, 0);
  $("left-out").hidden = !passed;
  $("left-out").querySelector("summary").textContent =
    `${count(passed)} ${passed === 1 ? "file was" : "files were"} passed over`;
  $("left-out").querySelector("ul").replaceChildren(...info.left_out.map((one) =>
    element("li", { textContent: `${count(one.count)}: ${one.reason}, e.g. ${one.first}` })));
  dropUnknown();
  showControls();
}

/** Drops what the address asks for and there is not, as after images were mended, or with other views. */
function dropUnknown() {
  const { info } = review;
  if (!info.sorts.some((sort) => sort.name === state.sort)) state.sort = "score";
  if (!info.findings.some((finding) => finding.kind === state.finding)) state.finding = "";
  if (!info.views.some((view) => view.name === state.view)) state.view = "";
  const isImage = (number) => Number.isInteger(number) && number >= 0 && number < info.count;
  if (!offers("like") || !isImage(state.like)) state.like = null;
  if (!offers("groups") || !isImage(state.members)) state.members = null;
  if (!isImage(state.image)) state.image = null;
  if (!offers("groups")) state.group = false;
  if (!isImage(state.start)) state.start = 0;
}

export function listen() {
  listenToChips("filter-mark", "mark");
  listenToChips("filter-side", "side");
  listenToChips("filter-finding", "finding");
  listenToChips("filter-tag", "tag");
  for (const name of ["folder", "view", "by"]) {
    $(name).addEventListener("change", () => set(name, $(name).value));
  }
  $("disagree").addEventListener("change", () => set("disagree", $("disagree").checked));
  const search = debounce(200, () => {
    // A name is looked for among all: also among those that the learned order leaves out.
    if ($("search").value && state.sort === LEARNED && state.mark === "unmarked") state.mark = "";
    set("q", $("search").value);
  });
  $("search").addEventListener("input", search);
  $("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "ArrowDown") $("grid").focus();
    else if (event.key === "Escape") {
      set("q", "");
      $("grid").focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  $("sort").addEventListener("change", () => sortBy($("sort").value));
  $("reverse").addEventListener("click", () => set("reverse", !state.reverse, "first"));
  const turn = (by) => () => goTo(state.start + by * review.info.window).catch(() => {}); // the error is shown
  $("window-back").addEventListener("click", turn(-1));
  $("window-on").addEventListener("click", turn(1));
  $("window-form").addEventListener("submit", (event) => {
    event.preventDefault();
    goTo($("window-place").valueAsNumber - 1).then(() => $("grid").focus(), () => {});
  });
  $("rerank").addEventListener("click", async () => {
    const learns = canLearn();
    if (learns && state.sort !== LEARNED) sortBy(LEARNED);
    else await reorder(state.sort === LEARNED ? "first" : "current");
    say(learns ? "Re-ranked with your marks." : $("untaught").textContent);
  });
  $("show-all").addEventListener("click", () => { showAll(); $("grid").focus(); });
  $("reviewer").addEventListener("change", () => {
    localStorage.setItem("reviewer", reviewer());
    reorder();
  });
  const limited = debounce(300, () => { if (state.side) reorder(); });
  on("limit", limited);
  on("tags", showControls);
  on("progress", (found) => {
    progress = found;
    $("progress").textContent =
      `${count(found.all)} of ${count(review.info.count)} marked (${count(found.own)} by you)`;
    for (const chip of $("filter-mark").children) {
      chip.querySelector(".count").textContent = marked(chip.dataset.value);
    }
    if (taught !== null || !review.order.length) return;
    taught = canLearn();
    describe();
  });
  on("marked", async () => {
    if (state.sort !== LEARNED || state.like !== null || state.members !== null) return;
    if (review.since < PATIENCE && taught === canLearn()) return;
    await reorder("under");
    moveTo(0);
    say("Re-ranked with your marks.");
  });
}
