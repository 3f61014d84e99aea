// The outlines of candidates on a slice, beside the voxels that they mark.

import {edges} from './labels.js';
import {clamp} from './planes.js';

// The strips below the images and the list have these colours in page.css.
const COLOURS = {
  unread: '#5fd4f4', accept: '#7fe3a3', reject: '#ff9a94', unsure: '#ffcf70',
  other: '#b4bec8',
};

export const colourOf = (verdict) => COLOURS[verdict || 'unread'];

// Lines around voxels of two pixels would hide what they mark; who draws
// must see them all the same.
export function outlined(viewer, map, {u, v}) {
  const {spacing} = viewer.grid;
  return map.scale * Math.min(spacing[u], spacing[v]) >= 2 ||
    ['brush', 'eraser', 'grow'].includes(viewer.tool);
}

// pixels: Map of u + nu * v to the number of a candidate.
export function drawOutlines(viewer, {context, plane}, map, pixels) {
  const {fill} = viewer.overlay;
  const lines = outlined(viewer, map, plane); // else brackets must do
  if (!fill && !lines) return;
  const boxes = boxesOf(viewer, map, plane, pixels);
  if (fill) {
    context.globalAlpha = 0.38;
    for (const [item, rectangles] of boxes) {
      context.fillStyle = colourOf(viewer.verdict(item));
      for (const one of rectangles) context.fillRect(...one);
    }
    context.globalAlpha = 1;
  }
  if (!lines) return;
  const {spacing, dim} = viewer.grid;
  const [du, dv] = [spacing[plane.u], spacing[plane.v]];
  const voxel = map.scale * Math.min(du, dv);
  for (const [item, path] of edges(pixels, dim[plane.u])) {
    const verdict = viewer.verdict(item);
    const mine = item === viewer.current;
    context.save();
    // Beside the voxels, never on them: half of a double line is cut off.
    context.clip(around(boxes.get(item)), 'evenodd');
    context.strokeStyle = colourOf(verdict);
    context.globalAlpha = mine ? 1 : 0.75;
    context.lineWidth = 2 * clamp(voxel / 4, 0.7, mine ? 1.5 : 1);
    context.lineCap = 'square';
    context.setLineDash(verdict === 'reject' ? [3, 3.5] : []);
    context.beginPath();
    for (let i = 0; i < path.length; i += 4) {
      context.moveTo(...map.toScreen(path[i] * du, path[i + 1] * dv));
      context.lineTo(...map.toScreen(path[i + 2] * du, path[i + 3] * dv));
    }
    context.stroke();
    context.restore();
  }
}

// By number: [x, y, width, height] on the screen of each of its pixels.
function boxesOf({grid: {dim, spacing}}, map, {u, v}, pixels) {
  const found = new Map();
  for (const [pixel, item] of pixels) {
    const a = pixel % dim[u];
    const b = (pixel - a) / dim[u];
    const [x0, y0] = map.toScreen(a * spacing[u], b * spacing[v]);
    const [x1, y1] = map.toScreen((a + 1) * spacing[u], (b + 1) * spacing[v]);
    if (!found.has(item)) found.set(item, []);
    found.get(item).push([Math.min(x0, x1), y1, Math.abs(x1 - x0), y0 - y1]);
  }
  return found;
}

// The whole pane, and the boxes once more: even-odd, they fall out.
function around(boxes) {
  const path = new Path2D();
  path.rect(-1e4, -1e4, 3e4, 3e4);
  for (const one of boxes) path.rect(...one);
  return path;
}
