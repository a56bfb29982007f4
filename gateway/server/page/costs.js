// What was quoted, is reserved and was settled: charts and the table behind them.

import { get } from "./api.js";
import { makeBars, makeStack } from "./charts.js";
import { make, makeField, makeSelect, makeTable } from "./dom.js";

const SPANS = { "1 day": "1d", "7 days": "7d", "30 days": "30d", "90 days": "90d" };

export async function showCosts({ place, signal }) {
  const span = makeSelect(Object.keys(SPANS), "30 days");
  const told = make("div", {});
  place.append(make("div", { class: "row" }, makeField("Since", span)), told);
  const look = async () => {
    const { lines } = await get(`v1/costs?since=${SPANS[span.value]}`, signal);
    told.replaceChildren(...makeParts(lines));
  };
  span.addEventListener("change", look);
  await look();
}

function makeParts(lines) {
  if (!lines.length) return [make("p", { class: "soft" }, "Nothing was submitted in this time.")];
  const spent = lines.flatMap((line) => line.settled.known.map((money) => ({ ...line, ...parseMoney(money) })));
  const parts = [...new Set(spent.map((one) => one.asset))].sort().flatMap((asset) => makeCharts(asset, spent.filter((one) => one.asset === asset)));
  if (!parts.length) parts.push(make("p", { class: "soft" }, "Nothing that is known was charged."));
  const unknown = lines.reduce((sum, line) => sum + line.settled.unknown, 0);
  if (unknown) parts.push(make("p", { class: "notice" }, `Of ${unknown} attempts nobody knows what they cost.`));
  parts.push(make("h2", {}, "All lines"), makeTable("By backend, model and day", [
    ["Day", (line) => line.day],
    ["Backend", (line) => line.backend],
    ["Model", (line) => line.model],
    ["Attempts", (line) => String(line.attempts), "number"],
    ["Under way", (line) => String(line.under_way || ""), "number"],
    ["Quoted", (line) => tellSum(line.quoted), "number"],
    ["Reserved", (line) => tellSum(line.reserved), "number"],
    ["Settled", (line) => tellSum(line.settled), "number"],
  ], lines));
  return parts;
}

function makeCharts(asset, spent) {
  return [
    make("h2", {}, `Settled, in ${asset}`),
    makeStack(`Settled by day and backend, in ${asset}`, sumUp(spent, ["day", "backend"])),
    make("h2", {}, "By backend"),
    makeBars(`Settled by backend, in ${asset}`, sumUp(spent, ["backend"])),
    make("h2", {}, "By model"),
    makeBars(`Settled by model, in ${asset}`, sumUp(spent, ["model"])),
  ];
}

// Sums are for the eye: the exact ones are the server's, in the table.
function sumUp(spent, names) {
  const sums = new Map();
  for (const one of spent) {
    const key = JSON.stringify(names.map((name) => one[name]));
    sums.set(key, (sums.get(key) ?? 0) + one.amount);
  }
  return [...sums].map(([key, amount]) => ({ words: JSON.parse(key), amount }));
}

function parseMoney(text) {
  const [amount, asset] = text.split(" ");
  return { amount: Number(amount), asset };
}

function tellSum(sum) {
  return [...sum.known, ...(sum.unknown ? [`${sum.unknown} unknown`] : [])].join(" + ");
}
