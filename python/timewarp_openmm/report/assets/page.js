"use strict";
(() => {
  const get = (id) => document.getElementById(id);
  const sample = get("view-sample"), slider = get("view-frame"), number = get("view-number");
  const play = get("view-play"), link = get("view-pdb"), canvas = get("view-canvas");
  let viewer = null, timer = null;

  const text = () => FRAMES[sample.value][Number(slider.value)];

  function show() {
    number.value = `${Number(slider.value) + 1} / ${FRAMES[sample.value].length}`;
    link.href = "data:chemical/x-pdb;charset=utf-8," + encodeURIComponent(text());
    if (!viewer) return;
    viewer.removeAllModels();
    viewer.addModel(text(), "pdb", { keepH: true });
    viewer.setStyle({}, { stick: { radius: 0.12 }, sphere: { scale: 0.22 } });
    viewer.render();
  }

  function choose() {
    slider.max = FRAMES[sample.value].length - 1;
    slider.value = 0;
    show();
  }

  function toggle() {
    if (timer) { clearInterval(timer); timer = null; play.textContent = "play"; return; }
    play.textContent = "stop";
    timer = setInterval(() => {
      slider.value = (Number(slider.value) + 1) % FRAMES[sample.value].length;
      show();
    }, 150);
  }

  sample.addEventListener("change", choose);
  slider.addEventListener("input", show);
  play.addEventListener("click", toggle);

  // Without WebGL the slider and the PDB link still work.
  const probe = document.createElement("canvas");
  if (probe.getContext("webgl2") || probe.getContext("webgl")) {
    viewer = $3Dmol.createViewer(canvas, { backgroundColor: "white" });
  } else {
    canvas.style.display = "none";
    get("view-message").textContent = "This browser has no WebGL, so the frames cannot be drawn; they can be saved as PDB.";
  }
  choose();
  if (viewer) { viewer.zoomTo(); viewer.render(); canvas.dataset.ready = "yes"; }
})();
