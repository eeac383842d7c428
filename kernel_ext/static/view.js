// The live view: a snapshot in, markup out. Everything above `render` is pure and tested without a browser.
// What a snapshot holds is said in kernel_ext/snapshot.py. No other file and no other host is needed.

const CARD = { most: 320, height: 140, gap: 14, least: 168 };
const ARC = 30; // room above a row of cards for the lines from the leader
const STEP = { least: 9, most: 18, gap: 2, height: 14 }, NARROW = 360; // a lane's blocks; below this width in pixels lanes are shortened

/** @param {unknown} value @returns {string} text that is safe in markup and in attributes */
export function escape(value) {
  return String(value).replace(/[&<>"']/g, (one) => `&#${one.charCodeAt(0)};`);
}

/** @returns {string} the text, cut in the middle so that both ends stay readable */
export function shorten(text, most) {
  const all = String(text);
  if (all.length <= most) return all;
  const tail = Math.floor((most - 1) / 3);
  return `${all.slice(0, most - 1 - tail)}…${all.slice(all.length - tail)}`;
}

export function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
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

/** The role as it is drawn: a leader that may not act (yet) is told apart, and nodes of a stopped cluster are not "dead". */
export function roleOf(node, snapshot) {
  if (snapshot.state === "stopped") return "stopped";
  return node.role;
}

/** One sentence for the whole picture. */
export function summary(snapshot) {
  if (snapshot.state === "stopped") return "The cluster has stopped.";
  const dead = snapshot.nodes.filter((node) => node.role === "dead").length;
  const leads = snapshot.leader === null ? "No node leads" : `Node ${snapshot.leader} leads`;
  return `${leads} in term ${snapshot.term}; ${counted(snapshot.nodes.length, "node")}${dead ? `, ${dead} dead` : ""}.`;
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
    if (!was) continue;
    if ((was.role === "dead") !== (node.role === "dead")) {
      said.push(node.role === "dead" ? `Node ${node.node} is dead.` : `Node ${node.node} runs again.`);
    }
    if (was.paused !== node.paused) said.push(`Node ${node.node} ${node.paused ? "is paused" : "goes on"}.`);
    if (was.held !== node.held) said.push(`Node ${node.node} ${node.held ? "is held" : "was released"}.`);
    const [cut, mended] = [node.links ?? [], was.links ?? []].map((links) => links.join(", "));
    if (cut !== mended) said.push(`Node ${node.node} is ${cut || "well connected again"}.`);
    if (!was.blocked && node.blocked) said.push(`A workflow blocks node ${node.node}.`);
  }
  const runs = new Map(before.runs.map((run) => [run.run, run]));
  for (const run of after.runs) {
    const was = runs.get(run.run);
    if (run.status !== "running" && was && was.status === "running") said.push(`Run ${run.run} ${run.status}.`);
  }
  return said;
}

/** Where the cards stand for this width in pixels: columns, their size, the height of it all. */
export function layout(count, width) {
  const columns = Math.max(1, Math.min(count, Math.floor((width + CARD.gap) / (CARD.least + CARD.gap))));
  const wide = Math.min(CARD.most, (width - CARD.gap * (columns - 1)) / columns);
  const rows = Math.ceil(count / columns);
  const top = rows === 1 && count > 1 ? ARC : 4; // wrapped cards get no lines: they would cross the cards
  const left = Math.max(0, (width - (columns * wide + CARD.gap * (columns - 1))) / 2);
  const places = Array.from({ length: count }, (_, index) => ({
    x: left + (index % columns) * (wide + CARD.gap),
    y: top + Math.floor(index / columns) * (CARD.height + CARD.gap),
  }));
  return { columns, rows, wide, top, places, height: top + rows * CARD.height + (rows - 1) * CARD.gap + 4 };
}

const CROWN = "M0 9 L0 2 L3.5 5 L6 0 L8.5 5 L12 2 L12 9 Z";

function badge(role, right, y) {
  const crowned = role === "leader" ? 17 : 0;
  const width = role.length * 6.9 + 16 + crowned;
  const crown = role === "leader" ? `<path class="rv-crown" d="${CROWN}" transform="translate(9 5.5)"/>` : "";
  return (
    `<g class="rv-badge" transform="translate(${right - width} ${y})"><rect width="${width}" height="20" rx="10"/>` +
    `${crown}<text x="${(width + crowned) / 2}" y="14" text-anchor="middle">${role}</text></g>`
  );
}

/** Words in boxes, in rows of at most `room` pixels. */
function chips(words, x, y, room) {
  let left = x;
  let top = y;
  return words
    .map((word) => {
      const width = word.length * 6.6 + 14;
      if (left > x && left + width > x + room) [left, top] = [x, top + 19];
      const chip =
        `<g class="rv-chip rv-${word.split(" ").pop()}" transform="translate(${left.toFixed(1)} ${top})">` +
        `<rect width="${width.toFixed(1)}" height="16" rx="4"/><text x="${(width / 2).toFixed(1)}" y="12" text-anchor="middle">${escape(word)}</text></g>`;
      left += width + 5;
      return chip;
    })
    .join("");
}

function fact(label, value, x, y) {
  return `<text x="${x}" y="${y}"><tspan class="rv-label">${label}</tspan><tspan class="rv-value" dx="5">${value}</tspan></text>`;
}

/** A bar of a node's log against the longest commit index: applied is filled, committed but not applied is hatched. */
function logBar(node, most, x, y, width) {
  const scale = most > 0 ? width / most : 0;
  const applied = Math.min(width, node.applied * scale);
  const commit = Math.min(width, Math.max(node.commit, node.applied) * scale);
  return (
    `<g class="rv-log" transform="translate(${x} ${y})"><rect class="rv-track" width="${width}" height="6" rx="3"/>` +
    `<rect class="rv-commit" width="${commit.toFixed(1)}" height="6" rx="3"/>` +
    `<rect class="rv-applied" width="${applied.toFixed(1)}" height="6" rx="3"/></g>`
  );
}

function card(node, snapshot, place, wide) {
  const role = roleOf(node, snapshot);
  const most = Math.max(1, ...snapshot.nodes.map((one) => Math.max(one.commit, one.applied)));
  const gone = role === "dead" || role === "stopped";
  const inner = wide - 28;
  const half = (wide / 2 + 4).toFixed(1);
  const told = conditions(node);
  const facts = gone
    ? (role === "dead" ? fact("journal kept, entries", node.length, 14, 80) : '<text class="rv-quiet" x="14" y="80">ended with the cluster</text>')
    : fact("commit", node.commit, 14, 80) +
      fact("applied", node.applied, half, 80) +
      logBar(node, most, 14, 88, inner) +
      chips(told, 14, 102, inner) +
      (told.length ? "" : `<text class="rv-quiet" x="14" y="116">${counted(node.effects, "effect")} run here</text>`);
  const where = node.blocked ? `<title>blocked at ${escape(node.blocked)}</title>` : "";
  return (
    `<g class="rv-node" data-node="${node.node}" data-role="${role}" data-term="${node.term}" data-epoch="${node.epoch}" ` +
    `data-commit="${node.commit}" data-applied="${node.applied}" data-paused="${node.paused}" data-held="${node.held}" ` +
    `data-blocked="${Boolean(node.blocked)}" data-acting="${node.acting}" transform="translate(${place.x.toFixed(1)} ${place.y})">${where}` +
    `<rect class="rv-card" width="${wide.toFixed(1)}" height="${CARD.height}" rx="10"/>` +
    `<text class="rv-name" x="14" y="27">node ${node.node}</text>${badge(role, wide - 12, 12)}` +
    `<g class="rv-term"><circle cx="19" cy="49" r="5" style="--rv-term: ${(node.term * 67 + 190) % 360}"/>` +
    `<text x="30" y="53">term ${node.term}</text></g>` +
    `${gone ? "" : fact("epoch", node.epoch, half, 53)}${facts}</g>`
  );
}

/** The lines from the leader to those it replicates to; dashed to a node that does not take part now. */
function arcs(snapshot, plan) {
  const from = snapshot.nodes.findIndex((node) => node.node === snapshot.leader);
  if (from < 0 || plan.rows > 1) return "";
  const middle = (index) => plan.places[index].x + plan.wide / 2;
  const away = (node) => node.paused || (node.links ?? []).includes("isolated");
  return snapshot.nodes
    .map((node, index) => {
      if (index === from || node.role === "dead") return "";
      const [start, end] = [middle(from), middle(index)];
      const rise = Math.min(plan.top - 4, 14 + 5 * Math.abs(index - from));
      return (
        `<path class="rv-arc${away(node) || away(snapshot.nodes[from]) ? " rv-off" : ""}" d="M${start} ${plan.top} C${start} ${plan.top - rise * 1.25}, ` +
        `${end} ${plan.top - rise * 1.25}, ${end} ${plan.top}"/>`
      );
    })
    .join("");
}

/** The nodes as SVG markup for this width in pixels. */
export function nodesSvg(snapshot, width) {
  const plan = layout(snapshot.nodes.length, width);
  const cards = snapshot.nodes.map((node, index) => card(node, snapshot, plan.places[index], plan.wide)).join("");
  return (
    `<svg class="rv-nodes" role="img" aria-label="${escape(summary(snapshot))}" width="${width}" height="${plan.height}" ` +
    `viewBox="0 0 ${width} ${plan.height}">${arcs(snapshot, plan)}${cards}</svg>`
  );
}

/**
 * A lane's track: one block per recorded step while they fit, else a bar; what waits in the queue is outlined.
 * The track ends where the records end: how many more steps will come is known to nobody.
 */
export function trackSvg(steps, consumed, queue, width) {
  const height = STEP.height;
  const each = Math.min(STEP.most, Math.max(STEP.least, Math.floor(width / Math.max(1, steps)) - STEP.gap)) + STEP.gap;
  const base = `<rect class="rv-track" width="${Math.min(width, Math.max(1, steps) * each + 1)}" height="${height}" rx="3"/>`;
  let inside;
  if (steps * each <= width) {
    const block = (index) =>
      `<rect class="${index < consumed ? "rv-done" : "rv-waits"}" x="${index * each + 1.5}" y="2.5" width="${each - STEP.gap - 1}" height="${height - 5}" rx="2"/>`;
    inside = Array.from({ length: Math.min(steps, consumed + queue) }, (_, index) => block(index)).join("");
  } else {
    const scale = (width - 3) / steps;
    const done = (consumed * scale).toFixed(1);
    inside =
      `<rect class="rv-done" x="1.5" y="2.5" width="${done}" height="${height - 5}" rx="2"/>` +
      (queue > 0
        ? `<rect class="rv-waits" x="${(1.5 + consumed * scale).toFixed(1)}" y="2.5" width="${(queue * scale).toFixed(1)}" height="${height - 5}" rx="2"/>`
        : "");
  }
  return `<svg class="rv-lane" aria-hidden="true" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">${base}${inside}</svg>`;
}

const MARK = { completed: "✓", failed: "✗", cancelled: "⊘", terminated: "■", continued: "", paused: "", running: "", diverged: "≠", superseded: "–", none: "" };

function laneRow(lane, run, snapshot, width) {
  const leads = lane.node === snapshot.leader;
  const gone = lane.status === "none";
  const state = gone ? "not running" : lane.status;
  const words = gone ? "no execution" : `${lane.step} of ${run.steps} steps consumed, ${lane.queue} in its catch-up queue, ${state}`;
  const ended = lane.status === "diverged" || lane.status === "superseded"; // then the queue says nothing any more
  return (
    `<div class="rv-row" role="listitem" data-run="${escape(run.run)}" data-node="${lane.node}" data-step="${lane.step}" ` +
    `data-queue="${lane.queue}" data-status="${lane.status}" aria-label="node ${lane.node}: ${words}" title="${escape(lane.last ?? words)}">` +
    `<span class="rv-who${leads ? " rv-leads" : ""}">node ${lane.node}${leads ? ' <b class="rv-star" title="leader">♛</b>' : ""}</span>` +
    `<span class="rv-count">${gone ? "–" : `${lane.step}/${run.steps}`}</span>` +
    `<span class="rv-queue rv-is-${lane.status}" data-empty="${ended || lane.queue === 0}">${gone ? "" : ended ? lane.status : `queue ${lane.queue}`}</span>` +
    `<span class="rv-mark rv-is-${lane.status}">${MARK[lane.status] ?? ""}</span>` +
    `${trackSvg(run.steps, lane.step, lane.queue, width)}</div>`
  );
}

/** The runs with a lane per node, as markup for this width in pixels. */
export function runsHtml(snapshot, width) {
  if (!snapshot.runs.length) return '<p class="rv-quiet">No runs yet: <code>%raftoral run NAME</code> starts one.</p>';
  const room = Math.max(30, width - (width < NARROW ? 190 : 264)); // a narrow lane leaves its count to the reader of blocks
  const shown = snapshot.runs.map((run) => {
    const failure = run.failure ? `<span class="rv-failure" title="${escape(run.failure)}">${escape(shorten(run.failure, 80))}</span>` : "";
    return (
      `<section class="rv-run" data-run="${escape(run.run)}" data-status="${run.status}" data-steps="${run.steps}">` +
      `<header><b title="${escape(run.run)}">${escape(shorten(run.run, 32))}</b>` +
      `<span class="rv-quiet">${escape(shorten(run.workflow, 32))}, version ${run.version}</span>` +
      `<span class="rv-status rv-is-${run.status}">${MARK[run.status] ?? "!"} ${run.status}</span>` +
      `<span class="rv-quiet">${counted(run.steps, "step")} recorded</span>${failure}</header>` +
      `<div role="list">${run.lanes.map((lane) => laneRow(lane, run, snapshot, room)).join("")}</div></section>`
    );
  });
  const omitted = Object.entries(snapshot.omitted ?? {}).filter(([, number]) => number > 0);
  const more = omitted.length
    ? `<p class="rv-quiet" data-omitted="true">Not drawn: ${omitted.map(([status, number]) => `${number} ${status}`).join(", ")}. All: <code>%raftoral runs</code></p>`
    : "";
  return shown.join("") + more;
}

/** What stands above the picture; `link` is "live", "stale" or "closed". */
export function headHtml(snapshot, link) {
  const state = link === "live" ? snapshot.state : link;
  const told = { running: "running", stopped: "stopped", stale: "kernel gone", closed: "closed" }[state];
  const leads = snapshot.leader === null ? "no leader" : `leader: node ${snapshot.leader}`;
  const facts = state === "stopped" ? [] : [leads, `term ${snapshot.term}`, `epoch ${snapshot.epoch}`];
  return (
    `<span class="rv-title">${escape(snapshot.name)}</span><span class="rv-state" data-state="${state}"><i></i>${told}</span>` +
    facts.map((fact) => `<span class="rv-fact">${fact}</span>`).join("")
  );
}

/** Says why the picture stands still, or nothing while it is live. */
export function bannerHtml(snapshot, link) {
  const words = {
    stale: "The kernel is gone or was restarted, and the cluster with it. This is the last picture it sent; run the cells again for a new one.",
    closed: "This view was closed. %raftoral watch opens a new one.",
    stopped: "The cluster has stopped. %raftoral start makes a new one.",
  }[link === "live" ? snapshot.state : link];
  return words ? `<p class="rv-banner" role="status">${escape(words)}</p>` : "";
}

/** The counters, in one line. */
export function footHtml(snapshot) {
  return Object.entries(snapshot.counters).map(([name, value]) => `<span>${escape(name)} <b>${value}</b></span>`).join("");
}

/** All the markup, for this width in pixels. */
export function viewHtml(snapshot, width, link) {
  return (
    `<header class="rv-head">${headHtml(snapshot, link)}</header>${bannerHtml(snapshot, link)}` +
    `<div class="rv-body">${nodesSvg(snapshot, width)}<div class="rv-runs" data-narrow="${width < NARROW}">${runsHtml(snapshot, width)}</div></div>` +
    `<footer class="rv-foot">${footHtml(snapshot)}</footer>`
  );
}

/** Makes `old` like `fresh`, keeping the elements that stay: transitions run, and a selection or a tooltip is not lost. */
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const [olds, freshes] = [[...old.childNodes], [...fresh.childNodes]];
  freshes.forEach((child, index) => (index < olds.length ? morph(olds[index], child) : old.append(child)));
  olds.slice(freshes.length).forEach((child) => child.remove());
}

