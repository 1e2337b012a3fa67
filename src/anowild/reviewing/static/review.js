// The page of `anowild review`: a virtual grid, which holds elements for the visible images only.
"use strict";

const CHUNK = 60; // images that are fetched at a time
const CACHED = 60; // chunks that are kept in memory
const TILE = { width: 112, height: 140, gap: 6, picture: 108 };
const BARS = 120;
const NEXT = { keep: "k", odd: "o", unsure: "u" };

const $ = (id) => document.getElementById(id);
const secret = document.querySelector("meta[name=secret]").content;

let info; // facts about the review, fetched once
let order = new Int32Array(0); // index of the image at each place of the grid
let scores = new Float32Array(0); // all scores, the highest first
let current = 0; // place of the selected image, which keys mark
let threshold = 0;
let columns = 1;
const chunks = new Map(); // chunk -> { sheet, count, rows } of the current order
const tiles = new Map(); // place -> element
const marks = new Map(); // index of an image -> own verdict, newer than in any chunk
const agreed = new Map(); // index of an image -> consensus of all reviewers, likewise
let lost = false; // the last change was not stored; the error stays until a change is stored
let generation = 0; // counts orders; responses that belong to an older order are dropped

async function request(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", body: JSON.stringify(body),
    headers: { "content-type": "application/json", "x-anowild": secret },
  };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    lost ||= body !== undefined;
    showError("The server does not answer. Is `anowild review` still running? Earlier marks are stored.");
    throw new Error("no answer");
  }
  if (!answer.ok) {
    lost ||= body !== undefined;
    showError(await answer.text());
    throw new Error(answer.status);
  }
  if (body !== undefined) lost = false;
  $("error").hidden = !lost;
  return answer;
}

function showError(text) {
  $("error").textContent = text;
  $("error").hidden = false;
}

function reviewer() {
  return $("reviewer").value.trim() || "me";
}

// The grid

function layout() {
  const step = TILE.width + TILE.gap;
  columns = Math.max(1, Math.floor(($("scroller").clientWidth - TILE.gap) / step));
  $("grid").style.width = `${columns * step}px`;
  $("grid").style.height = `${Math.ceil(order.length / columns) * (TILE.height + TILE.gap) + TILE.gap}px`;
  for (const element of tiles.values()) element.remove();
  tiles.clear();
  drawVisibleTiles();
}

function drawVisibleTiles() {
  const scroller = $("scroller");
  const step = TILE.height + TILE.gap;
  const first = Math.max(0, Math.floor(scroller.scrollTop / step) - 1) * columns;
  const rows = Math.ceil(scroller.clientHeight / step) + 3;
  const last = Math.min(order.length, first + rows * columns);
  for (const [place, element] of tiles) {
    if (place < first || place >= last) {
      element.remove();
      tiles.delete(place);
    }
  }
  for (let place = first; place < last; place++) {
    if (!tiles.has(place)) tiles.set(place, createTile(place));
  }
  for (let chunk = Math.floor(first / CHUNK); chunk * CHUNK < last; chunk++) loadChunk(chunk);
}

function createTile(place) {
  const element = document.createElement("div");
  element.className = "tile";
  element.dataset.place = place;
  element.style.transform =
    `translate(${(place % columns) * (TILE.width + TILE.gap)}px, ` +
    `${Math.floor(place / columns) * (TILE.height + TILE.gap) + TILE.gap}px)`;
  element.innerHTML = '<div class="picture"></div><div class="text"></div><div class="text"></div><div class="mark"></div>';
  $("grid").append(element);
  updateTile(place, element);
  return element;
}

function updateTile(place, element) {
  element.classList.toggle("current", place === current);
  const held = chunks.get(Math.floor(place / CHUNK));
  if (!held || !held.rows) return;
  const k = place % CHUNK;
  const [picture, name, score, mark] = element.children;
  picture.style.backgroundImage = `url("${held.sheet}")`;
  picture.style.backgroundSize = `${held.count * TILE.picture}px ${TILE.picture}px`;
  picture.style.backgroundPosition = `-${k * TILE.picture}px 0`;
  name.textContent = held.rows.names[k].split("/").pop();
  element.title = held.rows.names[k];
  score.textContent = `score ${held.rows.scores[k].toFixed(3)}`;
  element.classList.toggle("above", held.rows.scores[k] >= threshold);
  const number = order[place];
  const verdict = marks.has(number) ? marks.get(number) : held.rows.own[k];
  const others = agreed.has(number) ? agreed.get(number) : held.rows.all[k];
  mark.textContent = verdict || (others ? `others: ${others}` : "");
  mark.dataset.verdict = verdict || "";
}

