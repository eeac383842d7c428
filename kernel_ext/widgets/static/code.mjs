// The code of a run, with the line that each node is at. Pure.

import { escape } from "./text.mjs";

/** Nodes at one place, in one branch. @param {number[]} nodes @param {string} branch @param {any} snapshot */
function badge(nodes, branch, snapshot) {
  const path = branch.replace(/\.$/, "");
  const names = nodes.map((node) => `${node}${node === snapshot.leader ? "♛" : ""}`).join(" ");
  const words = `${nodes.length === 1 ? "node" : "nodes"} ${nodes.join(", ")}${path ? ` in branch ${path}` : ""}`;
  return `<b class="rv-node-at" title="${escape(words)}">${names}${path ? ` <i>⇉${escape(path)}</i>` : ""}</b>`;
}

/** The lines without the indentation that all of them have. @param {string[]} lines */
function outdented(lines) {
  const most = Math.min(...lines.filter((line) => line.trim()).map((line) => line.length - line.trimStart().length));
  return lines.map((line) => line.slice(most));
}

/**
 * The text of a workflow; `places` are where the nodes were when the kernel was asked last, `live` says that this is now.
 * @param {any} run @param {any} code @param {Record<string, any[]> | undefined} places @param {any} snapshot @param {boolean} live
 */
export function codeHtml(run, code, places, snapshot, live, more = {}) {
  if (!code || !code.file) return '<p class="rv-quiet">The code is known as soon as a node has begun to execute the run.</p>';
  const last = code.first + code.lines.length - 1;
  /** @type {Map<string, { place: any, nodes: number[] }>} */
  const met = new Map();
  for (const [number, all] of live ? Object.entries(places ?? {}) : []) {
    for (const place of all) {
      const name = `${place.branch} ${place.where}`;
      met.set(name, { place, nodes: [...(met.get(name)?.nodes ?? []), Number(number)] });
    }
  }
  const inside = ({ place }) => place.own && place.line >= code.first && place.line <= last;
  const all = [...met.values()];
  const elsewhere = all.filter((one) => !inside(one)).map(({ place, nodes }) => `<li>${badge(nodes, place.branch, snapshot)} in ${escape(place.where)}</li>`);
  for (const [number, count] of live ? Object.entries(more) : []) elsewhere.push(`<li>${badge([Number(number)], "", snapshot)} runs ${count} more branches</li>`);
  const rows = outdented(code.lines).map((text, at) => {
    const line = code.first + at;
    const here = all.filter((one) => inside(one) && one.place.line === line);
    const marks = here.map(({ place, nodes }) => badge(nodes, place.branch, snapshot));
    const nodes = [...new Set(here.flatMap((one) => one.nodes))].sort((a, b) => a - b);
    return `<li data-line="${line}" data-nodes="${nodes.join(" ")}" data-here="${marks.length > 0}"><span class="rv-line">${line}</span><span class="rv-at">${marks.join("")}</span><code>${escape(text) || " "}</code></li>`;
  });
  const left = code.left > 0 ? `<p class="rv-quiet">and ${code.left} more lines</p>` : "";
  const words = !rows.length ? escape(code.file) : live ? `${escape(code.file)} · the numbers are nodes, each at the line it waits in` : `${escape(code.file)} · where the nodes are is known only of now`;
  // The text is not there of what exec or %%time made, for one; where the nodes are is told all the same.
  const text = rows.length
    ? `<ol tabindex="0" aria-label="code of run ${escape(run.run)}">${rows.join("")}</ol>`
    : '<p class="rv-quiet">source not known</p>';
  return (
    `<div class="rv-code" data-code="${escape(run.run)}"><h5>code</h5>${text}` +
    `${elsewhere.length ? `<ul class="rv-elsewhere">${elsewhere.join("")}</ul>` : ""}${left}<p class="rv-quiet">${words}</p></div>`
  );
}
