// The map: all images in two dimensions, alike ones near each other.

import { Refused, floats, numbers } from "./api.js";
import { $, debounce, element, images } from "./dom.js";
import { listen as listenToPointers } from "./gestures.js";
import { choose, moveTo, thumbnail } from "./grid.js";
import { rowOf } from "./rows.js";
import { current, on, review, state, writeAddress } from "./state.js";

const CELLS = 128; // of the index, in each direction
const NEAR = 24; // pixels between the pointer and the image it means
const RETRY = 2000; // milliseconds until a map that is being made is asked for again
const KINDS = ["usual", "above", "keep", "remove", "interesting", "unsure"]; // of points, the last ones on top
const OUTSIDE = "outside"; // points that the filters leave out

let points = null; // x and y of each image, 0 to 1
let version = -1; // of the scores that the map was made with
let scores = null; // of each image
let marks = null; // index of KINDS of each image; 0: not marked
let cells = null; // numbers of the images in each cell of the index
let shownOnly = null; // 1 for each image that the filters show; null: all
let view = { x: 0, y: 0, scale: 1 };
let lasso = null; // corners, in pixels
let marker = 0; // of the picture under the pointer

/** Shows the map instead of the grid, or the grid again. */
export function toggleMap() {
  state.map = !state.map;
  showMap();
  writeAddress();
}

/** Shows what the state says: map or grid. */
export function showMap() {
  $("map").hidden = !state.map;
  $("grid").hidden = state.map || !review.order.length;
  $("size-label").classList.toggle("off", state.map);
  $("map-button").ariaPressed = state.map;
  if (state.map) load();
  else $("grid").focus({ preventScroll: true });
}

async function load() {
  if (version !== review.info.version) points = null;
  if (points) {
    await loadMarks();
    draw();
    return;
  }
  $("map-text").textContent = "The map is loading …";
  try {
    const found = await floats("/api/map", {}, [503]);
    const order = await numbers("/api/order", { sort: "score" });
    const sorted = await floats("/api/scores");
    scores = new Float32Array(review.info.count);
    order.forEach((number, i) => { scores[number] = sorted[i]; });
    await loadMarks();
    points = found;
    version = review.info.version;
    makeIndex();
    $("map-text").textContent = "";
    fit();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    $("map-text").textContent = error.message;
    if (error.status === 503 && state.map) setTimeout(() => { if (state.map && !points) load(); }, RETRY);
  }
}

async function loadMarks() {
  const found = new Uint8Array(review.info.count);
  for (const verdict of review.info.marks) {
    for (const number of await numbers("/api/order", { sort: "score", mark: verdict })) {
      found[number] = KINDS.indexOf(verdict);
    }
  }
  marks = found;
}

function makeIndex() {
  cells = Array.from({ length: CELLS * CELLS }, () => []);
  for (let number = 0; number < points.length / 2; number++) {
    cells[cellOf(points[2 * number], points[2 * number + 1])].push(number);
  }
}

const clamp = (cell) => Math.min(CELLS - 1, Math.max(0, cell));
const cellOf = (x, y) => clamp(Math.floor(y * CELLS)) * CELLS + clamp(Math.floor(x * CELLS));

/** Returns the number of the image next to a place of the canvas; -1: none is near. */
function nearest(x, y) {
  if (!points) return -1;
  const u = (x - view.x) / view.scale, v = (y - view.y) / view.scale, reach = NEAR / view.scale;
  let best = -1, least = reach * reach;
  const [left, right, top, bottom] = [u - reach, u + reach, v - reach, v + reach].map((at) => clamp(Math.floor(at * CELLS)));
  for (let row = top; row <= bottom; row++) {
    for (let column = left; column <= right; column++) {
      for (const number of cells[row * CELLS + column]) {
        if (shownOnly && !shownOnly[number]) continue;
        const distance = (points[2 * number] - u) ** 2 + (points[2 * number + 1] - v) ** 2;
        if (distance < least) [best, least] = [number, distance];
      }
    }
  }
  return best;
}

