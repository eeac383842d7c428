// The branches of a run: which there are, and on which line of a lane each is drawn. Pure.

/** Lines of one lane; further branches share the last one. */
export const MOST_LINES = 6;

/** Steps that earlier versions recorded in a branch of their own: to the reader they belong to the branch that waits for them. */
const INNER = new Set(["wake", "expiry"]);

const GATE = /^g[0-9a-f]{8}$/; // a gate is named by its name, not by a place

/**
 * The path of a record's branch: "" for `0/key`, "2.1" for `2.1.0/key`, "t1" for `t1.0/key`. What is no step comes to the run as a whole.
 * @param {{ id: string | null, op?: string }} record @returns {string}
 */
export function branchOf(record) {
  if (record.id === null) return "";
  const parts = record.id.split("/")[0].split(".");
  const gate = parts.findIndex((part) => GATE.test(part));
  if (gate >= 0) return parts.slice(0, gate).join(".");
  return parts.slice(0, INNER.has(record.op ?? "") ? -3 : -1).join(".");
}

/** How deep a branch lies: 0 for the workflow's own, one more for each branch or task around it. @param {string} path */
export function depthOf(path) {
  const parts = path ? path.split(".") : [];
  const tasks = parts.filter((part) => /^[tuc]/.test(part)).length;
  return tasks + Math.floor((parts.length - tasks) / 2);
}

/** What sorts a part of a path: ordinals as numbers, tasks behind the branches of operations, then handlers of updates, then those of callbacks. */
const rankOf = (part) => ("tuc".indexOf(part[0]) + 1) * 1e9 + Number(part.replace(/^[tuc]/, ""));

/** @param {string} one @param {string} other @returns {number} less than 0 if the branch `one` comes first */
export function inOrder(one, other) {
  const [first, second] = [one, other].map((path) => (path ? path.split(".").map(rankOf) : []));
  for (let at = 0; at < Math.min(first.length, second.length); at += 1) if (first[at] !== second[at]) return first[at] - second[at];
  return first.length - second.length;
}

/**
 * @param {any[]} records @param {string[]} more paths of branches that have no record yet
 * @returns {string[]} the paths of all these branches, the workflow's own ("") first
 */
export function branchesOf(records, more = []) {
  const found = new Set([...records.map(branchOf), ...more]);
  found.delete("");
  return ["", ...[...found].sort(inOrder)];
}

/**
 * The lines of a run's lanes: their names, and for each branch the number of its line.
 * @param {any[]} records @param {string[]} more as for `branchesOf`
 */
export function linesOf(records, more = []) {
  const branches = branchesOf(records, more);
  const by = new Map(branches.map((path, at) => [path, Math.min(at, MOST_LINES - 1)]));
  const over = branches.length - MOST_LINES;
  const names = branches.slice(0, MOST_LINES).map((path, at) => (over > 0 && at === MOST_LINES - 1 ? `+${over + 1}` : path));
  return { branches, by, names };
}