function updateVisibleTiles() {
  for (const [place, element] of tiles) updateTile(place, element);
}

async function loadChunk(chunk) {
  if (chunks.has(chunk)) {
    const held = chunks.get(chunk); // moved to the end: the least recently used chunk is dropped first
    chunks.delete(chunk);
    chunks.set(chunk, held);
    return;
  }
  const numbers = order.subarray(chunk * CHUNK, (chunk + 1) * CHUNK);
  const list = Array.from(numbers).join(",");
  const held = { sheet: `/api/sheet?run=${info.run}&images=${list}`, count: numbers.length, rows: null };
  chunks.set(chunk, held);
  for (const old of chunks.keys()) {
    if (chunks.size <= CACHED) break;
    chunks.delete(old);
  }
  const asked = generation;
  try {
    const answer = await request(`/api/rows?images=${list}&reviewer=${encodeURIComponent(reviewer())}`);
    const rows = await answer.json();
    if (asked !== generation) return;
    held.rows = rows;
    showProgress(rows.progress);
    for (let place = chunk * CHUNK; place < chunk * CHUNK + numbers.length; place++) {
      if (tiles.has(place)) updateTile(place, tiles.get(place));
    }
  } catch {
    if (asked === generation) chunks.delete(chunk); // loaded again when it becomes visible again
  }
}

function move(place) {
  if (!order.length) return;
  current = Math.min(order.length - 1, Math.max(0, place));
  const step = TILE.height + TILE.gap;
  const scroller = $("scroller");
  const top = Math.floor(current / columns) * step;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  if (top + step + TILE.gap > scroller.scrollTop + scroller.clientHeight) {
    scroller.scrollTop = top + step + TILE.gap - scroller.clientHeight;
  }
  drawVisibleTiles();
  updateVisibleTiles();
}

// Order and threshold

async function reorder() {
  const asked = ++generation;
  const answer = await request(`/api/order?sort=${encodeURIComponent($("sort").value)}`);
  const found = new Int32Array(await answer.arrayBuffer());
  if (asked !== generation) return;
  order = found;
  chunks.clear();
  marks.clear();
  agreed.clear();
  current = 0;
  $("scroller").scrollTop = 0;
  layout();
}

function drawHistogram() {
  const high = scores[0], low = scores[scores.length - 1];
  const counts = new Array(BARS).fill(0);
  const width = (high - low) / BARS || 1;
  for (const score of scores) counts[Math.min(BARS - 1, Math.floor((score - low) / width))]++;
  const top = Math.log1p(Math.max(...counts));
  const svg = $("bars");
  svg.replaceChildren(...counts.map((count, i) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const height = (Math.log1p(count) / top) * 100;
    for (const [name, value] of Object.entries({
      x: (i * 1000) / BARS, y: 100 - height, width: 1000 / BARS - 1, height,
    })) bar.setAttribute(name, value);
    return bar;
  }));
}

function applyThreshold() {
  const high = scores[0], low = scores[scores.length - 1];
  threshold = low + ($("threshold").value / 1000) * (high - low);
  // Binary search for the number of images that reach it: the scores descend.
  let left = 0, right = scores.length;
  while (left < right) {
    const middle = (left + right) >> 1;
    if (scores[middle] >= threshold) left = middle + 1;
    else right = middle;
  }
  const share = (100 * left) / scores.length;
  $("counts").textContent =
    `${left} of ${scores.length} images (${share.toFixed(1)} %) score ${threshold.toFixed(2)} or more`;
  $("bars").childNodes.forEach((bar, i) =>
    bar.classList.toggle("above", low + ((i + 0.5) / BARS) * (high - low) >= threshold));
  updateVisibleTiles();
}

// Marks

function showProgress(found) {
  $("progress").textContent =
    `${found.all} of ${order.length} reviewed (${found.own} by you): ` +
    `${found.odd} odd, ${found.keep} keep, ${found.unsure} unsure`;
}

// Changes are sent one after the other, so that the last key pressed decides.
let changes = Promise.resolve();

function postChange(path, body) {
  const answer = changes.then(() => request(path, body)).then((answer) => answer.json());
  changes = answer.catch(() => {});
  return answer;
}

async function mark(verdict) {
  const place = current, number = order[place];
  const before = marks.get(number);
  marks.set(number, verdict);
  move(place + 1);
  try {
    applyServerMarks(await postChange("/api/mark", { image: number, verdict, reviewer: reviewer() }));
  } catch {
    if (before === undefined) marks.delete(number);
    else marks.set(number, before);
    updateVisibleTiles();
  }
}

