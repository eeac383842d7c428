// The track of a lane: a block for each record that a node has, on a line for each branch. Pure.

import { branchOf, linesOf } from "./branches.mjs";
import { recordKind, waitKind } from "./kinds.mjs";
import { escape } from "./text.mjs";
import { recordWords, waiting, waitWords } from "./waits.mjs";

const BLOCK = { least: 9, most: 20, gap: 2, height: 16 }; // a lane's blocks, in pixels
const NEXT = 13; // pixels of one record of a queue, where there is no room for all blocks
const LINE = 13; // pixels from one line of a lane with branches to the next
const NAMES = 34; // pixels for the names of branches
const MARK = 16; // pixels behind the records, for what is waited for

/** How wide one record of a run is drawn, and whether all fit one by one. */
export function scale(records, width) {
  const each = Math.min(BLOCK.most, Math.max(BLOCK.least, Math.floor(width / Math.max(1, records)) - BLOCK.gap)) + BLOCK.gap;
  return { each, single: records * each <= width };
}

const pathsOf = (run) => (run.waits?.branches ?? []).map((wait) => wait.branch);

/** The branches of a run that are known, without the workflow's own. */
export const branchCount = (run) => linesOf(run.tail, pathsOf(run)).branches.length - 1;

/** How a run's lanes are drawn: as one line of records, as a line for each branch, or as one bar when there is no room for that. */
export function planOf(run, width) {
  const lines = linesOf(run.tail, pathsOf(run));
  const left = lines.names.length > 1 ? NAMES : 0;
  const { each, single } = scale(run.records, width - left - MARK);
  if (!single || !left) return { each, single, left: 0, lines: null, height: BLOCK.height };
  return { each, single, left, lines, height: lines.names.length * LINE + 3 };
}

/** @param {any} record @param {any} lane @param {number} place @returns {string} */
function blockWords(record, lane, place) {
  const kind = recordKind(record.op);
  const what = record.id === null ? recordWords(record) : `${record.id}: ${kind.word}`;
  const by = record.id === null ? "" : record.node === lane.node ? ", run here" : `, run by node ${record.node}`;
  const tries = record.attempts ? `, ${record.attempts} attempts` : "";
  const queued = place < lane.had ? "" : place === lane.had ? ", next in the queue" : ", waits in the queue";
  return `${what}${by}${tries}${record.failed ? ", failed" : ""}${queued}`;
}

function markOf(record, lane, done, middle, y, wide) {
  if (record.failed) return `<path class="rv-bad-mark" d="M${middle - 2.5} ${y - 2.5} l5 5 m0 -5 l-5 5"/>`;
  if (done && record.op === "compute") return record.node === lane.node ? `<circle class="rv-here" cx="${middle}" cy="${y}" r="2.6"/>` : "";
  return wide < 8 ? "" : `<text class="rv-kind" x="${middle}" y="${y + 3.5}">${escape(recordKind(record.op).mark)}</text>`;
}

function block(run, lane, place, each, ui, left, top, height) {
  const record = place >= run.first ? run.tail[place - run.first] : undefined;
  const done = place < lane.had;
  const wide = each - BLOCK.gap - 1;
  const x = left + place * each + 1.5;
  const middle = x + wide / 2;
  const kind = done ? "rv-done" : place === lane.had ? "rv-waits rv-next" : "rv-waits";
  const rect = `<rect class="${kind}" x="${x}" y="${top + 2.5}" width="${wide}" height="${height - 5}" rx="2"/>`;
  if (!record) return rect;
  const linked = record.id !== null && ui.step && ui.step.run === run.run && ui.step.id === record.id;
  const retried = record.attempts ? `<path class="rv-retried" d="M${x} ${top + 1} h${wide}"/>` : "";
  const chosen = record.id === null ? "" : ` data-run-step="${escape(run.run)}" data-step-id="${escape(record.id)}"`;
  return (
    `<g class="rv-record"${chosen} data-linked="${Boolean(linked)}" data-op="${escape(record.op)}" data-attempts="${record.attempts ?? 1}">` +
    `<title>${escape(blockWords(record, lane, place))}</title>${rect}${markOf(record, lane, done, middle, top + height / 2, wide)}${retried}</g>`
  );
}

