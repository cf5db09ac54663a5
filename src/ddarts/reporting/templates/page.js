"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");

  // Light and dark: the reader's system decides until the button is pressed.
  const theme = document.getElementById("theme");
  if (theme) {
    const system = window.matchMedia("(prefers-color-scheme: dark)");
    const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
    const name = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
    theme.hidden = false;
    theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; name(); });
    system.addEventListener("change", name);
    name();
  }

  // Tabs: without this script, and in print, all panels stand below each other.
  let serial = 0;
  for (const box of document.querySelectorAll("[data-tabs]")) {
    const panels = [...box.children].filter((child) => child.classList.contains("panel"));
    if (panels.length < 2) continue;
    const list = document.createElement("div");
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", box.dataset.tabs);
    const tabs = panels.map((panel) => {
      const tab = document.createElement("button");
      tab.type = "button";
      tab.id = "tab-" + serial;
      panel.id = "panel-" + serial++;
      tab.textContent = panel.dataset.title;
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", panel.id);
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", tab.id);
      list.append(tab);
      return tab;
    });
    const choose = (chosen) => panels.forEach((panel, i) => {
      panel.hidden = i !== chosen;
      tabs[i].setAttribute("aria-selected", String(i === chosen));
      tabs[i].tabIndex = i === chosen ? 0 : -1;
    });
    list.addEventListener("click", (event) => {
      const at = tabs.indexOf(event.target.closest("[role=tab]"));
      if (at >= 0) choose(at);
    });
    list.addEventListener("keydown", (event) => {
      const at = tabs.indexOf(document.activeElement), last = tabs.length - 1;
      const to = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at === 0 ? last : at - 1, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      choose(to);
      tabs[to].focus();
    });
    box.prepend(list);
    choose(0);
  }

  // Drawings and tables that are wider than their place get a hint to scroll.
  const seen = new ResizeObserver((entries) => {
    for (const { target } of entries) target.classList.toggle("more", target.scrollWidth > target.clientWidth + 1);
  });
  document.querySelectorAll(".drawing, .scroll").forEach((box) => seen.observe(box));

  // Charts: point at a line, or walk with the arrow keys, to read its name and its numbers.
  const numbers = (text) => (text || "").split(" ").map((word) => (word === "-" ? NaN : Number(word)));

  const read = (svg) => [...svg.querySelectorAll(".series")].map((group) => {
    const path = group.querySelector("path[d]");
    const corners = path ? (path.getAttribute("d").match(/-?[\d.]+/g) || []).map(Number) : [];
    const y = numbers(group.dataset.y), x = numbers(group.dataset.x || svg.dataset.x);
    const points = [];
    let next = 0;
    y.forEach((value, i) => {
      if (Number.isNaN(value) || next + 1 >= corners.length) return;
      points.push({ at: x[i], value, left: corners[next], top: corners[next + 1] });
      next += 2;
    });
    const title = group.querySelector("title");
    const label = title ? title.textContent : "";
    if (title) title.remove(); // the browser's own hint would stand over ours
    return { group, label, points };
  }).filter((line) => line.points.length);

  const lettered = (text) => text.split(/c_\{k-(\d)\}/).flatMap((part, i) => { // with real subscripts, as in the tables
    if (i % 2 === 0) return [part];
    const low = document.createElement("sub");
    low.textContent = `k\u2212${part}`;
    return ["c", low];
  });

  for (const plot of document.querySelectorAll(".plot")) {
    const svg = plot.querySelector("svg.chart");
    if (!svg) continue;
    let lines = null, line = -1, point = -1;
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    tip.setAttribute("role", "status");
    plot.append(tip);
    const spot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    spot.setAttribute("class", "spot");
    spot.setAttribute("r", "3");

    const clear = () => {
      if (line >= 0) lines[line].group.classList.remove("lit");
      line = point = -1;
      tip.hidden = true;
      spot.remove();
    };
    const show = (i, j) => {
      if (line >= 0) lines[line].group.classList.remove("lit");
      line = i;
      point = Math.max(0, Math.min(j, lines[i].points.length - 1));
      const { group, label, points } = lines[i], here = points[point];
      group.classList.add("lit");
      spot.setAttribute("cx", here.left);
      spot.setAttribute("cy", here.top);
      svg.append(spot);
      const name = document.createElement("b");
      name.append(...lettered(label));
      tip.replaceChildren(name, `${svg.dataset.xLabel} ${here.at}: ${svg.dataset.yLabel} ${here.value}`);
      tip.hidden = false;
      const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
      const left = here.left * scale + 12, room = plot.clientWidth - tip.offsetWidth;
      tip.style.left = `${Math.max(0, left > room ? here.left * scale - tip.offsetWidth - 12 : left)}px`;
      tip.style.top = `${Math.max(0, here.top * scale - tip.offsetHeight - 8)}px`;
    };
    const nearest = (event) => {
      lines = lines || read(svg);
      const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
      const x = (event.clientX - box.left) / scale, y = (event.clientY - box.top) / scale;
      let best = 14, found = null;
      lines.forEach(({ points, group }, i) => points.forEach((p, j) => {
        const q = points[j + 1] || p, dx = q.left - p.left, dy = q.top - p.top, span = dx * dx + dy * dy;
        const t = span ? Math.max(0, Math.min(1, ((x - p.left) * dx + (y - p.top) * dy) / span)) : 0;
        // of lines equally near, the strong one
        const far = Math.hypot(x - p.left - t * dx, y - p.top - t * dy) + (group.classList.contains("faint") ? 1 : 0);
        if (far < best) { best = far; found = [i, t > 0.5 ? j + 1 : j]; }
      }));
      if (found) show(...found); else clear();
    };
    svg.addEventListener("pointermove", nearest);
    svg.addEventListener("pointerdown", nearest);
    svg.addEventListener("pointerleave", clear);
    plot.tabIndex = 0;
    plot.setAttribute("role", "group");
    plot.setAttribute("aria-label", "Chart: arrow keys up and down choose a line, left and right a point, Escape ends");
    plot.addEventListener("blur", clear);
    plot.addEventListener("keydown", (event) => {
      lines = lines || read(svg);
      if (event.key === "Escape") { clear(); return; }
      const keys = ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home", "End"];
      if (!lines.length || !keys.includes(event.key)) return;
      event.preventDefault();
      if (line < 0) { // begin with what ends highest among the strong lines
        const last = (i) => lines[i].points[lines[i].points.length - 1];
        const order = lines.map((_, i) => i).sort((a, b) =>
          lines[a].group.classList.contains("faint") - lines[b].group.classList.contains("faint") || last(a).top - last(b).top);
        show(order[0], Infinity);
        return;
      }
      const at = lines[line].points[point].at, far = lines[line].points.length - 1;
      if (event.key === "ArrowLeft") show(line, point - 1);
      else if (event.key === "ArrowRight") show(line, point + 1);
      else if (event.key === "Home") show(line, 0);
      else if (event.key === "End") show(line, far);
      else { // the next line above or below at this place
        const here = (i) => lines[i].points.find((p) => p.at === at);
        const order = lines.map((_, i) => i).filter(here).sort((a, b) => here(a).top - here(b).top || a - b);
        const to = order[order.indexOf(line) + (event.key === "ArrowDown" ? 1 : -1)];
        if (to !== undefined) show(to, lines[to].points.indexOf(here(to)));
      }
    });
  }
})();
