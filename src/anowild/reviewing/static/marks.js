// Marks and tags: of the current image, of a selection, or of a group of alike images.

import { address, json, numbers, post } from "./api.js";
import { $, announce, count, element, images, say, shownScore } from "./dom.js";
import { query } from "./filters.js";
import { choose, moveTo } from "./grid.js";
import { change, reviewer, row, showProgress } from "./rows.js";
import { current, emit, on, review, state } from "./state.js";

/** Returns the numbers of the images that a mark applies to. */
async function targets() {
  if (state.detail) return [current()];
  const named = review.chosen.size ? [...review.chosen] : review.order.length ? [current()] : [];
  if (!named.length || !state.group || state.members !== null) return named;
  return (await post(address("/api/grouped", query()), { images: named })).images;
}

/** Marks the current image or the selection, and goes to the next image. */
export async function mark(verdict) {
  if (!review.order.length) return;
  const many = review.chosen.size > 0 && !state.detail;
  const asked = targets(); // of where the cursor is now
  if (many) choose([]);
  else if (review.place + 1 < review.order.length) moveTo(review.place + 1);
  else announce("the last image");
  await markImages(await asked, verdict);
}

/** Marks images; they are shown as marked at once, and taken back if the server does not store it. */
export async function markImages(found, verdict) {
  const before = found.map((number) => row(number)?.own);
  for (const number of found) change(number, { own: verdict });
  emit("rows");
  const what = verdict === null ? "not marked" : verdict;
  if (found.length > 1) say(`${images(found.length)} marked ${what}.`);
  else announce(`marked ${what}`);
  try {
    take(await post("/api/mark", { images: found, verdict, reviewer: reviewer() }));
    review.since += found.length;
    emit("marked");
  } catch {
    found.forEach((number, i) => change(number, { own: before[i] ?? null }));
    emit("rows");
  }
}

/** Adds a tag to the current image or the selection, or takes it away where all have it. */
export async function toggleTag(tag) {
  const text = tag.trim().replace(/^#/, "");
  if (!text || !review.order.length) return;
  const found = await targets();
  const added = !found.every((number) => row(number)?.tags.includes(text));
  const answer = await post("/api/tag", { images: found, tag: text, on: added, reviewer: reviewer() });
  take(answer);
  if (added && !review.info.tags.includes(text)) {
    review.info.tags.push(text);
    showTags();
    emit("tags");
  }
  say(`${added ? "Tagged" : "No longer tagged"} #${text}${found.length > 1 ? `: ${images(found.length)}` : ""}.`);
}

/** Takes back the last change of this reviewer, and goes to its first image. */
export async function undo() {
  const answer = await post("/api/undo", { reviewer: reviewer() });
  take(answer);
  const undone = answer.images;
  if (!undone.length) {
    say("There is nothing to undo.");
    return;
  }
  review.since = Math.max(0, review.since - undone.length);
  const known = new Set(undone);
  const place = review.order.findIndex((number) => known.has(number));
  if (place >= 0) moveTo(place);
  else if (undone.length === 1) insert(undone[0]);
  say(undone.length > 1 ? `Undone: ${images(undone.length)}.` : "Undone.");
}

/** Shows an image that the filters have left out at the place of the cursor. */
export function insert(number) {
  const { order, place } = review;
  review.order = Int32Array.from([...order.subarray(0, place), number, ...order.subarray(place)]);
  state.image = number;
  emit("order");
  emit("place");
}

function take(answer) {
  answer.images.forEach((number, i) => {
    const values = {};
    if (answer.own) values.own = answer.own[i];
    if (answer.all) values.all = answer.all[i];
    if (answer.tags) values.tags = answer.tags[i];
    change(number, values);
  });
  showProgress(answer.progress);
  emit("rows");
}

export function showTags() {
  $("tag-list").replaceChildren(...review.info.tags.map((tag) => element("option", { value: tag })));
}

/** Asks for a tag. */
export function askForTag() {
  $("tag-title").textContent = review.chosen.size > 1 ? `Tag ${images(review.chosen.size)}` : "Tag";
  $("tag-input").value = "";
  $("tag-dialog").returnValue = "cancel";
  $("tag-dialog").showModal();
}

/** Asks how to mark all images that the filters show and that reach the limit. */
export async function askForAll() {
  const above = (unmarked) => {
    const asked = { ...query(), unmarked: unmarked ? 1 : "", above: state.limit, group: "" };
    return state.members === null ? numbers("/api/order", asked) : numbers("/api/members", { ...asked, image: state.members });
  };
  const show = async () => {
    const found = await above($("all-unmarked").checked);
    const verb = found.length === 1 ? "scores" : "score";
    const tooMany = found.total > found.length;
    if (tooMany) {
      $("all-text").textContent = `${images(found.total)} of those shown score ${shownScore(state.limit)} or more: too many `
        + `to mark at once (at most ${count(found.length)}). Raise the limit, or filter.`;
    } else if (found.length) {
      $("all-text").textContent = `${images(found.length)} of those shown${$("all-unmarked").checked ? ", unmarked," : ""} ${verb} ${shownScore(state.limit)} or more. Mark as:`;
    } else if ((await above(false)).length) {
      $("all-text").textContent = "All images above the limit are marked already.";
    } else $("all-text").textContent = "No image of those shown is above the limit.";
    for (const button of $("all-verdicts").children) button.disabled = !found.length || tooMany;
    return found;
  };
  let found = await show();
  $("all-unmarked").onchange = async () => { found = await show(); };
  for (const button of $("all-verdicts").children) {
    button.onclick = () => {
      $("all-dialog").close();
      markImages(Array.from(found), button.dataset.choice);
    };
  }
  $("all-dialog").showModal();
}

export function listen() {
  $("tag-dialog").addEventListener("close", () => {
    if ($("tag-dialog").returnValue === "add") toggleTag($("tag-input").value).catch(() => {});
  });
  $("all-verdicts").replaceChildren(...review.info.marks.map((verdict) =>
    element("button", { textContent: verdict, "data-choice": verdict })));
  $("choose-none").addEventListener("click", () => { choose([]); $("grid").focus(); });
  $("all-cancel").addEventListener("click", () => $("all-dialog").close());
  showTags();
  on("chosen", () => {
    const found = review.chosen.size;
    $("chosen").textContent = found ? `${images(found)} selected: marks and tags apply to all` : "";
    $("choose-none").hidden = !found;
  });
}

/** Copies the path of the current image. */
export async function copyPath() {
  const { path } = await json("/api/detail", { image: current(), reviewer: reviewer() });
  const copied = await copy(path);
  say(copied ? `Copied: ${path}` : path);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // pages that are not from this computer may not copy: the path is shown
  }
}

/** Opens the file of the current image with the system's viewer. */
export async function openFile() {
  if (!review.info.local) {
    say("Files can be opened only in a browser on the computer that runs anowild.");
    return;
  }
  await post("/api/open", { image: current() });
  say("Opened.");
}
