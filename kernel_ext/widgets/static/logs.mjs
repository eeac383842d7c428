// The ends of the logs, one row per node and one column per index. Pure.

import { entryKind } from "./kinds.mjs";
import { termHue } from "./ring.mjs";
import { escape, size } from "./text.mjs";

const CELL = 25; // pixels from one entry to the next
const LABEL = 78; // pixels before the first entry
const MOST_ENTRIES = 24;

/** The kinds of entries that are explained below the logs; all of several kinds that share a mark by one word. @type {[string, string?][]} */
const EXPLAINED = [["checkpoint"], ["start"], ["end"], ["takeover"], ["register"], ["offer", "owners and labels"]];

const STANDING = {
  applied: "applied",
  committed: "committed, not applied yet",
  uncommitted: "not committed: another leader may replace it",
  lost: "was never committed, and was dropped",
};

/** @param {any} node @param {number} index @returns {"applied" | "committed" | "uncommitted"} */
export function standing(node, index) {
  // A dead node knows its log, not what it had applied.
  if (index <= node.applied) return "applied";
  return index <= node.commit ? "committed" : "uncommitted";
}

/** What an entry holds, in words. */
export function entryWords(index, term, entry) {
  if (!entry) return `entry ${index}, term ${term}`;
  const texts = entry.commands.map((command) => command.text);
  const more = entry.count > texts.length ? [`and ${entry.count - texts.length} more`] : [];
  const what = texts.length ? [...texts, ...more].join("; ") : entryKind(entry.kind).word;
  return `entry ${index}, term ${term}: ${what} (${size(entry.size)})`;
}

/** Whether an entry records that step. */
export function records(entry, step) {
  return Boolean(entry && step && entry.commands.some((one) => one.run === step.run && one.step === step.id));
}

/** The name, "index:term", of an entry that records this step and is held by a node; null if none is in sight. */
export function entryOf(snapshot, step) {
  const found = Object.entries(snapshot.entries ?? {}).find(([, entry]) => records(entry, step));
  return found ? found[0] : null;
}

function cell(node, index, held, frame, ui, first) {
  const lost = (frame.lost[node.node] ?? []).filter((one) => one.index === index).at(-1);
  if (held === undefined && !lost) {
    if (index < node.first) return `<span class="rv-cell" data-state="compacted" title="in the snapshot up to entry ${node.snapshot}"></span>`;
    return '<span class="rv-cell" data-state="none"></span>';
  }
  const term = held ?? lost.term;
  const state = held === undefined ? "lost" : node.role === "dead" ? "kept" : standing(node, index);
  const entry = held === undefined ? lost.entry : frame.snapshot.entries[`${index}:${term}`];
  const name = `${index}:${term}`;
  const kind = entryKind(entry?.kind ?? "empty");
  const words = `${entryWords(index, term, entry)}, ${STANDING[state] ?? "kept in its journal"}`;
  const also = held !== undefined && lost ? `; before it stood here ${entryWords(lost.index, lost.term, lost.entry)}, dropped` : "";
  const linked = ui.entry === name || records(entry, ui.step);
  return (
    `<button type="button" class="rv-cell" data-entry="${name}" data-of="${node.node}" data-state="${state}" data-kind="${escape(entry?.kind ?? "empty")}" ` +
    `data-replaced="${Boolean(also)}" data-linked="${linked}" tabindex="${first ? 0 : -1}" aria-label="node ${node.node}, ${escape(words + also)}" ` +
    `title="${escape(words + also)}" style="--rv-term: ${termHue(term)}"><b>${escape(kind.mark)}</b><i>${term}</i></button>`
  );
}

/** The logs as markup for this width in pixels; `part` as for `viewHtml`. */
export function logsHtml(frame, width, ui = {}, part = (_, html) => html) {
  const { snapshot } = frame;
  const last = Math.max(1, ...snapshot.nodes.map((node) => node.length), ...Object.values(frame.lost).flat().map((one) => one.index));
  const columns = Math.max(3, Math.min(MOST_ENTRIES, Math.floor((width - LABEL) / CELL), last));
  const indexes = Array.from({ length: columns }, (_, place) => last - columns + 1 + place);
  const rows = snapshot.nodes.map((node, place) => {
    const tail = new Map(node.tail);
    const chosen = indexes.find((index) => ui.entry === `${index}:${tail.get(index)}`) ?? [...tail.keys()].filter((index) => index >= indexes[0]).at(-1);
    const short = node.length < indexes[0] && !frame.lost[node.node];
    const cells = short ? [] : indexes.map((index) => cell(node, index, tail.get(index), frame, ui, index === chosen));
    const beyond = short ? `<span class="rv-quiet">ends at entry ${node.length}</span>` : "";
    return part(`log ${place}`, `<div class="rv-log" data-keyed="true" role="group" aria-label="log of node ${node.node}"><span class="rv-who">node ${node.node}${node.role === "leader" ? ' <b class="rv-star">♛</b>' : ""}</span>${cells.join("")}${beyond}</div>`);
  });
  const head = indexes.map((index, place) => `<span class="rv-index">${(columns - 1 - place) % 5 === 0 ? index : ""}</span>`);
  return `<div class="rv-logs" style="--rv-cell: ${CELL}px"><div class="rv-log rv-heads" aria-hidden="true"><span class="rv-who">entry</span>${head.join("")}</div>${rows.join("")}${aboutHtml(frame, ui)}</div>`;
}

function aboutHtml(frame, ui) {
  const { snapshot } = frame;
  const name = ui.entry ?? (ui.step ? entryOf(snapshot, ui.step) : null);
  if (name === null || name === undefined) {
    const marks = EXPLAINED.map(([kind, word]) => `<b>${entryKind(kind).mark}</b> ${word ?? entryKind(kind).word}`);
    return (
      `<p class="rv-about rv-quiet">${marks.join(" · ")} · below: the term<br>` +
      '<span class="rv-cell" data-state="applied"></span> applied <span class="rv-cell" data-state="committed"></span> committed ' +
      '<span class="rv-cell" data-state="uncommitted"></span> not committed <span class="rv-cell" data-state="lost"></span> dropped</p>'
    );
  }
  const [index, term] = name.split(":").map(Number);
  const lost = Object.values(frame.lost).flat().find((one) => one.index === index && one.term === term);
  const entry = snapshot.entries[name] ?? lost?.entry;
  const holders = snapshot.nodes.filter((node) => node.tail.some(([i, t]) => i === index && t === term)).map((node) => node.node);
  const step = entry?.commands.find((command) => command.step);
  const link = step
    ? ` <button type="button" class="rv-small" data-act="step" data-run="${escape(step.run)}" data-step="${escape(step.step)}">Show the step</button>`
    : "";
  return `<p class="rv-about">${escape(entryWords(index, term, entry))}; ${holders.length ? `in the logs of ${holders.join(", ")}` : "in no log any more"}.${link}</p>`;
}
