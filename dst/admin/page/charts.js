// Lines over time, in SVG: small ones for a row, larger ones with an axis and the values under the pointer.

import { make, setText } from "./dom.js";
import { durationInWords } from "./words.js";

const NAMESPACE = "http://www.w3.org/2000/svg";

function draw(parent, tag, attributes = {}) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent.append(element);
  return element;
}

// The least "round" number that is not below `value`: 1, 2 or 5 times a power of ten, or of 1024 times that.
export function roundUp(value, base = 10) {
  if (value <= 0) return 1;
  let unit = base === 1024 ? 1024 ** Math.max(0, Math.floor(Math.log(value) / Math.log(1024))) : 1;
  unit *= 10 ** Math.floor(Math.log10(value / unit));
  for (const factor of [1, 2, 5, 10]) if (factor * unit >= value * 0.9999) return factor * unit;
  return 10 * unit;
}

// "M x y L x y ..." with a new beginning after every hole.
function linePath(points) {
  let path = "";
  let drawing = false;
  for (const point of points) {
    if (point === null) {
      drawing = false;
    } else {
      path += `${drawing ? "L" : "M"}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
      drawing = true;
    }
  }
  return path;
}

function areaPath(points, bottom) {
  let path = "";
  let run = [];
  const end = () => {
    if (run.length > 1) {
      path += `M${run[0][0].toFixed(1)} ${bottom}`;
      for (const [x, y] of run) path += `L${x.toFixed(1)} ${y.toFixed(1)}`;
      path += `L${run.at(-1)[0].toFixed(1)} ${bottom}Z`;
    }
    run = [];
  };
  for (const point of points) {
    if (point === null) end();
    else run.push(point);
  }
  end();
  return path;
}

// One line without words, for a row: what it says is said beside it.
export class Sparkline {
  constructor(parent, width = 96, height = 22) {
    this.width = width;
    this.height = height;
    this.element = draw(parent, "svg", {
      "class": "spark", "viewBox": `0 0 ${width} ${height}`, "width": width, "height": height, "aria-hidden": "true",
    });
    this.area = draw(this.element, "path", { "class": "area" });
    this.line = draw(this.element, "path", { "class": "line" });
  }

  // @param values: oldest first, the last one is now; `slots` of them fill the width.
  update(values, slots = 60) {
    const shown = values.slice(-slots);
    const top = Math.max(...shown, 1);
    const points = shown.map((value, place) => [
      this.width - ((shown.length - 1 - place) * this.width) / (slots - 1),
      this.height - 1.5 - (value / top) * (this.height - 4),
    ]);
    this.line.setAttribute("d", linePath(points));
    this.area.setAttribute("d", areaPath(points, this.height));
  }
}

const WIDTH = 360;
const HEIGHT = 110;
const TOP = 8;
const BOTTOM = HEIGHT - 4;

export class Chart {
  // @param lines: [{name, tone}]; `tone` is the class of the line.
  // @param base: 1024 for bytes, so that the axis ends at a round number of units.
  constructor(parent, { title, lines, format, base = 10 }) {
    this.lines = lines;
    this.format = format;
    this.base = base;
    this.title = title;
    this.element = make(parent, "figure", "chart");
    const caption = make(this.element, "figcaption");
    make(caption, "span", "chart-title", title);
    this.legend = lines.map(({ name, tone }) => {
      const item = make(caption, "span", `legend ${tone}`);
      make(item, "span", "", name);
      return make(item, "b");
    });
    const frame = make(this.element, "div", "chart-frame");
    this.highest = make(frame, "span", "chart-top");
    this.svg = draw(frame, "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    for (const part of [0, 0.5, 1]) {
      const y = TOP + part * (BOTTOM - TOP);
      draw(this.svg, "line", { "class": "grid", x1: 0, x2: WIDTH, y1: y, y2: y });
    }
    this.areas = lines.map(({ tone }) => draw(this.svg, "path", { "class": `area ${tone}` }));
    this.paths = lines.map(({ tone }) => draw(this.svg, "path", { "class": `line ${tone}` }));
    this.cursor = draw(this.svg, "line", { "class": "cursor", y1: TOP, y2: BOTTOM, visibility: "hidden" });
    const foot = make(this.element, "div", "chart-foot");
    this.begin = make(foot, "span");
    this.when = make(foot, "span");
    make(foot, "span", "", "now");
    this.pointed = null;
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      this.pointed = (event.clientX - box.left) / box.width;
      this.#point();
    });
    this.svg.addEventListener("pointerleave", () => {
      this.pointed = null;
      this.#point();
    });
  }

  // @param samples: [{time, values: [number or null for each line]}], oldest first
  // @param gap: seconds without a sample that are shown as a hole
  update(samples, from, to, gap) {
    this.samples = samples;
    this.span = [from, to];
    const peak = Math.max(0, ...samples.flatMap(({ values }) => values.filter((value) => value !== null)));
    const top = roundUp(peak, this.base);
    const x = (time) => ((time - from) / (to - from)) * WIDTH;
    const y = (value) => BOTTOM - (value / top) * (BOTTOM - TOP);
    this.lines.forEach((_, place) => {
      const points = [];
      let before = null;
      for (const { time, values } of samples) {
        if (before !== null && time - before > gap) points.push(null);
        points.push(values[place] === null ? null : [x(time), y(values[place])]);
        before = time;
      }
      this.paths[place].setAttribute("d", linePath(points));
      this.areas[place].setAttribute("d", areaPath(points, BOTTOM));
    });
    setText(this.highest, peak > 0 ? this.format(top) : "");
    setText(this.begin, `${durationInWords(to - from)} ago`);
    this.#point();
    const last = samples.at(-1);
    const facts = this.lines.map(({ name }, place) => {
      const value = last?.values[place] ?? null;
      return `${name} ${value === null ? "nothing" : this.format(value)}`;
    });
    const most = peak > 0 ? `; at most ${this.format(peak)}` : "";
    this.svg.setAttribute("aria-label", `${this.title} over the last ${durationInWords(to - from)}: ${facts.join(", ")}${most}`);
  }

  #point() {
    const [from, to] = this.span ?? [0, 1];
    let sample = this.samples?.at(-1);
    if (this.pointed !== null && this.samples?.length > 0) {
      const time = from + this.pointed * (to - from);
      sample = this.samples.reduce((best, each) => (Math.abs(each.time - time) < Math.abs(best.time - time) ? each : best));
      const x = ((sample.time - from) / (to - from)) * WIDTH;
      this.cursor.setAttribute("x1", x);
      this.cursor.setAttribute("x2", x);
    }
    this.cursor.setAttribute("visibility", this.pointed === null ? "hidden" : "visible");
    setText(this.when, this.pointed === null || !sample ? "" : `${durationInWords(to - sample.time)} ago`);
    this.legend.forEach((element, place) => {
      const value = sample?.values[place] ?? null;
      setText(element, value === null ? "–" : this.format(value));
    });
  }
}
