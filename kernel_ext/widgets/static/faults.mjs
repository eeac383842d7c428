// What can be done to a cluster from the view, as lines that the magics understand too. Pure.

import { isIll } from "./words.mjs";

/** How slow "slow" makes a link. */
export const DELAY = "200ms";

/** @typedef {{ line: string, label: string, key?: string, title: string }} Fault */

/** @param {any} node @param {any} snapshot @returns {Fault[]} what makes sense for a node as it is now */
export function nodeFaults(node, snapshot) {
  const n = node.node;
  if (snapshot.state !== "running") return [];
  if (node.role === "dead") return [{ line: `restart ${n}`, label: "Restart", key: "k", title: "start it again from its journal" }];
  const ill = snapshot.links.some((link) => (link.a === n || link.b === n) && isIll(link));
  const faults = [
    { line: `kill ${n}`, label: "Kill", key: "k", title: "drop everything but its journal" },
    node.paused
      ? { line: `resume ${n}`, label: "Resume", key: "p", title: "let it continue" }
      : { line: `pause ${n}`, label: "Pause", key: "p", title: "freeze it, as a hung process" },
    node.held
      ? { line: `release ${n}`, label: "Release", key: "h", title: "let it execute workflows again" }
      : { line: `hold ${n}`, label: "Hold", key: "h", title: "stop its execution of workflows; its log continues" },
  ];
  if (snapshot.nodes.length > 1) {
    faults.push(
      ill
        ? { line: `heal ${n}`, label: "Heal links", key: "i", title: "make all its links well" }
        : { line: `isolate ${n}`, label: "Isolate", key: "i", title: "cut all its links" },
    );
    if (!node.acting && !node.paused) faults.push({ line: `transfer ${n}`, label: "Make leader", key: "t", title: "hand leadership to it" });
  }
  return faults;
}

/** @param {any} snapshot @param {number} from @param {number} to @returns {Fault[]} what makes sense for the link between two nodes, seen from one of them */
export function linkFaults(snapshot, from, to) {
  const link = snapshot.links.find((one) => (one.a === from && one.b === to) || (one.a === to && one.b === from));
  if (!link || snapshot.state !== "running") return [];
  const pair = `${from}-${to}`;
  if (isIll(link)) return [{ line: `heal ${pair}`, label: "Heal", title: "end cut and slowness" }];
  return [
    { line: `cut ${pair}`, label: "Cut", title: "nothing passes, either way" },
    { line: `cut ${pair} --one-way`, label: `Cut ${from}→${to}`, title: `what node ${from} says is lost` },
    { line: `slow ${pair} --delay ${DELAY}`, label: "Slow", title: `${DELAY} longer each way` },
  ];
}

/** @param {number[]} side nodes on one side @param {any} snapshot @returns {string | null} the line, or null if that parts nothing */
export function partitionLine(side, snapshot) {
  const other = snapshot.nodes.map((node) => node.node).filter((node) => !side.includes(node));
  const here = side.filter((node) => snapshot.nodes.some((one) => one.node === node));
  return here.length && other.length ? `partition ${here.join(" ")} / ${other.join(" ")}` : null;
}

/** @param {string} word @returns {string | null} the word as a magic takes it; null if it cannot be written there */
function quoted(word) {
  if (/^[^\s"'\\]+$/.test(word)) return word;
  if (!word.includes('"') && !word.includes("\\")) return `"${word}"`;
  return word.includes("'") ? null : `'${word}'`;
}

/** @param {any} run @returns {Fault[]} what can be asked of a run as it is now */
export function runFaults(run) {
  const name = quoted(run.run);
  if (name === null || !["running", "paused", "held"].includes(run.status)) return [];
  return [
    run.status === "paused"
      ? { line: `resume ${name}`, label: "Resume", title: "let new steps of it begin" }
      : { line: `pause ${name}`, label: "Pause", title: "let no new step of it begin" },
    { line: `cancel ${name}`, label: "Cancel", title: "ask it to end; it may clean up" },
    { line: `terminate ${name}`, label: "Terminate", title: "end it at once, without cleanup" },
  ];
}

/** @param {any} run @param {string} name @param {string} value written in Python @returns {string | null} the line, or null if that is no signal */
export function signalLine(run, name, value) {
  const title = quoted(name.trim());
  if (!name.trim() || title === null || /\s/.test(run.run)) return null;
  return `signal ${run.run} ${title} ${value.trim()}`.trim();
}

/** @param {string} line @returns {string} what does the same in a cell */
export const magic = (line) => `%raftoral ${line}`;

/** @typedef {{ id: string, line: string, state: "asked" | "queued" | "taken" | "done" | "failed", words: string }} Task */

/** Tasks shown: the last ones. */
const MAX_TASKS = 4;

/** @param {Task[]} tasks @param {Partial<Task> & { id: string }} news @returns {Task[]} with what is new of one task, which may be a new task */
export function withTask(tasks, news) {
  if (!tasks.some((task) => task.id === news.id)) {
    return [...tasks, { line: "", state: /** @type {const} */ ("asked"), words: "", ...news }].slice(-MAX_TASKS);
  }
  return tasks.map((task) => (task.id !== news.id || (news.state === "queued" && task.state !== "asked") ? task : { ...task, ...news }));
}

/** @param {Task} task @returns {string} how it stands, in words */
export function taskWords(task) {
  if (task.state === "asked") return "asked";
  if (task.state === "queued") return "kernel busy, queued";
  if (task.state === "taken") return "being done";
  return `${task.state === "failed" ? "not done: " : ""}${task.words}`;
}
