// The histogram of scores, and the limit that divides it.

import { post } from "./api.js";
import { $, count, say, shownScore } from "./dom.js";
import { emit, on, review, state, writeAddress } from "./state.js";

const BARS = 120;
const STEPS = 1000; // of the slider

const range = () => [review.scores.at(-1) ?? 0, review.scores[0] ?? 0];

/** Draws the bars and the limit. */
export function drawHistogram() {
  const [low, high] = range();
  const counts = new Array(BARS).fill(0);
  const width = (high - low) / BARS || 1;
  for (const score of review.scores) counts[Math.min(BARS - 1, Math.floor((score - low) / width))]++;
  const top = Math.log1p(Math.max(...counts)) || 1;
  $("bars").replaceChildren(...counts.map((found, i) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const height = (Math.log1p(found) / top) * 100;
    for (const [name, value] of Object.entries({ x: i, y: 100 - height, width: 0.8, height })) {
      bar.setAttribute(name, value);
    }
    return bar;
  }));
  $("limit").value = ((Math.min(state.limit, high) - low) / (high - low || 1)) * STEPS;
  showLimit();
}

/** Returns how many images reach a score. */
function above(limit) {
  let left = 0, right = review.scores.length; // binary search: the scores descend
  while (left < right) {
    const middle = (left + right) >> 1;
    if (review.scores[middle] >= limit) left = middle + 1;
    else right = middle;
  }
  return left;
}

function showLimit() {
  const [low, high] = range();
  const { limit } = state;
  const found = above(limit);
  const share = (100 * found) / (review.scores.length || 1);
  const text =
    `${count(found)} of ${count(review.scores.length)} (${share.toFixed(1)} %) score ${shownScore(limit)} or more`;
  $("counts").textContent = text;
  $("limit").ariaValueText = text;
  const { saved, score } = review.info.limit;
  $("keep-limit").disabled = saved && Math.abs(score - limit) < 5e-4;
  $("keep-limit").textContent = $("keep-limit").disabled ? "Kept with the model" : "Keep this limit with the model";
  const width = (high - low) / BARS;
  $("bars").childNodes.forEach((bar, i) => bar.classList.toggle("above", low + (i + 0.5) * width >= limit));
}

export function listen() {
  $("limit").addEventListener("input", () => {
    const [low, high] = range();
    const limit = low + ($("limit").value / STEPS) * (high - low);
    state.limit = Math.floor(limit * 100) / 100; // as it is shown
    emit("limit");
    writeAddress();
  });
  on("limit", showLimit);
  $("keep-limit").addEventListener("click", async () => {
    review.info.limit = (await post("/api/limit", { score: state.limit })).limit;
    showLimit();
    say(`The limit ${shownScore(state.limit)} is kept with the model.`);
  });
}
