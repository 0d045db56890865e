/** Charts: drawn as SVG, read by pointer, by keys, and as a table with the same numbers. */

import { make, table } from "./base.js";
import { number, t } from "./words.js";

// Okabe and Ito, "Color Universal Design" (2008), without the yellow, which nobody sees on white.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const DASHES = ["", "7 4", "2 3", "10 3 2 3", "4 2", "12 4"];
const HEIGHT = 260;
const MARGIN = { top: 12, right: 14, bottom: 42, left: 56 };
const NARROWEST = 240;

/**
 * Lines over a common x. What is null in y is a gap. `element.update(series, marks)` draws anew in place.
 * @param {{name: string, points: [number, number | null][], colour?: string}[]} series
 * @param {object} options `yRange` [lowest, highest], else what the points need; `marks` [{x, text}] are upright lines
 * @returns {HTMLElement} a figure
 */
export function lineChart(title, series, { xLabel = "", yLabel = "", yRange = null, marks = [], digits = 3 } = {}) {
  const drawing = make("div", { className: "plot", role: "slider", tabIndex: 0, "aria-label": t("{title}: values along {x}", { title, x: xLabel }) });
  const tip = make("div", { className: "reading", hidden: true });
  const legend = make("ul", { className: "legend" });
  const numbers = make("details", {}, make("summary", {}, t("The same as numbers")));
  const figure = make("figure", { className: "chart" }, make("figcaption", {}, title), legend, make("div", { className: "canvas" }, drawing, tip), numbers);
  const state = { series, marks, at: null, plane: null };

  const read = (place) => {
    const { xs } = state;
    if (!xs.length) return;
    state.at = Math.max(0, Math.min(place, xs.length - 1));
    const said = readingAt(state.series, xs[state.at], xLabel, digits);
    drawing.setAttribute("aria-valuenow", xs[state.at]);
    drawing.setAttribute("aria-valuetext", said);
    tip.textContent = said;
    tip.hidden = false;
    const [x] = state.plane.at(xs[state.at], 0);
    tip.style.left = `${Math.min(x + 8, Math.max(0, state.plane.width - 190))}px`;
    state.plane.cursor.setAttribute("x1", x);
    state.plane.cursor.setAttribute("x2", x);
    state.plane.cursor.setAttribute("visibility", "visible");
  };
  const leave = () => {
    tip.hidden = true;
    state.at = null;
    state.plane?.cursor.setAttribute("visibility", "hidden");
  };
  const draw = () => {
    state.xs = [...new Set(state.series.flatMap(({ points }) => points.map(([x]) => x)))].sort((a, b) => a - b);
    state.plane = plane(state, Math.max(NARROWEST, drawing.clientWidth || 640), { xLabel, yLabel, yRange });
    drawing.replaceChildren(state.plane.svg);
    legend.replaceChildren(...state.series.map(legendOf));
    const [first = 0] = state.xs;
    const last = state.xs.at(-1) ?? 0;
    for (const [name, value] of [["min", first], ["max", last], ["now", state.xs[state.at] ?? last]]) drawing.setAttribute(`aria-value${name}`, value);
    drawing.setAttribute("aria-valuetext", state.xs.length ? readingAt(state.series, state.xs[state.at] ?? last, xLabel, digits) : t("no values yet"));
    if (state.at !== null) read(state.at);
    if (numbers.open) tabulate();
  };
  const tabulate = () => {
    const head = [xLabel || "x", ...state.series.map(({ name }) => name)];
    const rows = state.xs.map((x) => [number(x), ...state.series.map((line) => number(valueAt(line, x), digits))]);
    numbers.replaceChildren(numbers.firstElementChild, table(title, head, rows, { className: "numbers" }));
  };

  drawing.addEventListener("pointermove", (event) => {
    const x = event.clientX - drawing.getBoundingClientRect().left;
    const distances = state.xs.map((value) => Math.abs(state.plane.at(value, 0)[0] - x));
    read(distances.indexOf(Math.min(...distances)));
  });
  drawing.addEventListener("pointerleave", leave);
  drawing.addEventListener("blur", leave);
  drawing.addEventListener("keydown", (event) => {
    const last = state.xs.length - 1;
    const at = state.at ?? last;
    const place = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1, Home: 0, End: last }[event.key];
    if (place === undefined) return;
    event.preventDefault();
    read(place);
  });
  numbers.addEventListener("toggle", () => numbers.open && tabulate());
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width && Math.round(contentRect.width) !== state.plane.width) draw();
  }).observe(drawing);
  figure.update = (newSeries, newMarks = state.marks) => {
    Object.assign(state, { series: newSeries, marks: newMarks });
    draw();
  };
  draw();
  return figure;
}

/**
 * Values as bars, each with its number.
 * @param {{name: string, value: number | null, colour?: string}[]} rows
 * @param {object} options `top` is the value of a full bar, else the largest of them
 */
export function bars(title, rows, { unit = "", top = null, digits = 0 } = {}) {
  const longest = top ?? Math.max(...rows.map(({ value }) => value ?? 0), 1e-9);
  const list = rows.map(({ name, value, colour }) => {
    const bar = make("span", { className: "bar", "aria-hidden": "true" });
    bar.style.width = `${(100 * (value ?? 0)) / longest}%`;
    bar.style.background = colour ?? COLOURS[0];
    return make("li", {}, make("span", { className: "name" }, name), make("span", { className: "track" }, bar),
      make("span", { className: "value" }, `${number(value, digits)}${unit && ` ${unit}`}`));
  });
  return make("figure", { className: "chart" }, make("figcaption", {}, title), make("ul", { className: "bars" }, ...list));
}

