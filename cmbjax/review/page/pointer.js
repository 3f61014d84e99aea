// Mouse, pen, touch and wheel on the images.
//
// Left: crosshair, or the tool. Shift + left or middle: pan. Right: window.
// Wheel: slices; Ctrl + wheel: zoom. One finger: tap for the crosshair, drag
// to pan (slices when everything is in sight). Two fingers: zoom and pan.

export function listen(viewer) {
  for (const pane of viewer.panes) {
    const input = new Input(viewer, pane);
    const {canvas} = pane;
    const on = (...how) => canvas.addEventListener(...how);
    on('pointerdown', (event) => input.down(event));
    on('pointermove', (event) => input.move(event));
    on('pointerup', (event) => input.up(event));
    on('pointercancel', (event) => input.up(event));
    on('pointerleave', () => input.leave());
    on('wheel', (event) => input.wheel(event), {passive: false});
    on('contextmenu', (event) => event.preventDefault());
  }
}

class Input {
  constructor(viewer, pane) {
    Object.assign(this, {viewer, pane, fingers: new Map(), mode: null,
      rest: 0});
  }

  place(event) {
    const box = this.pane.canvas.getBoundingClientRect();
    return [event.clientX - box.x, event.clientY - box.y];
  }

  down(event) {
    const {viewer, pane} = this;
    if (!viewer.image) return;
    event.preventDefault();
    document.activeElement?.blur();
    pane.canvas.setPointerCapture(event.pointerId);
    viewer.active = pane.number;
    const [x, y] = this.place(event);
    if (event.pointerType === 'touch') {
      this.fingers.set(event.pointerId, [x, y]);
      if (this.fingers.size === 2) {
        this.stop();
        this.mode = 'pinch';
        this.spread = this.pinch();
        return;
      }
      if (this.fingers.size > 2) return;
    }
    this.start = [x, y];
    this.before = [x, y];
    this.moved = 0;
    this.mode = this.choose(event);
    if (this.mode === 'cross') this.cross(x, y);
    if (this.mode === 'grow') {
      this.mode = null;
      viewer.hooks.onGrow(viewer.point(pane, x, y));
    }
    if (this.mode === 'paint') this.paint('begin', event);
  }

  choose(event) {
    const {tool, field} = this.viewer;
    if (event.button === 2 || (tool === 'window' && event.button === 0)) {
      this.viewer.drag = [...this.viewer.window];
      return 'window';
    }
    if (event.button === 1 || (event.button === 0 && event.shiftKey)) {
      return 'pan';
    }
    if (event.button !== 0) return null;
    if (tool === 'brush' || tool === 'eraser') return 'paint';
    if (tool === 'grow') return 'grow';
    if (event.pointerType === 'touch') return field ? 'pan' : 'slices';
    return 'cross';
  }

  move(event) {
    const {viewer, pane} = this;
    if (!viewer.image) return;
    const [x, y] = this.place(event);
    viewer.pointer = {pane, x, y, erase: event.ctrlKey};
    if (event.pointerType === 'touch' && this.fingers.has(event.pointerId)) {
      this.fingers.set(event.pointerId, [x, y]);
    }
    if (this.mode === 'pinch') this.pinched();
    else if (this.mode) this.drag(event, x, y);
    else if (viewer.tool) viewer.later();
  }

  drag(event, x, y) {
    const {viewer, pane} = this;
    const [dx, dy] = [x - this.before[0], y - this.before[1]];
    this.before = [x, y];
    this.moved += Math.abs(dx) + Math.abs(dy);
    if (this.mode === 'cross') this.cross(x, y);
    if (this.mode === 'pan') viewer.pan(pane, dx, dy);
    if (this.mode === 'window') this.contrast(x, y);
    if (this.mode === 'slices') this.scroll(dy / 9);
    if (this.mode === 'paint') this.paint('move', event);
  }

  up(event) {
    const {viewer, pane} = this;
    const [x, y] = this.place(event);
    const tapped = event.pointerType === 'touch' && this.moved < 8 &&
      (this.mode === 'pan' || this.mode === 'slices');
    this.fingers.delete(event.pointerId);
    if (this.mode === 'pinch' && this.fingers.size) return;
    if (tapped && event.type === 'pointerup') this.cross(x, y);
    this.stop();
    if (event.pointerType === 'touch') viewer.pointer = null;
    viewer.active = pane.number;
    viewer.later();
  }

  stop() {
    if (this.mode === 'paint') this.viewer.hooks.paint('end');
    this.mode = null;
  }

  leave() {
    if (this.viewer.pointer?.pane === this.pane) {
      this.viewer.pointer = null;
      if (this.viewer.tool) this.viewer.later();
    }
  }

  cross(x, y) { this.viewer.jump(this.viewer.point(this.pane, x, y)); }

  // Every position that the pen has passed, not only the last of a frame.
  paint(phase, event) {
    const {viewer, pane} = this;
    const erase = viewer.tool === 'eraser' || event.ctrlKey;
    const all = event.getCoalescedEvents?.() ?? [];
    for (const one of all.length ? all : [event]) {
      const point = viewer.point(pane, ...this.place(one));
      const may = viewer.hooks.paint(phase, point, pane.plane, erase);
      if (phase === 'begin' && !may) { this.mode = null; return; }
    }
    viewer.later();
  }

  // Right widens, up brightens.
  contrast(x, y) {
    const {viewer} = this;
    const [low, high] = viewer.drag;
    const range = Math.max(high - low, 1e-6);
    const wide = range * Math.exp((x - this.start[0]) / 220);
    const middle = (low + high) / 2 + (y - this.start[1]) / 320 * range;
    viewer.setWindow(middle - wide / 2, middle + wide / 2);
    viewer.hooks.onWindow(...viewer.window);
  }

  scroll(by) {
    this.rest += by;
    const whole = Math.trunc(this.rest);
    if (!whole) return;
    this.rest -= whole;
    this.viewer.step(-whole, this.pane.number);
  }

  wheel(event) {
    const {viewer, pane} = this;
    event.preventDefault();
    if (!viewer.image) return;
    viewer.active = pane.number;
    const unit = event.deltaMode === 1 ? 33 : event.deltaMode === 2 ? 400 : 1;
    const delta = event.deltaY * unit;
    if (event.ctrlKey || event.metaKey) {
      viewer.zoom(pane, ...this.place(event), Math.exp(-delta / 400));
      return;
    }
    // A notch of a wheel is one slice; a touchpad sends many small ones.
    if (Math.abs(delta) >= 50) {
      this.rest = 0;
      viewer.step(delta < 0 ? 1 : -1, pane.number);
    } else this.scroll(delta / 30);
  }

  pinch() {
    const [[ax, ay], [bx, by]] = [...this.fingers.values()];
    return {apart: Math.hypot(ax - bx, ay - by), x: (ax + bx) / 2,
      y: (ay + by) / 2};
  }

  pinched() {
    if (this.fingers.size < 2) return;
    const now = this.pinch();
    this.viewer.zoom(this.pane, now.x, now.y,
      now.apart / Math.max(this.spread.apart, 1));
    this.viewer.pan(this.pane, now.x - this.spread.x, now.y - this.spread.y);
    this.spread = now;
  }
}
