// A training in the background: how far it is, and new scores when it has made some.

import { json } from "./api.js";
import { $, say } from "./dom.js";
import { review } from "./state.js";

const PAUSE = 2000; // milliseconds between two questions

/** Watches the training until it ends; `reload` fetches scores and order again. */
export async function watch(reload) {
  let stage = "training";
  let shown = review.info.version;
  const show = async (version) => {
    await reload();
    shown = version;
    $("training-rerank").hidden = true;
    say("Re-ranked with all views.");
  };
  while (stage === "training") {
    try {
      const status = await json("/api/status");
      ({ stage } = status);
      showBar(status);
      if (status.version !== shown) {
        if (review.since === 0) await show(status.version);
        else offer(() => show(status.version));
      }
    } catch { // the error is shown; asked again
      $("training-text").textContent = "The server does not answer; give the same command again if it was stopped.";
    }
    if (stage === "training") await new Promise((done) => { setTimeout(done, PAUSE); });
  }
}

function showBar({ stage, text, fraction }) {
  $("training").hidden = stage === "done" && $("training-rerank").hidden;
  $("training").classList.toggle("failed", stage === "failed");
  $("training-text").textContent = text;
  $("training-progress").hidden = stage !== "training";
  if (fraction === null) $("training-progress").removeAttribute("value");
  else $("training-progress").value = fraction;
}

/** Offers a button, since marks were made in the order that is shown. */
function offer(action) {
  $("training").hidden = false;
  $("training-rerank").textContent = "Re-rank with all views";
  $("training-rerank").hidden = false;
  $("training-rerank").onclick = async () => {
    await action();
    $("training").hidden = $("training-progress").hidden;
  };
}
