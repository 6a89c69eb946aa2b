// Everything here is a convenience: without it each page is complete.

// Sorting: a button in each header of a sortable table; cells may carry their value in data-sort.
const value = (row, index) => {
  const cell = row.cells[index];
  if (!cell) return "";
  return cell.dataset.sort ?? cell.textContent.trim();
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row, place) => ({ row, place, key: value(row, index) }));
      const numeric = rows.every(({ key }) => key === "" || !Number.isNaN(Number(key)));
      rows.sort((a, b) => {
        // Cells without a value stay at the end in both directions.
        if ((a.key === "") !== (b.key === "")) return a.key === "" ? 1 : -1;
        const order = numeric ? Number(a.key) - Number(b.key) : a.key.localeCompare(b.key);
        return (down ? -order : order) || a.place - b.place;
      });
      body.append(...rows.map(({ row }) => row));
    });
  });
}

// Filters: whatever frameworks, models or precisions the rows of a page name can be chosen; the choice stands in the address (?fw=candle,openvino).
const kinds = { fw: "Frameworks", model: "Models", precision: "Precisions" };
const title = (kind, row) => (kind === "fw" ? row.querySelector(".fw-name")?.textContent : kind === "model" ? row.querySelector("[data-title], th a")?.textContent : null);
const filters = {};
const shown = () => {
  const asked = new URLSearchParams(location.search);
  for (const kind of Object.keys(filters)) {
    const chosen = (asked.get(kind) ?? "").split(",").filter((name) => filters[kind].has(name));
    for (const [name, button] of filters[kind]) button.setAttribute("aria-pressed", String(chosen.includes(name)));
    filters[kind].chosen = chosen;
  }
  for (const row of document.querySelectorAll("tbody tr, details[data-model]")) {
    row.hidden = Object.keys(filters).some((kind) => row.dataset[kind] && filters[kind].chosen.length && !filters[kind].chosen.includes(row.dataset[kind]));
  }
};
const bar = document.querySelector(".filter");
if (bar) {
  for (const [kind, label] of Object.entries(kinds)) {
    const names = new Map();
    for (const row of document.querySelectorAll(`tbody tr[data-${kind}]`)) if (!names.get(row.dataset[kind])) names.set(row.dataset[kind], title(kind, row) || row.dataset[kind]);
    if (names.size < 2) continue;
    filters[kind] = new Map();
    const group = document.createElement("div");
    group.className = "filter";
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", label);
    const head = document.createElement("span");
    head.textContent = label;
    group.append(head);
    for (const [name, text] of [...names].sort((a, b) => a[1].localeCompare(b[1]))) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.addEventListener("click", () => {
        const chosen = filters[kind].chosen.includes(name) ? filters[kind].chosen.filter((other) => other !== name) : [...filters[kind].chosen, name];
        const asked = new URLSearchParams(location.search);
        if (chosen.length) asked.set(kind, chosen.join(","));
        else asked.delete(kind);
        const query = decodeURIComponent(asked.toString());
        history.replaceState(null, "", `${location.pathname}${query ? `?${query}` : ""}${location.hash}`);
        shown();
      });
      filters[kind].set(name, button);
      group.append(button);
    }
    bar.before(group);
  }
  bar.remove();
  shown();
}

// A link to a raw row opens it.
const open = () => {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.scrollIntoView();
  }
};
addEventListener("hashchange", open);
open();

// A chart is a finished picture. When a reader points at it, Vega takes its place and tells each mark's row; on phones it stays a picture.
const upgrade = async (figure) => {
  const place = figure.querySelector(".chart-wide");
  if (figure.dataset.live || getComputedStyle(place).display === "none") return;
  figure.dataset.live = "loading";
  try {
    const [{ vegaEmbed }, answer] = await Promise.all([import(new URL("vega.js", import.meta.url)), fetch(figure.dataset.spec)]);
    const spec = await answer.json();
    spec.config.mark = { tooltip: { content: "data" } };
    const live = document.createElement("div");
    // `ast` evaluates expressions without eval, which the page's policy forbids.
    await vegaEmbed(live, spec, { ast: true, actions: false, renderer: "svg" });
    const picture = live.querySelector("svg");
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-label", figure.querySelector("figcaption b").textContent);
    place.replaceChildren(live);
    figure.dataset.live = "yes";
  } catch (error) {
    figure.dataset.live = "no"; // the picture stays
    console.warn(`chart ${figure.id} stays a picture: ${error.message}`);
  }
};
for (const figure of document.querySelectorAll("figure.chart")) {
  figure.addEventListener("pointerenter", () => upgrade(figure), { once: true });
  figure.addEventListener("focusin", () => upgrade(figure), { once: true });
}

// The theme's search opens as a dialog without a name.
document.querySelector("[data-md-component=search][role=dialog]")?.setAttribute("aria-label", "Search");
