// All of the view: what stands above, between and below. Pure.

import { legendHtml, sentBetween } from "./flights.mjs";
import { placeOf } from "./history.mjs";
import { logsHtml } from "./logs.mjs";
import { panelHtml } from "./panel.mjs";
import { ringSvg } from "./ring.mjs";
import { NARROW, runsHtml } from "./runs.mjs";
import { tablesHtml } from "./tables.mjs";
import { clock, duration, escape } from "./text.mjs";
import { KEYS } from "./ui.mjs";

const WIDE = 640; // pixels from which on the panel stands beside the ring
const PANEL = 288; // its width there

/** What stands above the picture; `link` is "live", "stale" or "closed". */
export function headHtml(snapshot, link, ui) {
  const state = link === "live" ? snapshot.state : link;
  const told = { running: "running", stopped: "stopped", stale: "kernel gone", closed: "closed" }[state];
  const leads = snapshot.leader === null ? "no leader" : `leader: node ${snapshot.leader}`;
  const facts = state === "stopped" ? [] : [leads, `term ${snapshot.term}`, `epoch ${snapshot.epoch}`];
  return (
    `<span class="rv-title">${escape(snapshot.name)}</span><span class="rv-state" data-state="${state}"><i></i>${told}</span>` +
    `${facts.map((fact) => `<span class="rv-fact">${fact}</span>`).join("")}<span class="rv-tools">` +
    `<button type="button" data-act="messages" aria-pressed="${ui.messages}" title="watch the messages between nodes, though nothing else happens (m)">Messages</button>` +
    `<button type="button" data-act="form" aria-pressed="${ui.form === "tables"}" title="the same as tables (v)">Tables</button>` +
    `<button type="button" data-act="help" aria-expanded="${ui.help}" title="the keys (?)" aria-label="keys">?</button></span>`
  );
}

/** Says why the picture stands still, or nothing while it is live. */
export function bannerHtml(snapshot, link) {
  const words = {
    stale: "The kernel is gone or was restarted, and the cluster with it. This is the last picture it sent; run the cells again for a new one.",
    closed: "This view was closed. %raftoral watch opens a new one.",
    stopped: "The cluster has stopped. %raftoral start makes a new one.",
  }[link === "live" ? snapshot.state : link];
  return words ? `<p class="rv-banner" role="status">${escape(words)}</p>` : "";
}

/** The bar to go back in time with. */
export function timeHtml(frames, ui) {
  const place = placeOf(frames, ui.at);
  const now = frames.at(-1).snapshot;
  const shown = frames[place].snapshot;
  const live = ui.at === null;
  const last = Math.max(1, frames.length - 1);
  const marks = frames
    .map((frame, at) => (frame.said.length && at ? `<i style="left: ${((at / last) * 100).toFixed(2)}%" title="${escape(frame.said.join(" "))}"></i>` : ""))
    .join("");
  const words = live ? "now" : `${duration(Math.max(0, now.time - shown.time))} before now, at ${clock(shown.time)}`;
  const step = (to, label, title) => `<button type="button" data-key="${to}" aria-label="${title}" title="${title}"${frames.length < 2 ? " disabled" : ""}>${label}</button>`;
  return (
    `<div class="rv-time" data-live="${live}"><button type="button" class="rv-live-button" data-key=" " title="Space">${live ? "❚❚ Stop the picture" : "▶ Back to now"}</button>` +
    `${step("Shift ArrowLeft", "«", "back to where something happened")}${step("ArrowLeft", "‹", "one picture back")}` +
    `<span class="rv-scrub"><input type="range" min="0" max="${last}" value="${frames.length < 2 ? 1 : place}" aria-label="picture of the last minutes" aria-valuetext="${words}"${frames.length < 2 ? " disabled" : ""}>` +
    `<span class="rv-marks" aria-hidden="true">${marks}</span></span>` +
    `${step("ArrowRight", "›", "one picture forward")}${step("Shift ArrowRight", "»", "forward to where something happened")}` +
    `<span class="rv-when">${words}</span></div>` +
    `${live ? "" : `<p class="rv-said">${escape(frames[place].said.join(" ") || "Nothing happened just here.")}</p>`}`
  );
}

/** The counters, in one line. */
export function footHtml(snapshot) {
  return Object.entries(snapshot.counters).map(([name, value]) => `<span>${escape(name)} <b>${value}</b></span>`).join("");
}

const helpHtml = () => `<dl class="rv-help">${KEYS.map(([key, words]) => `<div><dt><kbd>${escape(key)}</kbd></dt><dd>${escape(words)}</dd></div>`).join("")}</dl>`;

/** Whether the panel stands beside the ring, and how wide the ring is then, for this width in pixels. */
export function layout(width) {
  const beside = width >= WIDE;
  return { beside, room: beside ? width - PANEL - 16 : width };
}

/**
 * All the markup, for this width in pixels.
 * `passed` are the seconds since the latest picture came: countdowns of a live one go on.
 * `still` pictures tell messages as numbers; so does one for a reader who wants no motion (`motion` false).
 * @param {{ frames: any[], ui: any, tasks: any[], details: any, code?: any, link: string, motion?: boolean, passed?: number }} all
 * @param {number} width @param {(name: string, html: string) => string} part of `parts`; leaves nothing out if it is not given
 */
export function viewHtml({ frames, ui, tasks, details, code = {}, link, motion = true, passed = 0 }, width, part = (_, html) => html) {
  const at = placeOf(frames, ui.at);
  const frame = frames[at];
  const { snapshot } = frame;
  const able = ui.at === null && link === "live" && snapshot.state === "running";
  const still = ui.at !== null || link !== "live";
  const now = snapshot.time + (still ? 0 : passed);
  const { beside, room } = layout(width);
  const sent = still || !motion ? sentBetween(frames[at - 1]?.snapshot, snapshot) : [];
  const picture = () =>
    `<div class="rv-top" data-beside="${beside}"><div class="rv-ring">${ringSvg(snapshot, room, ui, still, sent)}<div class="rv-flights" data-kept="true" aria-hidden="true"></div>${snapshot.links.length ? legendHtml() : ""}</div>${part("panel", panelHtml(snapshot, ui, tasks, able))}</div>` +
    `<section aria-label="logs"><h3>Logs</h3>${logsHtml(frame, width, ui, part)}</section>` +
    `<section class="rv-runs" data-narrow="${width < NARROW}" aria-label="runs"><h3>Runs</h3>${runsHtml(snapshot, width, ui, details, { code, able, now, part })}</section>`;
  return (
    `${part("head", `<div class="rv-head">${headHtml(snapshot, link, ui)}</div>`)}${bannerHtml(snapshot, link)}${ui.help ? helpHtml() : '<div hidden></div>'}` +
    `<div class="rv-body" data-form="${ui.form}">${ui.form === "tables" ? tablesHtml(snapshot, now) : picture()}</div>` +
    `<div class="rv-times">${timeHtml(frames, ui)}</div><div class="rv-foot">${footHtml(snapshot)}</div>`
  );
}
