// The kernel's end as a view learns of it: who is told what differs between front ends, so all that is offered is used.

const ENDED = new Set(["dead", "restarting", "autorestarting", "terminating"]);

/**
 * @param {any} model @param {HTMLElement} el @param {() => void} gone is called when the kernel is gone, perhaps more than once
 * @returns what to follow the model with, and `end`. None of it asks the kernel anything.
 */
export function kernelOf(model, el, gone) {
  const kernel = model.widget_manager?.kernel;
  const status = (_, now) => ENDED.has(now) && gone();
  const liveness = () => {
    // The model itself is out of reach; its front end marks the view of a model whose kernel is gone.
    setTimeout(() => el.closest(".jupyter-widgets-disconnected") && gone());
  };
  kernel?.statusChanged?.connect(status);
  kernel?.disposed?.connect(gone);
  const end = () => {
    kernel?.statusChanged?.disconnect(status);
    kernel?.disposed?.disconnect(gone);
  };
  return { liveness, end };
}
