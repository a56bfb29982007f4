// A form to run a task.

import { post } from "./api.js";
import { make, makeNotice } from "./dom.js";
import { makeTaskFields } from "./task.js";

export async function showNew({ place, signal, query }) {
  const { parts, read } = await makeTaskFields(signal, query);
  const stream = make("input", { type: "checkbox", id: "stream" });
  const button = make("button", {}, "Run");
  const told = make("div", { "aria-live": "assertive" });
  const form = make("form", { class: "sheet" }, parts,
    make("div", {}, make("label", { for: "stream" }, stream, "Show the output as it comes")),
    make("div", { class: "row" }, button), told);
  let key = crypto.randomUUID?.() ?? String(Math.random());
  form.addEventListener("input", () => { key = crypto.randomUUID?.() ?? String(Math.random()); });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      const run = await post("v1/runs", { ...read(), stream: stream.checked }, { "idempotency-key": key });
      location.hash = `#/runs/${run.id}`;
    } catch (error) {
      told.replaceChildren(makeNotice(error.message), ...makeReasons(error.body?.reasons));
    } finally {
      button.disabled = false;
    }
  });
  place.append(form);
}

function makeReasons(reasons = []) {
  return [make("ul", {}, reasons.map((one) => make("li", {}, `${one.backend}: ${one.reason} (${one.rule})`)))];
}
