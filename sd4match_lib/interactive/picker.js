// The front of PickerCanvas: two pictures, numbered points, a correlation map. Python holds the state.
// A point (x, y) counts from the centre of the top left pixel, so it is drawn at ((x + 0.5), (y + 0.5)) * scale.

const SVG = "http://www.w3.org/2000/svg";
const RADIUS = 11;
const SLOP = 6; // how far a press may wander, in screen pixels, and still be a click
const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function svg(tag, attributes, parent) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  parent?.append(node);
  return node;
}

const round = (value) => Math.round(value * 100) / 100;
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const copy = (points) => points.map((point) => [...point]);
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function makePane(role, caption) {
  const pane = { role, scale: 1, image: make("img", { alt: caption, draggable: false }) };
  pane.heat = make("canvas", { className: "sd4-heat" });
  pane.svg = svg("svg", { class: "sd4-points" });
  pane.stage = make("div", { className: "sd4-stage" }, pane.image, pane.heat, pane.svg);
  pane.scroll = make("div", { className: "sd4-scroll" }, pane.stage);
  pane.caption = make("figcaption", {}, caption);
  pane.figure = make("figure", { className: "sd4-pane" }, pane.caption, pane.scroll);
  pane.figure.dataset.role = role;
  return pane;
}

function render({ model, el }) {
  let points = copy(model.get("points"));
  let history = [];
  let hovered = -1;
  let press = null; // {index, x, y, moved, before}
  const src = makePane("src", "source: click to add a point");
  const trg = makePane("trg", "target");
  const panes = [src, trg];
  const urls = {};

  const button = (label, title, action) =>
    make("button", { type: "button", className: "sd4-button", textContent: label, title, onclick: action });
  const undoButton = button("Undo", "take back the last change (Ctrl+Z)", () => undo());
  const deleteButton = button("Delete", "delete the selected point (Delete)", () => remove(selected()));
  const clearButton = button("Clear", "delete all points", () => commit([]));
  const mapButton = button("Map", "keep the selected point's correlation map on the target (m)", () =>
    save({ overlay: !model.get("overlay") }),
  );
  const zoomOut = button("−", "zoom out (-)", () => step(-1));
  const fitButton = button("Fit", "fit to width (0)", () => save({ zoom: 1 }));
  fitButton.style.minWidth = "84px"; // of its longest label
  const zoomIn = button("+", "zoom in (+)", () => step(1));
  const copyButton = button("Copy JSON", "copy points and matches as JSON", () => copyJson());
  const saveButton = button("Save picture", "save both pictures with their points as PNG", () => savePicture());
  const status = make("span", { className: "sd4-status", ariaLive: "polite" });
  const error = make("div", { className: "sd4-error", hidden: true });
  error.setAttribute("role", "alert");
  const shown = make("textarea", { className: "sd4-json", hidden: true, readOnly: true, rows: 6 });
  const tools = make("div", { className: "sd4-tools" }, undoButton, deleteButton, clearButton, mapButton);
  tools.append(zoomOut, fitButton, zoomIn, copyButton, saveButton, status);
  const pair = make("div", { className: "sd4-pair" }, src.figure, trg.figure);
  el.classList.add("sd4-picker");
  el.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's own keys stay out of the picker
  el.append(tools, error, pair, shown);
  src.svg.setAttribute("tabindex", "0");
  src.svg.setAttribute("role", "application");
  src.svg.setAttribute(
    "aria-label",
    "source picture: Enter adds a point, 1 to 9 select, arrows move, Delete deletes, Ctrl+Z takes back",
  );

  const size = (pane) => model.get(`${pane.role}_hw`);
  const selected = () => Math.min(model.get("selected"), points.length - 1);
  const match = (index) => {
    const found = model.get("matches")[index];
    return found && points[index] && same(found.src, points[index]) ? found : null;
  };

  function save(values) {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  }

  function commit(next, chosen = null, before = points) {
    history.push(copy(before));
    points = next;
    hovered = -1; // who knows what lies under the pointer now; its next move tells
    save({ points: copy(points), selected: chosen ?? Math.min(model.get("selected"), next.length - 1) });
    draw();
  }

  function undo() {
    if (!history.length) return;
    points = history.pop();
    hovered = -1;
    save({ points: copy(points), selected: Math.min(model.get("selected"), points.length - 1) });
    draw();
  }

  function remove(index) {
    if (index >= 0) commit(points.filter((_, other) => other !== index), Math.min(index, points.length - 2));
  }

  function inside([x, y]) {
    const [height, width] = size(src);
    return [round(Math.min(Math.max(x, 0), width - 1)), round(Math.min(Math.max(y, 0), height - 1))];
  }

  function placeOf(event) {
    const box = src.svg.getBoundingClientRect();
    const to = (position, start) => (position - start) / src.scale - 0.5;
    return inside([to(event.clientX, box.left), to(event.clientY, box.top)]);
  }

  function step(direction) {
    const at = ZOOMS.findIndex((zoom) => zoom >= model.get("zoom"));
    save({ zoom: ZOOMS[Math.min(Math.max(at + direction, 0), ZOOMS.length - 1)] });
  }

  function layout() {
    for (const pane of panes) {
      const [height, width] = size(pane);
      if (!width || !pane.figure.clientWidth) continue;
      const fit = Math.min(pane.figure.clientWidth / width, (0.7 * window.innerHeight) / height);
      // A strip stays wide enough to be clicked; it is scrolled.
      pane.scale = Math.max(fit, 48 / Math.min(width, height)) * model.get("zoom");
      const [w, h] = [width * pane.scale, height * pane.scale];
      Object.assign(pane.stage.style, { width: `${w}px`, height: `${h}px` });
      Object.assign(pane.svg.style, { width: `${w}px`, height: `${h}px` });
      Object.assign(pane.heat, { width: Math.min(2048, Math.round(w)), height: Math.min(2048, Math.round(h)) });
    }
    draw();
  }

  function drawPoint(pane, index, [x, y], label) {
    const colours = model.get("colours");
    const colour = colours[index % colours.length];
    const [cx, cy] = [(x + 0.5) * pane.scale, (y + 0.5) * pane.scale];
    const group = svg("g", { class: "sd4-point", "data-index": index, "data-x": x, "data-y": y }, pane.svg);
    if (index === selected()) group.classList.add("sd4-selected");
    if (index === hovered) group.classList.add("sd4-hovered");
    svg("title", {}, group).textContent = label;
    svg("circle", { cx, cy, r: RADIUS, fill: colour }, group);
    const bright = rgb(colour).reduce((sum, value, at) => sum + value * [0.3, 0.59, 0.11][at], 0) > 135;
    const text = { x: cx, y: cy, fill: bright ? "black" : "white", class: "sd4-number" };
    svg("text", text, group).textContent = index + 1;
    group.addEventListener("contextmenu", (event) => {
      event.preventDefault();
      event.stopPropagation();
      remove(index);
    });
  }

  function hover(index) {
    if (hovered === index || press) return;
    hovered = index;
    for (const node of el.querySelectorAll(".sd4-point"))
      node.classList.toggle("sd4-hovered", Number(node.dataset.index) === index);
    drawHeat();
  }

  function draw() {
    panes.forEach((pane) => pane.svg.replaceChildren());
    let waiting = 0;
    points.forEach((point, index) => {
      drawPoint(src, index, point, `point ${index + 1} at ${point[0]}, ${point[1]}`);
      const found = match(index);
      if (!found) waiting += 1;
      else {
        const sure = found.confidence == null ? "" : `, confidence ${found.confidence.toFixed(2)}`;
        drawPoint(trg, index, found.trg, `point ${index + 1} at ${found.trg[0]}, ${found.trg[1]}${sure}`);
      }
    });
    const busy = model.get("busy") || (waiting > 0 && !model.get("error"));
    el.classList.toggle("sd4-busy", busy);
    const one = match(selected());
    const sure = one?.confidence == null ? "" : `, confidence ${one.confidence.toFixed(2)}`;
    const about = one ? `point ${selected() + 1}: ${one.src.join(", ")} → ${one.trg.join(", ")}${sure}` : "";
    status.textContent = busy ? model.get("status") || "matching …" : about || model.get("status");
    error.textContent = model.get("error");
    error.hidden = !model.get("error");
    undoButton.disabled = !history.length;
    deleteButton.disabled = selected() < 0;
    clearButton.disabled = !points.length;
    mapButton.setAttribute("aria-pressed", String(model.get("overlay")));
    fitButton.textContent = model.get("zoom") === 1 ? "Fit" : `Fit (${model.get("zoom")} ×)`;
    drawHeat();
  }

  function drawHeat() {
    const context = trg.heat.getContext("2d");
    context.clearRect(0, 0, trg.heat.width, trg.heat.height);
    const index = hovered >= 0 ? hovered : model.get("overlay") ? selected() : -1;
    trg.heat.dataset.index = -1;
    const [height, width] = model.get("maps_hw");
    const bytes = model.get("maps");
    if (index < 0 || !match(index) || !bytes || bytes.byteLength < (index + 1) * height * width) return;
    const values = new Uint8Array(bytes.buffer, bytes.byteOffset + index * height * width, height * width);
    const anchors = model.get("heat_colours").map(rgb);
    const small = make("canvas", { width, height });
    const pixels = new ImageData(width, height);
    values.forEach((value, at) => {
      const level = (value / 255) * (anchors.length - 1);
      const low = Math.min(Math.floor(level), anchors.length - 2);
      for (let channel = 0; channel < 3; channel++) {
        const [from, to] = [anchors[low][channel], anchors[low + 1][channel]];
        pixels.data[4 * at + channel] = from + (to - from) * (level - low);
      }
      pixels.data[4 * at + 3] = model.get("heat_alpha") * value;
    });
    small.getContext("2d").putImageData(pixels, 0, 0);
    const [left, right, top, bottom] = model.get("maps_extent_px");
    const [x, y] = [trg.heat.width / size(trg)[1], trg.heat.height / size(trg)[0]];
    context.imageSmoothingEnabled = true;
    context.drawImage(small, (left + 0.5) * x, (top + 0.5) * y, (right - left) * x, (bottom - top) * y);
    trg.heat.dataset.index = index;
  }

  function showPicture(pane) {
    const bytes = model.get(`${pane.role}_picture`);
    if (!bytes?.byteLength) return;
    if (urls[pane.role]) URL.revokeObjectURL(urls[pane.role]);
    urls[pane.role] = URL.createObjectURL(new Blob([bytes]));
    pane.image.src = urls[pane.role];
    layout();
  }

  const indexOf = (event) => Number(event.target.closest(".sd4-point")?.dataset.index ?? -1);

  // On the whole drawing: a point that is drawn anew under the pointer would not tell that it is left.
  for (const pane of panes) {
    pane.svg.addEventListener("pointermove", (event) => hover(indexOf(event)));
    pane.svg.addEventListener("pointerleave", () => hover(-1));
  }

  src.svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    press = { index: indexOf(event), x: event.clientX, y: event.clientY, moved: false, before: copy(points) };
    src.svg.focus({ preventScroll: true });
    if (press.index >= 0) {
      src.svg.setPointerCapture(event.pointerId);
      save({ selected: press.index });
    }
  });
  src.svg.addEventListener("pointermove", (event) => {
    if (!press) return;
    const far = Math.hypot(event.clientX - press.x, event.clientY - press.y) > (press.index < 0 ? SLOP : 2);
    press.moved ||= far;
    if (press.index < 0 || !press.moved) return;
    points[press.index] = placeOf(event);
    // The match follows the finger as fast as the model answers: one question at a time.
    const asked = model.get("points");
    if (asked.every((point, at) => same(model.get("matches")[at]?.src, point))) save({ points: copy(points) });
    draw();
  });
  src.svg.addEventListener("pointerup", (event) => {
    const { index, moved, before } = press ?? { moved: true, index: -1 };
    press = null;
    if (index >= 0 && moved) commit(points, index, before);
    else if (index < 0 && !moved) commit([...points, placeOf(event)], points.length);
  });
  src.svg.addEventListener("pointercancel", () => {
    if (press) points = press.before;
    press = null;
    draw();
  });
  trg.svg.addEventListener("pointerdown", (event) => {
    if (indexOf(event) >= 0) save({ selected: indexOf(event) });
  });

  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  el.addEventListener("keydown", (event) => {
    if (event.target === shown || event.altKey) return;
    const command = event.ctrlKey || event.metaKey;
    const onPicture = event.target === src.svg;
    const at = selected();
    if (command && event.key.toLowerCase() === "z") undo();
    else if (command) return;
    else if (onPicture && moves[event.key] && at >= 0) {
      const far = event.shiftKey ? 10 : 1;
      const next = copy(points);
      next[at] = inside(next[at].map((value, axis) => value + far * moves[event.key][axis]));
      commit(next, at);
    } else if (onPicture && event.key === "Enter") {
      const box = src.scroll.getBoundingClientRect();
      const middle = { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 };
      commit([...points, placeOf(middle)], points.length);
    } else if (event.key === "Delete" || event.key === "Backspace") remove(at);
    else if (/^[1-9]$/.test(event.key) && event.key <= points.length) save({ selected: event.key - 1 });
    else if (event.key === "Escape") save({ selected: -1 });
    else if (event.key === "m") save({ overlay: !model.get("overlay") });
    else if (event.key === "+" || event.key === "-") step(event.key === "+" ? 1 : -1);
    else if (event.key === "0") save({ zoom: 1 });
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  function asJson() {
    return JSON.stringify({ ...model.get("about"), points, matches: points.map((_, at) => match(at)) }, null, 2);
  }

  async function copyJson() {
    try {
      await navigator.clipboard.writeText(asJson());
      status.textContent = "copied";
    } catch {
      // No clipboard on pages without https: the text is shown to be copied by hand.
      shown.value = asJson();
      shown.hidden = !shown.hidden;
      shown.select();
    }
  }

  function savePicture() {
    const height = 600;
    const scales = panes.map((pane) => height / size(pane)[0]);
    const widths = panes.map((pane, at) => size(pane)[1] * scales[at]);
    const sheet = make("canvas", { width: widths[0] + widths[1] + 12, height: height + 24 });
    const context = sheet.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, sheet.width, sheet.height);
    panes.forEach((pane, at) => {
      const left = at * (widths[0] + 12);
      context.drawImage(pane.image, left, 0, widths[at], height);
      if (pane === trg) context.drawImage(trg.heat, left, 0, widths[at], height);
      for (const group of pane.svg.querySelectorAll(".sd4-point")) {
        const x = left + (Number(group.dataset.x) + 0.5) * scales[at];
        const y = (Number(group.dataset.y) + 0.5) * scales[at];
        for (const [radius, fill] of [[13, "white"], [11, group.querySelector("circle").getAttribute("fill")]]) {
          context.fillStyle = fill;
          context.beginPath();
          context.arc(x, y, radius, 0, 7);
          context.fill();
        }
        context.fillStyle = group.querySelector("text").getAttribute("fill");
        Object.assign(context, { font: "bold 12px sans-serif", textAlign: "center", textBaseline: "middle" });
        context.fillText(Number(group.dataset.index) + 1, x, y);
      }
    });
    Object.assign(context, { font: "12px sans-serif", fillStyle: "#555", textAlign: "right" });
    context.fillText(model.get("note"), sheet.width - 4, height + 14);
    make("a", { href: sheet.toDataURL("image/png"), download: "match.png" }).click();
  }

  function pointsChanged() {
    const now = model.get("points");
    if (!press && !same(now, points)) {
      history.push(copy(points)); // a script has set them: that, too, can be taken back
      points = copy(now);
      hovered = -1;
    }
    draw();
  }

  const listeners = {
    "change:points": pointsChanged,
    "change:src_picture": () => showPicture(src),
    "change:trg_picture": () => showPicture(trg),
    "change:zoom": layout,
  };
  for (const name of ["matches", "maps", "selected", "overlay", "busy", "status", "error"])
    listeners[`change:${name}`] = draw;
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  const watcher = new ResizeObserver(layout);
  panes.forEach((pane) => watcher.observe(pane.figure));
  panes.forEach(showPicture);
  draw();
  return () => {
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
    watcher.disconnect();
    Object.values(urls).forEach((url) => URL.revokeObjectURL(url));
  };
}

export default { render };
