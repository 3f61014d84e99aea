// NiiVue 0.69.0 behind the same small interface. The only file that knows it.
//
// The browser shows, the server owns geometry: NiiVue gets voxels in RAS
// order and gives voxels back; painting is our own, in our own labels.

import {PLANES, nearest, slabCount, slabRange} from './planes.js';
import {shownVerdict} from './viewer-api.js';

const STATES = {unread: 1, accept: 2, reject: 3, unsure: 4, other: 5};
const COLOURS = { // 0 nothing, then the states
  R: [0, 95, 127, 255, 255, 180], G: [0, 212, 227, 154, 207, 190],
  B: [0, 244, 163, 148, 112, 200], A: [0, 255, 255, 255, 255, 255],
  I: [0, 1, 2, 3, 4, 5],
  labels: ['', 'unread', 'accepted', 'rejected', 'unsure', 'other'],
};
const LAYOUT = [
  {sliceType: 0, position: [0, 0, 0.62, 1]},
  {sliceType: 1, position: [0.62, 0, 0.38, 0.5]},
  {sliceType: 2, position: [0.62, 0.5, 0.38, 0.5]},
];

function library() {
  if (globalThis.niivue) return Promise.resolve();
  return new Promise((done, fail) => {
    const script = document.createElement('script');
    script.src = 'static/vendor/niivue.umd.js';
    script.onload = done;
    script.onerror = () => fail(new Error('its file cannot be read'));
    document.head.append(script);
  });
}

// A NIfTI-1 file without extensions: traps 2 and 8 of NiiVue stay away.
function nifti({dim, spacing, affine}, {raw, slope, intercept}, window) {
  const bytes = new ArrayBuffer(352 + raw.byteLength);
  const view = new DataView(bytes);
  view.setInt32(0, 348, true);
  [3, ...dim, 1, 1, 1, 1].forEach((one, at) =>
    view.setInt16(40 + 2 * at, one, true));
  view.setInt16(70, 4, true); // int16
  view.setInt16(72, 16, true);
  [1, ...spacing, 0, 0, 0, 0].forEach((one, at) =>
    view.setFloat32(76 + 4 * at, one, true));
  view.setFloat32(108, 352, true);
  view.setFloat32(112, slope, true);
  view.setFloat32(116, intercept, true);
  view.setUint8(123, 2); // mm
  view.setFloat32(124, window[1], true); // else it looks for a window itself
  view.setFloat32(128, window[0], true);
  view.setInt16(254, 1, true);
  affine.slice(0, 3).flat().forEach((one, at) =>
    view.setFloat32(280 + 4 * at, one, true));
  'n+1'.split('').forEach((one, at) =>
    view.setUint8(344 + at, one.charCodeAt(0)));
  new Int16Array(bytes, 352).set(raw);
  return bytes;
}

export class NiivueViewer {
  static async make(host, hooks) {
    await library();
    const viewer = new NiivueViewer(host, hooks);
    await viewer.nv.attachToCanvas(viewer.canvas);
    if (!viewer.nv.gl) throw new Error('no WebGL2');
    viewer.nv.setCustomLayout(LAYOUT);
    return viewer;
  }