/** What had its turn as a bar, the next records of the queue one by one, and the rest of it as a bar again. */
function bar(run, lane, width) {
  const each = lane.next.slice(0, Math.min(lane.queue, Math.floor(width / 2 / NEXT)));
  const factor = (width - MARK - 3 - each.length * NEXT) / Math.max(1, run.records - each.length);
  const done = 1.5 + lane.had * factor;
  const y = `y="2.5" height="${BLOCK.height - 5}" rx="2"`;
  const next = each.map((record, at) => {
    const x = done + at * NEXT + 1;
    return (
      `<g class="rv-record" data-op="${escape(record.op)}"><title>${escape(recordWords(record))}, ${at ? "waits" : "next"} in the queue</title>` +
      `<rect class="rv-waits${at ? "" : " rv-next"}" x="${x.toFixed(1)}" ${y} width="${NEXT - 2}"/>` +
      `<text class="rv-kind" x="${(x + NEXT / 2 - 1).toFixed(1)}" y="11.5">${escape(recordKind(record.op).mark)}</text></g>`
    );
  });
  const rest = lane.queue - each.length;
  const behind = rest > 0 ? `<rect class="rv-waits" x="${(done + each.length * NEXT + 1).toFixed(1)}" ${y} width="${Math.max(1, rest * factor - 1).toFixed(1)}"/>` : "";
  return `<rect class="rv-done" x="1.5" ${y} width="${(lane.had * factor).toFixed(1)}"/>${next.join("")}${behind}`;
}

/** What the branches wait for, as a mark at the end of the line of each. */
function waitMarks(run, lane, lines, head) {
  if (!run.waits || lane.status !== "running" || lane.had !== run.waits.had || lane.queue) return "";
  const met = new Set();
  return waiting(run)
    .map((wait) => {
      const line = lines ? (lines.by.get(wait.branch) ?? 0) : 0;
      if (met.has(line) || (!lines && wait.branch)) return "";
      met.add(line);
      const y = lines ? line * LINE + 11.5 : BLOCK.height / 2 + 3.5;
      return `<text class="rv-why" data-branch="${escape(wait.branch)}" x="${head + 8}" y="${y}"><title>waits for ${escape(waitWords(wait))}</title>${escape(waitKind(wait).mark)}</text>`;
    })
    .join("");
}

/**
 * A lane's track: one block per record while they fit, else a bar; what waits in the queue is outlined, and the next one most. Steps of
 * branches stand on lines of their own, in the order in which all were recorded.
 * The track ends where the records end: how many more will come is known to nobody.
 */
export function trackSvg(run, lane, width, ui = {}, plan = planOf(run, width)) {
  const { each, single, left, lines, height } = plan;
  const wide = Math.min(width - left - MARK, Math.max(1, run.records) * each + 1);
  const head = single ? left + run.records * each + 1 : width - MARK - 1.5;
  const end = run.records ? `<path class="rv-head-mark" d="M${head} 0 V${height}"/>` : "";
  const drawn = Math.min(run.records, lane.had + lane.queue);
  let inside;
  if (lines) {
    const blocks = Array.from({ length: drawn }, (_, place) => {
      const record = place >= run.first ? run.tail[place - run.first] : undefined;
      const line = record ? (lines.by.get(branchOf(record)) ?? 0) : 0;
      return block(run, lane, place, each, ui, left, line * LINE, LINE + 3);
    });
    const names = lines.names.map((name, at) => `<rect class="rv-track" x="${left}" y="${at * LINE + 1.5}" width="${wide}" height="${LINE}" rx="2"/><text class="rv-branch" x="${left - 4}" y="${at * LINE + 11.5}">${escape(name ? `⇉${name}` : "")}</text>`);
    inside = names.join("") + blocks.join("");
  } else {
    inside = `<rect class="rv-track" width="${wide}" height="${height}" rx="3"/>`;
    if (!single) inside += bar(run, lane, width);
    else inside += Array.from({ length: drawn }, (_, place) => block(run, lane, place, each, ui, 0, 0, height)).join("");
  }
  return `<svg class="rv-lane" aria-hidden="true" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">${inside}${end}${waitMarks(run, lane, lines, head)}</svg>`;
}
