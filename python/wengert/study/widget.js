// The page of wengert.study in a frame, and the model's position and edits as the page has them.
function render({model, el}) {
  const frame = document.createElement("iframe");
  let heard = null;  // what the page said last, which need not be said back to it
  frame.setAttribute("sandbox", "allow-scripts");
  frame.title = "A Wengert list";
  frame.style.cssText = `width:100%;height:${model.get("height")}px;border:1px solid #8886;box-sizing:border-box`;
  const tell = () => { const at = model.get("position"); if (at !== heard) frame.contentWindow?.postMessage({at}, "*"); heard = null; };
  const hear = e => {
    if (e.source !== frame.contentWindow || !Number.isInteger(e.data?.at)) return;
    heard = e.data.at;
    model.set("edits", e.data.edits); model.set("position", e.data.at); model.save_changes();
  };
  const theme = () => {  // of the notebook: its first background that is one
    for (let e = el; e; e = e.parentElement) {
      const [r, g, b, alpha] = getComputedStyle(e).backgroundColor.match(/[\d.]+/g) || [0, 0, 0, 0];
      if (+(alpha ?? 1)) return .3 * r + .6 * g + .1 * b < 128 ? "dark" : "light";
    }
  };
  frame.addEventListener("load", () => frame.contentWindow.postMessage({at: model.get("position"), theme: theme()}, "*"));
  window.addEventListener("message", hear);
  model.on("change:position", tell);
  frame.srcdoc = model.get("page");
  el.append(frame);
  return () => { window.removeEventListener("message", hear); model.off("change:position", tell); };
}
export default {render};
