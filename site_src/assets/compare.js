// The picker of /compare/: any two frameworks over all models, from data/compare.json; the choice stands in the URL (?a=…&b=…).

const form = document.getElementById("pick");
const target = document.getElementById("picked");

// An element with text and children; text never becomes HTML.
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
const round = (value) => (value === null ? "–" : value.toFixed(3));

// The stored pair, turned so that `a` is the first.
const turn = (row, a) => {
  if (row.a === a) return row;
  const other = { faster: "slower", slower: "faster" };
  const inverse = (value) => (value === null ? null : 1 / value);
  return { ...row, ratio: inverse(row.ratio), ratio_lo: inverse(row.ratio_hi), ratio_hi: inverse(row.ratio_lo), verdict: other[row.verdict] ?? row.verdict };
};

// A small interval on a log2 axis from 1/8 to 8, with a line at 1.
const strip = (row) => {
  const width = 180;
  const at = (value) => width * Math.min(1, Math.max(0, (Math.log2(value) + 3) / 6));
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} 14`);
  svg.setAttribute("width", width);
  svg.setAttribute("height", 14);
  svg.setAttribute("aria-hidden", "true");
  const line = (x1, x2, y1, y2, colour, thick) => {
    const element = document.createElementNS(space, "line");
    for (const [name, value] of Object.entries({ x1, x2, y1, y2, stroke: colour, "stroke-width": thick })) element.setAttribute(name, value);
    svg.append(element);
  };
  line(at(1), at(1), 0, 14, "var(--chart-muted)", 1);
  if (row.ratio_lo !== null && row.ratio_hi !== null) line(at(row.ratio_lo), at(row.ratio_hi), 7, 7, "var(--chart-ink)", 2);
  if (row.ratio !== null) line(at(row.ratio) - 2, at(row.ratio) + 2, 7, 7, "var(--fw-onnx-python)", 7);
  return svg;
};

const show = (rows) => {
  const [a, b] = [form.a.value, form.b.value];
  const names = [form.a.selectedOptions[0].text, form.b.selectedOptions[0].text];
  const found = rows
    .filter((row) => (row.a === a && row.b === b) || (row.a === b && row.b === a))
    .filter((row) => !form.load.value || row.load === form.load.value)
    .map((row) => turn(row, a));
  target.replaceChildren();
  if (!found.length) {
    target.append(make("p", { class: "where" }, a === b ? "Choose two different ones." : `${names[0]} and ${names[1]} have not met in a current run.`));
    return;
  }
  const body = make("tbody");
  for (const row of found) {
    body.append(
      make(
        "tr",
        {},
        make("th", { class: "name", scope: "row" }, row.model, row.weights === "synthetic" ? " (synthetic weights)" : ""),
        make("td", {}, row.load),
        make("td", { class: "num" }, row.ratio_lo === null ? round(row.ratio) : `${round(row.ratio)} [${round(row.ratio_lo)}, ${round(row.ratio_hi)}]`),
        make("td", {}, strip(row)),
        make("td", {}, row.verdict),
        make("td", { class: "num" }, String(row.blocks)),
      ),
    );
  }
  const heads = ["Model", "Load", `${names[0]} ÷ ${names[1]} [95 %]`, "⅛ … 1 … 8", "Verdict", "Blocks"];
  const head = make("tr", {}, ...heads.map((text, i) => make("th", { scope: "col", class: i === 0 ? "name" : i === 2 || i === 5 ? "num" : "" }, text)));
  target.append(make("div", { class: "table-wrap", tabindex: "0", role: "region", "aria-label": "The chosen pair" }, make("table", { class: "board" }, make("thead", {}, head), body)));
};

if (form) {
  const rows = await (await fetch(form.dataset.source)).json();
  const asked = new URLSearchParams(location.search);
  for (const load of new Set(rows.map((row) => row.load))) form.load.append(make("option", { value: load }, load));
  for (const name of ["a", "b", "load"]) {
    if ([...form[name].options].some((option) => option.value === asked.get(name))) form[name].value = asked.get(name);
  }
  form.hidden = false;
  form.addEventListener("change", () => {
    history.replaceState(null, "", `?${new URLSearchParams({ a: form.a.value, b: form.b.value, ...(form.load.value ? { load: form.load.value } : {}) })}`);
    show(rows);
  });
  show(rows);
}
