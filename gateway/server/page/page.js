// The page: finds the view of the address, shows it, and asks for the API key where one is wanted.

import { getKey, Problem, setKey } from "./api.js";
import { make, makeNotice, say } from "./dom.js";
import { showCosts } from "./costs.js";
import { showNew } from "./new.js";
import { showOverview } from "./overview.js";
import { showPlan } from "./plan.js";
import { showRun } from "./run.js";
import { showRuns } from "./runs.js";

const VIEWS = [
  [/^\/$/, "Overview", showOverview],
  [/^\/runs$/, "Runs", showRuns],
  [/^\/runs\/([^/]+)$/, "Run", showRun],
  [/^\/new$/, "New run", showNew],
  [/^\/plan$/, "Plan", showPlan],
  [/^\/costs$/, "Costs", showCosts],
];

const main = document.getElementById("main");
const dialog = document.getElementById("key-dialog");
let leaving = new AbortController();

async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [path, query] = (location.hash.slice(1) || "/").split("?");
  const found = VIEWS.map(([pattern, title, view]) => [path.match(pattern), title, view]).find(([match]) => match);
  const [match, title, view] = found ?? [[], "Nothing here", showNothing];
  document.title = `${title} - Inference gateway`;
  markCurrent(path);
  const place = make("div", {});
  main.replaceChildren(make("h1", {}, title), place);
  try {
    await view({ place, signal, words: match.slice(1).map(decodeURIComponent), query: new URLSearchParams(query), title: setTitle });
  } catch (error) {
    tell(error, place, signal);
  }
}

function setTitle(title) {
  main.querySelector("h1").textContent = title;
  document.title = `${title} - Inference gateway`;
}

function tell(error, place, signal) {
  if (signal.aborted || error.name === "AbortError") return;
  if (error instanceof Problem && error.status === 401) askForKey();
  place.replaceChildren(makeNotice(error.message));
  if (!(error instanceof Problem)) throw error;
}

function showNothing({ place }) {
  place.append(makeNotice("There is nothing at this address."));
}

function markCurrent(path) {
  for (const link of document.querySelectorAll("#pages a")) {
    const to = link.getAttribute("href").slice(1);
    const here = to === path || (to !== "/" && path.startsWith(`${to}/`));
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function askForKey() {
  document.getElementById("key").value = getKey();
  if (!dialog.open) dialog.showModal();
}

dialog.addEventListener("close", () => {
  if (dialog.returnValue === "forget") setKey("");
  if (dialog.returnValue === "use") setKey(document.getElementById("key").value.trim());
  if (dialog.returnValue) show();
  dialog.returnValue = "";
});
document.getElementById("key-button").addEventListener("click", askForKey);
window.addEventListener("hashchange", () => {
  show();
  main.focus();
  say(document.title);
});
show();