const MOST_SAID = 8; // announcements kept for screen readers
const ENDED = new Set(["dead", "restarting", "autorestarting", "terminating"]);

/** Draws one model into one element and follows it; returns what ends that. */
function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "raftoral-view";
  root.tabIndex = 0;
  root.setAttribute("role", "region");
  root.setAttribute("aria-label", "Raft cluster, live view");
  const picture = document.createElement("div");
  const live = document.createElement("div");
  live.className = "rv-live";
  live.setAttribute("aria-live", "polite");
  root.append(picture, live);
  el.append(root);
  // Each announcement is added below the ones before: replaced at once by the next, it might never be read out.
  const say = (words) => {
    const said = document.createElement("p");
    said.textContent = words;
    live.append(said);
    while (live.childElementCount > MOST_SAID) live.firstElementChild.remove();
  };

  let last = null;
  let link = "live";
  let frame = 0;
  let width = 0;

  const paint = () => {
    frame = 0;
    const snapshot = model.get("snapshot");
    if (!snapshot || !snapshot.nodes) return;
    width = Math.max(200, Math.floor(root.clientWidth || 720) - 34);
    const fresh = document.createElement("div");
    fresh.innerHTML = viewHtml(snapshot, width, link);
    fresh.className = "rv-picture";
    morph(picture, fresh);
    Object.assign(root.dataset, {
      raftoral: "view",
      raftoralLeader: snapshot.leader ?? "",
      seq: snapshot.seq,
      term: snapshot.term,
      state: link === "live" ? snapshot.state : link,
    });
    if (last !== snapshot) {
      const words = changes(last, snapshot);
      if (words.length) say(words.join(" "));
      last = snapshot;
    }
  };
  const ask = () => {
    if (!frame) frame = requestAnimationFrame(paint);
  };
  const lose = (how) => () => {
    if (link === how) return;
    link = how;
    say(how === "stale" ? "The kernel is gone: the picture is stale." : "The view was closed.");
    ask();
  };
  const stale = lose("stale");
  const closed = lose("closed");
  const arrived = () => {
    link = "live"; // whoever sends a snapshot is not gone
    ask();
  };
  // Who is told what differs between front ends, so all that is offered is used; none of it asks the kernel anything.
  const kernel = model.widget_manager?.kernel;
  const status = (_, now) => ENDED.has(now) && stale();
  const liveness = () => {
    // The model itself is out of reach; its front end marks the view of a model whose kernel is gone.
    setTimeout(() => el.closest(".jupyter-widgets-disconnected") && stale());
  };
  model.on("change:snapshot", arrived);
  model.on("comm_live_update", liveness);
  model.on("comm:close", closed);
  kernel?.statusChanged?.connect(status);
  kernel?.disposed?.connect(stale);

  // Typed into the picture, a key must not become a command of the notebook.
  const keep = (event) => event.stopPropagation();
  root.addEventListener("keydown", keep);
  const sized = typeof ResizeObserver === "undefined" ? null : new ResizeObserver(() => {
    if (Math.abs(Math.floor(root.clientWidth) - 34 - width) > 1) ask();
  });
  sized?.observe(root);
  paint();

  return () => {
    cancelAnimationFrame(frame);
    sized?.disconnect();
    model.off("change:snapshot", arrived);
    model.off("comm_live_update", liveness);
    model.off("comm:close", closed);
    kernel?.statusChanged?.disconnect(status);
    kernel?.disposed?.disconnect(stale);
  };
}

export default { render };
