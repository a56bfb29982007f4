// Backends with their health, and the newest runs.

import { get } from "./api.js";
import { make, makeFacts, makeMark } from "./dom.js";
import { keepLooking, makeRunsTable } from "./runs.js";
import { tellSeconds, tellShare } from "./words.js";

export async function showOverview({ place, signal }) {
  const backends = make("div", { class: "cards" });
  const runs = make("div", {});
  place.append(make("h2", {}, "Backends"), backends, make("h2", {}, "Newest runs"), runs);
  await keepLooking(signal, 3000, async () => {
    const [told, listed] = await Promise.all([get("v1/backends", signal), get("v1/runs?limit=10", signal)]);
    backends.replaceChildren(...Object.entries(told.backends).map(([name, one]) => makeCard(name, one, told.health[name])));
    runs.replaceChildren(makeRunsTable("The ten newest runs", listed.runs));
  });
}

function makeCard(name, told, health) {
  const open = Object.entries(health.breakers).filter(([, state]) => state !== "closed");
  const facts = {
    version: told.version,
    breakers: open.length ? open.map(([operation, state]) => `${operation} ${state.replace("_", " ")}`).join(", ") : "closed",
    "runs there now": health.running || null,
    costs: told.free ? "free" : null,
    why: told.reason,
  };
  for (const [model, learnt] of Object.entries(health.models)) {
    if (learnt.p50_seconds === null) continue;
    const times = `${tellSeconds(learnt.p50_seconds)}, 95 % within ${tellSeconds(learnt.p95_seconds)}`;
    facts[model || "own targets"] = `${times}; ${tellShare(learnt.success_rate)} succeed`;
  }
  const mark = told.healthy ? makeMark("healthy", "good") : makeMark("down", "bad");
  return make("article", { class: "card", "aria-label": `Backend ${name}` }, make("h3", {}, name, mark), makeFacts(facts));
}
