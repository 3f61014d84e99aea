// What is drawn on top of a slice: crosshair, letters, scale bar, captions,
// the mark around the current candidate, and the brush.

import {colourOf, outlined} from './outlines.js';
import {slabCount} from './planes.js';

const INK = '#c9d1d9';
const FONT = 'system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif';
const BARS_MM = [100, 50, 20, 10, 5, 2, 1];

export function annotate(viewer, pane, map, shown, pixels) {
  if (viewer.options.crosshair) crosshair(viewer, pane, map);
  if (viewer.overlay.shown) {
    points(viewer, pane, map, shown);
    brackets(viewer, pane, map, pixels);
  }
  letters(viewer, pane, map);
  caption(viewer, pane);
  bar(pane, map);
  brush(viewer, pane, map);
}

function text(context, words, x, y, {align = 'left', size = 12, ink = INK,
  weight = 500} = {}) {
  context.font = `${weight} ${size}px ${FONT}`;
  context.textAlign = align;
  context.lineWidth = 3;
  context.lineJoin = 'round';
  context.strokeStyle = 'rgb(0 0 0 / .8)';
  context.strokeText(words, x, y);
  context.fillStyle = ink;
  context.fillText(words, x, y);
}

function crosshair(viewer, {context, plane, width, height}, map) {
  const here = viewer.millimetres(viewer.position);
  const [x, y] = map.toScreen(here[plane.u], here[plane.v]);
  const gap = Math.max(11, 3.2 * map.scale);
  context.strokeStyle = 'rgb(232 198 106 / .62)';
  context.lineWidth = 1;
  context.beginPath();
  for (const [x0, y0, x1, y1] of [
    [0, y, x - gap, y], [x + gap, y, width, y],
    [x, 0, x, y - gap], [x, y + gap, x, height]]) {
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
  }
  context.stroke();
}

// Candidates without an outline are small rings.
function points(viewer, {context, plane}, map, [first, last]) {
  for (const [number, item] of viewer.items) {
    if (viewer.labels.voxels(number).length ||
        viewer.labels.hides(number, viewer.current)) continue;
    const [near, far] = [item.ijk[plane.w] - 1, item.ijk[plane.w] + 1];
    if (far < first || near > last) continue;
    const mm = viewer.millimetres(item.ijk);
    const [x, y] = map.toScreen(mm[plane.u], mm[plane.v]);
    const verdict = viewer.verdict(number);
    context.lineWidth = number === viewer.current ? 1.75 : 1.1;
    ring(context, [x, y], Math.max(5, 2 * map.scale), colourOf(verdict),
      verdict === 'reject' ? [3, 2.5] : []);
  }
}

function ring(context, centre, radius, colour, dashes) {
  context.strokeStyle = colour;
  context.setLineDash(dashes);
  context.beginPath();
  context.arc(...centre, radius, 0, 7); // more than all the way round
  context.stroke();
  context.setLineDash([]);
}

// Four corners around the current candidate, clear of the lesion itself;
// small ones around the others where there is no room for their outline.
function brackets(viewer, pane, map, pixels) {
  const {context, plane} = pane;
  const {dim, spacing} = viewer.grid;
  const mine = viewer.current;
  const others = !outlined(viewer, map, plane);
  for (const [number, box] of boxes(pixels, dim[plane.u])) {
    if (number !== mine && !others) continue;
    const [x0, y0] = map.toScreen(box[0] * spacing[plane.u],
      box[3] * spacing[plane.v]);
    const [x1, y1] = map.toScreen(box[2] * spacing[plane.u],
      box[1] * spacing[plane.v]);
    const [room, arm] = number === mine ? [7, 6] : [4, 3];
    const [left, right] = [Math.min(x0, x1) - room, Math.max(x0, x1) + room];
    const [top, bottom] = [y0 - room, y1 + room];
    context.strokeStyle = colourOf(viewer.verdict(number));
    context.lineWidth = number === mine ? 1.5 : 1;
    context.beginPath();
    for (const [x, y, sx, sy] of [[left, top, 1, 1], [right, top, -1, 1],
      [left, bottom, 1, -1], [right, bottom, -1, -1]]) {
      context.moveTo(x + sx * arm, y);
      context.lineTo(x, y);
      context.lineTo(x, y + sy * arm);
    }
    context.stroke();
  }
}

// By number: the first u and v, and the ends, of its pixels.
function boxes(pixels, nu) {
  const found = new Map();
  for (const [pixel, number] of pixels) {
    const u = pixel % nu;
    const v = (pixel - u) / nu;
    const [a, b, c, d] = found.get(number) || [u, v, u, v];
    found.set(number, [Math.min(a, u), Math.min(b, v), Math.max(c, u + 1),
      Math.max(d, v + 1)]);
  }
  return found;
}

function letters(viewer, pane, map) {
  const {context, width, height} = pane;
  const [left, right, bottom, top] = viewer.sides(pane, map);
  const much = {size: 13, weight: 650, ink: '#e6b95c'};
  text(context, left, 7, height / 2 - 8, much);
  const gutter = pane.number === viewer.options.gutter ? 25 : 7;
  text(context, right, width - gutter, height / 2 - 8,
    {...much, align: 'right'});
  text(context, top, width / 2 + 9, width < 260 ? 36 : 17, much);
  text(context, bottom, width / 2 + 9, height - 8, much);
}

// ↕: the plane whose slices the arrow keys step through.
function caption(viewer, {context, plane, width, number}) {
  const {dim, spacing} = viewer.grid;
  const size = width > 640 ? 14 : 12;
  const lines = [[`${plane.name} ${viewer.position[plane.w] + 1}/` +
    dim[plane.w] + (viewer.active === number ? ' ↕' : ''), INK]];
  const count = slabCount(viewer.slab, spacing[plane.w]);
  if (count > 1) {
    const mm = (count * spacing[plane.w]).toFixed(1).replace(/\.0$/, '');
    lines.push([`minIP ${mm} mm · ${count} slices`, '#8fd3ef']);
  }
  if (plane.w === 2 && viewer.image.label) {
    lines.push([viewer.image.label, INK]);
  }
  lines.forEach(([words, ink], at) => text(context, words, 9,
    size + 7 + at * (size + 5), {size, ink, weight: at ? 500 : 600}));
}

function bar({context, width, height}, map) {
  const mm = BARS_MM.find((one) => one * map.scale < width * 0.24) || 1;
  const length = mm * map.scale;
  const y = height - 12;
  context.lineWidth = 4;
  context.strokeStyle = 'rgb(0 0 0 / .75)';
  for (let pass = 0; pass < 2; pass++) {
    context.beginPath();
    context.moveTo(10, y - 4);
    context.lineTo(10, y);
    context.lineTo(10 + length, y);
    context.lineTo(10 + length, y - 4);
    context.stroke();
    context.lineWidth = 1.5;
    context.strokeStyle = INK;
  }
  text(context, `${mm} mm`, 10 + length + 7, y + 1, {size: 11});
}

function brush(viewer, pane, map) {
  const {pointer, tool} = viewer;
  if (!pointer || pointer.pane !== pane) return;
  if (tool !== 'brush' && tool !== 'eraser') return;
  const {context} = pane;
  const erase = tool === 'eraser' || pointer.erase;
  context.lineWidth = 1.2;
  ring(context, [pointer.x, pointer.y], Math.max(2, viewer.mm / 2 * map.scale),
    erase ? '#ff9a94' : '#fff', erase ? [3, 3] : []);
}
