// Selected data points: their classes, their mean, and the direction from the mean of all to it.
"use strict";

const CLASSES_NAMED = 6;
let selection = [];

function showSelection(places) {
  selection = places;
  $("selection").hidden = !places.length;
  if (!places.length) return;
  const counts = new Map();
  for (const n of places) counts.set(latents.labels[n], (counts.get(latents.labels[n]) || 0) + 1);
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([own, count]) => `${className(own)} ${count}`);
  const rest = parts.length > CLASSES_NAMED ? `, and ${parts.length - CLASSES_NAMED} more classes` : "";
  const classes = counts.size > 1 || !counts.has(-1) ? `: ${parts.slice(0, CLASSES_NAMED).join(", ")}${rest}` : "";
  $("selection-text").textContent = `${places.length.toLocaleString("en")} of ${latents.count.toLocaleString("en")} points${classes}`;
  show($("selection-image"), decode(latents.meanOf(places)), 96);
}

function fillSelection() {
  $("lasso").disabled = $("select-view").disabled = !latents.count;
  $("lasso").addEventListener("click", () => {
    plane.isSelecting = !plane.isSelecting;
    $("lasso").setAttribute("aria-pressed", String(plane.isSelecting));
  });
  $("select-view").addEventListener("click", () => plane.select(plane.inside(plane.corners)));
  $("selection-clear").addEventListener("click", () => plane.select([]));
  $("selection-take").addEventListener("click", () => take(latents.meanOf(selection)));
  $("selection-direction").addEventListener("click", () => {
    const mean = latents.meanOf(selection), name = `selection of ${selection.length}`;
    addDirection({ name, vector: mean.map((value, i) => value - latents.mean[i]) });
  });
}
