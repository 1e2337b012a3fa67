// The page of a review: starts everything, and says which key does what.
//
// Elements that tests and other pages may rely on, by id:
//   window (of a long order: window-back, window-on, window-text, window-place); grid (listbox; options are .tile with data-place and data-number, aria-label: all in one line; in
//   it .name .score .mark .badge .notes), summary, show-all, chosen, choose-none, progress, empty;
//   bar and detail-bar (button[data-verdict], button[data-action]);
//   sort, reverse, rerank; limit, counts, keep-limit; filter-side, filter-mark, filter-finding, filter-tag
//   (.chip[data-value]), disagree, folder, view, by; search, groups, map-button, size, reviewer, csv, json, parquet;
//   detail (dialog), detail-name, detail-place, close, stage, original, placeholder, heat, box, zoom, spinner, missing,
//   pages, page, levels, low, high, why, detail-findings, views, pictures, near, cues, detail-marks, detail-mark,
//   detail-tags, detail-tag, path; tag-dialog, tag-input; all-dialog, all-text, all-verdicts, all-unmarked; help, keys;
//   map, map-canvas, map-hover, map-text; training, training-text, training-rerank; announce, toast, error.
//
// The address: #NAME=VALUE&..., without what has its default. Names: sort reverse mark side finding tag folder view by
// q disagree like members group start limit image size detail map. Images are numbers, switches are 1.

import { json, showError } from "./api.js";
import { $, debounce } from "./dom.js";
import * as detail from "./detail.js";
import * as filters from "./filters.js";
import * as grid from "./grid.js";
import * as keys from "./keys.js";
import * as limit from "./limit.js";
import * as map from "./map.js";
import * as marks from "./marks.js";
import { load as loadRows } from "./rows.js";
import { emit, offers, readAddress, review, state, writeAddress } from "./state.js";
import { watch } from "./training.js";
import * as viewer from "./viewer.js";

async function open() {
  if (!(await filters.openGroup())) detail.openDetail();
}

/** Moves in the grid; with Shift selects, with Ctrl keeps what is selected. */
function move(target) {
  return (event) => {
    if (!event.shiftKey && !event.ctrlKey && review.chosen.size) grid.choose([]);
    const place = target();
    if (filters.isBeyond(place)) filters.goTo(state.start + place).catch(() => {}); // the error is shown
    else grid.moveTo(place, { extend: event.shiftKey && !state.detail });
  };
}

const steps = (by) => move(() => review.place + by);
const screens = (by) => move(() => review.place + by * grid.columnCount() * grid.rowsInView());
const rows = (by) => move(() => review.place + (state.detail ? Math.sign(by) : by * grid.columnCount()));

function escape() {
  if (state.detail) return detail.closeDetail();
  if (review.chosen.size) return grid.choose([]);
  if (state.map) return map.toggleMap();
  if (state.members !== null || state.like !== null) return void filters.showAll();
  return false;
}

function search() {
  if (state.detail) return;
  $("search").focus();
  $("search").select();
}

function askForTag() {
  if (state.detail) $("detail-tag").focus();
  else marks.askForTag();
}

function tagByNumber(event) {
  const tag = review.info.tags[Number(event.key) - 1];
  if (tag === undefined) return false;
  marks.toggleTag(tag).catch(() => {}); // the error is shown
}

/** Returns an action for the viewer that the detail has to be open for. */
const inDetail = (action) => () => (state.detail ? action() : false);
const inGrid = (action) => () => (state.detail ? false : action());
const quiet = (action) => () => { action().catch(() => {}); }; // the error is shown

