// Small helpers for elements and words. Text from outside goes into textContent only.

export const $ = (id) => document.getElementById(id);

/** Makes an element; names that are no property of it become attributes. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const numbers = new Intl.NumberFormat("en-US"); // many times faster than toLocaleString

export const count = (value) => numbers.format(value);

export const images = (value) => `${count(value)} ${value === 1 ? "image" : "images"}`;

/** Returns a score or a limit as text, rounded down: a score that is shown lower than a limit is below it. */
export const shownScore = (score) => (Math.floor(100 * score + 1e-9) / 100).toFixed(2);

/** Tells a screen reader something that can be seen anyway. */
export function announce(text) {
  $("announce").textContent = text;
}

let toast;

/** Shows a sentence for some seconds. */
export function say(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toast);
  toast = setTimeout(() => { $("toast").hidden = true; }, 4000);
}

/** Returns a function that runs `action` once no call came for `delay` milliseconds. */
export function debounce(delay, action) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(action, delay, ...values);
  };
}
