// What was asked of the kernel: it is sent, waited for, and told when it is done.

import { taskWords, withTask } from "./faults.mjs";

const PATIENCE = 400; // milliseconds after which a kernel that has not answered is called busy

/**
 * The tasks of one display. Several displays share a model and hear each other's answers, so each names its tasks in its own way.
 * @param {{ send: (message: object) => void, say: (words: string) => void, changed: () => void }} page `changed` is told of every news
 */
export function taskList({ send, say, changed }) {
  /** @type {import("./faults.mjs").Task[]} */
  let tasks = [];
  let asked = 0;
  const mine = Math.random().toString(36).slice(2);
  const timers = new Set();
  const told = (news) => {
    const before = tasks.find((task) => task.id === news.id);
    tasks = withTask(tasks, news);
    const task = tasks.find((one) => one.id === news.id);
    if (task && task.state !== before?.state && task.state !== "taken") say(`${task.line}: ${taskWords(task)}`);
    changed();
  };
  const isAsked = (id) => tasks.some((task) => task.id === id && task.state === "asked");
  return {
    all: () => tasks,
    ask(line) {
      asked += 1;
      const id = `${mine}-${asked}`;
      told({ id, line, state: "asked" });
      send({ do: line, task: id });
      const timer = setTimeout(() => {
        timers.delete(timer);
        if (isAsked(id)) told({ id, state: "queued" });
      }, PATIENCE);
      timers.add(timer);
    },
    answered(message) {
      if (!message?.task || !tasks.some((task) => task.id === message.task)) return;
      told({ id: message.task, state: message.state, ...(message.words ? { words: message.words } : {}) });
    },
    end: () => timers.forEach(clearTimeout),
  };
}
