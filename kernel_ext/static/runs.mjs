// The runs with a lane per node: what is recorded, consumed and waiting. Pure.

import { statusKind, stepKind } from "./kinds.mjs";
import { counted, escape, shorten } from "./text.mjs";
import { timelineHtml } from "./timeline.mjs";

const STEP = { least: 9, most: 20, gap: 2, height: 16 }; // a lane's blocks, in pixels

/** Below this width in pixels lanes are shortened. */
export const NARROW = 420;

/** How wide one step of a run is drawn, and whether all fit one by one. */
export function scale(steps, width) {
  const each = Math.min(STEP.most, Math.max(STEP.least, Math.floor(width / Math.max(1, steps)) - STEP.gap)) + STEP.gap;
  return { each, single: steps * each <= width };
}

function block(run, lane, place, each, ui) {
  const step = place >= run.first ? run.tail[place - run.first] : undefined;
  const done = place < lane.step;
  const wide = each - STEP.gap - 1;
  const x = place * each + 1.5;
  const middle = x + wide / 2;
  const here = step && step.node === lane.node;
  const words = step ? `${step.id}: ${stepKind(step.op).word}, ${here ? "run here" : `run by node ${step.node}`}${step.failed ? ", failed" : ""}${done ? "" : ", waits in the queue"}` : "";
  const mark = step?.failed
    ? `<path class="rv-bad-mark" d="M${middle - 2.5} 5.5 l5 5 m0 -5 l-5 5"/>`
    : here && step.op === "compute" ? `<circle class="rv-here" cx="${middle}" cy="8" r="2.6"/>` : "";
  const linked = step && ui.step && ui.step.run === run.run && ui.step.id === step.id;
  const rect = `<rect class="${done ? "rv-done" : "rv-waits"}" x="${x}" y="2.5" width="${wide}" height="${STEP.height - 5}" rx="2"/>`;
  if (!step) return rect;
  return `<g class="rv-step" data-run-step="${escape(run.run)}" data-step-id="${escape(step.id)}" data-linked="${Boolean(linked)}"><title>${escape(words)}</title>${rect}${mark}</g>`;
}

/**
 * A lane's track: one block per recorded step while they fit, else a bar; what waits in the queue is outlined.
 * The track ends where the records end: how many more steps will come is known to nobody.
 */
export function trackSvg(run, lane, width, ui = {}) {
  const height = STEP.height;
  const { each, single } = scale(run.steps, width);
  const wide = Math.min(width, Math.max(1, run.steps) * each + 1);
  const base = `<rect class="rv-track" width="${wide}" height="${height}" rx="3"/>`;
  const head = single ? run.steps * each + 1 : width - 1.5;
  let inside;
  if (single) {
    const drawn = Math.min(run.steps, lane.step + lane.queue);
    inside = Array.from({ length: drawn }, (_, place) => block(run, lane, place, each, ui)).join("");
  } else {
    const factor = (width - 3) / run.steps;
    const done = (lane.step * factor).toFixed(1);
    inside =
      `<rect class="rv-done" x="1.5" y="2.5" width="${done}" height="${height - 5}" rx="2"/>` +
      (lane.queue > 0
        ? `<rect class="rv-waits" x="${(1.5 + lane.step * factor).toFixed(1)}" y="2.5" width="${(lane.queue * factor).toFixed(1)}" height="${height - 5}" rx="2"/>`
        : "");
  }
  const end = run.steps ? `<path class="rv-head-mark" d="M${head} 0 V${height}"/>` : "";
  return `<svg class="rv-lane" aria-hidden="true" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">${base}${inside}${end}</svg>`;
}

/** What a node does in a run, in words. */
export function laneWords(lane, run) {
  if (lane.status === "none") return "no execution";
  const doing = lane.doing.map((one) => `runs ${one.id}${one.attempt > 1 ? `, attempt ${one.attempt}` : ""}${one.fraction === null ? "" : `, ${Math.round(one.fraction * 100)} %`}`);
  const problem = lane.problem ? [lane.problem] : [];
  return [`${lane.step} of ${run.steps} steps consumed`, `${lane.queue} in its catch-up queue`, statusKind(lane.status).word, ...doing, ...problem].join(", ");
}

