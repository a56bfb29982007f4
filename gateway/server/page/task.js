// The fields of a task, for the form and the plan explorer.

import { get } from "./api.js";
import { make, makeField, makeSelect } from "./dom.js";

export async function makeTaskFields(signal, query) {
  const [{ models }, { backends }] = await Promise.all([get("v1/models", signal), get("v1/backends", signal)]);
  const names = models.map((model) => model.name);
  const model = makeSelect(names, query.get("model") ?? names[0]);
  const about = make("p", { class: "soft" });
  const tellModel = () => { about.textContent = models.find((one) => one.name === model.value)?.description ?? ""; };
  model.addEventListener("change", tellModel);
  tellModel();
  const input = make("textarea", { spellcheck: "false", required: true });
  input.value = '{"text": "VADER is smart, handsome, and funny."}';
  const backend = makeSelect(["auto", "auto:cheapest", "auto:fastest", "auto:reliable", ...Object.keys(backends)], "auto");
  const maxCost = make("input", { placeholder: "0.01 USD" });
  const deadline = make("input", { placeholder: "2m" });
  const parts = [
    makeField("Model", model), about,
    makeField("Input", input, "JSON"),
    make("div", { class: "pair" },
      makeField("Backend", backend, "a rule, or one by its name"),
      makeField("Most it may cost", maxCost, "empty: no cap of its own"),
      makeField("Deadline", deadline, "empty: none")),
  ];
  const read = () => {
    const limits = {};
    if (maxCost.value.trim()) limits.max_cost = maxCost.value.trim();
    if (deadline.value.trim()) limits.deadline = deadline.value.trim();
    return { model: model.value, input: readJson(input.value), backend: backend.value, limits };
  };
  return { parts, read };
}

function readJson(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`The input is not JSON: ${error.message}`);
  }
}
