// The runs with a lane per node: what is recorded, consumed and waiting. Pure.

import { branchOf, linesOf } from "./branches.mjs";
import { codeHtml } from "./code.mjs";
import { runFormHtml } from "./forms.mjs";
import { statusKind, stepKind } from "./kinds.mjs";
import { counted, escape, shorten } from "./text.mjs";
import { timelineHtml } from "./timeline.mjs";

const STEP = { least: 9, most: 20, gap: 2, height: 16 }; // a lane's blocks, in pixels
const LINE = 13; // pixels from one line of a lane with branches to the next
const NAMES = 34; // pixels for the names of branches
const MOST_RELATED = 4; // children that are named, the others are counted

/** Below this width in pixels lanes are shortened. */
export const NARROW = 420;

/** How wide one step of a run is drawn, and whether all fit one by one. */
export function scale(steps, width) {
  const each = Math.min(STEP.most, Math.max(STEP.least, Math.floor(width / Math.max(1, steps)) - STEP.gap)) + STEP.gap;
  return { each, single: steps * each <= width };
}

/** @param {any} step @param {any} lane @param {boolean} done @returns {string} */
function stepWords(step, lane, done) {
  const kind = stepKind(step.op);
  const by = step.node === lane.node ? "run here" : `run by node ${step.node}`;
  const tries = step.attempts ? `, ${step.attempts} attempts` : "";
  return `${step.id}: ${kind.word}, ${by}${tries}${step.failed ? ", failed" : ""}${done ? "" : ", waits in the queue"}`;
}

function markOf(step, lane, middle, y, wide) {
  if (step.failed) return `<path class="rv-bad-mark" d="M${middle - 2.5} ${y - 2.5} l5 5 m0 -5 l-5 5"/>`;
  if (step.op === "compute") return step.node === lane.node ? `<circle class="rv-here" cx="${middle}" cy="${y}" r="2.6"/>` : "";
  return wide < 8 ? "" : `<text class="rv-kind" x="${middle}" y="${y + 3.5}">${escape(stepKind(step.op).mark)}</text>`;
}

function block(run, lane, place, each, ui, left, top, height) {
  const step = place >= run.first ? run.tail[place - run.first] : undefined;
  const done = place < lane.step;
  const wide = each - STEP.gap - 1;
  const x = left + place * each + 1.5;
  const middle = x + wide / 2;
  const rect = `<rect class="${done ? "rv-done" : "rv-waits"}" x="${x}" y="${top + 2.5}" width="${wide}" height="${height - 5}" rx="2"/>`;
  if (!step) return rect;
  const linked = ui.step && ui.step.run === run.run && ui.step.id === step.id;
  const retried = step.attempts ? `<path class="rv-retried" d="M${x} ${top + 1} h${wide}"/>` : "";
  return (
    `<g class="rv-step" data-run-step="${escape(run.run)}" data-step-id="${escape(step.id)}" data-linked="${Boolean(linked)}" data-op="${escape(step.op)}" data-attempts="${step.attempts ?? 1}">` +
    `<title>${escape(stepWords(step, lane, done))}</title>${rect}${markOf(step, lane, middle, top + height / 2, wide)}${retried}</g>`
  );
}

/** How a run's lanes are drawn: as one line of steps, as a line for each branch, or as one bar when there is no room for that. */
function planOf(run, width) {
  const lines = linesOf(run.tail);
  const left = lines.names.length > 1 ? NAMES : 0;
  const { each, single } = scale(run.steps, width - left);
  if (!single || !left) return { each, single, left: 0, lines: null, height: STEP.height };
  return { each, single, left, lines, height: lines.names.length * LINE + 3 };
}

/**
 * A lane's track: one block per recorded step while they fit, else a bar; what waits in the queue is outlined. Steps of branches
 * stand on lines of their own, in the order in which all were recorded.
 * The track ends where the records end: how many more steps will come is known to nobody.
 */
