// Puts the page together.

const { runs } = JSON.parse(document.getElementById("data").textContent);
const parts = [heading(runs), curves(runs), evaluations(runs), frontier(runs), browser(runs)];
document.getElementById("page").replaceChildren(...parts.filter(Boolean));
document.documentElement.dataset.ready = "true";
