// What the reader of a view does, carried out: choices, lines for the kernel, and what is said of them.

import { sayings } from "./announcer.mjs";
import { signalLine } from "./faults.mjs";
import { reduce } from "./ui.mjs";

const WATCH = 250; // milliseconds from one look at the messages to the next, for a reader who watches them

/**
 * @param {{ scene: any, say: (words: string) => void, ask: (line: string) => void, send: (message: object) => void, seen: () => boolean,
 *   changed: () => void }} view `ask` has the kernel do a line, `seen` says whether the view is looked at, `changed` is told when
 *   there is something to draw
 */
export function reader({ scene, say, ask, send, seen, changed }) {
  let watching;
  const able = () => scene.link === "live" && scene.ui.at === null;
  const cause = (line) => {
    if (line && able()) ask(line);
  };
  const watch = () => {
    clearInterval(watching);
    if (scene.ui.messages) watching = setInterval(() => able() && seen() && send({ look: true }), WATCH);
  };
  const act = (action) => {
    if (!action) return;
    const before = scene.ui;
    if (action.say) say(action.say);
    if (action.act) scene.ui = reduce(before, action);
    if (action.do) cause(action.do);
    if (scene.ui.open !== before.open && scene.link === "live") send({ open: scene.ui.open });
    if (scene.ui.messages !== before.messages) watch();
    sayings(before, scene.ui, scene.frames).forEach(say);
    changed();
  };
  const signal = (within) => {
    // What was typed last may not be painted yet, so the line is not taken from the page.
    const { run: id } = within.closest(".rv-run").dataset;
    const run = scene.frames.at(-1).snapshot.runs.find((one) => one.run === id);
    const { name = "", value = "" } = scene.ui.typed[id] ?? {};
    const line = run && signalLine(run, name, value);
    if (!line) return;
    cause(line);
    act({ act: "type", run: id, field: "value", text: "" });
  };
  return { able, act, cause, signal, end: () => clearInterval(watching) };
}