async function undo() {
  const found = await postChange("/api/undo", { reviewer: reviewer() });
  applyServerMarks(found);
  if (found.image === null) return;
  const place = order.indexOf(found.image);
  if (place >= 0) move(place);
}

function applyServerMarks(found) {
  if (found.image !== null) {
    marks.set(found.image, found.own);
    agreed.set(found.image, found.all);
  }
  showProgress(found.progress);
  updateVisibleTiles();
}

// One image

async function openDetail() {
  const answer = await request(`/api/detail?images=${order[current]}`);
  const found = await answer.json();
  $("detail-name").textContent = `${current + 1}. ${found.name}, score ${found.score.toFixed(2)}`;
  $("detail-why").textContent = found.why;
  $("detail-pictures").replaceChildren(...found.pictures.map(([title, url]) => {
    const figure = document.createElement("div");
    figure.append(createImage(url, `${title}: ${found.name}`), title);
    return figure;
  }));
  $("detail-like").hidden = !found.near.length;
  $("detail-near").replaceChildren(...found.near.map((url) => createImage(url, "an ordinary training image")));
  $("detail-cues").replaceChildren(...Object.entries(found.cues).map(([name, value]) => {
    const row = document.createElement("tr");
    for (const text of [name.replaceAll("_", " "), value.toPrecision(4)]) {
      const cell = document.createElement("td");
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  }));
  $("detail-marks").textContent =
    found.marks.map(([who, verdict]) => `${who}: ${verdict}`).join(", ") || "Not marked yet.";
  if (!$("detail").open) $("detail").showModal();
}

function createImage(url, alt) {
  const image = document.createElement("img");
  image.src = url;
  image.alt = alt;
  return image;
}

// Keys

const KEYS = {
  ArrowLeft: () => move(current - 1),
  ArrowRight: () => move(current + 1),
  ArrowUp: () => move(current - columns),
  ArrowDown: () => move(current + columns),
  Home: () => move(0),
  End: () => move(order.length - 1),
  PageUp: () => move(current - columns * 4),
  PageDown: () => move(current + columns * 4),
  k: () => mark("keep"),
  o: () => mark("odd"),
  u: () => mark("unsure"),
  z: undo,
  Enter: openDetail,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("select, dialog, input:not([type=range])")) return; // these handle keys themselves
  if (event.key === "Enter" && event.target.closest("button, a")) return;
  if (event.key.length > 1 && event.target.type === "range") return;
  const action = KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

async function start() {
  info = await (await request("/api/info")).json();
  $("title").textContent = info.title;
  document.title = `Review: ${info.title}`;
  $("sort").replaceChildren(...info.sorts.map((name) => {
    const option = document.createElement("option");
    option.value = name;
    option.textContent =
      name === "score" ? "oddest first" : name === "marks" ? "learned from marks" : name.replaceAll("_", " ");
    return option;
  }));
  $("reviewer").value = localStorage.getItem("reviewer") || "me";
  for (const kind of ["csv", "json", "parquet"]) $(kind).href = `/api/export?format=${kind}`;
  const found = request("/api/scores").then((answer) => answer.arrayBuffer());
  await reorder();
  scores = new Float32Array(await found);
  drawHistogram();
  const high = scores[0], low = scores[scores.length - 1];
  $("threshold").value = ((Math.min(info.threshold, high) - low) / (high - low || 1)) * 1000;
  applyThreshold();

  let waiting = false;
  $("scroller").addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; drawVisibleTiles(); });
  }, { passive: true });
  new ResizeObserver(layout).observe($("scroller"));
  $("refresh").addEventListener("click", () => { reorder(); $("scroller").focus(); });
  $("sort").addEventListener("change", () => { reorder(); $("scroller").focus(); });
  $("threshold").addEventListener("input", applyThreshold);
  $("reviewer").addEventListener("change", () => {
    localStorage.setItem("reviewer", reviewer());
    reorder();
  });
  $("grid").addEventListener("click", (event) => {
    const hit = event.target.closest(".tile");
    if (hit) move(Number(hit.dataset.place));
    $("scroller").focus();
  });
  $("grid").addEventListener("dblclick", openDetail);
  for (const button of document.querySelectorAll("button[data-verdict]")) {
    button.title = `Key ${NEXT[button.dataset.verdict]}`;
    button.addEventListener("click", () => { mark(button.dataset.verdict); $("scroller").focus(); });
  }
  $("undo").addEventListener("click", () => { undo(); $("scroller").focus(); });
  $("look").addEventListener("click", openDetail);
  $("close").addEventListener("click", () => $("detail").close());
  $("detail").addEventListener("close", () => $("scroller").focus());
  $("scroller").focus();
}

start();
