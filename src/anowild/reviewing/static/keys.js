// Keys, and the dialog that lists them.

import { $, element } from "./dom.js";
import { review } from "./state.js";

const NAMES = {
  ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", " ": "Space", Escape: "Esc",
  PageUp: "Page up", PageDown: "Page down", "Control+a": "Ctrl+A",
};

/**
 * Runs actions by keys and by elements with data-action or data-verdict.
 *
 * An action is {name, keys, text, run}: run gets the event; keys are as in KeyboardEvent.key, or "Control+KEY".
 * With `modified` it also runs with Ctrl; all others leave keys with Ctrl, Alt or Meta to the browser.
 */
export function listen(actions) {
  const byKey = new Map(actions.flatMap((action) => action.keys.map((key) => [key, action])));
  const byName = new Map(actions.map((action) => [action.name, action]));
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    const action = (event.ctrlKey && byKey.get(`Control+${key}`)) || byKey.get(key);
    if (!action || event.altKey || event.metaKey || event.defaultPrevented) return;
    if (event.ctrlKey && !action.modified) return;
    if (target.closest("select, textarea, input:not([type=range], [type=checkbox])")) return;
    if (document.querySelector("dialog.small[open]")) return;
    if ($("help").open && key !== "?") return;
    if (target.closest("button, a, summary") && (key === "Enter" || key === " ")) return;
    if (target.type === "checkbox" && key === " ") return;
    if (target.type === "range" && key.length > 1) return;
    if (action.run(event) !== false) event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    const hit = event.target.closest("[data-action], [data-verdict]");
    if (hit && hit.ariaDisabled !== "true") byName.get(hit.dataset.action ?? hit.dataset.verdict).run(event);
    // A pointer leaves the focus where keys are used; a keyboard stays on the button.
    const pressed = event.detail > 0 && event.target.closest("button, [type=checkbox]");
    if (pressed && !document.querySelector("dialog[open]")) $("grid").focus({ preventScroll: true });
  });
  $("keys").tBodies[0].replaceChildren(...actions.filter((action) => action.text && action.keys.length).map((action) =>
    element("tr", {},
      element("td", {}, ...action.keys.flatMap((key) => [element("kbd", { textContent: NAMES[key] ?? key }), " "])),
      element("td", { textContent: action.text }))));
  $("help-close").addEventListener("click", () => $("help").close());
}

export function toggleHelp() {
  if ($("help").open) {
    $("help").close();
    return;
  }
  $("terms").replaceChildren(...review.info.terms.flatMap(({ term, meaning }) =>
    [element("dt", { textContent: term }), element("dd", { textContent: meaning })]));
  $("help").showModal();
}
