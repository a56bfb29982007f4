// How values are written for people.

import { makeMark } from "./dom.js";

const KINDS = { success: "good", failed: "bad", running: "busy" };

export function markStatus(run) {
  return makeMark(run.status.toLowerCase().replaceAll("_", " "), KINDS[run.phase]);
}

export function tellTime(text) {
  return text ? new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" }) : "";
}

export function tellSeconds(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 120 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds / 60)} min`;
}

export function tellShare(share) {
  return share === null || share === undefined ? "" : `${(share * 100).toFixed(share === 1 ? 0 : 1)} %`;
}

export function tellDuration(run) {
  const end = run.ended_at ? new Date(run.ended_at) : new Date();
  return tellSeconds((end - new Date(run.created_at)) / 1000);
}

export function tellCost(run) {
  const settled = run.attempts.map((attempt) => attempt.cost.settled).filter(Boolean);
  if (settled.length) return settled.join(" + ");
  const isFree = run.attempts.some((attempt) => ["submitted", "succeeded"].includes(attempt.status));
  return { not_charged: isFree ? "free" : "nothing", charged: "charged", unknown: run.phase === "running" ? "" : "unknown" }[run.cost_outcome];
}

export function getBackend(run) {
  return run.attempts.at(-1)?.backend ?? run.children_at.join(", ");
}
