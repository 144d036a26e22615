// Builds the page.

const { runs } = JSON.parse(document.getElementById("data").textContent);
const sections = [curves(runs), evaluations(runs), frontier(runs), browser(runs)].filter(Boolean);
const links = sections.map(({ id }) => el("a", { href: `#${id}` }, id[0].toUpperCase() + id.slice(1)));
const jumps = sections.length > 1 && el("nav", { "aria-label": "parts of the page" }, links);
const page = document.getElementById("page");
page.replaceChildren(...[heading(runs), configuration(runs), jumps, ...sections].filter(Boolean));
document.documentElement.dataset.ready = "true";