  constructor(host, hooks) {
    Object.assign(this, {host, hooks, position: [0, 0, 0], active: 0, slab: 0,
      field: null, items: new Map(), current: null, tool: null, mm: 3,
      overlay: {shown: true, fill: false}, window: [0, 1],
      options: {radiological: true, smooth: false, crosshair: true}});
    this.canvas = document.createElement('canvas');
    this.canvas.setAttribute('role', 'img');
    this.canvas.setAttribute('aria-label', 'Axial, coronal and sagittal ' +
      'slice');
    host.replaceChildren(this.canvas);
    this.nv = new globalThis.niivue.Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [0.91, 0.78, 0.42, 0.7],
      crosshairWidth: 0.5, crosshairWidthUnit: 'mm', crosshairGap: 5,
      isRadiologicalConvention: true, sagittalNoseLeft: true,
      isCornerOrientationText: true, multiplanarShowRender: 0,
      isColorbar: false, dragAndDropEnabled: false, viewModeHotKey: '',
      clipPlaneHotKey: '', cycleClipPlaneHotKey: '', isRuler: false,
      isForceMouseClickToVoxelCenters: true, logLevel: 'error',
    });
    this.nv.onLocationChange = (found) => this.located(found);
    this.abort = new AbortController();
    const {signal} = this.abort;
    host.addEventListener('pointerdown', (event) => {
      document.activeElement?.blur();
      this.pressed = event.button === 0;
      this.erase = event.ctrlKey;
      this.begun = false;
    }, {signal, capture: true});
    addEventListener('pointerup', () => this.up(), {signal});
    this.canvas.addEventListener('webglcontextlost', (event) => {
      event.preventDefault();
      this.hooks.onLost('The graphics context was lost.');
    }, {signal});
    // NiiVue's own keys stay away: ours are caught on the window.
    this.canvas.addEventListener('keydown', (event) =>
      event.preventDefault(), {signal, capture: true});
  }

  load(grid, labels) {
    Object.assign(this, {grid, labels, image: null, field: null});
    this.position = grid.dim.map((size) => size >> 1);
  }

  // The file is made once per case; later sequences and slabs are swapped in.
  setImage(image) {
    const fresh = !this.image;
    this.image = image;
    this.slabbed = null;
    if (fresh) this.ready = this.begin(image);
    else this.ready = this.ready.then(() => this.swap());
  }

  async begin(image) {
    const {nv} = this;
    while (nv.volumes.length) nv.removeVolume(nv.volumes[0]);
    await nv.loadFromArrayBuffer(nifti(this.grid, image, this.window),
      'case.nii');
    nv.createEmptyDrawing();
    nv.drawLut = globalThis.niivue.cmapper.makeDrawLut(COLOURS);
    this.loaded = true;
    if (this.slab) this.swap();
    else this.contrast();
    this.jump(this.position);
    this.paintLabels();
  }

  // NiiVue has no slab: the base array is replaced (an overlay would hide
  // the outlines). Along the axial slices only; the caption says so.
  swap() {
    if (!this.loaded) return;
    const [base] = this.nv.volumes;
    const count = slabCount(this.slab, this.grid.spacing[2]);
    base.hdr.scl_slope = this.image.slope;
    base.hdr.scl_inter = this.image.intercept;
    base.img = count > 1 ? this.slabOf(count) : this.image.raw;
    this.contrast();
  }

  slabOf(count) {
    if (this.slabbed?.count === count) return this.slabbed.voxels;
    const {raw} = this.image;
    const [X, Y, Z] = this.grid.dim;
    const size = X * Y;
    const voxels = new Int16Array(raw.length);
    for (let z = 0; z < Z; z++) {
      const [first, last] = slabRange(z, count, Z);
      const out = voxels.subarray(z * size, (z + 1) * size);
      out.set(raw.subarray(first * size, (first + 1) * size));
      for (let k = first + 1; k <= last; k++) {
        const slice = raw.subarray(k * size, (k + 1) * size);
        for (let i = 0; i < size; i++) if (slice[i] < out[i]) out[i] = slice[i];
      }
    }
    this.slabbed = {count, voxels};
    return voxels;
  }

  // Shading a volume is slow without a GPU: once, whatever was asked.
  contrast() {
    if (!this.loaded) return;
    clearTimeout(this.shading);
    this.shading = setTimeout(() => {
      const [base] = this.nv.volumes;
      if (!this.loaded || !base) return;
      [base.cal_min, base.cal_max] = this.window;
      this.nv.updateGLVolume();
    }, 0);
  }

  setWindow(low, high) { this.window = [low, high]; this.contrast(); }
  setSlab(mm) { this.slab = mm; this.swap(); }

  setOverlay(overlay) {
    Object.assign(this.overlay, overlay);
    const {shown, fill} = this.overlay;
    this.nv.drawRimOpacity = fill ? -1 : 0.9;
    this.nv.setDrawOpacity(shown ? (fill ? 0.4 : 0.01) : 0);
    if (!shown) this.nv.drawRimOpacity = -1;
    this.draw();
  }

  setOptions(options) {
    Object.assign(this.options, options);
    const {nv} = this;
    nv.opts.isRadiologicalConvention = this.options.radiological;
    nv.opts.crosshairWidth = this.options.crosshair ? 0.5 : 0;
    nv.setInterpolation(!this.options.smooth);
    this.draw();
  }

  setItems(items, current) {
    const key = [current, ...[...items.values()].map((one) =>
      `${one.item}${one.verdict}${this.labels?.voxels(one.item).length}`)]
      .join();
    Object.assign(this, {items, current});
    if (key === this.key) return;
    this.key = key;
    this.paintLabels();
  }

  // States, not numbers: NiiVue's drawing holds bytes (trap 3).
  paintLabels() {
    if (!this.loaded) return;
    const drawing = this.nv.drawBitmap;
    drawing.fill(0);
    for (const number of this.labels.items()) {
      const item = this.items.get(number);
      if (!item || this.labels.hides(number, this.current)) continue;
      const state = STATES[shownVerdict(item, this.current,
        this.options.quiet) || 'unread'];
      for (const index of this.labels.voxels(number)) drawing[index] = state;
    }
    this.nv.refreshDrawing(true);
  }

  setTool(name, mm = this.mm) {
    Object.assign(this, {tool: name, mm});
    this.host.dataset.tool = name || '';
    const {DRAG_MODE} = globalThis.niivue;
    this.nv.opts.dragMode = DRAG_MODE.contrast;
    this.nv.opts.dragModePrimary = name === 'window'
      ? DRAG_MODE.windowing : DRAG_MODE.crosshair;
  }

  setField(mm, centre = this.position) {
    this.field = mm;
    this.hooks.onField(mm);
    if (!this.loaded) return;
    if (!mm) {
      this.nv.setPan2Dxyzmm([0, 0, 0, 1]);
      return;
    }
    const {dim, spacing, affine} = this.grid;
    const zoom = Math.max(1, Math.max(dim[0] * spacing[0],
      dim[1] * spacing[1]) / mm);
    const at = [0, 1, 2].map((row) => affine[row][3] + affine[row]
      .slice(0, 3).reduce((sum, one, axis) => sum + one * centre[axis], 0));
    this.nv.setPan2Dxyzmm([...at.map((one) => -one * zoom), zoom]);
  }

  jump(ijk) {
    this.position = nearest(ijk, this.grid.dim);
    this.hooks.onMove(this.position);
    if (!this.loaded) return;
    this.nv.scene.crosshairPos = this.position.map((one, axis) =>
      (one + 0.5) / this.grid.dim[axis]);
    this.draw();
  }

  step(by, number = this.active) {
    const to = [...this.position];
    to[PLANES[number].w] += by;
    this.jump(to);
  }

  located(found) {
    if (!this.loaded || !this.pressed) return;
    this.active = [0, 1, 2].includes(found.axCorSag) ? found.axCorSag : 0;
    const vox = [...found.vox].slice(0, 3).map(Math.round);
    if (this.tool === 'grow') {
      this.pressed = false;
      this.hooks.onGrow(vox);
      return;
    }
    if (this.tool === 'brush' || this.tool === 'eraser') {
      const plane = PLANES[this.active];
      const erase = this.tool === 'eraser' || this.erase;
      if (!this.begun && !this.hooks.paint('begin', vox, plane, erase)) {
        this.pressed = false;
        return;
      }
      if (this.begun) this.hooks.paint('move', vox, plane, erase);
      this.begun = true;
      this.paintLabels();
    }
    this.position = nearest(vox, this.grid.dim);
    this.hooks.onActive(this.active);
    this.hooks.onMove(this.position);
  }

  up() {
    if (this.begun) this.hooks.paint('end');
    if (this.pressed && this.loaded) {
      const [base] = this.nv.volumes;
      const moved = [base.cal_min, base.cal_max];
      if (moved.some((one, at) => Math.abs(one - this.window[at]) > 1e-6)) {
        this.window = moved;
        this.hooks.onWindow(...moved);
      }
    }
    this.pressed = this.begun = false;
  }

  draw() { if (this.loaded) this.nv.drawScene(); }
  refresh() { this.paintLabels(); }

  destroy() {
    this.abort.abort();
    this.loaded = false;
    clearTimeout(this.shading);
    this.nv.cleanup?.();
    this.host.replaceChildren();
  }
}
