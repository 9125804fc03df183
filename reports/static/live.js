"use strict";
// parts of the page come as HTML that the server has escaped; sections that stay the same are left alone
function renew(place, html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  const before = [...place.children], after = [...fresh.content.children];
  if (before.length === after.length && before.every((one, at) => one.tagName === after[at].tagName && one.id === after[at].id)) {
    before.forEach((one, at) => {
      if (one.innerHTML === after[at].innerHTML && one.className === after[at].className) return;
      const folded = [...one.querySelectorAll("details")].map((fold) => fold.open);
      one.replaceWith(after[at]);
      after[at].querySelectorAll("details").forEach((fold, number) => { if (number < folded.length) fold.open = folded[number]; });
    });
  } else {
    place.replaceChildren(...after);
  }
}
const stream = new EventSource("events");
stream.onmessage = (event) => {
  document.getElementById("connection").hidden = true;
  for (const [name, html] of Object.entries(JSON.parse(event.data))) {
    const place = document.getElementById(name);
    if (place) renew(place, html);
  }
};
stream.onerror = () => { document.getElementById("connection").hidden = false; };
