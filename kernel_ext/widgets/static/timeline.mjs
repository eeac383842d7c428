// One run, record by record: when, by whom, how long, and what came of it. Pure.

import { branchOf, depthOf } from "./branches.mjs";
import { recordKind } from "./kinds.mjs";
import { clock, counted, duration, escape, shorten } from "./text.mjs";
import { recordWords } from "./waits.mjs";

const MOST_RECORDS = 60;

/** How deep in branches a step is: `0/key` is 0, `2.1.0/key` and `t1.0/key` are 1. */
export function depth(id) {
  return depthOf(branchOf({ id }));
}

/** The records that are known of a run: with details where these came, else as the snapshot has them. */
export function recordsOf(run, details) {
  const known = details ? details.records.slice(0, Math.max(0, run.records - details.first)) : []; // a picture of before knows fewer
  const detailed = known.length > 0 && known.length >= run.tail.length;
  const records = detailed ? known : run.tail;
  const over = Math.max(0, records.length - MOST_RECORDS);
  return { records: records.slice(over), left: (detailed ? details.first : run.first) + over };
}

/** One record as a row; only a step can be chosen. */
function itemHtml(run, record, turn, { start, span, tries, ui }) {
  const kind = recordKind(record.op);
  const name = record.id ?? recordWords(record);
  const linked = record.id !== null && ui.step && ui.step.run === run.run && ui.step.id === record.id;
  const [began, at] = [record.from ?? record.at, record.at];
  const share = (time) => ((Math.max(0, time) / span) * 100).toFixed(2);
  const bar = typeof at === "number" ? `<i style="left: ${share(Math.min(began, at) - start)}%; width: ${share(at - began)}%"></i>` : "";
  const took = typeof at === "number" && typeof record.from === "number" ? duration(Math.max(0, at - record.from)) : "";
  const by = record.node ? `node ${record.node}` : "";
  const about = [record.id === null ? name : `step ${name}, ${kind.word}`, by && `by ${by}`, took, tries && `${tries} attempts`, record.failed && "failed", record.value];
  const words = `turn ${turn}: ${about.filter(Boolean).join(", ")}`;
  const inside =
    `<span class="rv-id" style="--rv-depth: ${record.id === null ? 0 : depth(record.id)}"><b>${escape(kind.mark)}</b> ${escape(shorten(name, 26))}</span>` +
    `<span class="rv-by">${by}</span><i class="rv-bar">${bar}</i><span class="rv-took">${tries ? `<b class="rv-again">×${tries}</b> ` : ""}${took}</span>` +
    `<span class="rv-value${record.failed ? " rv-failure" : ""}">${escape(shorten(record.value ?? "", 60))}</span>`;
  if (record.id === null) return `<li><div class="rv-item" title="${escape(words)}">${inside}</div></li>`;
  return (
    `<li><button type="button" class="rv-item" data-act="step" data-run="${escape(run.run)}" data-step="${escape(record.id)}" data-linked="${Boolean(linked)}" ` +
    `aria-label="${escape(words)}" title="${escape(words)}">${inside}</button></li>`
  );
}

/** A run's timeline as markup. */
export function timelineHtml(run, details, snapshot, width, ui = {}) {
  const { records, left } = recordsOf(run, details);
  const times = records.flatMap((record) => [record.from, record.at]).filter((time) => typeof time === "number");
  const [start, end] = [Math.min(...times), Math.max(...times)];
  const span = Math.max(0.001, end - start);
  const attempts = new Map(run.tail.filter((record) => record.attempts).map((record) => [record.id, record.attempts]));
  const rows = records.map((record, place) => itemHtml(run, record, left + place + 1, { start, span, tries: attempts.get(record.id), ui }));
  const more = left > 0 ? `<p class="rv-quiet">${counted(left, "record")} before these</p>` : "";
  const scaleWords = times.length ? `<p class="rv-quiet">from ${clock(start)}, ${duration(span)} in all</p>` : details ? "" : '<p class="rv-quiet">times and values come as soon as the kernel is not busy</p>';
  return `<div class="rv-timeline" data-timeline="${escape(run.run)}">${more}<ol>${rows.join("") || '<li class="rv-quiet">nothing is recorded yet</li>'}</ol>${scaleWords}</div>`;
}
