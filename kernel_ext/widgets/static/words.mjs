// What there is to say about a snapshot, in words. Pure.

import { statusKind } from "./kinds.mjs";
import { counted, duration } from "./text.mjs";

/** @param {any} link @returns {boolean} whether something was done to it */
export function isIll(link) {
  return link.cut !== null || link.slow !== null;
}

/** @param {any} link @returns {string} what is wrong with a link, "" if nothing is */
export function linkWords(link) {
  const cut = { both: "cut", out: `cut ${link.a}→${link.b}`, back: `cut ${link.b}→${link.a}` }[link.cut] ?? "";
  return [cut, link.slow === null ? "" : `slow ${duration(link.slow)}`].filter(Boolean).join(", ");
}

/** What keeps a node from working, as short words. */
export function conditions(node) {
  if (node.role === "dead") return [];
  const found = [...(node.links ?? [])];
  if (node.paused) found.push("paused");
  if (node.held) found.push("held");
  if (node.blocked) found.push("blocked");
  if (node.role === "leader" && !node.acting) found.push("not acting");
  if (node.behind > 0) found.push(`${node.behind} behind`);
  return found;
}

/** The role as it is drawn: nodes of a stopped cluster are not "dead". */
export function roleOf(node, snapshot) {
  return snapshot.state === "stopped" ? "stopped" : node.role;
}

/** How a node stands with its leader, in words. */
export function timerWords(node) {
  if (node.role === "dead" || node.paused || node.role === "leader") return "";
  if (node.timer !== null && node.timer !== undefined) return `hears no leader; asks for votes in ${duration(node.timer)}`;
  if (node.silence !== null && node.silence !== undefined) return `heard its leader ${duration(node.silence)} before this picture`;
  return "hears of no leader";
}

/** A node in one sentence, for those who do not see it. */
export function nodeWords(node, snapshot) {
  const told = [`node ${node.node}`, roleOf(node, snapshot), `term ${node.term}`];
  if (node.role !== "dead") told.push(`epoch ${node.epoch}`, `applied ${node.applied} of ${node.length} log entries`);
  return [...told, ...conditions(node)].join(", ");
}

/** One sentence for the whole picture. */
export function summary(snapshot) {
  if (snapshot.state === "stopped") return "The cluster has stopped.";
  const dead = snapshot.nodes.filter((node) => node.role === "dead").length;
  const leads = snapshot.leader === null ? "No node leads" : `Node ${snapshot.leader} leads`;
  return `${leads} in term ${snapshot.term}; ${counted(snapshot.nodes.length, "node")}${dead ? `, ${dead} dead` : ""}.`;
}

/** The entries that a node's log had in one snapshot and has no more in the next: it was cut at a conflict. */
export function truncated(before, after) {
  const now = new Map(after.tail);
  const from = after.tail.length ? after.tail[0][0] : after.length + 1;
  return (before.tail ?? []).filter(([index, term]) => index > after.snapshot && index >= from && now.get(index) !== term);
}

/** What a screen reader should hear between two snapshots: sentences, in order of weight. */
export function changes(before, after) {
  if (!before) return [summary(after)];
  if (before.state !== after.state && after.state === "stopped") return ["The cluster has stopped."];
  const said = [];
  if (before.leader !== after.leader) {
    said.push(after.leader === null ? "No node leads." : `Node ${after.leader} leads in term ${after.term}.`);
  }
  const old = new Map(before.nodes.map((node) => [node.node, node]));
  for (const node of after.nodes) {
    const was = old.get(node.node);
    if (!was) {
      said.push(`Node ${node.node} joined.`);
      continue;
    }
    if ((was.role === "dead") !== (node.role === "dead")) {
      said.push(node.role === "dead" ? `Node ${node.node} is dead.` : `Node ${node.node} runs again.`);
    }
    if (was.role !== "candidate" && node.role === "candidate") said.push(`Node ${node.node} asks for votes in term ${node.term}.`);
    if (was.paused !== node.paused) said.push(`Node ${node.node} ${node.paused ? "is paused" : "is resumed"}.`);
    if (was.held !== node.held) said.push(`Node ${node.node} ${node.held ? "is held" : "was released"}.`);
    const [cut, mended] = [node.links ?? [], was.links ?? []].map((links) => links.join(", "));
    if (cut !== mended) said.push(`Node ${node.node} is ${cut || "well connected again"}.`);
    if (!was.blocked && node.blocked) said.push(`A workflow blocks node ${node.node}.`);
    const lost = truncated(was, node).length;
    if (lost) said.push(`Node ${node.node} dropped ${counted(lost, "uncommitted entry").replace("entrys", "entries")}.`);
  }
  for (const was of before.nodes) {
    if (!after.nodes.some((node) => node.node === was.node)) said.push(`Node ${was.node} was removed.`);
  }
  const runs = new Map(before.runs.map((run) => [run.run, run]));
  for (const run of after.runs) {
    const was = runs.get(run.run);
    if (run.status !== "running" && was && was.status === "running") said.push(`Run ${run.run} ${run.status}.`);
    if (run.stuck && was && !was.stuck) said.push(`Nothing can wake run ${run.run}.`);
    const lanes = new Map((was?.lanes ?? []).map((lane) => [lane.node, lane.status]));
    for (const lane of run.lanes) {
      const stuck = lane.status === "diverged" || lane.status === "unreadable";
      if (stuck && was && lanes.get(lane.node) !== lane.status) {
        said.push(`Node ${lane.node} ${statusKind(lane.status).word} in run ${run.run}.`);
      }
    }
  }
  return said;
}
