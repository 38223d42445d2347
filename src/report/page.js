// Tables sort by a click on a column's head; a second click turns the order round.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), table = head.closest("table");
    const column = [...head.parentNode.children].indexOf(head);
    const words = head.dataset.kind === "words";
    const before = head.getAttribute("aria-sort");
    const up = before ? before === "descending" : words;
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = row => row.children[column].dataset.value ?? "";
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === ""); // what is unknown comes last
      return (up ? 1 : -1) * (words ? x.localeCompare(y) : x - y);
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(order));
  });
}

// What a mark's title says, at once and where fingers can ask for it too.
const tip = document.createElement("div");
tip.id = "tip";
tip.role = "status";
tip.hidden = true;
document.body.append(tip);
const show = (mark, x, y) => {
  tip.textContent = mark.dataset.tip;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const room = document.documentElement.clientWidth - box.width - 8;
  tip.style.left = Math.max(8, Math.min(x + 14, room)) + "px";
  tip.style.top = (y - box.height - 12 < 4 ? y + 18 : y - box.height - 12) + "px";
};
const hide = () => { tip.hidden = true; };
for (const title of document.querySelectorAll("svg.plot title")) {
  const mark = title.parentNode;
  mark.dataset.tip = title.textContent;
  mark.setAttribute("aria-label", title.textContent);
  title.remove(); // or the browser shows it a second time
  mark.addEventListener("pointermove", event => show(mark, event.clientX, event.clientY));
  mark.addEventListener("pointerleave", hide);
  mark.addEventListener("focus", () => {
    const box = mark.getBoundingClientRect();
    show(mark, box.x + box.width / 2, box.y);
  });
  mark.addEventListener("blur", hide);
}
addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
addEventListener("scroll", hide, { passive: true });