// -- Lines ---------------------------------------------------------------------------------------------------------------

const colourOf = (line, place) => line.colour ?? COLOURS[place % COLOURS.length];
const dashOf = (place) => DASHES[place % DASHES.length];
const valueAt = (line, x) => line.points.find(([each]) => each === x)?.[1] ?? null;

function readingAt(series, x, xLabel, digits) {
  const values = series.map((line) => [line.name, valueAt(line, x)]).filter(([, value]) => value !== null);
  return [`${xLabel} ${number(x)}`, ...values.map(([name, value]) => `${name} ${number(value, digits)}`)].join("\n");
}

function legendOf(line, place) {
  const sample = svg("svg", { viewBox: "0 0 28 8", width: 28, height: 8, "aria-hidden": "true" },
    svg("line", { x1: 0, x2: 28, y1: 4, y2: 4, stroke: colourOf(line, place), "stroke-width": 3, "stroke-dasharray": dashOf(place) }));
  return make("li", {}, sample, line.name);
}

/** The drawing at a width of the page: lines, axes, and where a point of the data lies. */
function plane({ series, marks, xs }, width, { xLabel, yLabel, yRange }) {
  const ys = series.flatMap(({ points }) => points.map(([, y]) => y)).filter((y) => Number.isFinite(y));
  const [low, high] = yRange ?? [Math.min(0, ...ys), Math.max(...ys, 1e-6)];
  const first = xs[0] ?? 0;
  const last = Math.max(xs.at(-1) ?? 1, first + 1);
  const right = width - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const at = (x, y) => [
    MARGIN.left + ((x - first) / (last - first)) * (right - MARGIN.left),
    bottom - ((y - low) / (high - low)) * (bottom - MARGIN.top),
  ];
  const words = (text, x, y, properties = {}) => svg("text", { x, y, fill: "currentColor", "font-size": 12, ...properties }, text);
  const rows = ticks(low, high, 5).map((value) => {
    const [, y] = at(first, value);
    return svg("g", {}, svg("line", { x1: MARGIN.left, x2: right, y1: y, y2: y, stroke: "var(--line)" }),
      words(shortNumber(value), MARGIN.left - 6, y + 4, { "text-anchor": "end" }));
  });
  const columns = ticks(first, last, width < 420 ? 4 : 8).filter(Number.isInteger).map((value) => (
    words(number(value), at(value, 0)[0], bottom + 17, { "text-anchor": "middle" })));
  const upright = marks.filter(({ x }) => x >= first && x <= last).map(({ x, text }, place) => {
    const [left] = at(x, 0);
    const isRight = left > (MARGIN.left + right) / 2;
    return svg("g", {}, svg("line", { x1: left, x2: left, y1: MARGIN.top, y2: bottom, stroke: "var(--quiet)", "stroke-dasharray": "3 3" }),
      words(text, left + (isRight ? -5 : 5), MARGIN.top + 12 + 15 * (place % 4), { "text-anchor": isRight ? "end" : "start" }));
  });
  const lines = series.flatMap((line, place) => {
    const paint = { stroke: colourOf(line, place), "stroke-width": 2.2, "stroke-dasharray": dashOf(place), fill: "none", "stroke-linejoin": "round" };
    return stretches(line.points).map((points) => {
      const spots = points.map(([x, y]) => at(x, Math.max(low, Math.min(y, high))));
      return spots.length === 1
        ? svg("circle", { cx: spots[0][0], cy: spots[0][1], r: 3, fill: paint.stroke })
        : svg("polyline", { ...paint, points: spots.map((spot) => spot.join(",")).join(" ") });
    });
  });
  const cursor = svg("line", { y1: MARGIN.top, y2: bottom, stroke: "currentColor", visibility: "hidden" });
  const drawn = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width: "100%", height: HEIGHT, "aria-hidden": "true" },
    ...rows, ...columns, ...upright, ...lines, cursor,
    words(xLabel, (MARGIN.left + right) / 2, HEIGHT - 6, { "text-anchor": "middle" }),
    words(yLabel, 0, 0, { "text-anchor": "middle", transform: `translate(13 ${(MARGIN.top + bottom) / 2}) rotate(-90)` }));
  return { svg: drawn, at, cursor, width: Math.round(width) };
}

/** Points without gaps, in pieces. */
function stretches(points) {
  const found = [[]];
  for (const point of points) {
    if (Number.isFinite(point[1])) found.at(-1).push(point);
    else found.push([]);
  }
  return found.filter((stretch) => stretch.length);
}

/** Round numbers from low to high, about so many. */
export function ticks(low, high, most) {
  const raw = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= raw * 0.999);
  const found = [];
  for (let place = Math.ceil(low / step - 1e-9); place * step <= high + 1e-9 * step; place += 1) found.push(Number((place * step).toPrecision(12)));
  return found;
}

const shortNumber = (value) => number(value, Number.isInteger(value) ? 0 : Math.min(6, Math.max(1, Math.ceil(-Math.log10(Math.abs(value) % 1 || 1)))));

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
