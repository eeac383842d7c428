// The runs with a lane per node: what is recorded, what had its turn, what waits for one, and what the run itself waits for. Pure.

import { codeHtml } from "./code.mjs";
import { runFormHtml } from "./forms.mjs";
import { statusKind } from "./kinds.mjs";
import { counted, escape, shorten } from "./text.mjs";
import { timelineHtml } from "./timeline.mjs";
import { branchCount, planOf, trackSvg } from "./track.mjs";
import { recordWords, triesWords, turnWords, waitsHtml } from "./waits.mjs";

const MOST_RELATED = 4; // children that are named, the others are counted

/** Below this width in pixels lanes are shortened. */
export const NARROW = 420;

/** What a node does in a run, in words. */
export function laneWords(lane, run, now = 0) {
  if (lane.status === "none") return "no execution";
  const doing = lane.doing.map((one) => {
    const tries = triesWords(one, now) || (one.attempt > 1 ? `attempt ${one.attempt}` : "");
    return `${one.again ? "tries" : "runs"} ${one.id}${tries ? `, ${tries}` : ""}${one.fraction === null ? "" : `, ${Math.round(one.fraction * 100)} %`}`;
  });
  if (lane.more) doing.push(`and ${counted(lane.more, "step")} more`);
  const problem = lane.problem ? [lane.problem] : [];
  const next = lane.next.length ? ` (next: ${lane.next.slice(0, 3).map(recordWords).join("; ")}${lane.queue > 3 ? "; ..." : ""})` : "";
  const told = [`${lane.had} of ${run.records} records had their turn`, `${lane.queue} in its catch-up queue${next}`];
  return [...told, ...(lane.turn ? [turnWords(lane)] : []), statusKind(lane.status).word, ...doing, ...problem].join(", ");
}

function laneRow(lane, run, snapshot, width, ui, plan, now) {
  const leads = lane.node === snapshot.leader;
  const owns = lane.node === run.owner;
  const gone = lane.status === "none";
  const words = laneWords(lane, run, now);
  const ended = ["diverged", "unreadable", "superseded"].includes(lane.status); // then the queue says nothing any more
  const kind = statusKind(lane.status);
  const doing = lane.doing[0];
  const others = lane.doing.length - 1 + (lane.more ?? 0);
  const busy = doing
    ? `<span class="rv-busy" title="${escape(words)}">${escape(shorten(doing.id, 22))}${doing.attempt > 1 || doing.failure ? ` <b class="rv-again">attempt ${doing.attempt}${doing.again ? " failed" : ""}</b>` : ""}` +
      `${doing.fraction === null ? " …" : ` ${Math.round(doing.fraction * 100)} %`}${others > 0 ? ` +${others}` : ""}</span>`
    : "";
  const problem = lane.problem ? `<p class="rv-failure rv-problem">node ${lane.node}: ${escape(lane.problem)}</p>` : "";
  return (
    `<div class="rv-row" role="listitem" style="height: ${plan.height + 4}px" data-run="${escape(run.run)}" data-node="${lane.node}" data-step="${lane.step}" ` +
    `data-queue="${lane.queue}" data-had="${lane.had}" data-status="${lane.status}" data-leads="${run.owner ? owns : leads}" aria-label="node ${lane.node}: ${escape(words)}" title="${escape(lane.turn ? turnWords(lane) : words)}">` +
    `<span class="rv-who${(run.owner ? owns : leads) ? " rv-leads" : ""}">node ${lane.node}${leads ? ' <b class="rv-star" title="leader">♛</b>' : ""}${owns ? ' <b class="rv-star" title="owner: does the steps of this run">◆</b>' : ""}</span>` +
    `<span class="rv-count">${gone ? "–" : `${lane.had}/${run.records}`}</span>` +
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
  if (run.owner) facts.push(`<span title="does its steps">◆ owned by node ${run.owner}</span>`);
  if (run.parent) facts.push(`child of ${named(run.parent)}`);
  if (children.length) facts.push(`${children.length === 1 ? "child" : "children"} ${children.slice(0, MOST_RELATED).map(named).join(" ")}${more}`);
  if (run.stuck) facts.push('<b class="rv-stuck">nothing can wake it</b>');
  const branches = branchCount(run);
  if (branches) facts.push(counted(branches, "branch").replace("branchs", "branches"));
  if (run.waiting) facts.push(`<b class="rv-waiting">✉ ${counted(run.waiting, "message")} not received yet</b>`);
  return facts.map((fact) => `<span class="rv-quiet rv-fact-of-run">${fact}</span>`).join("");
}

/**
 * The runs as markup for this width in pixels; `details` and `code` are those of opened runs, `able` if something can be done now,
 * `now` the time that countdowns are counted to (Unix seconds).
 * @param {any} snapshot @param {number} width @param {any} ui @param {any} details @param {{ code?: any, able?: boolean, now?: number, part?: (name: string, html: string) => string }} more
 */
export function runsHtml(snapshot, width, ui = {}, details = {}, { code = {}, able = false, now = snapshot.time, part = (_, html) => html } = {}) {
  if (!snapshot.runs.length) return '<p class="rv-quiet">No runs yet: <code>%raftoral run NAME</code> starts one.</p>';
  const narrow = width < NARROW; // a narrow lane leaves its count to the reader of blocks
  const room = Math.max(30, width - (narrow ? 198 : 272));
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
      `<section class="rv-run" data-run="${escape(run.run)}" data-status="${run.status}" data-steps="${run.steps}" data-records="${run.records}">` +
      `<header><button type="button" class="rv-open" data-act="open" data-run="${escape(run.run)}" aria-expanded="${open}" title="${escape(run.run)}: timeline">` +
      `<i aria-hidden="true">${open ? "▾" : "▸"}</i><b>${escape(shorten(run.run, 32))}</b></button>` +
      `<span class="rv-quiet">${escape(shorten(run.workflow, 32))}, version ${run.version}</span>` +
      `<span class="rv-status rv-is-${run.status}">${kind.mark} ${kind.word}</span>` +
      `<span class="rv-quiet" title="${counted(run.steps, "step")} among them">${counted(run.records, "record")}</span>${factsHtml(run, snapshot)}${failure}</header>` +
      `<div role="list">${run.lanes.map((lane) => laneRow(lane, run, snapshot, room, ui, plan, now)).join("")}</div>${waitsHtml(run, now, open)}` +
      `${open ? `<div class="rv-opened">${opened()}</div>` : ""}</section>`,
    );
  });
  const omitted = Object.entries(snapshot.omitted ?? {}).filter(([, number]) => number > 0);
  const more = omitted.length
    ? `<p class="rv-quiet" data-omitted="true">Not drawn: ${omitted.map(([status, number]) => `${number} ${status}`).join(", ")}. All: <code>%raftoral runs</code></p>`
    : "";
  const legend = narrow ? "" : '<p class="rv-quiet rv-legend"><svg width="12" height="12" aria-hidden="true"><rect class="rv-done" y="1" width="12" height="10" rx="2"/><circle class="rv-here" cx="6" cy="6" r="2.6"/></svg> its function was run by this node <svg width="12" height="12" aria-hidden="true"><rect class="rv-done" y="1" width="12" height="10" rx="2"/></svg> taken from the records <svg width="12" height="12" aria-hidden="true"><rect class="rv-waits" x=".5" y="1.5" width="11" height="9" rx="2"/></svg> waits in the catch-up queue, next one first · ƒ effect · z timer · ✉ message · ⤷ child run · ⇉ branch · behind the line: what a branch waits for · line above: tried again</p>';
  return shown.join("") + more + legend;
}
