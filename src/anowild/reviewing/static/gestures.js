// Dragging, wheel and pinch on an element, as the viewer of originals and the map use them.

/**
 * Listens to pointers. Positions are relative to the element, in pixels.
 *
 * `start(event, x, y)`, `drag(event, x, y, dx, dy)` and `end(event, x, y, moved)` are about one pointer;
 * `zoom(factor, x, y, dx, dy)` is a turn of the wheel or two fingers, which also shift by dx, dy.
 */
export function listen(target, { start, drag, end, zoom }) {
  const pointers = new Map(); // id -> position
  let moved = 0; // length of the way of one pointer
  let pinched = false;

  const position = (event) => {
    const box = target.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const spread = () => {
    const [a, b] = pointers.values();
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, length: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
  };

  target.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button, input") || event.button > 0) return;
    const at = position(event);
    pointers.set(event.pointerId, at);
    target.setPointerCapture(event.pointerId);
    if (pointers.size === 1) {
      moved = 0;
      pinched = false;
      start?.(event, at.x, at.y);
    } else pinched = true;
  });
  target.addEventListener("pointermove", (event) => {
    const old = pointers.get(event.pointerId);
    if (!old) return;
    const at = position(event);
    if (pointers.size === 2) {
      const before = spread();
      pointers.set(event.pointerId, at);
      const after = spread();
      zoom(after.length / before.length, after.x, after.y, after.x - before.x, after.y - before.y);
      return;
    }
    pointers.set(event.pointerId, at);
    moved += Math.hypot(at.x - old.x, at.y - old.y);
    if (!pinched) drag?.(event, at.x, at.y, at.x - old.x, at.y - old.y);
  });
  const finish = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    const at = position(event);
    if (!pointers.size && !pinched) end?.(event, at.x, at.y, moved);
  };
  // Otherwise the browser takes the end of a swipe for a fling, and the next tap for the stop of it.
  target.addEventListener("touchmove", (event) => event.preventDefault(), { passive: false });
  target.addEventListener("pointerup", finish);
  target.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  target.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
    const { x, y } = position(event);
    zoom(Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.002)), x, y, 0, 0);
  }, { passive: false });
}
