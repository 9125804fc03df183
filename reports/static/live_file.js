"use strict";
// a page that lies on a disk is read again every so many seconds; whoever reads it slowly can stop that
const hold = document.getElementById("hold");
hold.hidden = false;
hold.addEventListener("click", () => hold.setAttribute("aria-pressed", String(hold.getAttribute("aria-pressed") === "false")));
setInterval(() => { if (hold.getAttribute("aria-pressed") === "false") location.reload(); }, 1000 * Number(hold.dataset.seconds));
