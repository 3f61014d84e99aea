// The line under the images: where the crosshair is and what is there.

import {$} from './dom.js';
import {indexOf, world} from './planes.js';

const LETTERS = [['L', 'R'], ['P', 'A'], ['I', 'S']];

// Three digits at most: 0.123, 87, 1204.
export function round(value) {
  const size = Math.abs(value);
  return String(Number(value.toFixed(size >= 20 ? 0 : size >= 2 ? 1 : 3)));
}

export function readout({viewer, review, sequence}) {
  if (!viewer?.image || !sequence) return;
  const at = viewer.position;
  const mm = world(at, review.meta.affine).map((one, axis) =>
    `${LETTERS[axis][one >= 0 ? 1 : 0]} ${Math.abs(one).toFixed(1)}`);
  $('where').textContent = `${mm.join('  ')} mm · voxel ${at.join(', ')}`;
  const raw = viewer.image.raw[indexOf(at, review.meta.dim)];
  const value = raw * sequence.slope + sequence.intercept;
  $('grey').textContent = `${sequence.label} ${round(value)}`;
  const [low, high] = viewer.window;
  $('windowed').textContent = `Window ${round(low)} to ${round(high)}`;
}

export function protocol({review}) {
  const {protocol: known, oblique_deg: tilt, spacing} = review.meta;
  const words = [spacing.map((one) => round(one)).join(' × ') + ' mm'];
  if (known?.field_t) words.unshift(`${round(known.field_t)} T`);
  if (known?.echo_time_s) {
    words.splice(-1, 0, `TE ${round(known.echo_time_s * 1000)} ms`);
  }
  $('protocol').textContent = words.join(' · ');
  $('oblique').textContent = tilt > 0.5
    ? `Oblique by ${tilt.toFixed(0)}°: shown along the voxel axes` : '';
}