// Drawing

const color = (kind) =>
  getComputedStyle($("map-legend").querySelector(`[data-kind=${kind}]`), "::before").backgroundColor;

let waiting = false;

function draw() {
  if (waiting || !state.map) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; drawNow(); });
}

function drawNow() {
  const canvas = $("map-canvas");
  const ratio = devicePixelRatio;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  if (!points || !canvas.width || !canvas.height) return;
  const pen = canvas.getContext("2d");
  drawPoints(pen, ratio);
  pen.scale(ratio, ratio);
  pen.strokeStyle = getComputedStyle(canvas).color;
  if (review.order.length) {
    pen.lineWidth = 3;
    pen.beginPath();
    const [x, y] = [points[2 * current()], points[2 * current() + 1]];
    pen.arc(view.x + x * view.scale, view.y + y * view.scale, 11, 0, 2 * Math.PI);
    pen.stroke();
  }
  if (lasso) {
    pen.setLineDash([6, 4]);
    pen.lineWidth = 1.5;
    pen.beginPath();
    for (const [x, y] of lasso) pen.lineTo(x, y);
    pen.closePath();
    pen.stroke();
  }
}

/** Draws squares straight into pixels: a hundred thousand have to be drawn between two frames. */
function drawPoints(pen, ratio) {
  const { width, height } = pen.canvas;
  const picture = pen.createImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  const total = points.length / 2;
  const side = Math.min(8, Math.max(2, (0.25 * view.scale) / Math.sqrt(total)));
  const paint = (number, value, size) => {
    const half = Math.max(1, Math.round((size * ratio) / 2));
    const x = Math.round((view.x + points[2 * number] * view.scale) * ratio);
    const y = Math.round((view.y + points[2 * number + 1] * view.scale) * ratio);
    const left = Math.max(0, x - half), right = Math.min(width, x + half);
    if (left >= right) return;
    for (let row = Math.max(0, y - half); row < Math.min(height, y + half); row++) {
      pixels.fill(value, row * width + left, row * width + right);
    }
  };
  const kinds = new Uint8Array(total);
  const outside = packed(color(OUTSIDE));
  for (let number = 0; number < total; number++) {
    if (shownOnly && !shownOnly[number]) {
      kinds[number] = KINDS.length;
      paint(number, outside, side / 2);
    } else kinds[number] = marks[number] || (scores[number] >= state.limit ? 1 : 0);
  }
  const chosen = packed(getComputedStyle(pen.canvas).color);
  for (const number of review.chosen) paint(number, chosen, side + 6);
  KINDS.forEach((name, kind) => {
    const value = packed(color(name));
    for (let number = 0; number < total; number++) {
      if (kinds[number] === kind) paint(number, value, kind ? side + 2 : side);
    }
  });
  pen.putImageData(picture, 0, 0);
}

/** Returns "rgb(r, g, b)" as a pixel. */
function packed(text) {
  const [red, green, blue] = text.match(/[0-9.]+/g).map(Number);
  return new Uint32Array(new Uint8Array([red, green, blue, 255]).buffer)[0];
}

function fit() {
  const canvas = $("map-canvas");
  const scale = Math.min(canvas.clientWidth, canvas.clientHeight) * 0.94;
  view = { x: (canvas.clientWidth - scale) / 2, y: (canvas.clientHeight - scale) / 2, scale };
  draw();
}

function zoomBy(factor, x = $("map-canvas").clientWidth / 2, y = $("map-canvas").clientHeight / 2, dx = 0, dy = 0) {
  const scale = Math.min(1e5, Math.max(100, view.scale * factor));
  const ratio = scale / view.scale;
  view = { x: x - (x - dx - view.x) * ratio, y: y - (y - dy - view.y) * ratio, scale };
  draw();
}

// Pointers

