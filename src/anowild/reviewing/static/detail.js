// The detail: the original of the current image, and all that is known of it beside.

import { json } from "./api.js";
import { $, announce, count, debounce, element } from "./dom.js";
import { label, moveTo, thumbnail } from "./grid.js";
import { insert, toggleTag } from "./marks.js";
import { reviewer, row, rowOf } from "./rows.js";
import { current, hash, on, review, state, writeAddress, writeAddressNow } from "./state.js";
import { setHeat, showFacts as showInViewer, showOriginal } from "./viewer.js";

const LISTS = ["why", "detail-findings", "pictures", "near", "duplicates", "detail-marks"];

const SAID = ["announce", "toast", "error"];

let shown = -1; // number of the image
let abort = new AbortController(); // ends what is asked about an image that is no longer shown

/** Opens the detail of the current image; the button "back" of the browser closes it. */
export function openDetail() {
  if (!review.order.length || state.detail) return;
  writeAddressNow(); // where "back" leads
  state.detail = true;
  history.pushState({ page: "detail" }, "", hash());
  showDialog();
}

/** Opens the detail if the address asks for it. */
export function restoreDetail() {
  if (!state.detail) return;
  if (history.state.page === "detail") showDialog(); // the page was reloaded
  else {
    state.detail = false;
    openDetail();
  }
}

function showDialog() {
  if (!$("detail").open) $("detail").showModal();
  $("detail").append(...SAID.map($)); // outside of an open dialog nothing is seen or heard
  shown = -1;
  show();
  $("stage").focus();
}

export function closeDetail() {
  $("detail").close();
}

/** Goes to the next image (1) or the one before (-1). */
export function go(by) {
  moveTo(review.place + by);
}

function show() {
  if (!state.detail || !review.order.length) return;
  const number = current();
  const total = Math.max(review.total, review.order.length);
  $("detail-place").textContent = `${count(state.start + review.place + 1)} of ${count(total)}`;
  if (number === shown) return;
  shown = number;
  abort.abort();
  abort = new AbortController();
  showOriginal(number, row(number)?.size);
  $("detail-name").textContent = row(number)?.name ?? "";
  $("original").alt = row(number)?.name ?? "";
  for (const id of LISTS) $(id).replaceChildren();
  for (const id of ["views", "cues"]) $(id).tBodies[0].replaceChildren();
  for (const id of ["path", "detail-seen", "file-facts"]) $(id).textContent = "";
  $("near-part").hidden = $("duplicates-part").hidden = $("detail-findings-part").hidden = true;
  showMark();
  announce(label(review.place));
  ask(number, abort.signal).catch(() => {}); // the error is shown
}

async function ask(number, signal) {
  const found = await json("/api/detail", { image: number, reviewer: reviewer() }, signal);
  if (signal.aborted) return;
  showFacts(found);
  showInViewer(found);
  explain(number, signal);
  await rowOf(number);
  if (!signal.aborted) showMark();
}

// Explanations take a second: they are asked for when the reader stays.
const explain = debounce(200, async (number, signal) => {
  if (signal.aborted) return;
  $("pictures").replaceChildren(element("p", { className: "spinner", textContent: "looking …" }));
  try {
    const found = await json("/api/explain", { image: number }, signal);
    if (signal.aborted) return;
    setHeat(found.heat);
    $("heat-tools").hidden = !found.heat;
    $("networks").hidden = !found.pictures.length;
    $("pictures").replaceChildren(...found.pictures.map(({ title, url, meaning }) =>
      element("figure", { title: meaning },
        element("img", { src: url, alt: `${title}: ${meaning}` }),
        element("figcaption", { textContent: title }))));
    $("near-part").hidden = !found.near.length;
    $("near").replaceChildren(...found.near.map((url) =>
      element("img", { src: url, alt: "an ordinary training image" })));
  } catch {
    if (!signal.aborted) $("pictures").replaceChildren();
  }
});

