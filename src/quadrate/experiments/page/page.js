"use strict";
// Charts of a report: everything comes from the JSON and the pictures in the page; texts go in as text only, never as HTML.

const DATA = JSON.parse(document.getElementById("data").textContent);
const DASHES = ["", "7 4", "2 3", "9 3 2 3", "12 3 2 3 2 3"];
const CROSSES = ["M-3,-3l6,6m0,-6l-6,6", "M-4,0h8M0,-4v8", "M0,-4l4,7h-8Z", "M-4,0h8M-2,-4l4,8m0,-8l-4,8", "M0,-4l4,4l-4,4l-4,-4Z"];
const REACH = 22; // pixels from a mark within which pointing means it
const ACCURACIES = [0, 0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.99, 1];

// Markers of radius r around 0, 0, in the order of the figures' own: circle, square, triangle, diamond, triangle down, plus, cross.
const SHAPES = [
  r => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`,
  r => polygon([[-r, -r], [r, -r], [r, r], [-r, r]], 0.9),
  r => polygon([[0, -r], [r, 0.8 * r], [-r, 0.8 * r]], 1.15),
  r => polygon([[0, -r], [r, 0], [0, r], [-r, 0]], 1.25),
  r => polygon([[0, r], [r, -0.8 * r], [-r, -0.8 * r]], 1.15),
  r => plus(r, 0),
  r => plus(r, Math.PI / 4),
];

function polygon(corners, scale) {
  return "M" + corners.map(([x, y]) => `${(x * scale).toFixed(2)},${(y * scale).toFixed(2)}`).join("L") + "Z";
}

function plus(r, turn) {
  const t = r / 2.6;
  const corners = [[-t, -r], [t, -r], [t, -t], [r, -t], [r, t], [t, t], [t, r], [-t, r], [-t, t], [-r, t], [-r, -t], [-t, -t]];
  return polygon(corners.map(([x, y]) => [x * Math.cos(turn) - y * Math.sin(turn), x * Math.sin(turn) + y * Math.cos(turn)]), 1.15);
}

function number(value) {
  const size = Math.abs(value);
  return size > 0 && size < 0.01 ? `${+(1000 * value).toPrecision(4)}·10⁻³` : String(+value.toPrecision(4));
}

function withInterval([mean, low, high]) {
  return number(mean) + (low === null || number(low) === number(high) ? "" : ` [${number(low)}, ${number(high)}]`);
}

// An axis: its columns' values to pixels. Accuracies crowd below 1, so where they span enough the axis follows the logarithm of the error.
class Scale {
  constructor(score, values, from, to) {
    const inside = ACCURACIES.filter(tick => Math.min(...values) <= tick && tick <= Math.max(...values));
    const stretched = score.startsWith("accuracy") && inside.length > 2;
    this.warp = stretched ? a => -Math.log(1.005 - Math.min(a, 1.0049)) : a => a;
    const ends = values.map(this.warp), low = Math.min(...ends), high = Math.max(...ends);
    const margin = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
    [this.low, this.high] = [low - margin, high + margin];
    this.at = value => from + (to - from) * (this.warp(value) - this.low) / (this.high - this.low);
    this.ticks = stretched ? ACCURACIES.filter(tick => this.holds(tick)) : Scale.round(this.low, this.high);
    if (stretched) this.ticks = this.ticks.filter((tick, i, all) => i === 0 || Math.abs(this.at(tick) - this.at(all[i - 1])) > 14);
  }

  holds(value) {
    return this.low <= this.warp(value) && this.warp(value) <= this.high;
  }

  static round(low, high) {
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find(factor => factor * power >= rough) * power;
    const count = Math.floor(high / step) - Math.ceil(low / step) + 1;
    return Array.from({ length: count }, (_, i) => +((Math.ceil(low / step) + i) * step).toPrecision(10));
  }
}

class Chart {
  constructor(figure) {
    this.data = DATA.charts[figure.dataset.chart];
    this.figure = figure;
    figure.querySelector(".still").remove();
    figure.append(document.getElementById("chart").content.cloneNode(true));
    this.part = name => figure.querySelector(name);
    this.svg = this.part(".plot");
    this.svg.setAttribute("aria-label", `${figure.getAttribute("aria-label")}: arrow keys move between points`);
    this.hidden = new Set();
    this.pinned = null;
    this.fillControls();
    this.svg.addEventListener("pointermove", event => this.show(this.nearest(event) || this.pinned));
    this.svg.addEventListener("pointerleave", () => this.show(this.pinned));
    this.svg.addEventListener("pointerup", event => this.pin(this.nearest(event)));
    this.svg.addEventListener("keydown", event => this.move(event));
    document.addEventListener("pointerdown", event => this.figure.contains(event.target) || this.pin(null));
    new ResizeObserver(() => this.svg.clientWidth !== this.width && this.draw()).observe(this.svg);
    this.draw();
  }

  fillControls() {
    const { scores, tags, x, y } = this.data;
    const choices = { x: Object.entries(scores), y: Object.entries(scores), colour: tags.map(tag => [tag, tag]), shape: [...tags, "seed"].map(tag => [tag, tag]) };
    const first = { x, y, colour: tags[0], shape: tags[1] || tags[0] };
    for (const [role, options] of Object.entries(choices)) {
      const select = this.part(`[data-role=${role}]`);
      for (const [value, label] of options) select.add(new Option(label, value, false, value === first[role]));
      select.addEventListener("change", () => this.draw());
    }
    const intervals = this.part("[data-role=intervals]");
    intervals.checked = this.data.intervals;
    intervals.addEventListener("change", () => this.draw());
  }

  // Which colour, shape and dash a curve takes: the rank of its tag's value among all curves; curves of one colour and shape differ in their dashes.
  look(curve, seed = 0) {
    const rank = tag => [...new Set(this.data.curves.map(other => other.tags[tag]))].indexOf(curve.tags[tag]);
    const [colour, shape] = ["colour", "shape"].map(role => this.part(`[data-role=${role}]`).value);
    const alike = this.data.curves.filter(other => other.tags[colour] === curve.tags[colour] && other.tags[shape] === curve.tags[shape]);
    const form = shape === "seed" ? seed : rank(shape), dash = rank(shape === "seed" ? colour : shape) + alike.indexOf(curve);
    return { colour: rank(colour) % DATA.colours, shape: form % SHAPES.length, dash: DASHES[dash % DASHES.length] };
  }

  draw() {
    const focused = this.targets && this.targets.find(target => target.node === document.activeElement);
    this.pin(null);
    this.svg.replaceChildren();
    this.width = this.svg.clientWidth || 700;
    this.height = Math.round(Math.min(520, Math.max(300, 0.6 * this.width)));
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    [this.x, this.y] = ["x", "y"].map(role => this.part(`[data-role=${role}]`).value);
    this.curves = this.data.curves.filter(curve => !this.hidden.has(curve));
    this.published = this.data.published.filter(set => set.x === this.x && set.y === this.y && !this.hidden.has(set));
    const fits = (line, own, other) => line.score === own && (!line.against || line.against.includes(other));
    this.references = this.data.references.filter(line => fits(line, this.x, this.y) || fits(line, this.y, this.x));
    this.axis = { x: this.scale(this.x, 62, this.width - 14), y: this.scale(this.y, this.height - 46, 12) };
    this.targets = [];
    this.drawAxes();
    this.drawReferences();
    this.drawPublished();
    this.curves.forEach(curve => this.drawCurve(curve));
    this.drawLegend();
    if (this.targets.length) this.targets.find(target => target.place).node.setAttribute("tabindex", 0);
    const again = focused && this.targets.find(target => target.seed === focused.seed && target.point === focused.point);
    if (again) again.node.focus();
  }

  // The axis holds all points; a reference line too, unless it lies so far off that the points would be squeezed.
  scale(score, from, to) {
    const values = this.curves.flatMap(curve => curve.points.flatMap(point => point.seeds.map(seed => seed.scores[score])));
    for (const set of this.published) values.push(...set.points.map(point => point[score === set.x ? 0 : 1]));
    if (!values.length) values.push(0, 1);
    const low = Math.min(...values), high = Math.max(...values), reach = 0.5 * (high - low);
    const near = this.references.filter(line => line.score === score && line.value > low - reach && line.value < high + reach).map(line => line.value);
    return new Scale(score, [...values, ...near], from, to);
  }

  add(name, attributes, parent = this.svg, text = "") {
    const node = document.createElementNS(this.svg.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text) node.textContent = text;
    return parent.appendChild(node);
  }

  drawAxes() {
    const { x, y } = this.axis, right = this.width - 14, bottom = this.height - 46;
    for (const tick of x.ticks) {
      this.add("line", { class: "gridline", x1: x.at(tick), x2: x.at(tick), y1: 12, y2: bottom });
      this.add("text", { class: "tick", x: x.at(tick), y: bottom + 16, "text-anchor": "middle" }, this.svg, number(tick));
    }
    for (const tick of y.ticks) {
      this.add("line", { class: "gridline", x1: 62, x2: right, y1: y.at(tick), y2: y.at(tick) });
      this.add("text", { class: "tick", x: 56, y: y.at(tick) + 4, "text-anchor": "end" }, this.svg, number(tick));
    }
    this.add("path", { class: "axis", fill: "none", d: `M62,12V${bottom}H${right}` });
    this.add("text", { x: (62 + right) / 2, y: this.height - 8, "text-anchor": "middle" }, this.svg, this.data.scores[this.x]);
    const middle = (12 + bottom) / 2;
    this.add("text", { x: 13, y: middle, "text-anchor": "middle", transform: `rotate(-90 13 ${middle})` }, this.svg, this.data.scores[this.y]);
    const clip = this.add("clipPath", { id: `clip-${this.figure.dataset.chart}` });
    this.add("rect", { x: 62, y: 12, width: right - 62, height: bottom - 12 }, clip);
  }

  drawReferences() {
    for (const { score, value } of this.references) {
      const across = score === this.x, axis = across ? this.axis.x : this.axis.y, at = axis.at(value);
      if (!axis.holds(value)) continue;
      const ends = across ? { x1: at, x2: at, y1: 12, y2: this.height - 46 } : { x1: 62, x2: this.width - 14, y1: at, y2: at };
      this.add("line", { class: "reference", ...ends });
    }
  }

  drawPublished() {
    for (const set of this.published) {
      for (const [x, y, rate] of set.points) {
        const own = this.data.curves.find(curve => curve.tags.rate === rate);
        const colour = own && this.part("[data-role=colour]").value === "rate" ? this.look(own).colour : "";
        const [px, py] = [this.axis.x.at(x), this.axis.y.at(y)];
        this.add("path", { class: `cross c${colour}`, d: this.cross(set), transform: `translate(${px.toFixed(1)} ${py.toFixed(1)})` });
      }
    }
  }

  cross(set) {
    return CROSSES[this.data.published.filter(other => other.y === set.y).indexOf(set) % CROSSES.length];
  }

  drawCurve(curve) {
    const { colour, shape, dash } = this.look(curve), { x, y } = this.axis;
    const group = this.add("g", { class: `c${colour}` });
    const clipped = this.add("g", { "clip-path": `url(#clip-${this.figure.dataset.chart})` }, group);
    const at = point => [x.at(point.mean[this.x][0]), y.at(point.mean[this.y][0])];
    if (curve.joined) this.add("polyline", { class: "curve", points: curve.points.map(at).join(" "), "stroke-dasharray": dash }, clipped);
    curve.points.forEach((point, place) => {
      const [px, py] = at(point);
      if (this.part("[data-role=intervals]").checked) this.drawBars(point, px, py, clipped);
      if (point.seeds.length > 1 || this.part("[data-role=shape]").value === "seed") {
        point.seeds.forEach((seed, i) => this.mark({ curve, point, seed }, x.at(seed.scores[this.x]), y.at(seed.scores[this.y]), this.look(curve, i).shape, 3.2, group));
      }
      this.mark({ curve, point, place: place + 1, seed: null }, px, py, shape, 5, group);
    });
  }

  drawBars(point, px, py, parent) {
    const [, left, right] = point.mean[this.x], [, low, high] = point.mean[this.y], { x, y } = this.axis;
    if (left !== null) this.add("line", { class: "bar", x1: x.at(left), x2: x.at(right), y1: py, y2: py }, parent);
    if (low !== null) this.add("line", { class: "bar", x1: px, x2: px, y1: y.at(low), y2: y.at(high) }, parent);
  }

  mark(target, px, py, shape, size, parent) {
    const mean = target.seed === null;
    const attributes = mean ? { class: "point", tabindex: -1, role: "img", "aria-label": this.name(target) } : { class: "seed", "aria-hidden": true };
    const node = this.add("g", { ...attributes, transform: `translate(${px.toFixed(2)} ${py.toFixed(2)})` }, parent);
    this.add("path", { class: "mark", d: SHAPES[shape](size) }, node);
    if (mean) {
      node.addEventListener("focus", () => this.show(target));
      node.addEventListener("blur", () => this.show(this.pinned));
    }
    this.targets.push(Object.assign(target, { px, py, node }));
  }

  drawLegend() {
    const legend = this.part(".legend");
    const focus = [...legend.children].indexOf(document.activeElement);
    legend.replaceChildren();
    const entry = (kind, label, draw) => {
      const node = legend.appendChild(document.createElement(kind));
      draw(this.add("svg", { viewBox: "0 0 34 14", "aria-hidden": true }, node));
      node.append(label);
      return node;
    };
    const button = (shown, draw) => {
      const node = entry("button", shown.label, draw);
      node.setAttribute("aria-pressed", !this.hidden.has(shown));
      node.addEventListener("click", () => {
        this.hidden.delete(shown) || this.hidden.add(shown);
        this.draw();
      });
    };
    for (const curve of this.data.curves) {
      const { colour, shape, dash } = this.look(curve);
      button(curve, sample => {
        sample.setAttribute("class", `c${colour}`);
        if (curve.joined) this.add("path", { class: "curve", d: "M0,7H34", "stroke-dasharray": dash }, sample);
        this.add("path", { class: "mark", d: SHAPES[shape](5), transform: "translate(17 7)" }, sample);
      });
    }
    for (const set of this.data.published.filter(set => set.x === this.x && set.y === this.y)) {
      button(set, sample => this.add("path", { class: "cross c", d: this.cross(set), transform: "translate(17 7)" }, sample));
    }
    for (const { score, value, label } of this.references) {
      const beyond = this.axis[score === this.x ? "x" : "y"].holds(value) ? "" : ", beyond the axis";
      entry("span", `${label}: ${number(value)} (${this.data.scores[score]}${beyond})`, sample => this.add("path", { class: "reference", d: "M0,7H34" }, sample));
    }
    if (focus >= 0) legend.children[focus].focus();
  }

  // Pointing, tapping, keys

  nearest(event) {
    const box = this.svg.getBoundingClientRect(), zoom = this.width / box.width;
    const distance = target => Math.hypot(target.px - (event.clientX - box.left) * zoom, target.py - (event.clientY - box.top) * zoom) + (target.seed ? 3 : 0);
    return this.targets.filter(target => distance(target) < REACH).sort((a, b) => distance(a) - distance(b))[0] || null;
  }

  pin(target) {
    this.pinned = target;
    this.show(target);
  }

  move(event) {
    const here = this.targets.find(target => target.node === document.activeElement);
    if (!here) return;
    const points = this.targets.filter(target => target.place), along = points.filter(target => target.curve === here.curve);
    const other = step => this.curves[this.curves.indexOf(here.curve) + step];
    const beside = step => points.filter(target => target.curve === other(step) && target.place <= here.place).pop();
    const next = {
      ArrowRight: () => along[here.place], ArrowLeft: () => along[here.place - 2], Home: () => along[0], End: () => along[along.length - 1],
      ArrowDown: () => beside(1), ArrowUp: () => beside(-1), Escape: () => this.pin(null),
    }[event.key];
    if (!next) return;
    event.preventDefault();
    const target = next();
    if (!target) return;
    points.forEach(point => point.node.setAttribute("tabindex", point === target ? 0 : -1));
    target.node.focus();
  }

  name({ curve, point, seed }) {
    const seeds = point.seeds.length;
    return `${curve.label}; ${point.label}; ` + (seed ? `seed ${seed.seed}` : seeds > 1 ? `mean of ${seeds} seeds` : `seed ${point.seeds[0].seed}`);
  }

  show(target) {
    if (target === this.shown) return;
    if (this.shown) this.shown.node.classList.remove("shown");
    this.shown = target;
    const tooltip = this.part(".tooltip");
    tooltip.hidden = !target;
    this.part(".live").textContent = "";
    if (!target) return;
    target.node.classList.add("shown");
    const value = score => target.seed ? number(target.seed.scores[score]) : withInterval(target.point.mean[score]);
    const line = (name, text, kind = "") => Object.assign(document.createElement(name), { textContent: text, className: kind });
    const seed = target.seed || target.point.seeds[0];
    const list = document.createElement("dl"), shown = [...new Set([this.x, this.y, ...Object.keys(this.data.scores)])];
    for (const score of shown) {
      const kind = score === this.x || score === this.y ? "axis" : "";
      list.append(line("dt", this.data.scores[score], kind), line("dd", value(score), kind));
    }
    const pictures = this.pictures(seed.id);
    const caption = pictures.length && !target.seed && target.point.seeds.length > 1 ? `pictures: originals above, seed ${seed.seed} below` : "";
    tooltip.replaceChildren(line("p", this.name(target), "axis"), line("p", target.point.stage), ...pictures, line("p", caption), list);
    this.part(".live").textContent = `${this.name(target)}: ${[this.x, this.y].map(score => `${this.data.scores[score]} ${value(score)}`).join("; ")}`;
    this.placeTooltip(tooltip, target);
  }

  // The strips in the page once more, cut in halves: originals above what became of them.
  pictures(id) {
    const made = document.getElementById(`strip-${id}`);
    if (!made) return [];
    const originals = made.closest(".grid").querySelector(".originals");
    return ["begin", "end"].flatMap(half => [originals, made].map((strip, i) => {
      const image = strip.cloneNode();
      image.removeAttribute("id");
      image.className = half + (i ? " again" : "");
      image.style.aspectRatio = `${strip.naturalWidth / 2} / ${strip.naturalHeight}`;
      return image;
    }));
  }

  placeTooltip(tooltip, target) {
    const zoom = this.svg.clientWidth / this.width, left = target.px * zoom;
    const beside = left + 24 + tooltip.offsetWidth < this.figure.clientWidth ? left + 24 : left - 24 - tooltip.offsetWidth;
    const top = this.svg.getBoundingClientRect().top - this.figure.getBoundingClientRect().top + target.py * zoom - tooltip.offsetHeight / 2;
    const above = -this.figure.getBoundingClientRect().top + 8; // what is in sight
    const lowest = innerHeight - this.figure.getBoundingClientRect().top - tooltip.offsetHeight - 8;
    tooltip.style.left = `${Math.max(0, beside)}px`;
    tooltip.style.top = `${Math.max(above, Math.min(top, lowest))}px`;
  }
}

document.querySelectorAll(".chart").forEach(figure => new Chart(figure));
addEventListener("beforeprint", () => document.querySelectorAll(".explain").forEach(part => { part.open = true; }));
