// What is chosen, what can be done to it, and what was done. Pure.

import { linkFaults, magic, nodeFaults, partitionLine, taskWords } from "./faults.mjs";
import { countWords } from "./flights.mjs";
import { counted, escape } from "./text.mjs";
import { conditions, isIll, linkWords, roleOf, timerWords } from "./words.mjs";

function button(fault, able) {
  const key = fault.key ? ` <kbd>${fault.key}</kbd>` : "";
  return (
    `<button type="button" data-do="${escape(fault.line)}" title="${escape(`${fault.title}: ${magic(fault.line)}`)}"` +
    `${able ? "" : " disabled"}>${escape(fault.label)}${key}</button>`
  );
}

const buttons = (faults, able) => `<span class="rv-buttons">${faults.map((fault) => button(fault, able)).join("")}</span>`;

function nodePanel(node, snapshot, able) {
  const role = roleOf(node, snapshot);
  const gone = role === "dead";
  const facts = [
    ["role", `${role}${node.acting ? ", acting" : ""}`],
    ["term", `${node.term}${node.voted ? `, voted for node ${node.voted}` : ""}`],
    ...(gone ? [] : [["epoch", node.epoch], ["log", `${node.length} long, ${node.commit} committed, ${node.applied} applied`]]),
    ...(gone ? [["journal", counted(node.length, "entry").replace("entrys", "entries")]] : []),
    ...(node.snapshot ? [["snapshot", `up to entry ${node.snapshot}`]] : []),
    ["effects", `${node.effects} run here, in start ${node.incarnation}`],
    ...(timerWords(node) ? [["leader", timerWords(node)]] : []),
    ...(conditions(node).length ? [["state", conditions(node).join(", ")]] : []),
    ...(node.storage ? [["disk", node.storage]] : []),
    ...(node.problem ? [["not followed", node.problem]] : []),
    ...(node.blocked ? [["blocked at", node.blocked]] : []),
  ];
  const peers = snapshot.nodes.filter((one) => one.node !== node.node).map((peer) => {
    const link = snapshot.links.find((one) => [one.a, one.b].includes(node.node) && [one.a, one.b].includes(peer.node));
    const state = link ? linkWords(link) : "";
    return `<li><span>to ${peer.node}${state ? `: <b>${escape(state)}</b>` : ""}</span>${buttons(linkFaults(snapshot, node.node, peer.node), able)}</li>`;
  });
  return (
    `<h4>node ${node.node}</h4><dl>${facts.map(([name, value]) => `<div><dt>${name}</dt><dd>${escape(value)}</dd></div>`).join("")}</dl>` +
    `${buttons(nodeFaults(node, snapshot), able)}${peers.length ? `<h5>links</h5><ul class="rv-peers">${peers.join("")}</ul>` : ""}`
  );
}

function linkPanel(link, snapshot, able) {
  return `<h4>link ${link.a}-${link.b}</h4><p>${escape(linkWords(link) || (link.up ? "well" : "no connection"))}</p>` +
    `<dl class="rv-counts"><div><dt>${link.a}→${link.b}</dt><dd>${escape(countWords(link.out))}</dd></div><div><dt>${link.b}→${link.a}</dt><dd>${escape(countWords(link.back))}</dd></div></dl>${buttons(linkFaults(snapshot, link.a, link.b), able)}`;
}

function wholePanel(snapshot, ui, able) {
  const dragged = ui.drag === null || ui.drag === undefined ? "" : `<p class="rv-drop">Drop node ${ui.drag} here: it goes to the other side.</p>`;
  const words = '<p class="rv-quiet">Choose a node or a link to see more of it, and to break it. <kbd>?</kbd> lists the keys.</p>';
  if (snapshot.nodes.length < 2 || snapshot.state !== "running") return words;
  const line = partitionLine(ui.side, snapshot);
  const boxes = snapshot.nodes.map((node) => `<label><input type="checkbox" data-side="${node.node}"${ui.side.includes(node.node) ? " checked" : ""}> ${node.node}</label>`);
  const part = `<button type="button" data-do="${escape(line ?? "")}"${line && able ? "" : " disabled"} title="${escape(line ? magic(line) : "choose the nodes of one side")}">Part from the others</button>`;
  const heal = snapshot.links.some(isIll) ? `<button type="button" data-do="heal" title="${magic("heal")}"${able ? "" : " disabled"}>Heal everything</button>` : "";
  return `${words}<fieldset data-tray="true" data-over="${Boolean(dragged)}"><legend>partition: one side</legend>${dragged}${boxes.join(" ")} ${part}<p class="rv-quiet">Or drag nodes here.</p></fieldset>${heal}`;
}

function tasksHtml(tasks) {
  if (!tasks.length) return "";
  const rows = tasks.toReversed().map(
    (task) =>
      `<li data-task="${task.state}"><code>${escape(magic(task.line))}</code><button type="button" class="rv-small" data-copy="${escape(magic(task.line))}" ` +
      `aria-label="copy ${escape(magic(task.line))}">copy</button><span>${escape(taskWords(task))}</span></li>`,
  );
  return `<ul class="rv-tasks" aria-label="what was asked for">${rows.join("")}</ul>`;
}

/** What is chosen, and the tasks; `able` if something can be done now. */
export function panelHtml(snapshot, ui, tasks, able) {
  const dragging = ui.drag !== null && ui.drag !== undefined; // then there is a place to drop it
  const node = dragging ? undefined : snapshot.nodes.find((one) => one.node === ui.node);
  const link = dragging ? undefined : snapshot.links.find((one) => `${one.a}-${one.b}` === ui.link);
  const about = node ? nodePanel(node, snapshot, able) : link ? linkPanel(link, snapshot, able) : wholePanel(snapshot, ui, able);
  const waits = ui.waits ? `<p class="rv-waiting">${ui.waits} the link to which node? Type its number.</p>` : "";
  const why = able || snapshot.state !== "running" ? "" : '<p class="rv-quiet">Nothing can be done to a picture of before.</p>';
  return `<aside class="rv-panel" aria-label="what is chosen">${about}${waits}${why}${tasksHtml(tasks)}</aside>`;
}
