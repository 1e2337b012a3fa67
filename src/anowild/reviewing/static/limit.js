// The histogram of scores, and the limit that divides it.

import { post } from "./api.js";
import { $, count, say, shownScore } from "./dom.js";
import { emit, on, review, state, writeAddress } from "./state.js";

const STEPS = 1000; // of the slider

const range = () => [review.levels.low, review.levels.high];

/** Draws the bars and the limit. */
export function drawHistogram() {
  const [low, high] = range();
  const counts = review.levels.bars;
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

/** Returns how many images reach a limit: the kept one, or one in hundredths. */
function above(limit) {
  const { first, reached } = review.levels;
  if (limit === review.info.limit.score) return review.info.limit.reached;
  return reached[Math.min(reached.length - 1, Math.max(0, Math.ceil(100 * limit - 1e-6) - first))];
}

function showLimit() {
  const [low, high] = range();
  const { limit } = state;
  const found = above(limit);
  const share = (100 * found) / (review.info.count || 1);
  const text =
    `${count(found)} of ${count(review.info.count)} (${share.toFixed(1)} %) score ${shownScore(limit)} or more`;
  $("counts").textContent = text;
  $("limit").ariaValueText = text;
  const { saved, score } = review.info.limit;
  $("keep-limit").disabled = saved && Math.abs(score - limit) < 5e-4;
  $("keep-limit").textContent = $("keep-limit").disabled ? "Kept with the model" : "Keep this limit with the model";
  const width = (high - low) / review.levels.bars.length;
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
