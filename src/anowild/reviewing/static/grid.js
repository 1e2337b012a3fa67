// The virtual grid: elements for the visible images only, which are used again while scrolling.

import { address } from "./api.js";
import { $, announce, count, debounce, element } from "./dom.js";
import { row, want } from "./rows.js";
import { current, emit, hasFilters, on, review, state, writeAddress } from "./state.js";

const GAP = 8; // pixels between tiles
const LINES = 3.9; // height of a tile's text, in units of the root's font size
const TALLEST = 15e6; // pixels; browsers cannot scroll much more, so longer grids are scrolled faster
const FAST = 3; // screens a second beyond which nobody recognizes pictures: they would only cost frames
const END = 12; // characters at the end of a name that are cut last
const SETTLED = 80; // milliseconds without scrolling until pictures are asked for in a fast scroll

const shown = new Map(); // place -> tile
const spare = []; // tiles out of use
let columns = 1;
let view = 0; // height of the window onto the list, in pixels
let wanted = ""; // side of the pictures that the server is asked for, in pixels; empty: as it has them
let step = { x: 0, y: 0 }; // from one tile to the next, in pixels
let lastTop = 0;
let lastDrawn = 0; // milliseconds
let anchor = 0; // place where a selection began

/** Returns the address of a thumbnail, its longest side at most `side` pixels: the memory of large ones adds up. */
export const thumbnail = (number, side = "") => address(`/api/thumbnail/${number}`, { side, run: review.info.run });

const titleOf = (kind) => review.info.findings.find((finding) => finding.kind === kind)?.title ?? kind;

/** Returns whether the tile of an image stands for the group that it is of. */
const isGroup = (found) => state.group && state.members === null && found.group > 1;

/** Says everything about an image in one line, for a screen reader. */
export function label(place) {
  const number = review.order[place];
  const found = row(number);
  const start = `${count(state.start + place + 1)} of ${count(Math.max(review.total, review.order.length))}`;
  if (!found) return start;
  const parts = [start, found.name, `score ${found.shown}`];
  if (found.score >= state.limit) parts.push("above the limit");
  if (found.own) parts.push(`marked ${found.own}`);
  else parts.push(found.all ? `others: ${found.all}` : "not marked");
  if (found.tags.length) parts.push(`tags ${found.tags.join(", ")}`);
  if (found.findings.length) parts.push(found.findings.map(titleOf).join(", "));
  if (isGroup(found)) parts.push(hasFilters() ? "a group" : `a group of ${found.group}`);
  if (found.why) parts.push(found.why);
  return parts.join(", ");
}

function makeTile() {
  const tile = { place: -1, number: -1, pictured: -1, side: "", texts: {} };
  tile.image = element("img", { alt: "", decoding: "async", draggable: false });
  tile.image.addEventListener("load", () => {
    if (row(tile.number)?.size) return; // then `update` knows it before the picture is there
    const { naturalWidth, naturalHeight } = tile.image;
    tile.image.classList.toggle("pixels", Math.max(naturalWidth, naturalHeight) < step.x - GAP);
  });
  tile.seen = element("span", { className: "seen" });
  tile.mark = element("span", { className: "mark" });
  tile.badge = element("span", { className: "badge", title: "Images that look alike: click to see all" });
  tile.head = element("span", { className: "head" });
  tile.end = element("span");
  tile.score = element("div", { className: "score" });
  tile.chips = element("div", { className: "notes" });
  tile.root = element("div", { className: "tile", role: "option" },
    element("div", { className: "picture" }, tile.image, tile.seen, tile.badge, tile.mark),
    element("div", { className: "name" }, tile.head, tile.end), tile.score, tile.chips);
  for (const part of tile.root.children) part.ariaHidden = true;
  return tile;
}

/** Whether a tile has its picture, as sharp as the size of tiles asks for. */
const isPictured = (tile) => tile.pictured === tile.number
  && (tile.side === "" || (wanted !== "" && tile.side >= wanted));

function showPicture(tile) {
  tile.image.src = thumbnail(tile.number, wanted);
  tile.pictured = tile.number;
  tile.side = wanted;
}

/** Returns where the end of a name begins: not within a character. */
function placeOfEnd(name) {
  let cut = Math.max(0, name.length - END);
  while (cut > 0 && (/[\p{M}\u200d\ufe0f\udc00-\udfff]/u.test(name[cut]) || name[cut - 1] === "\u200d")) cut -= 1;
  return cut;
}

/** Changes a text of a tile if it is another one: every change of an element costs a layout. */
function write(tile, part, text) {
  if (tile.texts[part] === text) return false;
  tile.texts[part] = text;
  const node = tile[part].firstChild;
  if (node?.nodeType === Node.TEXT_NODE) node.data = text; // no new node: thousands would wait to be collected
  else tile[part].textContent = text;
  return true;
}

