// What a run waits for, branch by branch, and the turn that it is in. Pure: `now` is a time of the picture (Unix seconds).

import { inOrder, MOST_LINES } from "./branches.mjs";
import { recordKind, waitKind } from "./kinds.mjs";
import { counted, escape, shorten, timeLeft } from "./text.mjs";

/** A record in words: `signal 'approve'`. @param {{ op: string, name?: string, id?: string | null }} record */
export function recordWords(record) {
  const name = record.id ?? record.name ?? "";
  switch (record.op) {
    case "signal arrived":
    case "update arrived":
      return `${recordKind(record.op).word} '${name}'`;
    case "child ended":
      return `end of child ${name}`;
    case "timers fired":
      return "timers fired";
    case "cancel requested":
      return name ? `request to cancel: ${name}` : "request to cancel";
    case "moved":
      return `moved to ${name}`;
    default:
      return `step ${name}`;
  }
}

/** The turn of a lane: its number, and the record that made it. @param {any} lane */
export function turnWords(lane) {
  return lane.turn ? `turn ${lane.had}: ${recordWords(lane.turn)}` : lane.had ? `turn ${lane.had}` : "before its first turn";
}

const pathWords = (text) => text.split(", ").map((path) => path.replace(/\.$/, "")).join(", ");

/** What a branch waits for, without its time and its trouble. @param {any} wait */
export function waitWords(wait) {
  switch (wait.kind) {
    case "step":
      return `step ${wait.what}${wait.label ? `, by a node with label ${wait.label}` : ""}`;
    case "signal":
    case "update":
      return `${wait.kind} ${wait.what}`;
    case "child":
      return `end of child ${wait.what}`;
    case "time":
      return "a time";
    case "tasks":
      return wait.what ? `${wait.what.includes(", ") ? "tasks" : "task"} ${pathWords(wait.what)}` : "its branches";
    default:
      return wait.what || "another branch";
  }
}

/** The time left to a branch, as it counts down. @param {any} wait @param {number} now */
export function leftWords(wait, now) {
  if (wait.until === null || wait.until === undefined) return "";
  const left = wait.until - now;
  if (left <= 0) return "due";
  return wait.kind === "time" ? `${timeLeft(left)} left` : `times out in ${timeLeft(left)}`;
}

/** How often a branch's step was tried, and how that went. @param {any} one a wait or what a node does @param {number} now */
export function triesWords(one, now) {
  if (!one.attempt || (one.attempt < 2 && !one.failure)) return "";
  if (one.again === null || one.again === undefined) return `attempt ${one.attempt}${one.failure ? `, after ${one.failure}` : ""}`;
  const left = one.again - now;
  return `attempt ${one.attempt} failed: ${one.failure}; again ${left > 0 ? `in ${timeLeft(left)}` : "now"}`;
}

/** Everything that a branch waits for, in one sentence. */
export function wholeWords(wait, now) {
  return [waitWords(wait), leftWords(wait, now), triesWords(wait, now)].filter(Boolean).join(", ");
}

/** The branches of a run that wait, in their order. @param {any} run @returns {any[]} */
export const waiting = (run) => [...(run.waits?.branches ?? [])].sort((one, other) => inOrder(one.branch, other.branch));

/** Whether anything in the picture counts down. @param {any} snapshot */
export function counts(snapshot) {
  const counting = (one) => (one.until ?? one.again ?? null) !== null;
  return snapshot.runs.some((run) => (run.waits?.branches ?? []).some(counting) || run.lanes.some((lane) => lane.doing.some(counting)));
}

/** The time, the progress and the trouble of what a branch waits for, behind its name. */
function waitFacts(wait, now) {
  const tries = triesWords(wait, now);
  const share = wait.fraction === null || wait.fraction === undefined ? "" : ` ${Math.round(wait.fraction * 100)} %`;
  const left = leftWords(wait, now);
  return (
    `${escape(shorten(waitWords(wait), 80))}${share}${left ? ` <span class="rv-left">· ${escape(left)}</span>` : ""}` +
    `${tries ? ` <span class="rv-left">·</span> <span class="rv-again" title="${escape(tries)}">${escape(shorten(tries, 110))}</span>` : ""}`
  );
}

const whyHtml = (wait) => `<b class="rv-why" title="${escape(waitKind(wait).word)}">${escape(waitKind(wait).mark)}</b>`;

function waitRow(wait, now) {
  const name = wait.branch ? `⇉${escape(wait.branch)}` : "workflow";
  const task = wait.name ? ` <i title="${escape(wait.name)}">${escape(shorten(wait.name, 16))}</i>` : "";
  return `<li data-branch="${escape(wait.branch)}" data-kind="${escape(wait.kind)}"><span class="rv-of">${name}${task}</span>${whyHtml(wait)}<span>${waitFacts(wait, now)}</span></li>`;
}

/** What a run waits for, as markup; all of it if the run is opened. @param {any} run @param {number} now @param {boolean} open */
export function waitsHtml(run, now, open) {
  if (!run.waits) return "";
  const lane = run.lanes.find((one) => one.node === run.waits.node);
  const all = waiting(run);
  const alone = all.length === 1 && !all[0].branch && !run.waits.more;
  const shown = alone ? [] : open ? all : all.slice(0, MOST_LINES);
  const left = alone ? 0 : all.length - shown.length + run.waits.more;
  const more = left ? `<li class="rv-quiet">and ${counted(left, "more branch").replace("branchs", "branches")}</li>` : "";
  const stuck = run.stuck
    ? '<p class="rv-stuck">Nothing can wake it: it waits for no step, no message, no child and no time. Only a request to cancel reaches it.</p>'
    : "";
  const turn = lane ? `<span class="rv-turn">${escape(shorten(turnWords(lane), 60))}</span>` : "";
  const one = alone ? ` <span data-branch="" data-kind="${escape(all[0].kind)}">${whyHtml(all[0])} ${waitFacts(all[0], now)}</span>` : "";
  return (
    `<div class="rv-waits-for" role="group" aria-label="what run ${escape(run.run)} waits for"><p>${turn}<span class="rv-quiet"> · node ${run.waits.node}${all.length ? " waits for" : ""}</span>${one}</p>` +
    `${shown.length || more ? `<ul>${shown.map((wait) => waitRow(wait, now)).join("")}${more}</ul>` : ""}${stuck}</div>`
  );
}
