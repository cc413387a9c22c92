"use strict";
const filter = document.getElementById("filter");
const found = document.getElementById("found");
const contents = document.querySelector("nav details");
const entries = [...document.querySelectorAll("main .entry")];
const sections = [...document.querySelectorAll("main section")];
const texts = new Map(entries.map((entry) => [entry, entry.textContent.toLowerCase()]));

function apply() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (text) => words.every((word) => text.includes(word));
  let count = 0;
  for (const entry of entries) {
    const around = entry.parentElement.closest("article.entry");
    const whole = around && fits(around.querySelector("h3").textContent.toLowerCase());
    entry.hidden = words.length > 0 && !whole && !fits(texts.get(entry));
    if (!entry.hidden && !around) count += 1;
  }
  for (const section of sections) {
    const parts = [...section.querySelectorAll(".entry")];
    const text = section.textContent.toLowerCase();
    section.hidden = words.length > 0 && (parts.length ? parts.every((part) => part.hidden) : !fits(text));
  }
  found.textContent = words.length ? `${count} found` : "";
}

filter.addEventListener("input", apply);
addEventListener("hashchange", () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.closest("[hidden]")) {
    filter.value = "";
    apply();
    target.scrollIntoView();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== filter) {
    event.preventDefault();
    filter.focus();
  } else if (event.key === "Escape" && document.activeElement === filter) {
    filter.value = "";
    apply();
  }
});
document.addEventListener("click", async ({target}) => {
  if (!target.classList.contains("copy")) return;
  const code = target.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    target.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code);
    target.textContent = "Selected";
  }
  setTimeout(() => { target.textContent = "Copy"; }, 1500);
});
if (matchMedia("(max-width: 56rem)").matches) contents.open = false;
