// The same as the picture, as tables: for screen readers, and for whoever likes to read. Pure.

import { countWords } from "./flights.mjs";
import { entryWords, standing } from "./logs.mjs";
import { laneWords } from "./runs.mjs";
import { counted, escape } from "./text.mjs";
import { waiting, wholeWords } from "./waits.mjs";
import { conditions, linkWords, roleOf, timerWords } from "./words.mjs";

function table(caption, head, rows) {
  const cells = (row) => row.map((one, place) => (place ? `<td>${escape(one)}</td>` : `<th scope="row">${escape(one)}</th>`)).join("");
  return (
    `<table><caption>${escape(caption)}</caption><thead><tr>${head.map((one) => `<th scope="col">${escape(one)}</th>`).join("")}</tr></thead>` +
    `<tbody>${rows.map((row) => `<tr>${cells(row)}</tr>`).join("")}</tbody></table>`
  );
}

/** Everything as tables; `now` is the time that countdowns are counted to (Unix seconds). */
export function tablesHtml(snapshot, now = snapshot.time) {
  const nodes = snapshot.nodes.map((node) => {
    const gone = node.role === "dead";
    return [`node ${node.node}`, roleOf(node, snapshot), node.term, gone ? "–" : node.epoch, gone ? "–" : node.commit, gone ? "–" : node.applied, node.length,
      [...conditions(node), timerWords(node)].filter(Boolean).join(", ") || "–"];
  });
  const links = snapshot.links.map((link) => [`${link.a}-${link.b}`, linkWords(link) || "well", link.up ? "connected" : "not connected", countWords(link.out), countWords(link.back)]);
  const logs = snapshot.nodes.flatMap((node) =>
    node.tail.slice(-5).map(([index, term]) => [`node ${node.node}`, index, term, node.role === "dead" ? "kept" : standing(node, index), entryWords(index, term, snapshot.entries[`${index}:${term}`])]));
  const runs = snapshot.runs.flatMap((run) => run.lanes.map((lane) => [run.run, `${run.workflow}, version ${run.version}`, run.status, `node ${lane.node}`, laneWords(lane, run, now), [run.failure, run.stuck && "nothing can wake it", run.owner && `owned by node ${run.owner}`, run.parent && `child of ${run.parent}`, run.waiting && `${counted(run.waiting, "message")} not received`].filter(Boolean).join("; ")]));
  const waits = snapshot.runs.flatMap((run) => waiting(run).map((wait) => [run.run, [wait.branch && `⇉${wait.branch}`, wait.name].filter(Boolean).join(" ") || "the workflow", wholeWords(wait, now)]));
  return (
    `<div class="rv-tables">${table("Nodes", ["node", "role", "term", "epoch", "commit", "applied", "log", "state"], nodes)}` +
    `${links.length ? table("Links", ["link", "state", "connection", "messages there", "messages back"], links) : ""}` +
    `${table("The last entries of each log", ["log", "index", "term", "state", "what"], logs)}` +
    `${runs.length ? table("Runs", ["run", "workflow", "status", "node", "execution", "more"], runs) : ""}` +
    `${waits.length ? table("What the branches of runs wait for", ["run", "branch", "waits for"], waits) : ""}</div>`
  );
}
