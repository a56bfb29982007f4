// The plan explorer: where a task would go, and why not elsewhere. Nothing is submitted.

import { post } from "./api.js";
import { make, makeMark, makeNotice, makeTable } from "./dom.js";
import { makeTaskFields } from "./task.js";
import { tellSeconds, tellShare } from "./words.js";

export async function showPlan({ place, signal, query }) {
  const { parts, read } = await makeTaskFields(signal, query);
  const told = make("div", { "aria-live": "polite" });
  const form = make("form", { class: "sheet" }, parts, make("div", { class: "row" }, make("button", {}, "Plan")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      told.replaceChildren(...makePlan(await post("v1/plans", read())));
    } catch (error) {
      told.replaceChildren(makeNotice(error.message));
    }
  });
  place.append(form, told);
}

function makePlan(plan) {
  const ranked = plan.candidates.filter((one) => one.removed_by === null).sort((a, b) => a.rank - b.rank);
  const removed = plan.candidates.filter((one) => one.removed_by !== null);
  const made = [make("h2", {}, `Candidates, ${plan.sort} first`)];
  if (!ranked.length) made.push(makeNotice("No backend can run this task."));
  else made.push(makeTable("In the order in which they would be tried", [
    ["Rank", (one) => String(one.rank), "number"],
    ["Backend", (one) => one.backend],
    ["Quote", tellQuote, "number"],
    ["Reserved", (one) => one.parts?.reserve ?? "", "number"],
    ["Score", (one) => (one.score === null ? "" : one.score.toPrecision(3)), "number"],
    ["Succeeds", (one) => tellShare(one.parts?.p_success), "number"],
    ["In doubt", (one) => tellShare(one.parts?.p_doubt), "number"],
    ["Time", (one) => tellSeconds(one.parts?.p50_seconds), "number"],
  ], ranked));
  if (removed.length) made.push(make("h2", {}, "Removed"), makeTable("Each with the rule that removed it", [
    ["Backend", (one) => one.backend],
    ["Rule", (one) => makeMark(one.removed_by, "bad")],
    ["Why", (one) => one.reason ?? ""],
    ["Quote", tellQuote, "number"],
  ], removed));
  return made;
}

function tellQuote(one) {
  if (one.quote === null) return one.quote_error ?? "none";
  if (one.quote.confidence === "free") return "free";
  return one.quote.expected ?? one.quote.upper ?? "unknown";
}
