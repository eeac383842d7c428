// What is done in the view with a pointer, and what its fields say.

import { keyed } from "./ui.mjs";

const PRESSED = "[data-do], [data-copy], [data-key], [data-act], [data-entry], [data-node][data-role], [data-link], [data-step-id]";

/** @param {DOMStringMap} dataset of what was pressed @returns what it chooses. Pure. */
export function chosen(dataset) {
  if (dataset.act) return { act: dataset.act, run: dataset.run, step: dataset.step };
  if (dataset.entry) return { act: "entry", entry: dataset.entry };
  if (dataset.role) return { act: "node", node: Number(dataset.node), toggle: true };
  if (dataset.link) return { act: "link", link: dataset.link };
  return { act: "step", run: dataset.runStep, step: dataset.stepId };
}

/**
 * @param {{ set: any, scene: any, act: (action: object | null) => void, cause: (line: string) => void, signal: (within: any) => void,
 *   say: (words: string) => void, busy: () => boolean }} view `busy` says that a click is the end of dragging
 * @returns {(event: any) => void} what a click is handed to
 */
export function clicking({ set, scene, act, cause, signal, say, busy }) {
  return (event) => {
    if (busy()) return;
    const found = event.target.closest(PRESSED);
    if (!found || !set.root.contains(found)) return;
    const { dataset } = found;
    if (found.matches(".rv-send")) signal(found);
    else if (dataset.do !== undefined) cause(dataset.do);
    else if (dataset.act === "show") set.reveal(dataset.run);
    else if (dataset.copy) copied(found).then(say);
    else if (dataset.key) act(keyed(dataset.key.split(" ").at(-1) || " ", dataset.key.startsWith("Shift"), scene.ui, scene.frames));
    else act(chosen(dataset));
    if (dataset.act === "step") set.later(() => set.show(found.closest(".rv-timeline") ? ".rv-cell[data-linked=true]" : ".rv-record[data-linked=true]"));
  };
}

/**
 * @param {{ scene: any, act: (action: object) => void }} view
 * @returns what the view listens with to its fields, and to where the reader is
 */
export function fields({ scene, act }) {
  const focused = (event) => {
    const { entry } = event.target.dataset ?? {};
    if (entry && scene.ui.entry !== entry) act({ act: "entry", entry });
  };
  const changed = (event) => {
    const { frames } = scene;
    const { field, run, side } = event.target.dataset;
    if (field) {
      if (event.type === "input") act({ act: "type", run, field, text: event.target.value });
    } else if (event.target.type === "range") {
      const place = Number(event.target.value);
      act({ act: "at", at: place >= frames.length - 1 ? null : frames[place].snapshot.seq });
    } else if (side && event.type === "change") act({ act: "side", node: Number(side) });
  };
  return { focusin: focused, input: changed, change: changed };
}

/** Copies the line of a button; returns what to say of it. Where that is not allowed, the line is selected. */
async function copied(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    return "copied";
  } catch {
    const range = document.createRange();
    range.selectNodeContents(button.parentElement.querySelector("code"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return "selected: copy it with the keyboard";
  }
}
