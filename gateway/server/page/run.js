// One run in full, live until its end.

import { follow, get, post } from "./api.js";
import { draw, make, makeFacts, makeJson, makeNotice, makeTable, say } from "./dom.js";
import { markStatus, tellCost, tellDuration, tellSeconds, tellTime } from "./words.js";

export async function showRun({ place, signal, words: [id], title }) {
  title(`Run ${id}`);
  const seen = make("div", {});
  const pieces = make("pre", { tabindex: "0", hidden: true, "aria-label": "Output as it comes" });
  const box = make("div", {}, seen, pieces);
  place.append(box);
  const decoder = new TextDecoder();
  let asking = null;

  async function look() {
    const run = await get(`v1/runs/${encodeURIComponent(id)}`, signal);
    seen.replaceChildren(...makeParts(run, look));
    return run;
  }

  const run = await look();
  if (run.phase !== "running") return;
  follow(id, (event) => {
    if (event.kind === "piece") {
      pieces.hidden = false;
      pieces.append(tellPiece(event.data, decoder));
      return;
    }
    asking ??= setTimeout(() => {
      asking = null;
      look().then((now) => now.phase !== "running" && say(`The run has ended: ${now.status.toLowerCase()}`), () => null);
    }, 150);
  }, signal).catch((error) => place.append(makeNotice(error.message)));
}

// Bytes may be cut in the middle of a character: the decoder keeps what the next piece completes.
function tellPiece(event, decoder) {
  if (event.data) return decoder.decode(Uint8Array.from(atob(event.data), (c) => c.charCodeAt(0)), { stream: true });
  const piece = event.piece;
  if (typeof piece === "string") return piece;
  const texts = Object.values(piece ?? {}).filter((value) => typeof value === "string");
  return texts.length ? texts.join("") : JSON.stringify(piece);
}

function makeParts(run, look) {
  const parts = [
    makeFacts({
      status: markStatus(run),
      model: run.task.model,
      backend: [run.backend].flat().join(", "),
      begun: tellTime(run.created_at),
      time: tellDuration(run),
      cost: tellCost(run),
      key: run.api_key,
      labels: Object.entries(run.task.labels).map(([name, text]) => `${name}: ${text}`).join(", "),
    }),
  ];
  if (run.failure) parts.push(makeNotice(`${run.failure.kind}: ${run.failure.message}`));
  if (run.phase === "running") parts.push(makeCancel(run, look));
  parts.push(...makeAnswers(run, look), make("h2", {}, "Timeline"), makeTimeline(run));
  if (run.attempts.length) parts.push(make("h2", {}, "Attempts"), makeAttempts(run));
  if (run.children.length) parts.push(make("h2", {}, "Runs that do its task"), makeChildren(run));
  if (run.output !== null) parts.push(make("h2", {}, "Output"), makeJson(run.output));
  parts.push(make("h2", {}, "Input"), makeJson(run.task.input));
  parts.push(make("h2", {}, "Whole run"), make("details", {}, make("summary", {}, "As the API tells it"), makeJson(run)));
  return parts;
}

function makeCancel(run, look) {
  const button = make("button", { type: "button", class: "quiet", disabled: Boolean(run.cancel_requested_at) }, "Cancel the run");
  button.addEventListener("click", async () => {
    button.disabled = true;
    await act(() => post(`v1/runs/${run.id}/cancel`), "The cancel was asked for", look);
  });
  return make("div", { class: "row" }, button);
}

async function act(does, told, look) {
  try {
    await does();
    say(told);
  } catch (error) {
    say(error.message);
  }
  await look();
}

function makeAnswers(run, look) {
  const answers = run.phase === "running" ? run.attempts.at(-1)?.snapshot?.answers ?? [] : [];
  if (!answers.length) return [];
  const accept = (answer) => act(() => post(`v1/runs/${run.id}/accept`, { answer_id: answer.id }), "The answer is being accepted", look);
  const table = makeTable("Answers that want accepting", [
    ["Answer", (answer) => answer.id],
    ["Says", (answer) => JSON.stringify(answer.output)],
    ["Price", (answer) => answer.price ?? "", "number"],
    ["", (answer) => make("button", { type: "button", disabled: !answer.valid, onclick: () => accept(answer) }, "Accept")],
  ], answers);
  return [make("h2", {}, "Answers"), table];
}

function makeTimeline(run) {
  const begun = new Date(run.created_at);
  const steps = run.passed.map(({ status, at }, index) => {
    const next = run.passed[index + 1]?.at ?? run.ended_at;
    const from = (new Date(at) - begun) / 1000;
    const to = next ? (new Date(next) - begun) / 1000 : (new Date() - begun) / 1000;
    return { status: status.toLowerCase().replaceAll("_", " "), from, to: Math.max(to, from) };
  });
  const all = Math.max(...steps.map((step) => step.to), 0.001);
  const bar = (step) => draw("svg", { class: "chart", viewBox: "0 0 300 12", "aria-hidden": "true", preserveAspectRatio: "none" },
    draw("rect", { x: (step.from / all) * 300, y: 2, width: Math.max(2, ((step.to - step.from) / all) * 300), height: 8, rx: 2, class: "series-1" }));
  return makeTable("What it went through", [
    ["Status", (step) => step.status],
    ["After", (step) => tellSeconds(step.from), "number"],
    ["For", (step) => tellSeconds(step.to - step.from), "number"],
    ["", bar],
  ], steps);
}

function makeAttempts(run) {
  return makeTable("Every try at a backend", [
    ["No.", (attempt) => String(attempt.number), "number"],
    ["Backend", (attempt) => attempt.backend],
    ["Status", (attempt) => attempt.status.replaceAll("_", " ") + (attempt.doubted ? " (was in doubt)" : "")],
    ["Job", (attempt) => attempt.handle?.job_id ?? ""],
    ["Quoted", (attempt) => attempt.cost.quoted ?? "", "number"],
    ["Reserved", (attempt) => attempt.cost.reserved ?? "", "number"],
    ["Settled", (attempt) => attempt.cost.settled ?? attempt.cost.outcome.replaceAll("_", " "), "number"],
    ["Why it ended", (attempt) => attempt.failure?.message ?? ""],
  ], run.attempts);
}

function makeChildren(run) {
  const rows = run.children.map((child, index) => ({ child, backend: run.children_at[index] }));
  return makeTable("Copies of the task", [
    ["Run", (row) => make("a", { href: `#/runs/${row.child}` }, row.child)],
    ["Backend", (row) => row.backend],
  ], rows);
}
