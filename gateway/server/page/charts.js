// Charts as SVG; each has its figures as text too.

import { draw, make } from "./dom.js";

const WIDTH = 720;
const SERIES = 5;

function tell(amount) {
  return amount === 0 ? "0" : String(Number(amount.toPrecision(4)));
}

// `sums`: [{words: [name], amount}].
export function makeBars(title, sums) {
  const sorted = sums.sort((a, b) => b.amount - a.amount);
  const most = Math.max(...sorted.map((one) => one.amount), Number.MIN_VALUE);
  const rows = sorted.map(({ words: [name], amount }, index) => {
    const y = index * 26;
    const width = (amount / most) * (WIDTH - 300);
    return [
      draw("text", { x: 190, y: y + 16, "text-anchor": "end" }, shorten(name, 28)),
      draw("rect", { x: 200, y: y + 5, width: Math.max(1, width), height: 15, rx: 2, class: "series-1" }),
      draw("text", { x: 206 + width, y: y + 16 }, tell(amount)),
    ];
  });
  const said = sorted.map(({ words: [name], amount }) => `${name} ${tell(amount)}`).join(", ");
  return draw("svg", { class: "chart", role: "img", "aria-label": `${title}: ${said}`, viewBox: `0 0 ${WIDTH} ${sorted.length * 26 + 4}` }, rows);
}

// `sums`: [{words: [day, series], amount}]; one column a day, stacked.
export function makeStack(title, sums) {
  const days = listDays(sums.map(({ words: [day] }) => day));
  const series = [...new Set(sums.map(({ words: [, name] }) => name))].sort();
  const get = (day, name) => sums.find(({ words }) => words[0] === day && words[1] === name)?.amount ?? 0;
  const totals = days.map((day) => series.reduce((sum, name) => sum + get(day, name), 0));
  const most = Math.max(...totals, Number.MIN_VALUE);
  const step = (WIDTH - 70) / days.length;
  const parts = [
    draw("line", { class: "axis", x1: 60, x2: WIDTH, y1: 180, y2: 180 }),
    draw("text", { x: 54, y: 16, "text-anchor": "end" }, tell(most)),
    draw("text", { x: 54, y: 184, "text-anchor": "end" }, "0"),
  ];
  days.forEach((day, index) => {
    let top = 180;
    const x = 64 + index * step;
    series.forEach((name, place) => {
      const height = (get(day, name) / most) * 168;
      if (height === 0) return;
      top -= height;
      const bar = draw("rect", { x, y: top, width: Math.min(60, Math.max(2, step * 0.8)), height, class: `series-${(place % SERIES) + 1}` });
      bar.append(draw("title", {}, `${day}, ${name}: ${tell(get(day, name))}`));
      parts.push(bar);
    });
    if (index % Math.ceil(days.length / 8) === 0) parts.push(draw("text", { x, y: 198 }, day.slice(5)));
  });
  const said = days.map((day, index) => `${day} ${tell(totals[index])}`).join(", ");
  const chart = draw("svg", { class: "chart", role: "img", "aria-label": `${title}: ${said}`, viewBox: `0 0 ${WIDTH} 204` }, parts);
  return make("figure", { class: "figure" }, chart, makeLegend(series));
}

function makeLegend(series) {
  const items = series.map((name, place) => make("li", {},
    draw("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, draw("rect", { width: 10, height: 10, rx: 2, class: `series-${(place % SERIES) + 1}` })), name));
  return make("ul", { class: "legend" }, items);
}

// Every day between the first and the last, so that a gap is seen.
function listDays(days) {
  const sorted = [...new Set(days)].sort();
  const all = [];
  for (let day = new Date(`${sorted[0]}T00:00:00Z`); ; day.setUTCDate(day.getUTCDate() + 1)) {
    const text = day.toISOString().slice(0, 10);
    all.push(text);
    if (text >= sorted.at(-1) || all.length > 400) return all;
  }
}

function shorten(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