const ACTIONS = [
  { name: "previous", keys: ["ArrowLeft"], modified: true, text: "previous image (Shift selects)", run: steps(-1) },
  { name: "next", keys: ["ArrowRight"], modified: true, text: "next image (Shift selects)", run: steps(1) },
  { name: "up", keys: ["ArrowUp"], modified: true, text: "one row up", run: rows(-1) },
  { name: "down", keys: ["ArrowDown"], modified: true, text: "one row down", run: rows(1) },
  { name: "page-up", keys: ["PageUp"], text: "one screen up", run: screens(-1) },
  { name: "page-down", keys: ["PageDown"], text: "one screen down", run: screens(1) },
  { name: "first", keys: ["Home"], text: "first image", run: move(() => 0) },
  { name: "last", keys: ["End"], text: "last image", run: move(() => review.order.length - 1) },
  { name: "keep", keys: ["k"], text: "mark: keep", run: () => { marks.mark("keep"); } },
  { name: "remove", keys: ["r", "o"], text: "mark: remove", run: () => { marks.mark("remove"); } },
  { name: "interesting", keys: ["i"], text: "mark: interesting", run: () => { marks.mark("interesting"); } },
  { name: "unsure", keys: ["u"], text: "mark: unsure", run: () => { marks.mark("unsure"); } },
  { name: "undo", keys: ["z"], text: "undo the last mark or tag", run: quiet(marks.undo) },
  { name: "tag", keys: ["t"], text: "type a tag", run: askForTag },
  { name: "tag-number", keys: [..."123456789"], text: "add or take away the most used tags", run: tagByNumber },
  { name: "open", keys: ["Enter"], text: "look closer; show a group", run: inGrid(quiet(open)) },
  { name: "select", keys: [" "], text: "select this image too, or not", run: inGrid(grid.toggleCurrent) },
  { name: "select-all", keys: ["Control+a"], modified: true, text: "select all that is shown", run: inGrid(() => grid.choose(review.order)) },
  { name: "all", keys: ["a"], text: "mark all above the limit (asks)", run: inGrid(quiet(marks.askForAll)) },
  { name: "like", needs: "like", keys: ["s"], text: "more like this", run: filters.moreLike },
  { name: "groups", needs: "groups", keys: ["g"], text: "groups of alike images", run: inGrid(filters.toggleGroups) },
  { name: "map", needs: "map", keys: ["m"], text: "map of all images", run: inGrid(map.toggleMap) },
  { name: "search", keys: ["/"], text: "search in names", run: inGrid(search) },
  { name: "copy", keys: ["c"], text: "copy the path", run: quiet(marks.copyPath) },
  { name: "file", keys: ["e"], text: "open the file", run: quiet(marks.openFile) },
  { name: "heat", needs: "explain", keys: ["h"], text: "detail: heat map", run: inDetail(viewer.toggleHeat) },
  { name: "actual", keys: ["0"], text: "detail: one to one, or fit again", run: inDetail(viewer.actual) },
  { name: "fit", keys: ["f"], text: "detail: fit into the window", run: inDetail(viewer.fit) },
  { name: "larger", keys: ["+", "="], text: "detail: zoom in", run: inDetail(() => viewer.zoomBy(1.25)) },
  { name: "smaller", keys: ["-"], text: "detail: zoom out", run: inDetail(() => viewer.zoomBy(0.8)) },
  { name: "page-back", keys: ["["], text: "detail: previous page", run: inDetail(() => viewer.turnPage(-1)) },
  { name: "page-on", keys: ["]"], text: "detail: next page", run: inDetail(() => viewer.turnPage(1)) },
  { name: "help", keys: ["?"], text: "this list", run: keys.toggleHelp },
  { name: "close", keys: ["Escape"], text: "close; select nothing; back to all images", run: escape },
];

/** Fetches what depends on the scores, and shows it; the current image stays. */
async function load() {
  review.info = await json("/api/info");
  review.levels = await json("/api/levels");
  state.limit ??= review.info.limit.score;
  for (const button of document.querySelectorAll("[data-needs]")) button.hidden = !offers(button.dataset.needs);
  filters.fillControls();
  limit.drawHistogram();
  await filters.reorder("current", state.start);
  if (review.info.count) await loadRows([0]); // tells how many images are marked, also where no tile is shown
}

async function start() {
  readAddress();
  if (history.state === null) history.replaceState({ page: "grid" }, "");
  $("reviewer").value = localStorage.getItem("reviewer") || "me";
  state.size = location.hash.includes("size=") ? state.size : Number(localStorage.getItem("size")) || state.size;
  $("size").value = state.size;
  await load();
  const { info } = review;
  $("title").textContent = info.title;
  document.title = `${info.title} – AnoWild`;
  for (const kind of ["csv", "json", "parquet"]) $(kind).href = `/api/export?format=${kind}`;
  $("open-file").hidden = !info.local;

  for (const part of [filters, limit, marks, detail]) part.listen();
  grid.listen(quiet(open));
  map.listen(detail.openDetail);
  viewer.listen(detail.go);
  keys.listen(ACTIONS.filter(({ needs }) => !needs || offers(needs)));
  const sized = debounce(50, () => {
    localStorage.setItem("size", state.size);
    writeAddress();
  });
  $("size").addEventListener("input", () => {
    state.size = Number($("size").value);
    grid.layout();
    sized();
  });
  $("toggle-side").addEventListener("click", () => {
    const shown = document.body.classList.toggle("side-shown");
    $("toggle-side").ariaExpanded = shown;
  });
  emit("order");
  grid.layout();
  grid.moveTo(review.place);
  if (!offers("map")) state.map = false;
  map.showMap();
  $("grid").focus({ preventScroll: true });
  detail.restoreDetail();
  watch(load);
}

start().catch((error) => {
  if ($("error").hidden) showError(`The page could not be started: ${error.message}`);
});