function fill(tile, place, fast) {
  const number = review.order[place];
  if (tile.pictured !== number) {
    tile.image.removeAttribute("src"); // stops a download that nobody waits for, and hides the picture before
    tile.pictured = -1;
  }
  tile.place = place;
  tile.number = number;
  tile.root.dataset.place = place;
  tile.root.dataset.number = number;
  tile.root.id = `tile-${place}`;
  tile.root.style.order = place; // printed in this order
  tile.root.ariaSetSize = review.order.length;
  tile.root.ariaPosInSet = place + 1;
  if (!fast && !isPictured(tile)) showPicture(tile);
  update(tile);
}

function update(tile) {
  const { root, place, number } = tile;
  const found = row(number);
  root.classList.toggle("current", place === review.place);
  root.ariaSelected = review.chosen.has(number);
  root.ariaLabel = label(place);
  root.classList.toggle("above", Boolean(found) && found.score >= state.limit);
  root.classList.toggle("loading", !found);
  if (!found) {
    for (const part of ["head", "end", "score", "chips", "mark", "badge"]) write(tile, part, "");
    tile.seen.hidden = true;
    return;
  }
  const name = found.name.split("/").pop().replace(/\s/g, " "); // a line
  const cut = placeOfEnd(name);
  const heads = write(tile, "head", name.slice(0, cut)), ends = write(tile, "end", name.slice(cut));
  if (heads || ends || tile.texts.why !== found.why) {
    root.title = `${found.name}\n${found.why}`;
    tile.texts.why = found.why;
  }
  write(tile, "score", `${found.score >= state.limit ? "▲ " : ""}${found.shown} ${found.why}`);
  const notes = [...found.findings.map(titleOf), ...found.tags.map((text) => `#${text}`)];
  root.classList.toggle("noted", notes.length > 0);
  if (write(tile, "chips", notes.join("\n"))) {
    tile.chips.replaceChildren(...notes.map((text, i) => element("span", {
      className: i < found.findings.length ? "finding" : "tag", textContent: text,
    })));
  }
  write(tile, "mark", found.own || (found.all ? `others: ${found.all}` : ""));
  tile.mark.dataset.verdict = found.own || "";
  // How many of them the filters leave, the server tells when the group is opened or marked.
  write(tile, "badge", !isGroup(found) ? "" : hasFilters() ? "group" : count(found.group));
  if (!found.size) { // of an original that is decoded when it is shown
    tile.seen.hidden = true;
    return;
  }
  const [width, height] = found.size;
  const long = Math.max(width, height);
  tile.image.classList.toggle("pixels", long < step.x - GAP);
  showSeen(tile.seen, found.seen, width / long, height / long);
}

/** Frames the part of a picture that decides its score; `width` and `height` are those of the picture in its square. */
function showSeen(frame, [x, y, wide, tall], width, height) {
  frame.hidden = wide > 0.999 && tall > 0.999;
  const style = {
    left: (1 - width) / 2 + x * width, top: (1 - height) / 2 + y * height, width: wide * width, height: tall * height,
  };
  for (const [name, share] of Object.entries(style)) frame.style[name] = `${100 * share}%`;
}

function updateAll() {
  for (const tile of shown.values()) update(tile);
  const tile = shown.get(review.place);
  if (tile) $("grid").setAttribute("aria-activedescendant", tile.root.id);
  else $("grid").removeAttribute("aria-activedescendant");
}

// Heights: the list may be taller than a browser can scroll

const height = () => Math.ceil(review.order.length / columns) * step.y + GAP;

/** Returns how much further the list moves than the scroll bar. */
function speed() {
  const full = height();
  return full <= TALLEST ? 1 : (full - view) / (TALLEST - view);
}

const top = (scrolled = $("grid").scrollTop) => scrolled * speed();

function draw() {
  if (!step.y) return;
  const scrolled = $("grid").scrollTop;
  const now = top(scrolled);
  const time = performance.now();
  const fast = Math.abs(now - lastTop) / view > Math.min(1, (FAST * (time - lastDrawn)) / 1000);
  [lastTop, lastDrawn] = [now, time];
  const rows = Math.ceil(view / step.y) + 3; // always as many: elements that stay in the page cost least
  const first = Math.max(0, Math.floor(now / step.y) - 1) * columns;
  const last = Math.min(review.order.length, first + rows * columns);
  for (const [place, tile] of shown) {
    if (place < first || place >= last) {
      shown.delete(place);
      spare.push(tile);
    }
  }
  const shift = scrolled - now; // changes with scrolling in very long lists only
  for (let place = first; place < last; place++) {
    let tile = shown.get(place);
    if (!tile) {
      const same = spare.findIndex((one) => one.number === review.order[place]);
      tile = (same >= 0 ? spare.splice(same, 1)[0] : spare.pop()) ?? makeTile();
      shown.set(place, tile);
      fill(tile, place, fast);
      if (!tile.root.isConnected) $("tiles").append(tile.root); // moving it would lay it out again
    } else if (!shift) continue;
    const x = Math.round((place % columns) * step.x) + GAP;
    const y = Math.round(Math.floor(place / columns) * step.y + shift) + GAP;
    tile.root.style.transform = `translate(${x}px, ${y}px)`;
  }
  for (const tile of spare) tile.root.remove();
  if (fast) settle();
  else want(first, last);
}