function showFacts(found) {
  $("detail-name").textContent = found.name;
  $("original").alt = found.name;
  $("why").replaceChildren(...found.why.map(({ text, meaning }) => {
    if (!meaning) return element("li", { textContent: text });
    return element("li", {}, element("details", {},
      element("summary", { textContent: text }), element("p", { textContent: meaning })));
  }));
  $("detail-findings").replaceChildren(...found.findings.map(({ text }) => element("li", { textContent: text })));
  $("detail-findings-part").hidden = !found.findings.length;
  const largest = Math.max(1e-9, ...found.views.map((view) => view.score));
  $("views").tBodies[0].replaceChildren(
    element("tr", { className: "total" },
      element("th", { scope: "row", textContent: "all" }),
      element("td", { textContent: found.shown }),
      element("td", { textContent: found.score >= state.limit ? "above the limit" : "" })),
    ...found.views.map((view) => {
      const part = element("div", { className: "part" });
      part.style.width = `${(100 * Math.max(0, view.score)) / largest}%`;
      return element("tr", {},
        element("th", { scope: "row", textContent: view.title }),
        element("td", { textContent: view.shown }),
        element("td", {}, part));
    }));
  $("cues").tBodies[0].replaceChildren(...found.cues.map((cue) =>
    element("tr", { className: cue.odd ? "odd" : "", title: cue.meaning },
      element("th", { scope: "row", textContent: cue.title }),
      element("td", { textContent: Number(cue.value.toPrecision(3)).toString() }),
      element("td", { textContent: cue.share === null ? "" : `${cue.lower ? "lower" : "higher"} than ${(100 * cue.share).toFixed(1)} %` }))));
  $("detail-seen").textContent = found.seen;
  $("path").textContent = found.path;
  $("file-facts").textContent = `${found.size[0]} × ${found.size[1]} pixels, ${found.depth}`;
  const said = found.marks.map(({ reviewer: who, verdict, tags }) =>
    [`${who}: ${verdict ?? "not marked"}`, ...tags.map((tag) => `#${tag}`)].join(" "));
  if (!said.length) said.push("Nobody has marked it yet.");
  $("detail-marks").replaceChildren(...said.map((text) => element("li", { textContent: text })));
  $("duplicates-part").hidden = !found.duplicates.length;
  $("duplicates").replaceChildren(...found.duplicates.map((number) =>
    element("button", { "data-number": number, title: "Go to this image" },
      element("img", { src: thumbnail(number, 128), alt: `image ${number}` }))));
}

/** Shows own mark and tags, which change while the detail is open. */
function showMark() {
  if (!state.detail || shown < 0) return;
  const found = row(shown);
  const verdict = found?.own ?? "";
  $("detail-mark").textContent = verdict ? `Your mark: ${verdict}` : found?.all ? `Others: ${found.all}` : "Not marked";
  $("detail-mark").dataset.verdict = verdict;
  for (const button of $("detail-bar").querySelectorAll("[data-verdict]")) {
    button.ariaPressed = button.dataset.verdict === verdict;
  }
  const tags = found?.tags ?? [];
  $("detail-tags").replaceChildren(...tags.map((tag) =>
    element("button", { className: "chip", "data-tag": tag, title: "Take this tag away" }, `#${tag} ×`)));
}

export function listen() {
  $("detail").addEventListener("close", () => {
    if ($("detail").open) return; // opened again before this event came
    document.body.append(...SAID.map($));
    state.detail = false;
    shown = -1;
    abort.abort();
    $("grid").focus({ preventScroll: true });
    if (history.state?.page === "detail") history.back();
    else writeAddress();
  });
  window.addEventListener("popstate", (event) => {
    if (event.state === null) {
      location.reload(); // another address was typed
    } else if (event.state.page === "detail") {
      state.detail = true;
      showDialog();
      writeAddress();
    } else {
      state.detail = false;
      $("detail").close();
      writeAddressNow();
    }
  });
  $("detail").addEventListener("pointerdown", (event) => {
    if (event.target !== $("detail")) return;
    const box = $("detail").getBoundingClientRect();
    const inside = event.clientX >= box.left && event.clientX <= box.right
      && event.clientY >= box.top && event.clientY <= box.bottom;
    if (!inside) closeDetail();
  });
  $("detail-tag-form").addEventListener("submit", (event) => {
    event.preventDefault();
    toggleTag($("detail-tag").value).catch(() => {});
    $("detail-tag").value = "";
    $("stage").focus();
  });
  $("detail-tag").addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault(); // leaves the field, not the detail
    event.stopPropagation();
    $("stage").focus();
  });
  $("detail-tags").addEventListener("click", (event) => {
    const hit = event.target.closest("[data-tag]");
    if (hit) toggleTag(hit.dataset.tag).catch(() => {});
  });
  $("duplicates").addEventListener("click", (event) => {
    const hit = event.target.closest("[data-number]");
    if (!hit) return;
    const place = review.order.indexOf(Number(hit.dataset.number));
    if (place >= 0) moveTo(place);
    else insert(Number(hit.dataset.number)); // the filters leave it out
  });
  on("place", show);
  on("rows", showMark);
}
