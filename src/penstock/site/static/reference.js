// The reference, drawn from the contract, in the reader's theme.
const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");
const follow = () => root.classList.toggle("dark-mode", root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
new MutationObserver(follow).observe(root, { attributeFilter: ["data-theme"] });
system.addEventListener("change", follow);
follow();
SwaggerUIBundle({ url: `${root.dataset.base ?? ""}/openapi.json`, dom_id: "#reference", deepLinking: true, tryItOutEnabled: false, validatorUrl: null });
