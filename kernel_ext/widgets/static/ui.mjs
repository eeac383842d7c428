// What the reader of a view has chosen, and what keys and clicks make of it. Pure.

import { nodeFaults } from "./faults.mjs";
import { eventFrom, placeOf } from "./history.mjs";

/**
 * `node` and `link` are what is chosen, `entry` ("index:term") and `step` what is looked at, `open` the opened runs, `at` the
 * picture that is shown (its number; null is the latest), `side` the nodes on one side of a partition to be made, `waits` what a
 * key waits for a number for, `drag` the node that is being dragged, `typed` what stands in the signal forms of runs, and
 * `messages` says that messages are watched though nothing else happens.
 * @typedef {{ node: number | null, link: string | null, entry: string | null, step: { run: string, id: string } | null, open: string[],
 *   at: number | null, form: "picture" | "tables", help: boolean, side: number[], waits: "cut" | "slow" | null, drag: number | null,
 *   typed: Record<string, { name: string, value: string }>, messages: boolean }} Ui
 */

/** @type {Ui} */
export const START = { node: null, link: null, entry: null, step: null, open: [], at: null, form: "picture", help: false, side: [], waits: null, drag: null, typed: {}, messages: false };

/** Runs that can be open at once; kernel_ext/widgets/details.py knows no more. */
const MAX_OPEN = 3;

const toggled = (list, one) => (list.includes(one) ? list.filter((other) => other !== one) : [...list, one]);

/** @param {Ui} ui @param {any} action @returns {Ui} what an action makes of it */
export function reduce(ui, action) {
  switch (action.act) {
    case "node":
      return { ...ui, node: ui.node === action.node && action.toggle ? null : action.node, link: null, waits: null };
    case "link":
      return { ...ui, link: ui.link === action.link ? null : action.link, node: null, waits: null };
    case "entry":
      return { ...ui, entry: action.entry, step: null };
    case "step":
      return { ...ui, step: { run: action.run, id: action.step }, entry: null };
    case "open":
      return { ...ui, open: toggled(ui.open, action.run).slice(-MAX_OPEN) };
    case "at":
      return { ...ui, at: action.at };
    case "form":
      return { ...ui, form: ui.form === "picture" ? "tables" : "picture" };
    case "help":
      return { ...ui, help: !ui.help };
    case "side":
      return { ...ui, side: toggled(ui.side, action.node).sort((a, b) => a - b) };
    case "drag":
      return { ...ui, drag: action.node };
    case "drop": // to the side that is made, with nothing chosen, so that the partition is in sight
      return { ...ui, drag: null, node: null, link: null, side: [...new Set([...ui.side, action.node])].sort((a, b) => a - b) };
    case "type":
      return { ...ui, typed: { ...ui.typed, [action.run]: { name: "", value: "", ...ui.typed[action.run], [action.field]: action.text } } };
    case "messages":
      return { ...ui, messages: !ui.messages };
    case "waits":
      return { ...ui, waits: action.waits };
    case "leave":
      return { ...ui, node: null, link: null, entry: null, step: null, waits: null, help: false, at: null, drag: null };
    default:
      return ui;
  }
}

/** The keys, for the help. */
export const KEYS = [
  ["1 … 9", "choose a node"],
  ["k", "kill it, or restart it"],
  ["p", "pause, resume"],
  ["h", "hold, release"],
  ["i", "isolate it, heal its links"],
  ["t", "make it the leader"],
  ["c or s, then a number", "cut or slow the link to that node"],
  ["Space", "stop the picture, or let it continue"],
  ["← →", "one picture back, forward (then the picture stands still)"],
  ["Shift ← →", "to where something happened"],
  ["v", "picture or tables"],
  ["m", "watch the messages, though nothing else happens"],
  ["Esc", "choose nothing, and back to now"],
];

/**
 * What a key does, typed on the view where no field of its own wants it: an action for `reduce`, a line to `do`, words to `say`,
 * or null.
 * @param {string} key @param {boolean} shift @param {Ui} ui @param {any[]} frames
 */
export function keyed(key, shift, ui, frames) {
  const place = placeOf(frames, ui.at);
  const snapshot = frames[place]?.snapshot;
  if (!snapshot) return null;
  const numberAt = (to) => ({ act: "at", at: frames[Math.max(0, Math.min(frames.length - 1, to))].snapshot.seq });
  if (/^[1-9]$/.test(key)) {
    const number = Number(key);
    if (!snapshot.nodes.some((node) => node.node === number)) return { say: `There is no node ${number}.` };
    if (ui.waits && ui.node !== null) {
      if (ui.node === number) return { say: "A link is between two nodes." };
      return { do: ui.waits === "cut" ? `cut ${ui.node}-${number}` : `slow ${ui.node}-${number} --delay 200ms`, act: "waits", waits: null };
    }
    return { act: "node", node: number };
  }
  switch (key) {
    case " ":
      return { act: "at", at: ui.at === null ? snapshot.seq : null };
    case "ArrowLeft":
      return numberAt(shift ? eventFrom(frames, place, -1) : place - 1);
    case "ArrowRight":
      if (ui.at === null) return null;
      return numberAt(shift ? eventFrom(frames, place, 1) : place + 1);
    case "v":
      return { act: "form" };
    case "m":
      return { act: "messages" };
    case "?":
      return { act: "help" };
    case "Escape":
      return { act: "leave" };
    default:
  }
  if (!"kphitcs".includes(key) || key.length !== 1) return null;
  if (ui.at !== null) return { say: "This is a picture of before: press Esc to go back to now." };
  const node = snapshot.nodes.find((one) => one.node === ui.node);
  if (!node) return { say: "Choose a node first, with its number." };
  if (key === "c" || key === "s") return { act: "waits", waits: key === "c" ? "cut" : "slow", say: `To which node? Type its number to ${key === "c" ? "cut" : "slow"} the link.` };
  const fault = nodeFaults(node, snapshot).find((one) => one.key === key);
  return fault ? { do: fault.line } : { say: `That cannot be done to node ${ui.node} now.` };
}