function laneRow(lane, run, snapshot, width, ui) {
  const leads = lane.node === snapshot.leader;
  const gone = lane.status === "none";
  const words = laneWords(lane, run);
  const ended = lane.status === "diverged" || lane.status === "superseded"; // then the queue says nothing any more
  const kind = statusKind(lane.status);
  const doing = lane.doing[0];
  const busy = doing ? `<span class="rv-busy" title="${escape(words)}">${escape(shorten(doing.id, 22))}${doing.attempt > 1 ? ` ×${doing.attempt}` : ""}${doing.fraction === null ? " …" : ` ${Math.round(doing.fraction * 100)} %`}</span>` : "";
  const problem = lane.problem ? `<p class="rv-failure rv-problem">node ${lane.node}: ${escape(lane.problem)}</p>` : "";
  return (
    `<div class="rv-row" role="listitem" data-run="${escape(run.run)}" data-node="${lane.node}" data-step="${lane.step}" ` +
    `data-queue="${lane.queue}" data-status="${lane.status}" aria-label="node ${lane.node}: ${escape(words)}" title="${escape(lane.last ?? words)}">` +
    `<span class="rv-who${leads ? " rv-leads" : ""}">node ${lane.node}${leads ? ' <b class="rv-star" title="leader">♛</b>' : ""}</span>` +
    `<span class="rv-count">${gone ? "–" : `${lane.step}/${run.steps}`}</span>` +
    `<span class="rv-queue rv-is-${lane.status}" data-empty="${ended || lane.queue === 0}">${gone ? "" : ended ? kind.word : `queue ${lane.queue}`}</span>` +
    `<span class="rv-mark rv-is-${lane.status}">${kind.mark}</span>` +
    `${trackSvg(run, lane, width, ui)}${busy}</div>${problem}`
  );
}

/** The runs as markup for this width in pixels; `details` are those of opened runs. */
export function runsHtml(snapshot, width, ui = {}, details = {}) {
  if (!snapshot.runs.length) return '<p class="rv-quiet">No runs yet: <code>%raftoral run NAME</code> starts one.</p>';
  const narrow = width < NARROW; // a narrow lane leaves its count to the reader of blocks
  const room = Math.max(30, width - (narrow ? 190 : 264));
  const shown = snapshot.runs.map((run) => {
    const open = (ui.open ?? []).includes(run.run);
    const failure = run.failure ? `<span class="rv-failure" title="${escape(run.failure)}">${escape(shorten(run.failure, 80))}</span>` : "";
    const kind = statusKind(run.status);
    return (
      `<section class="rv-run" data-run="${escape(run.run)}" data-status="${run.status}" data-steps="${run.steps}">` +
      `<header><button type="button" class="rv-open" data-act="open" data-run="${escape(run.run)}" aria-expanded="${open}" title="${escape(run.run)}: timeline">` +
      `<i aria-hidden="true">${open ? "▾" : "▸"}</i><b>${escape(shorten(run.run, 32))}</b></button>` +
      `<span class="rv-quiet">${escape(shorten(run.workflow, 32))}, version ${run.version}</span>` +
      `<span class="rv-status rv-is-${run.status}">${kind.mark} ${kind.word}</span>` +
      `<span class="rv-quiet">${counted(run.steps, "step")} recorded</span>${failure}</header>` +
      `<div role="list">${run.lanes.map((lane) => laneRow(lane, run, snapshot, room, ui)).join("")}</div>` +
      `${open ? timelineHtml(run, details[run.run], snapshot, width, ui) : ""}</section>`
    );
  });
  const omitted = Object.entries(snapshot.omitted ?? {}).filter(([, number]) => number > 0);
  const more = omitted.length
    ? `<p class="rv-quiet" data-omitted="true">Not drawn: ${omitted.map(([status, number]) => `${number} ${status}`).join(", ")}. All: <code>%raftoral runs</code></p>`
    : "";
  const legend = narrow ? "" : '<p class="rv-quiet rv-legend"><svg width="12" height="12" aria-hidden="true"><rect class="rv-done" y="1" width="12" height="10" rx="2"/><circle class="rv-here" cx="6" cy="6" r="2.6"/></svg> its function was run by this node <svg width="12" height="12" aria-hidden="true"><rect class="rv-done" y="1" width="12" height="10" rx="2"/></svg> taken from the records <svg width="12" height="12" aria-hidden="true"><rect class="rv-waits" x=".5" y="1.5" width="11" height="9" rx="2"/></svg> waits in the catch-up queue</p>';
  return shown.join("") + more + legend;
}
