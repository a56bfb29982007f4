// The list of runs, live.

import { get } from "./api.js";
import { make, makeField, makeSelect, makeTable, say } from "./dom.js";
import { getBackend, markStatus, tellCost, tellDuration, tellTime } from "./words.js";

// Calls `look` now and then, as long as the view is shown and the tab is seen.
export async function keepLooking(signal, every, look) {
  await look();
  const timer = setInterval(() => {
    if (signal.aborted) clearInterval(timer);
    else if (!document.hidden) look().catch((error) => signal.aborted || say(error.message));
  }, every);
  signal.addEventListener("abort", () => clearInterval(timer));
}

export function makeRunsTable(caption, runs) {
  if (!runs.length) return make("p", { class: "soft" }, "There are no runs.");
  return makeTable(caption, [
    ["Run", (run) => make("a", { href: `#/runs/${run.id}` }, run.id.slice(0, 16))],
    ["Model", (run) => run.task.model ?? "own target"],
    ["Status", markStatus],
    ["Backend", getBackend],
    ["Attempts", (run) => String(run.attempts.length), "number"],
    ["Time", tellDuration, "number"],
    ["Cost", tellCost, "number"],
    ["Begun", (run) => tellTime(run.created_at)],
  ], runs);
}

export async function showRuns({ place, signal }) {
  const phase = makeSelect(["all", "running", "success", "failed"], "all");
  const list = make("div", { "aria-busy": "true" });
  const older = make("button", { type: "button", class: "quiet", hidden: true }, "Older runs");
  place.append(make("div", { class: "row" }, makeField("Show", phase)), list, make("div", { class: "row" }, older));
  let pages = [""];

  async function look() {
    const query = new URLSearchParams({ limit: "50" });
    if (phase.value !== "all") query.set("phase", phase.value);
    const found = [];
    let next = null;
    for (const after of pages) {
      if (after) query.set("after", after);
      const page = await get(`v1/runs?${query}`, signal);
      found.push(...page.runs);
      next = page.next;
    }
    list.replaceChildren(makeRunsTable(`${found.length} runs, newest first`, found));
    list.setAttribute("aria-busy", "false");
    older.hidden = !next;
    older.onclick = () => {
      pages.push(next);
      look();
    };
  }

  phase.addEventListener("change", () => {
    pages = [""];
    look();
  });
  await keepLooking(signal, 2000, look);
}
