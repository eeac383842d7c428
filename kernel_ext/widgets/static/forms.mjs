// What can be asked of a run: the buttons and the form of one that is opened. Pure.

import { magic, runFaults, signalLine } from "./faults.mjs";
import { escape } from "./text.mjs";

/** @param {any} run @param {any} ui @param {boolean} able @returns {string} */
export function runFormHtml(run, ui, able) {
  const faults = runFaults(run);
  if (!faults.length) return "";
  const buttons = faults.map(
    (fault) =>
      `<button type="button" data-do="${escape(fault.line)}" title="${escape(`${fault.title}: ${magic(fault.line)}`)}"${able ? "" : " disabled"}>${fault.label}</button>`,
  );
  const { name = "", value = "" } = ui.typed?.[run.run] ?? {};
  const line = signalLine(run, name, value);
  const field = (what, text, words) =>
    `<input type="text" size="12" data-field="${what}" data-run="${escape(run.run)}" value="${escape(text)}" placeholder="${words}" aria-label="${words} of the signal for run ${escape(run.run)}" autocomplete="off" spellcheck="false">`;
  return (
    `<div class="rv-form" role="group" aria-label="what can be asked of run ${escape(run.run)}"><span class="rv-buttons">${buttons.join("")}</span>` +
    `<span class="rv-signal">${field("name", name, "name")}${field("value", value, "value")}` +
    `<button type="button" class="rv-send" data-do="${escape(line ?? "")}"${line && able ? "" : " disabled"} ` +
    `title="${escape(line ? magic(line) : "a signal needs a name; its value is written in Python, such as True")}">Signal</button></span></div>`
  );
}
