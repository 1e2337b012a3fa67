// The original of one image: zoom, pan, pages, window of gray values, heat map.

import { address } from "./api.js";
import { $, debounce } from "./dom.js";
import { listen as listenToPointers } from "./gestures.js";
import { thumbnail } from "./grid.js";
import { review } from "./state.js";

const LARGEST = 40; // pixels of the screen for one of the image
const SWIPE = 60; // pixels
const KEPT = 4; // prefetched originals

let number = -1;
let size = [1, 1]; // of the original, in pixels
let view = { x: 0, y: 0, scale: 1 };
let fitted = true; // the image fits the window, and follows its size
let page = 0; // of the file
let pages = 1;
let turned = false; // another page than the image itself was asked for
let levels = null; // {low, high, min, max} of more than 8 bits
let chosen = null; // {low, high} set by the user
let heat = null; // address of the heat map
let heated = localStorage.getItem("heat") === "1";
const prefetched = [];

const original = (image) => address(`/api/original/${image}`, {
  page: image === number && turned ? page : "",
  low: image === number ? chosen?.low : "",
  high: image === number ? chosen?.high : "",
  run: review.info.run,
});

/** Shows an image: its thumbnail at once, the original when it is there. */
export function showOriginal(image, knownSize) {
  number = image;
  page = 0;
  pages = 1;
  turned = false;
  levels = chosen = heat = null;
  $("heat").hidden = $("box").hidden = $("missing").hidden = $("pages").hidden = $("levels").hidden = true;
  $("placeholder").src = thumbnail(image);
  $("placeholder").hidden = false;
  setSize(knownSize ?? [3, 2]);
  showHeat();
  fit();
  loadOriginal();
}

function setSize(found) {
  size = found;
  $("sheet").style.width = `${size[0]}px`;
  $("sheet").style.height = `${size[1]}px`;
  if (fitted) fit();
  else apply();
}

function loadOriginal() {
  const shown = $("original");
  const wanted = original(number);
  const fresh = new Image();
  $("spinner").hidden = false;
  shown.dataset.wanted = wanted;
  fresh.decoding = "async";
  fresh.onload = () => {
    if (shown.dataset.wanted !== wanted) return;
    shown.src = wanted;
    shown.hidden = false;
    shown.dataset.number = number;
    $("spinner").hidden = true;
    $("placeholder").hidden = true;
    setSize([fresh.naturalWidth, fresh.naturalHeight]);
    prefetch();
  };
  fresh.onerror = () => {
    if (shown.dataset.wanted !== wanted) return;
    $("spinner").hidden = true;
    if ($("missing").hidden) showMissing("The original cannot be shown; this is its thumbnail.");
  };
  if (shown.dataset.number !== String(number)) {
    shown.hidden = true;
    shown.removeAttribute("src");
  }
  fresh.src = wanted;
}

function prefetch() {
  for (const image of review.order.subarray(review.place + 1, review.place + 3)) {
    const fresh = new Image();
    fresh.src = original(image);
    prefetched.push(fresh);
  }
  prefetched.splice(0, prefetched.length - KEPT);
}

function showMissing(text) {
  $("missing").textContent = text;
  $("missing").hidden = false;
}

/** Shows what the server says of the image: pages, gray values, and what the networks saw. */
export function showFacts(found) {
  setSize(found.size);
  const [, , width, height] = found.box;
  place($("box"), found.box);
  place($("heat"), found.tiled ? [0, 0, 1, 1] : found.box);
  $("box").hidden = width > 0.999 && height > 0.999;
  if (found.missing) showMissing(found.missing);
  pages = found.pages;
  if (!turned) ({ page } = found);
  showPage();
  levels = found.window;
  $("levels").hidden = !levels;
  if (levels) {
    for (const name of ["low", "high"]) {
      Object.assign($(name), { min: levels.min, max: levels.max, step: (levels.max - levels.min) / 1000 || 1 });
      $(name).value = levels[name];
    }
    showLevels();
  }
}

/** Lays a part over the original: left, top, width and height from 0 to 1. */
function place(part, [x, y, width, height]) {
  Object.assign(part.style, {
    left: `${100 * x}%`, top: `${100 * y}%`, width: `${100 * width}%`, height: `${100 * height}%`,
  });
}