const settle = debounce(SETTLED, () => {
  for (const tile of shown.values()) if (!isPictured(tile)) showPicture(tile);
  lastTop = top();
  draw();
});

/** Places the tiles for the width of the window and the size of tiles. */
export function layout() {
  const grid = $("grid");
  if (!grid.clientWidth) return;
  view = grid.clientHeight;
  const inner = grid.clientWidth - GAP;
  columns = Math.max(1, Math.floor(inner / (state.size + GAP)));
  if (inner < 480) columns = Math.max(columns, state.size > 200 ? 1 : 2);
  const font = parseFloat(getComputedStyle(document.documentElement).fontSize);
  step.x = inner / columns;
  const side = Math.floor(step.x - GAP);
  const sharp = 32 * Math.ceil((side * devicePixelRatio) / 32); // in steps: each size is made, and kept, anew
  wanted = sharp < review.info.thumbnail ? sharp : "";
  step.y = side + Math.round(LINES * font) + GAP;
  grid.style.setProperty("--side", `${side}px`);
  grid.style.setProperty("--text", `${Math.round(LINES * font)}px`);
  $("tiles").style.height = `${Math.min(TALLEST, height())}px`;
  reveal(review.place);
  start();
}

/** Draws all visible tiles anew for another order. */
function start() {
  for (const tile of shown.values()) spare.push(tile);
  shown.clear();
  lastTop = top();
  draw();
  updateAll();
}

function reveal(place) {
  const grid = $("grid");
  const y = Math.floor(place / columns) * step.y;
  const now = top();
  if (y < now) grid.scrollTop = y / speed();
  else if (y + step.y + GAP > now + view) {
    grid.scrollTop = (y + step.y + GAP - view) / speed();
  }
}

/** Makes the image at a place the current one; `extend` selects all from where the selection began. */
export function moveTo(place, { extend = false } = {}) {
  if (!review.order.length) return;
  const from = review.place;
  review.place = Math.min(review.order.length - 1, Math.max(0, place));
  state.image = current();
  if (extend) {
    if (!review.chosen.size) anchor = from;
    const [low, high] = [anchor, review.place].sort((a, b) => a - b);
    review.chosen = new Set(review.order.subarray(low, high + 1));
    emit("chosen");
  }
  reveal(review.place);
  draw();
  updateAll();
  writeAddress();
  emit("place");
}

/** Adds the image at a place to the selection, or takes it away. */
export function toggle(place) {
  const number = review.order[place];
  if (!review.chosen.delete(number)) review.chosen.add(number);
  anchor = place;
  emit("chosen");
  const found = review.chosen.size;
  announce(`${review.chosen.has(number) ? "selected" : "not selected"}, ${count(found)} in all`);
}

export function toggleCurrent() {
  if (review.order.length) toggle(review.place);
}

export function choose(numbers) {
  review.chosen = new Set(numbers);
  emit("chosen");
}

export const rowsInView = () => Math.max(1, Math.floor(view / step.y));
export const columnCount = () => columns;

/** Listens to pointers; `open` is called for a second click on an image. */
export function listen(open) {
  const grid = $("grid");
  let waiting = false;
  grid.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }, { passive: true });
  new ResizeObserver(layout).observe(grid);

  let held = null; // timer of a long press
  let swallowed = false; // the click after a long press is none
  grid.addEventListener("pointerdown", (event) => {
    const hit = event.target.closest(".tile");
    swallowed = false;
    if (event.pointerType !== "touch" || !hit) return;
    held = setTimeout(() => { swallowed = true; toggle(Number(hit.dataset.place)); }, 500);
  });
  for (const name of ["pointerup", "pointercancel", "scroll"]) {
    grid.addEventListener(name, () => clearTimeout(held), { passive: true });
  }
  grid.addEventListener("contextmenu", (event) => { if (swallowed) event.preventDefault(); });
  grid.addEventListener("click", (event) => {
    const hit = event.target.closest(".tile");
    if (!hit || swallowed) return;
    const place = Number(hit.dataset.place);
    const again = place === review.place;
    const touched = event.pointerType === "touch" && review.chosen.size;
    if (event.shiftKey) moveTo(place, { extend: true });
    else if (event.ctrlKey || event.metaKey || touched) {
      if (!review.chosen.size && !again && !touched) review.chosen.add(current());
      toggle(place);
      moveTo(place);
    } else {
      if (review.chosen.size) choose([]);
      moveTo(place);
      if (again || event.target.closest(".badge")) open();
    }
  });
  on("rows", updateAll);
  on("limit", () => {
    for (const tile of shown.values()) {
      const found = row(tile.number);
      if (found && tile.root.classList.contains("above") !== (found.score >= state.limit)) update(tile);
    }
  });
  on("chosen", updateAll);
  on("order", () => {
    const empty = !review.order.length;
    $("tiles").style.height = `${Math.min(TALLEST, height())}px`;
    grid.hidden = empty || state.map;
    reveal(review.place);
    start();
    if (empty) $("grid").removeAttribute("aria-activedescendant");
  });
}
