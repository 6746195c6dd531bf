// What every page holds besides its runs: style and script.
#pragma once

namespace cepe {

constexpr const char* kPageStyle = R"css(
body { font: 15px/1.45 sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; color: #1a1a1a; background: #fff; }
h1, h2, h3 { line-height: 1.2; }
section { border-top: 1px solid #ccc; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; }
th, td { border-bottom: 1px solid #ddd; padding: .2rem .7rem; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; min-width: 3rem; max-width: 30rem; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th button { all: unset; cursor: pointer; font-weight: bold; }
th button:focus-visible { outline: 2px solid #0072B2; }
th[aria-sort=ascending] button::after { content: " \25B2"; }
th[aria-sort=descending] button::after { content: " \25BC"; }
svg, img { display: block; max-width: 100%; height: auto; margin: .5rem 0; }
.path { color: #666; font-family: monospace; overflow-wrap: anywhere; }
summary { cursor: pointer; font-weight: bold; margin: .5rem 0; }
pre { background: #f5f5f5; margin: .2rem 0; padding: .4rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.example { border-left: 4px solid #E69F00; margin: .8rem 0; padding-left: .8rem; }
.example.right { border-color: #009E73; }
.example.wrong { border-color: #D55E00; }
.example h4 { margin: 0; overflow-wrap: anywhere; }
.example h5, .example p { margin: .2rem 0; }
.example p { color: #555; overflow-wrap: anywhere; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
.filter button.chosen { font-weight: bold; background: #cfe3f2; }
.example.hidden { display: none; }
)css";

// Sorting tables and filtering examples; without it the page shows everything in the order of the files.
constexpr const char* kPageScript = R"js(
"use strict";
function sortBy(heading) {
  const column = heading.cellIndex, body = heading.closest("table").tBodies[0];
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const compare = (a, b) => {
    const x = a.cells[column], y = b.cells[column];
    if (x.dataset.value !== undefined && y.dataset.value !== undefined) return x.dataset.value - y.dataset.value;
    return x.textContent.localeCompare(y.textContent, undefined, {numeric: true});
  };
  const rows = Array.from(body.rows);
  rows.sort((a, b) => descending ? compare(b, a) : compare(a, b));
  body.append(...rows);
}
function filter(examples) {
  const show = examples.dataset.show, words = examples.querySelector("input").value.toLowerCase();
  for (const example of examples.querySelectorAll(".example")) {
    const shown = show === "all" || example.classList.contains(show);
    example.classList.toggle("hidden", !shown || !example.textContent.toLowerCase().includes(words));
  }
  for (const button of examples.querySelectorAll(".filter button")) {
    button.classList.toggle("chosen", button.dataset.show === show);
    button.setAttribute("aria-pressed", button.dataset.show === show);
  }
}
document.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (button === null) return;
  const heading = button.closest("th");
  if (heading !== null) return sortBy(heading);
  const examples = button.closest(".examples");
  examples.dataset.show = button.dataset.show;
  filter(examples);
});
document.addEventListener("input", event => {
  const examples = event.target.closest(".examples");
  if (examples !== null) filter(examples);
});
document.querySelectorAll(".examples").forEach(filter);
)js";

}  // namespace cepe
