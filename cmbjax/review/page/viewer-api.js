// The small interface behind which the viewers stand, and the choice of one.
//
//   new Viewer(host, hooks)        host: an element that it fills
//   load(grid, labels)             grid: {dim, spacing, affine, oblique_deg}
//   setImage({raw, slope, intercept, label, judged})
//   setWindow(low, high)           in intensities
//   setSlab(mm)                    minimum-intensity slab; 0: single slices
//   setOverlay({shown, fill})      outlines, or filled as well
//   setItems(items, current)       items: Map number -> item; current: number
//   setTool(name, mm)              null, 'brush', 'eraser', 'grow', 'window'
//   setOptions({radiological, smooth, crosshair, quiet})
//   setField(mm, centre)           null: everything
//   jump(ijk), position, active    active: index of the plane worked on
//   refresh()                      draws now, after labels have changed
//   destroy()
//
// hooks: onMove(ijk), onWindow(low, high), onField(mm), onActive(plane),
//   onGrow(ijk), onLost(reason), paint(phase, point, plane, erase) with phase
//   'begin' (answers whether it may), 'move' or 'end'; points in voxel units.

export const COLOURS = {
  unread: '#5fd4f4', accept: '#7fe3a3', reject: '#ff9a94', unsure: '#ffcf70',
  other: '#b4bec8',
};

export const colourOf = (verdict) => COLOURS[verdict || 'unread'];

// The verdict that the images show: where it must not tell of another reading,
// that of the current candidate only. 'other': is not said.
export const shownVerdict = (item, current, quiet) =>
  (quiet && item?.item !== current ? 'other' : item?.verdict);

export function webgl2() {
  const gl = document.createElement('canvas').getContext('webgl2');
  if (!gl) return {there: false, software: false};
  const more = gl.getExtension('WEBGL_debug_renderer_info');
  const name = more ? gl.getParameter(more.UNMASKED_RENDERER_WEBGL) : '';
  gl.getExtension('WEBGL_lose_context')?.loseContext();
  return {there: true, software: /SwiftShader|llvmpipe/i.test(name)};
}

// The viewer that was asked for, or Canvas2D with the reason why not.
export async function makeViewer(wanted, host, hooks) {
  const {FlatViewer} = await import('./flat.js');
  let note = '';
  if (wanted !== 'flat') {
    const gl = webgl2();
    if (gl.there && (wanted === 'niivue' || !gl.software)) {
      try {
        const {NiivueViewer} = await import('./niivue-adapter.js');
        return {viewer: await NiivueViewer.make(host, hooks), kind: 'niivue',
          note};
      } catch (error) {
        host.replaceChildren();
        note = `NiiVue did not start (${error.message}).`;
      }
    } else if (wanted === 'niivue') {
      note = 'NiiVue needs WebGL2, which this browser does not offer.';
    }
    if (note) note += ' The plain viewer is shown instead.';
  }
  return {viewer: new FlatViewer(host, hooks), kind: 'flat', note};
}