export function trackSvg(run, lane, width, ui = {}, plan = planOf(run, width)) {
  const { each, single, left, lines, height } = plan;
  const wide = Math.min(width - left, Math.max(1, run.steps) * each + 1);
  const head = single ? left + run.steps * each + 1 : width - 1.5;
  const end = run.steps ? `<path class="rv-head-mark" d="M${head} 0 V${height}"/>` : "";
  let inside;
  if (lines) {
    const drawn = Math.min(run.steps, lane.step + lane.queue);
    const blocks = Array.from({ length: drawn }, (_, place) => {
      const step = place >= run.first ? run.tail[place - run.first] : undefined;
      const line = step ? lines.by.get(branchOf(step)) : 0;
      return block(run, lane, place, each, ui, left, line * LINE, LINE + 3);
    });
    const names = lines.names.map((name, at) => `<rect class="rv-track" x="${left}" y="${at * LINE + 1.5}" width="${wide}" height="${LINE}" rx="2"/><text class="rv-branch" x="${left - 4}" y="${at * LINE + 11.5}">${escape(name ? `⇉${name}` : "")}</text>`);
    inside = names.join("") + blocks.join("");
  } else {
    inside = `<rect class="rv-track" width="${wide}" height="${height}" rx="3"/>`;
    if (single) {
      const drawn = Math.min(run.steps, lane.step + lane.queue);
      inside += Array.from({ length: drawn }, (_, place) => block(run, lane, place, each, ui, 0, 0, height)).join("");
    } else {
      const factor = (width - 3) / run.steps;
      const done = (lane.step * factor).toFixed(1);
      inside +=
        `<rect class="rv-done" x="1.5" y="2.5" width="${done}" height="${height - 5}" rx="2"/>` +
        (lane.queue > 0
          ? `<rect class="rv-waits" x="${(1.5 + lane.step * factor).toFixed(1)}" y="2.5" width="${(lane.queue * factor).toFixed(1)}" height="${height - 5}" rx="2"/>`
          : "");
    }
  }
  return `<svg class="rv-lane" aria-hidden="true" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">${inside}${end}</svg>`;
}

/** What a node does in a run, in words. */
export function laneWords(lane, run) {
  if (lane.status === "none") return "no execution";
  const doing = lane.doing.map((one) => `runs ${one.id}${one.attempt > 1 ? `, attempt ${one.attempt}` : ""}${one.fraction === null ? "" : `, ${Math.round(one.fraction * 100)} %`}`);
  if (lane.more) doing.push(`and ${counted(lane.more, "step")} more`);
  const problem = lane.problem ? [lane.problem] : [];
  return [`${lane.step} of ${run.steps} steps consumed`, `${lane.queue} in its catch-up queue`, statusKind(lane.status).word, ...doing, ...problem].join(", ");
}

function laneRow(lane, run, snapshot, width, ui, plan) {
  const leads = lane.node === snapshot.leader;
  const gone = lane.status === "none";
  const words = laneWords(lane, run);
  const ended = ["diverged", "unreadable", "superseded"].includes(lane.status); // then the queue says nothing any more
  const kind = statusKind(lane.status);
  const doing = lane.doing[0];
  const others = lane.doing.length - 1 + (lane.more ?? 0);
  const busy = doing
    ? `<span class="rv-busy" title="${escape(words)}">${escape(shorten(doing.id, 22))}${doing.attempt > 1 ? ` <b class="rv-again">attempt ${doing.attempt}</b>` : ""}` +
      `${doing.fraction === null ? " …" : ` ${Math.round(doing.fraction * 100)} %`}${others > 0 ? ` +${others}` : ""}</span>`
    : "";
  const problem = lane.problem ? `<p class="rv-failure rv-problem">node ${lane.node}: ${escape(lane.problem)}</p>` : "";
  return (
    `<div class="rv-row" role="listitem" style="height: ${plan.height + 4}px" data-run="${escape(run.run)}" data-node="${lane.node}" data-step="${lane.step}" ` +
    `data-queue="${lane.queue}" data-status="${lane.status}" data-leads="${leads}" aria-label="node ${lane.node}: ${escape(words)}" title="${escape(lane.last ?? words)}">` +
    `<span class="rv-who${leads ? " rv-leads" : ""}">node ${lane.node}${leads ? ' <b class="rv-star" title="leader">♛</b>' : ""}</span>` +
    `<span class="rv-count">${gone ? "–" : `${lane.step}/${run.steps}`}</span>` +
    `<span class="rv-queue rv-is-${lane.status}" data-empty="${ended || lane.queue === 0}">${gone ? "" : ended ? kind.word : `queue ${lane.queue}`}</span>` +
    `<span class="rv-mark rv-is-${lane.status}">${kind.mark}</span>` +
    `${trackSvg(run, lane, width, ui, plan)}${busy}</div>${problem}`
  );
}

