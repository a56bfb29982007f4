// Making elements. Text only ever becomes text: nothing here reads HTML.

const SVG = "http://www.w3.org/2000/svg";

export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

// `columns`: [title, cell of a row, class]; a cell is a text or an element.
export function makeTable(caption, columns, rows) {
  const head = columns.map(([title, , kind]) => make("th", { scope: "col", class: kind }, title));
  const body = rows.map((row) => make("tr", {}, columns.map(([, cell, kind]) => make("td", { class: kind }, cell(row)))));
  const table = make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, head)), make("tbody", {}, body));
  return make("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" }, table);
}

export function makeFacts(facts) {
  const shown = Object.entries(facts).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return make("dl", { class: "facts" }, shown.map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

export function makeJson(value) {
  return make("pre", { tabindex: "0" }, typeof value === "string" ? value : JSON.stringify(value, null, 2));
}

export function makeNotice(text, kind = "") {
  return make("p", { class: `notice ${kind}`, role: kind ? null : "alert" }, text);
}

export function makeMark(word, kind) {
  const sign = { good: "✓", bad: "✕", busy: "…" }[kind] ?? "";
  return make("span", { class: `mark ${kind}` }, `${sign} ${word}`.trim());
}

let lastId = 0;

export function makeField(label, control, hint = null) {
  control.id ||= `field-${(lastId += 1)}`;
  return make("div", {}, make("label", { for: control.id }, label, hint && make("span", { class: "hint" }, hint)), control);
}

export function makeSelect(options, chosen) {
  return make("select", {}, options.map((option) => make("option", { value: option, selected: option === chosen }, option)));
}

export function say(text) {
  document.getElementById("news").textContent = text;
}