function showLevels() {
  const text = (value) => Number(Number(value).toPrecision(5)).toString();
  $("levels-text").textContent = `${text($("low").value)} to ${text($("high").value)}`;
}

function showPage() {
  $("pages").hidden = pages < 2;
  $("page").textContent = `page ${page + 1} of ${pages}`;
}

/** Shows the next page (1) or the one before (-1). */
export function turnPage(by) {
  const next = Math.min(pages - 1, Math.max(0, page + by));
  if (next === page) return;
  page = next;
  turned = true;
  showPage();
  loadOriginal();
}

export function setHeat(url) {
  heat = url;
  if (url) $("heat").src = url;
  showHeat();
}

/** Shows or hides the heat map. */
export function toggleHeat() {
  heated = !heated;
  localStorage.setItem("heat", heated ? "1" : "");
  showHeat();
}

function showHeat() {
  $("heat").hidden = !heat || !heated;
  $("heat").style.opacity = $("heat-opacity").value;
  $("heat-button").ariaPressed = heated;
  $("heat-button").ariaDisabled = !heat; // not `disabled`: the focus would be lost when the next image is shown
  $("heat-opacity").hidden = !heated;
}

// Zoom and pan

const pixel = () => 1 / devicePixelRatio; // scale that shows pixels one to one

function apply() {
  const stage = $("stage");
  const width = size[0] * view.scale, height = size[1] * view.scale;
  // Inside the window where it is smaller, without a gap where it is larger.
  const hold = (at, length, room) =>
    length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, at));
  view.x = hold(view.x, width, stage.clientWidth);
  view.y = hold(view.y, height, stage.clientHeight);
  $("sheet").style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  $("sheet").style.setProperty("--line", `${2 / view.scale}px`);
  $("sheet").classList.toggle("pixels", view.scale >= 2 * pixel());
  stage.classList.toggle("zoomed", !fitted);
  $("zoom").textContent = `${Math.round((100 * view.scale) / pixel())} %`;
}

function fitScale() {
  const stage = $("stage");
  return Math.min(stage.clientWidth / size[0], stage.clientHeight / size[1]) || 1;
}

/** Shows the whole image. */
export function fit() {
  fitted = true;
  view.scale = fitScale();
  apply();
}

/** Zooms by a factor, with the point x, y of the window in its place. */
export function zoomBy(factor, x = $("stage").clientWidth / 2, y = $("stage").clientHeight / 2, dx = 0, dy = 0) {
  const least = Math.min(fitScale(), pixel());
  const scale = Math.min(LARGEST * pixel(), Math.max(least, view.scale * factor));
  const ratio = scale / view.scale;
  view = { x: x - (x - dx - view.x) * ratio, y: y - (y - dy - view.y) * ratio, scale };
  fitted = Math.abs(scale / fitScale() - 1) < 1e-3;
  apply();
}

/** Shows one pixel of the image on one of the screen; a second call fits it again. */
export function actual() {
  if (!fitted && Math.abs(view.scale / pixel() - 1) < 1e-3) fit();
  else zoomBy(pixel() / view.scale);
}

/** Listens to pointers; `go(1)` goes to the next image, `go(-1)` to the one before. */
export function listen(go) {
  let way = { x: 0, y: 0 };
  listenToPointers($("stage"), {
    start: () => { way = { x: 0, y: 0 }; },
    drag: (event, x, y, dx, dy) => {
      way = { x: way.x + dx, y: way.y + dy };
      if (fitted) return;
      view.x += dx;
      view.y += dy;
      apply();
    },
    end: (event) => {
      const swiped = event.pointerType === "touch" && fitted && Math.abs(way.x) > SWIPE;
      if (swiped && Math.abs(way.x) > 2 * Math.abs(way.y)) go(way.x < 0 ? 1 : -1);
    },
    zoom: zoomBy,
  });
  $("stage").addEventListener("dblclick", actual);
  new ResizeObserver(() => (fitted ? fit() : apply())).observe($("stage"));
  $("heat-opacity").addEventListener("input", showHeat);
  const reload = debounce(150, (image) => {
    if (image !== number) return;
    chosen = { low: $("low").value, high: $("high").value };
    loadOriginal();
  });
  for (const name of ["low", "high"]) {
    $(name).addEventListener("input", () => { showLevels(); reload(number); });
  }
  showHeat();
}