/** How a run is related to others, and what waits for it. */
function factsHtml(run, snapshot) {
  const drawn = new Set(snapshot.runs.map((one) => one.run));
  const named = (id) =>
    drawn.has(id)
      ? `<button type="button" class="rv-small rv-related" data-act="show" data-run="${escape(id)}" title="show run ${escape(id)}">${escape(shorten(id, 24))}</button>`
      : `<b>${escape(shorten(id, 24))}</b>`;
  const children = snapshot.runs.filter((one) => one.parent === run.run).map((one) => one.run);
  const more = children.length > MOST_RELATED ? ` and ${children.length - MOST_RELATED} more` : "";
  const facts = [];
  if (run.parent) facts.push(`child of ${named(run.parent)}`);
  if (children.length) facts.push(`${children.length === 1 ? "child" : "children"} ${children.slice(0, MOST_RELATED).map(named).join(" ")}${more}`);
  const branches = linesOf(run.tail).branches.length - 1;
  if (branches) facts.push(counted(branches, "branch").replace("branchs", "branches"));
  if (run.waiting) facts.push(`<b class="rv-waiting">✉ ${counted(run.waiting, "message")} not received yet</b>`);
  return facts.map((fact) => `<span class="rv-quiet rv-fact-of-run">${fact}</span>`).join("");
}

/**
 * The runs as markup for this width in pixels; `details` and `code` are those of opened runs, `able` if something can be done now.
 * @param {any} snapshot @param {number} width @param {any} ui @param {any} details @param {{ code?: any, able?: boolean, part?: (name: string, html: string) => string }} more
 */
export function runsHtml(snapshot, width, ui = {}, details = {}, { code = {}, able = false, part = (_, html) => html } = {}) {
  if (!snapshot.runs.length) return '<p class="rv-quiet">No runs yet: <code>%raftoral run NAME</code> starts one.</p>';
  const narrow = width < NARROW; // a narrow lane leaves its count to the reader of blocks
  const room = Math.max(30, width - (narrow ? 190 : 264));
  const shown = snapshot.runs.map((run, place) => {
    const open = (ui.open ?? []).includes(run.run);
    const failure = run.failure ? `<span class="rv-failure" title="${escape(run.failure)}">${escape(shorten(run.failure, 80))}</span>` : "";
    const kind = statusKind(run.status);
    const plan = planOf(run, room);
    const opened = () =>
      `${runFormHtml(run, ui, able)}${timelineHtml(run, details[run.run], snapshot, width, ui)}` +
      codeHtml(run, code[run.run], details[run.run]?.places, snapshot, ui.at == null, details[run.run]?.more);
    return part(
      `run ${place}`,
      `<section class="rv-run" data-run="${escape(run.run)}" data-status="${run.status}" data-steps="${run.steps}">` +
      `<header><button type="button" class="rv-open" data-act="open" data-run="${escape(run.run)}" aria-expanded="${open}" title="${escape(run.run)}: timeline">` +
      `<i aria-hidden="true">${open ? "▾" : "▸"}</i><b>${escape(shorten(run.run, 32))}</b></button>` +
      `<span class="rv-quiet">${escape(shorten(run.workflow, 32))}, version ${run.version}</span>` +
      `<span class="rv-status rv-is-${run.status}">${kind.mark} ${kind.word}</span>` +
      `<span class="rv-quiet">${counted(run.steps, "step")} recorded</span>${factsHtml(run, snapshot)}${failure}</header>` +
      `<div role="list">${run.lanes.map((lane) => laneRow(lane, run, snapshot, room, ui, plan)).join("")}</div>` +
      `${open ? `<div class="rv-opened">${opened()}</div>` : ""}</section>`,
    );
  });
  const omitted = Object.entries(snapshot.omitted ?? {}).filter(([, number]) => number > 0);
  const more = omitted.length
    ? `<p class="rv-quiet" data-omitted="true">Not drawn: ${omitted.map(([status, number]) => `${number} ${status}`).join(", ")}. All: <code>%raftoral runs</code></p>`
    : "";
  const legend = narrow ? "" : '<p class="rv-quiet rv-legend"><svg width="12" height="12" aria-hidden="true"><rect class="rv-done" y="1" width="12" height="10" rx="2"/><circle class="rv-here" cx="6" cy="6" r="2.6"/></svg> its function was run by this node <svg width="12" height="12" aria-hidden="true"><rect class="rv-done" y="1" width="12" height="10" rx="2"/></svg> taken from the records <svg width="12" height="12" aria-hidden="true"><rect class="rv-waits" x=".5" y="1.5" width="11" height="9" rx="2"/></svg> waits in the catch-up queue · z timer · ✉ message · ⤷ child run · ⇉ branch · line above: tried again</p>';
  return shown.join("") + more + legend;
}
