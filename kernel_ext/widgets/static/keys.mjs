// What keys do that are typed into the view: in its fields, on its parts, and on the view itself.

import { keyed } from "./ui.mjs";

/**
 * The entry beside this one: sideways in a log, up and down at the same index of another; undefined if there is none.
 * @param {any} cell @param {string} key
 */
export function entryBeside(cell, key) {
  const [index] = cell.dataset.entry.split(":");
  const row = cell.closest(".rv-log");
  if (key === "ArrowLeft" || key === "ArrowRight") {
    const cells = [...row.querySelectorAll("[data-entry]")];
    return cells[cells.indexOf(cell) + (key === "ArrowLeft" ? -1 : 1)];
  }
  for (let other = row; other; ) {
    other = key === "ArrowUp" ? other.previousElementSibling : other.nextElementSibling;
    const there = other?.querySelector(`[data-entry^="${index}:"]`);
    if (there) return there;
  }
  return undefined;
}

/**
 * @param {{ root: any, scene: { ui: any, frames: any[] }, act: (action: object | null) => void, signal: (within: any) => void }} view
 * @returns {(event: any) => void} what a key that was typed is handed to
 */
export function typing({ root, scene, act, signal }) {
  return (event) => {
    event.stopPropagation(); // typed into the picture, a key must not become a command of the notebook
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { target, key } = event;
    if (target.matches("input[type=text]")) {
      if (key === "Enter") signal(target);
      if (key === "Escape") root.focus();
      return;
    }
    if (target.dataset?.entry && key.startsWith("Arrow")) {
      entryBeside(target, key)?.focus();
      event.preventDefault();
      return;
    }
    if (target.matches("input[type=range]") && key.startsWith("Arrow")) return;
    if ((key === " " || key === "Enter") && target !== root) {
      if (target.matches(".rv-node")) {
        act({ act: "node", node: Number(target.dataset.node), toggle: true });
        event.preventDefault();
      }
      return; // a button's own
    }
    const action = keyed(key, event.shiftKey, scene.ui, scene.frames);
    if (action) {
      act(action);
      event.preventDefault();
    }
  };
}
