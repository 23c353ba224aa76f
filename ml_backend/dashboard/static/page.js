"use strict";
// The code table: search, filter, sort and page through any number of codes without a server.
// Only as many rows as one page shows are in the document; text enters as text, never as HTML.
const [CODE, TITLE, CHAPTER, STATE, CLEAN, QUOTA, PENDING, NEEDED, SUPPLY, MISSING,
  TO_GO, LOW, HIGH, SUGGESTED, ACCEPTED, ADDED] = Array(16).keys();
const PER_PAGE = 50, MOST_PRINTED = 1000;
const { states, rows } = JSON.parse(document.getElementById("rows").textContent);
const texts = rows.map(row => (row[CODE] + " " + row[TITLE]).toLowerCase());
const find = document.getElementById("find");
const chosen = { state: document.getElementById("state"), chapter: document.getElementById("chapter") };
const table = document.getElementById("codes"), body = table.tBodies[0];
const number = new Intl.NumberFormat("en"), decimal = new Intl.NumberFormat("en", {
  minimumFractionDigits: 1, maximumFractionDigits: 1 });

const share = (part, whole) => whole ? part / whole : null;
const kept = row => share(row[ACCEPTED], row[SUGGESTED]);
const corrected = row =>
  share(row[SUGGESTED] - row[ACCEPTED] + row[ADDED], row[SUGGESTED] + row[ADDED]);
const percent = value => value === null ? "–" : Math.round(100 * value) + "\u00a0%";
const stateWords = row => states[row[STATE]] === "unreachable"
  ? decimal.format(row[MISSING]) + " missing" : states[row[STATE]];
const columns = [
  { name: "Code", key: row => row[CODE] },
  { name: "Title", key: row => row[TITLE], kind: () => "words title" },
  { name: "State", key: row => row[STATE] * 1e6 - row[MISSING], words: stateWords,
    kind: row => row ? "words " + states[row[STATE]] : "words" },
  { name: "Clean", key: row => row[CLEAN] / row[QUOTA], bar: true,
    words: row => `${number.format(row[CLEAN])}/${row[QUOTA]}` },
  { name: "With coders", key: row => row[PENDING], words: row => decimal.format(row[PENDING]) },
  { name: "Needed", key: row => row[NEEDED], words: row => decimal.format(row[NEEDED]) },
  { name: "In pool", key: row => row[SUPPLY], words: row => decimal.format(row[SUPPLY]) },
  { name: "EMRs to go", key: row => row[TO_GO], words: row => row[HIGH]
    ? `${number.format(row[TO_GO])} (${number.format(row[LOW])}–${number.format(row[HIGH])})` : "–" },
  { name: "Kept", key: kept, words: row => percent(kept(row)) },
  { name: "Corrected", key: corrected, words: row => percent(corrected(row)) },
];

let order = null, rising = true, page = 0, matching = [];

function filter() {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  const { state, chapter } = chosen;
  matching = [];
  rows.forEach((row, n) => {
    if (state.value !== "" && row[STATE] !== Number(state.value)) return;
    if (chapter.value !== "" && row[CHAPTER] !== Number(chapter.value)) return;
    if (words.every(word => texts[n].includes(word))) matching.push(row);
  });
  if (order !== null) sort();
  page = 0;
  show();
}

function sort() {
  const key = columns[order].key;
  const keyed = matching.map((row, n) => [key(row), n, row]);
  keyed.sort(([a, i], [b, j]) => {
    if (a === null || b === null) return (a === null) - (b === null) || i - j;  // unknown last
    const apart = typeof a === "string" ? (a < b ? -1 : a > b ? 1 : 0) : a - b;
    return (rising ? apart : -apart) || i - j;
  });
  matching = keyed.map(item => item[2]);
}

