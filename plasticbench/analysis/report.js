"use strict";
// Comfort alone: without it the page holds the same tables, figures and choices of methods.
(() => {
  document.documentElement.classList.add("scripted");
  const text = cell => {
    const copy = cell.cloneNode(true);
    copy.querySelectorAll(".note, .mark, .bar").forEach(part => part.remove());
    return copy.textContent.replace(/\s+/g, " ").trim();
  };
  const number = cell => {
    const found = text(cell).replace(/,(?=\d{3})/g, "").replace("\u2212", "-").match(/-?\d+(\.\d+)?(e[+-]?\d+)?/i);
    return /^>/.test(text(cell)) ? Infinity : found ? Number(found[0]) : NaN;
  };

  const sort = (table, index, head) => {
    const rows = [...table.tBodies[0].rows];
    const down = head.getAttribute("aria-sort") === "ascending";
    const values = new Map(rows.map(row => [row, number(row.cells[index])]));
    const numeric = index > 0 && rows.some(row => !Number.isNaN(values.get(row)));
    rows.sort((a, b) => {
      if (!numeric) return text(a.cells[index]).localeCompare(text(b.cells[index])) * (down ? -1 : 1);
      const [x, y] = [values.get(a), values.get(b)];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return x === y ? 0 : (x < y ? -1 : 1) * (down ? -1 : 1);
    });
    table.tBodies[0].append(...rows);
    table.querySelectorAll("th[aria-sort]").forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  };

  const shown = table => [...table.rows].map(row => [...row.cells].map(text));
  const csv = table => shown(table).map(row => row.map(cell => `"${cell.replaceAll('"', '""')}"`).join(",")).join("\n");
  const escaped = cell => cell
    .replace(/[\\&%$#_{}~^]/g, sign => ({ "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" })[sign] || "\\" + sign)
    .replaceAll("\u2212", "$-$").replaceAll("\u2191", "$\\uparrow$").replaceAll("\u2193", "$\\downarrow$").replaceAll("\u00d7", "$\\times$");
  const latex = table => {
    const [head, ...rows] = shown(table).map(row => row.map(escaped).join(" & ") + " \\\\");
    const columns = "l" + "r".repeat(table.rows[0].cells.length - 1);
    return [`\\begin{tabular}{${columns}}`, "\\toprule", head, "\\midrule", ...rows, "\\bottomrule", "\\end{tabular}"].join("\n");
  };
  const copy = async (button, content) => {
    try {
      await navigator.clipboard.writeText(content);
    } catch {  // pages that are files may not use it everywhere
      const area = document.createElement("textarea");
      area.value = content;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    const label = button.textContent;
    button.textContent = "copied";
    setTimeout(() => { button.textContent = label; }, 1200);
  };
  const button = (label, action) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = label;
    made.addEventListener("click", () => action(made));
    return made;
  };

  for (const table of document.querySelectorAll("table.data")) {
    [...table.tHead.rows[0].cells].forEach((head, index) => {
      const by = button("", () => sort(table, index, head));
      by.append(...head.childNodes);
      head.append(by);
    });
    const tools = document.createElement("span");
    tools.className = "tools";
    tools.append(button("CSV", made => copy(made, csv(table))), button("LaTeX", made => copy(made, latex(table))));
    if (table.querySelector(".extra")) {
      table.classList.add("folds");
      if (matchMedia("(max-width: 1100px)").matches) tools.append(button("all columns", made => {
        table.classList.remove("folds");
        made.remove();
      }));
    }
    const caption = table.caption || table.createCaption();
    caption.insertBefore(tools, caption.querySelector(".note"));
  }
  for (const block of document.querySelectorAll("details.yaml")) {
    block.querySelector("pre").before(button("copy", made => copy(made, block.querySelector("pre").textContent)));
    block.querySelector("button").className = "copy";
  }

  const names = new Map([...document.querySelectorAll(".legend label")].map(label => [label.querySelector("input").id.slice(5), label.textContent.trim()]));
  const points = path => [...path.getAttribute("d").matchAll(/[ML] ?(-?[\d.]+) (-?[\d.]+)/g)].map(pair => [Number(pair[1]), Number(pair[2])]);
  const at = (line, x) => {
    for (let i = 1; i < line.length; i++) {
      const [[x0, y0], [x1, y1]] = [line[i - 1], line[i]];
      if (x0 <= x && x <= x1) return x1 === x0 ? y1 : y0 + (y1 - y0) * (x - x0) / (x1 - x0);
    }
    return null;
  };
  const rounded = value => Math.abs(value) >= 1e3 && Math.abs(value) < 1e6 ? Math.round(value).toLocaleString("en") : Number(value.toPrecision(3)).toString();
  const follow = figure => {
    const svg = figure.querySelector("svg[data-scales]");
    if (!svg) return;
    const { x: [px0, px1, x0, x1], y: [py0, py1, y0, y1], log } = JSON.parse(svg.dataset.scales);
    const value = py => {
      const share = (py - py0) / (py1 - py0);
      return log ? y0 * (y1 / y0) ** share : y0 + share * (y1 - y0);
    };
    let lines = null, tip = null;
    const hide = () => { if (tip) tip.remove(); tip = null; };
    svg.addEventListener("pointermove", event => {
      lines ??= [...svg.querySelectorAll("g.line")].map(group => [group.classList[0], points(group.querySelector("path"))]);
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
      if (x < px0 || x > px1) return hide();
      const rows = lines.filter(([name]) => document.getElementById("show-" + name)?.checked !== false)
        .map(([name, line]) => [name, at(line, x)]).filter(([, y]) => y !== null).sort((a, b) => a[1] - b[1]);
      if (!tip) {
        tip = document.createElement("div");
        tip.className = "tip";
        figure.append(tip);
      }
      const step = document.createElement("div");
      step.textContent = "step " + Math.round(x0 + (x - px0) / (px1 - px0) * (x1 - x0)).toLocaleString("en");
      tip.replaceChildren(step, ...rows.map(([name, y]) => {
        const row = document.createElement("div"), swatch = document.createElement("span");
        swatch.className = "swatch";
        swatch.style.setProperty("--c", `var(--${name})`);
        row.append(swatch, `${names.get(name)} ${rounded(value(y))}`);
        return row;
      }));
      const place = event.clientX - figure.getBoundingClientRect().left;
      tip.style.left = place > box.width / 2 ? "" : `${place + 14}px`;
      tip.style.right = place > box.width / 2 ? `${box.width - place + 14}px` : "";
      tip.style.top = `${svg.getBoundingClientRect().top - figure.getBoundingClientRect().top + 8}px`;
    });
    svg.addEventListener("pointerleave", hide);
  };
  document.querySelectorAll("figure").forEach(follow);
})();
