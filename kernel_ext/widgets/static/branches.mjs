// The branches of a run: which there are, and on which line of a lane each is drawn. Pure.

/** Lines of one lane; further branches share the last one. */
export const MOST_LINES = 6;

/** Steps that stand in a branch of their own for the engine's sake: to the reader they belong to the branch that waits for them. */
const INNER = new Set(["wake", "expiry"]);

/** @param {{ id: string, op?: string }} step @returns {string} the path of its branch: "" for `0/key`, "2.1" for `2.1.0/key` */
export function branchOf(step) {
  return step.id.split("/")[0].split(".").slice(0, INNER.has(step.op ?? "") ? -3 : -1).join(".");
}

function inOrder(one, other) {
  const [first, second] = [one, other].map((path) => path.split(".").map(Number));
  for (let at = 0; at < Math.min(first.length, second.length); at += 1) if (first[at] !== second[at]) return first[at] - second[at];
  return first.length - second.length;
}

/** @param {any[]} steps @returns {string[]} the paths of the branches that these steps are of, the workflow's own ("") first */
export function branchesOf(steps) {
  const found = new Set(steps.map(branchOf));
  found.delete("");
  return ["", ...[...found].sort(inOrder)];
}

/**
 * The lines of a run's lanes: their names, and for each branch the number of its line.
 * @param {any[]} steps
 */
export function linesOf(steps) {
  const branches = branchesOf(steps);
  const by = new Map(branches.map((path, at) => [path, Math.min(at, MOST_LINES - 1)]));
  const over = branches.length - MOST_LINES;
  const names = branches.slice(0, MOST_LINES).map((path, at) => (over > 0 && at === MOST_LINES - 1 ? `+${over + 1}` : path));
  return { branches, by, names };
}