/** Returns the numbers of the images that are shown inside the lasso: an odd number of sides is on their left. */
function inside() {
  const found = [];
  for (const number of review.order) {
    const x = view.x + points[2 * number] * view.scale, y = view.y + points[2 * number + 1] * view.scale;
    let odd = false;
    for (let i = 0, j = lasso.length - 1; i < lasso.length; j = i++) {
      const [ax, ay] = lasso[i], [bx, by] = lasso[j];
      if (ay > y !== by > y && x < ax + ((bx - ax) * (y - ay)) / (by - ay)) odd = !odd;
    }
    if (odd) found.push(number);
  }
  return found;
}

async function hover(x, y) {
  const number = nearest(x, y);
  const asked = ++marker;
  $("map-hover").hidden = number < 0;
  if (number < 0) return;
  const [image, caption] = $("map-hover").children;
  image.src = thumbnail(number);
  const canvas = $("map-canvas");
  $("map-hover").style.left = `${Math.min(x + 16, canvas.clientWidth - 180)}px`;
  $("map-hover").style.top = `${canvas.offsetTop + Math.max(0, Math.min(y + 16, canvas.clientHeight - 220))}px`;
  caption.textContent = "";
  describe(number, asked);
}

const describe = debounce(60, async (number, asked) => {
  const found = await rowOf(number).catch(() => null);
  if (asked !== marker || !found) return;
  $("map-hover").lastChild.textContent =
    [found.name.split("/").pop(), found.shown, found.own ?? ""].join(" ");
});

/** Listens to pointers; `open` is called for a second click on an image. */
export function listen(open) {
  const canvas = $("map-canvas");
  let pan = false;
  listenToPointers(canvas, {
    start: (event, x, y) => {
      pan = event.altKey;
      lasso = pan ? null : [[x, y]];
      $("map-hover").hidden = true;
    },
    drag: (event, x, y, dx, dy) => {
      if (pan) {
        view.x += dx;
        view.y += dy;
      } else lasso?.push([x, y]);
      draw();
    },
    end: (event, x, y, moved) => {
      if (moved > 6 && lasso && points) {
        const found = inside();
        choose(event.shiftKey ? [...review.chosen, ...found] : found);
      } else if (moved <= 6) {
        const number = nearest(x, y);
        const place = review.order.indexOf(number);
        if (review.chosen.size) choose([]);
        if (place >= 0) {
          const again = place === review.place;
          moveTo(place);
          if (again) open();
        }
      }
      lasso = null;
      draw();
    },
    zoom: (...values) => {
      lasso = null;
      zoomBy(...values);
    },
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons || event.pointerType === "touch") return;
    const box = canvas.getBoundingClientRect();
    hover(event.clientX - box.left, event.clientY - box.top);
  });
  canvas.addEventListener("pointerleave", () => { marker++; $("map-hover").hidden = true; });
  $("map-in").addEventListener("click", () => zoomBy(1.5));
  $("map-out").addEventListener("click", () => zoomBy(1 / 1.5));
  $("map-fit").addEventListener("click", fit);
  const titles = { above: "above the limit", [OUTSIDE]: "not shown" };
  $("map-legend").replaceChildren(...[...KINDS, OUTSIDE].map((kind) =>
    element("span", { "data-kind": kind, textContent: titles[kind] ?? kind })));
  new ResizeObserver(draw).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  for (const event of ["place", "limit"]) on(event, draw);
  on("chosen", () => {
    if (state.map) $("map-text").textContent = review.chosen.size ? `${images(review.chosen.size)} in the lasso.` : "";
    draw();
  });
  on("order", () => {
    shownOnly = null;
    if (review.order.length < review.info.count) {
      shownOnly = new Uint8Array(review.info.count);
      for (const number of review.order) shownOnly[number] = 1;
    }
    if (state.map) load();
  });
  on("changed", (number, verdict) => {
    if (!marks) return;
    marks[number] = Math.max(0, KINDS.indexOf(verdict));
    draw();
  });
}
