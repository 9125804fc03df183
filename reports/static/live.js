"use strict";
// parts of the page come as HTML that the server has escaped; sections that stay the same are left alone
const reached = "a[href], button, summary, [tabindex]";
function renew(place, html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  const before = [...place.children], after = [...fresh.content.children];
  if (before.length === after.length && before.every((one, at) => one.tagName === after[at].tagName && one.id === after[at].id)) {
    before.forEach((one, at) => {
      if (one.innerHTML === after[at].innerHTML && one.className === after[at].className) return;
      const folded = [...one.querySelectorAll("details")].map((fold) => fold.open);
      const focused = [...one.querySelectorAll(reached)].indexOf(document.activeElement);
      one.replaceWith(after[at]);
      after[at].querySelectorAll("details").forEach((fold, number) => { if (number < folded.length) fold.open = folded[number]; });
      if (focused >= 0) after[at].querySelectorAll(reached)[focused]?.focus({ preventScroll: true });
    });
  } else {
    place.replaceChildren(...after);
  }
}
let waiting = null;
function show(parts) {
  for (const [name, html] of Object.entries(parts)) {
    const place = document.getElementById(name);
    if (place) renew(place, html);
  }
}
// while the view is held the last that came waits
const hold = document.getElementById("hold");
if (hold) hold.hidden = false;
const held = () => hold?.getAttribute("aria-pressed") === "true";
hold?.addEventListener("click", () => {
  hold.setAttribute("aria-pressed", String(!held()));
  if (!held() && waiting) show(waiting);
});
const stream = new EventSource("events");
stream.onmessage = (event) => {
  document.getElementById("connection").hidden = true;
  waiting = JSON.parse(event.data);
  if (!held()) show(waiting);
};
stream.onerror = () => { document.getElementById("connection").hidden = false; };
