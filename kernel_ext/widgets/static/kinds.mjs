// How each kind of log entry, of record, and each status is marked. A new kind is added here, and is drawn everywhere; one that is
// not here is drawn too, with its own name. Every mark is a letter or sign beside its word: colour alone says nothing. Pure.

/** Log entries, by the tag of their (first) command in raftoral_nb/core/records.py. */
const ENTRIES = {
  takeover: { mark: "T", word: "takeover" },
  members: { mark: "M", word: "members" },
  register: { mark: "W", word: "workflow registered" },
  start: { mark: "R", word: "run starts" },
  checkpoint: { mark: "S", word: "step" },
  end: { mark: "E", word: "run ends" },
  move: { mark: "V", word: "another version" },
  signal: { mark: "G", word: "message" },
  cancel: { mark: "X", word: "cancel" },
  terminate: { mark: "X", word: "terminate" },
  delete: { mark: "X", word: "delete" },
  offer: { mark: "O", word: "node offers itself" },
  withdraw: { mark: "O", word: "node withdrawn" },
  assign: { mark: "O", word: "run gets another owner" },
  bind: { mark: "O", word: "step bound to a label" },
  retention: { mark: "K", word: "how many runs are kept" },
  value_limit: { mark: "K", word: "how large values may be" },
  pause: { mark: "P", word: "pause" },
  resume: { mark: "P", word: "resume" },
  child: { mark: "R", word: "child run starts" },
  tell: { mark: "S", word: "step that tells another run" },
  timers: { mark: "z", word: "timers fired" },
  taken: { mark: "G", word: "messages received so far" },
  state: { mark: "S", word: "a step saves its state" },
  cached: { mark: "S", word: "step, cached" },
  "clear-cache": { mark: "X", word: "cache cleared" },
  continue: { mark: "N", word: "begins anew" },
  empty: { mark: "·", word: "no command" },
  large: { mark: "L", word: "large" },
};

/** Records of a run: steps by their operation, and what comes to a run otherwise, as raftoral_nb/core/statistics.py calls it. */
const RECORDS = {
  compute: { mark: "ƒ", word: "effect" },
  intent: { mark: "!", word: "intent" },
  var: { mark: "=", word: "variable" },
  set: { mark: "=", word: "variable set" },
  update: { mark: "=", word: "variable updated" },
  patched: { mark: "?", word: "gate" },
  answer: { mark: "✉", word: "answer" },
  child: { mark: "⤷", word: "child run" },
  signal: { mark: "➤", word: "signal sent" },
  cancel: { mark: "⊘", word: "run asked to end" },
  "signal arrived": { mark: "✉", word: "signal" },
  "update arrived": { mark: "✉", word: "update" },
  "child ended": { mark: "⤷", word: "child run ended" },
  "timers fired": { mark: "z", word: "timers fired" },
  "cancel requested": { mark: "⊘", word: "request to cancel" },
  moved: { mark: "V", word: "moved" },
  // Of runs that an earlier version recorded, and that have ended:
  join: { mark: "⤷", word: "child run ended" },
  now: { mark: "◷", word: "time" },
  sleep: { mark: "z", word: "timer" },
  wake: { mark: "z", word: "timer ended" },
  deadline: { mark: "◷", word: "deadline" },
  expiry: { mark: "◷", word: "deadline passed" },
  race: { mark: "⇉", word: "race" },
  group: { mark: "⇉", word: "branches" },
  due: { mark: "◷", word: "due" },
  receive: { mark: "✉", word: "message received" },
};

/** What a branch waits for; of a step its operation says more. */
const WAITS = {
  step: { mark: "ƒ", word: "step" },
  signal: { mark: "✉", word: "signal" },
  update: { mark: "✉", word: "update" },
  child: { mark: "⤷", word: "child run" },
  time: { mark: "z", word: "time" },
  tasks: { mark: "⇉", word: "other branches" },
  other: { mark: "⋯", word: "another branch" },
};

/**
 * Messages between nodes, as raftoral_nb/transport/traffic.py calls them. Answers are square, what asks or tells is round; `rank` says
 * which are drawn first when there are more than can be drawn: the rarer ones.
 */
const MESSAGES = {
  "ask vote": { mark: "V", word: "asks for a vote", answer: false, rank: 0 },
  vote: { mark: "V", word: "vote", answer: true, rank: 0 },
  "ask pre-vote": { mark: "P", word: "asks for a pre-vote", answer: false, rank: 1 },
  "pre-vote": { mark: "P", word: "pre-vote", answer: true, rank: 1 },
  "hand over": { mark: "T", word: "hands leadership over", answer: false, rank: 0 },
  outdated: { mark: "!", word: "says: your term is over", answer: true, rank: 0 },
  snapshot: { mark: "S", word: "piece of a snapshot", answer: false, rank: 1 },
  "snapshot taken": { mark: "S", word: "piece taken", answer: true, rank: 2 },
  "offer blob": { mark: "B", word: "has the bytes of a large value", answer: false, rank: 2 },
  "blob stored": { mark: "B", word: "has stored a large value", answer: true, rank: 2 },
  "want blob": { mark: "b", word: "asks for a piece of a large value", answer: false, rank: 3 },
  blob: { mark: "b", word: "piece of a large value", answer: true, rank: 3 },
  refuse: { mark: "✗", word: "refuses a proposal", answer: true, rank: 1 },
  propose: { mark: "+", word: "proposal for the leader", answer: false, rank: 2 },
  append: { mark: "A", word: "appends entries", answer: false, rank: 3 },
  acknowledge: { mark: "✓", word: "acknowledges", answer: true, rank: 4 },
  heartbeat: { mark: "♥", word: "heartbeat", answer: false, rank: 5 },
};

const STATUSES = {
  running: { mark: "", word: "running" },
  completed: { mark: "✓", word: "completed" },
  failed: { mark: "✗", word: "failed" },
  diverged: { mark: "≠", word: "diverged" },
  unreadable: { mark: "?", word: "cannot read its code or a value" },
  paused: { mark: "‖", word: "paused" },
  cancelled: { mark: "⊘", word: "cancelled" },
  terminated: { mark: "■", word: "terminated" },
  continued: { mark: "↻", word: "begun anew" },
  held: { mark: "!", word: "held" },
  superseded: { mark: "–", word: "superseded" },
  none: { mark: "", word: "not running" },
};

/** @typedef {{ mark: string, word: string }} Kind */

/** @param {Record<string, Kind>} known @param {string} name @param {string} mark @returns {Kind} */
function found(known, name, mark) {
  return Object.hasOwn(known, name) ? known[name] : { mark, word: name };
}

/** @param {string} name */
export const entryKind = (name) => found(ENTRIES, name, name.slice(0, 1).toUpperCase() || "?");

/** @param {string} name @returns {Kind & { answer: boolean, rank: number }} */
export const messageKind = (name) => ({ answer: false, rank: 2, ...found(MESSAGES, name, name.slice(0, 1).toUpperCase() || "?") });

/** @param {string} name of a step's operation, or of another record */
export const recordKind = (name) => found(RECORDS, name, "◆");

/** @param {{ kind: string, op?: string }} wait */
export const waitKind = (wait) => (wait.kind === "step" && wait.op ? recordKind(wait.op) : found(WAITS, wait.kind, "⋯"));

/** @param {string} name */
export const statusKind = (name) => found(STATUSES, name, "•");