function cell(row, { key, words = key, kind, bar }) {
  const made = document.createElement("td");
  made.textContent = words(row);
  if (kind) made.className = kind(row);
  if (bar) {
    const drawn = document.createElement("progress");
    drawn.max = row[QUOTA];
    drawn.value = Math.min(row[CLEAN], row[QUOTA]);
    made.append(drawn);
  }
  return made;
}

function show(first = page * PER_PAGE, count = PER_PAGE) {
  const lines = matching.slice(first, first + count).map(row => {
    const line = document.createElement("tr");
    line.tabIndex = -1;
    line.append(...columns.map(column => cell(row, column)));
    return line;
  });
  if (lines.length) lines[0].tabIndex = 0;
  body.replaceChildren(...lines);
  const pages = Math.max(Math.ceil(matching.length / PER_PAGE), 1);
  document.getElementById("shown").textContent =
    `${number.format(matching.length)} of ${number.format(rows.length)} codes`;
  document.getElementById("page").textContent = `${page + 1} of ${number.format(pages)}`;
  document.getElementById("previous").disabled = page === 0;
  document.getElementById("next").disabled = page === pages - 1;
}

function turn(by, focus) {
  const last = Math.max(Math.ceil(matching.length / PER_PAGE) - 1, 0);
  const wanted = Math.min(Math.max(page + by, 0), last);
  if (wanted === page) return;
  page = wanted;
  show();
  if (focus) body.rows[focus === "last" ? body.rows.length - 1 : 0].focus();
}

function sortBy(n) {
  rising = order === n ? !rising : n < 2;
  order = n;
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    if (i === n) head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  });
  filter();
}

function onTableKey(event) {
  const { key, target } = event;
  const head = target.closest("th"), line = target.closest("tbody tr");
  const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -1, PageDown: 1 }[key];
  if (head && (key === "ArrowLeft" || key === "ArrowRight")) {
    const beside = step < 0 ? head.previousElementSibling : head.nextElementSibling;
    if (beside) beside.firstChild.focus();
  } else if (head && key === "ArrowDown" && body.rows.length) body.rows[0].focus();
  else if (line && step) turn(step, "first");
  else if (line && key === "ArrowDown") {
    if (line.nextElementSibling) line.nextElementSibling.focus(); else turn(1, "first");
  } else if (line && key === "ArrowUp") {
    if (line.previousElementSibling) line.previousElementSibling.focus(); else turn(-1, "last");
  } else if (line && key === "Home") turn(-Infinity, "first");
  else if (line && key === "End") turn(Infinity, "last");
  else return;
  event.preventDefault();
}

columns.forEach(({ name, kind }, n) => {
  const head = document.createElement("th"), button = document.createElement("button");
  head.scope = "col";
  if (kind) head.className = kind(null);
  button.type = "button";
  button.textContent = name;
  button.addEventListener("click", () => sortBy(n));
  head.append(button);
  table.tHead.rows[0].append(head);
});
table.addEventListener("keydown", onTableKey);
find.addEventListener("input", filter);
find.addEventListener("keydown", event => {
  if (event.key === "Escape") { find.value = ""; filter(); }
  if (event.key === "ArrowDown" && body.rows.length) { event.preventDefault(); body.rows[0].focus(); }
});
document.querySelector(".controls").addEventListener("submit", event => event.preventDefault());
Object.values(chosen).forEach(select => select.addEventListener("change", filter));
document.getElementById("previous").addEventListener("click", () => turn(-1));
document.getElementById("next").addEventListener("click", () => turn(1));
document.querySelectorAll("[data-chapter]").forEach(button =>
  button.addEventListener("click", () => {
    chosen.chapter.value = button.dataset.chapter;
    filter();
    document.getElementById("all").scrollIntoView();
  }));
document.addEventListener("keydown", event => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  find.focus();
  find.select();
});
addEventListener("beforeprint", () => { if (matching.length <= MOST_PRINTED) show(0, MOST_PRINTED); });
addEventListener("afterprint", () => show());
filter();
