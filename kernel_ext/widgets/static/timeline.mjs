// One run, step by step: when, by whom, how long, and what came of it. Pure.

import { stepKind } from "./kinds.mjs";
import { clock, counted, duration, escape, shorten } from "./text.mjs";

const MOST_STEPS = 60;

/** How deep in branches a step is: `0/key` is 0, `2.1.0/key` is 1. */
export function depth(id) {
  return Math.floor(id.split("/")[0].split(".").length / 2);
}

/** The steps that are known of a run: with details where these came, else as the snapshot has them. */
export function stepsOf(run, details) {
  const known = details ? details.steps.slice(0, Math.max(0, run.steps - details.first)) : []; // a picture of before knows fewer
  const from = known.length ? details.first : run.first;
  const steps = known.length >= run.tail.length ? known : run.tail;
  return { from: steps === known ? from : run.first, steps: steps.slice(-MOST_STEPS), left: (steps === known ? from : run.first) + Math.max(0, steps.length - MOST_STEPS) };
}

/** A run's timeline as markup. */
export function timelineHtml(run, details, snapshot, width, ui = {}) {
  const { steps, left } = stepsOf(run, details);
  const times = steps.flatMap((step) => [step.from, step.at]).filter((time) => typeof time === "number");
  const [start, end] = [Math.min(...times), Math.max(...times)];
  const span = Math.max(0.001, end - start);
  const attempts = new Map(run.tail.filter((step) => step.attempts).map((step) => [step.id, step.attempts]));
  const rows = steps.map((step) => {
    const kind = stepKind(step.op);
    const linked = ui.step && ui.step.run === run.run && ui.step.id === step.id;
    const began = step.from ?? step.at;
    const bar = typeof step.at === "number"
      ? `<i class="rv-bar"><i style="left: ${(((Math.min(began, step.at) - start) / span) * 100).toFixed(2)}%; width: ${(((Math.max(0, step.at - began)) / span) * 100).toFixed(2)}%"></i></i>`
      : '<i class="rv-bar"></i>';
    const took = typeof step.at === "number" && typeof step.from === "number" ? duration(Math.max(0, step.at - step.from)) : "";
    const tries = attempts.has(step.id) ? `, ${attempts.get(step.id)} attempts` : "";
    const words = `step ${step.id}, ${kind.word}, by node ${step.node}${took && `, ${took}`}${tries}${step.failed ? ", failed" : ""}${step.value ? `, ${step.value}` : ""}`;
    return (
      `<li><button type="button" class="rv-item" data-act="step" data-run="${escape(run.run)}" data-step="${escape(step.id)}" data-linked="${Boolean(linked)}" ` +
      `aria-label="${escape(words)}" title="${escape(words)}"><span class="rv-id" style="--rv-depth: ${depth(step.id)}"><b>${kind.mark}</b> ${escape(shorten(step.id, 26))}</span>` +
      `<span class="rv-by">node ${step.node}</span>${bar}<span class="rv-took">${tries ? `<b class="rv-again">×${attempts.get(step.id)}</b> ` : ""}${took}</span>` +
      `<span class="rv-value${step.failed ? " rv-failure" : ""}">${escape(shorten(step.value ?? "", 60))}</span></button></li>`
    );
  });
  const more = left > 0 ? `<p class="rv-quiet">${counted(left, "step")} before these</p>` : "";
  const scaleWords = times.length ? `<p class="rv-quiet">from ${clock(start)}, ${duration(span)} in all</p>` : details ? "" : '<p class="rv-quiet">times and values come as soon as the kernel is not busy</p>';
  return `<div class="rv-timeline" data-timeline="${escape(run.run)}">${more}<ol>${rows.join("") || '<li class="rv-quiet">no step is recorded yet</li>'}</ol>${scaleWords}</div>`;
}
