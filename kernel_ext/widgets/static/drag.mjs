// A node that is dragged to the other side of a partition, with a pointer.

const GRIP = 6; // pixels that a pointer moves before that is dragging

/**
 * @param {{ root: HTMLElement, able: () => boolean, act: (action: object) => void }} view `able` says whether anything can be done now
 * @returns what the view listens with, and `busy`: true until the click has passed that follows the end of dragging
 */
export function dragging({ root, able, act }) {
  let grip = null; // where a pointer went down on a node
  let ghost = null; // what follows it
  const page = root.ownerDocument;
  const gripped = (event) => {
    const on = event.target.closest(".rv-node");
    grip = on && event.button === 0 && able() ? { node: Number(on.dataset.node), x: event.clientX, y: event.clientY } : null;
  };
  const begin = (event) => {
    root.setPointerCapture(event.pointerId);
    ghost = page.createElement("div");
    ghost.className = "rv-ghost";
    ghost.textContent = String(grip.node);
    root.append(ghost);
    act({ act: "drag", node: grip.node });
  };
  const dragged = (event) => {
    if (!grip) return;
    if (!ghost) {
      if (Math.hypot(event.clientX - grip.x, event.clientY - grip.y) < GRIP) return;
      begin(event);
    }
    const box = root.getBoundingClientRect();
    ghost.style.transform = `translate(${event.clientX - box.left}px, ${event.clientY - box.top}px)`;
  };
  const onTray = (event) => page.elementsFromPoint(event.clientX, event.clientY).some((one) => one.closest("[data-tray]") && root.contains(one));
  const released = (event) => {
    const held = grip;
    grip = null;
    if (!ghost || !held) return;
    ghost.remove();
    act(dropAction(held.node, event.type === "pointerup" && onTray(event)));
    setTimeout(() => { ghost = null; }); // a click follows, which is none
  };
  const undragged = (event) => {
    if (grip) event.preventDefault(); // the browser would drag a selected text, and cancel ours
  };
  return {
    busy: () => ghost !== null,
    listeners: { dragstart: undragged, pointerdown: gripped, pointermove: dragged, pointerup: released, pointercancel: released },
  };
}

/** @param {number} node @param {boolean} dropped on the other side @returns what the end of dragging does. Pure. */
export function dropAction(node, dropped) {
  return dropped ? { act: "drop", node, say: `Node ${node} is on the other side.` } : { act: "drag", node: null, say: `Node ${node} stays where it was.` };
}
