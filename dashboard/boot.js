// Loads the page. An external file because the content security policy allows no inline script.
const theme = (() => {
  try { return localStorage.getItem("millrace-theme"); } catch { return null; }
})();
if (theme) document.documentElement.dataset.theme = theme;
document.getElementById("reload").addEventListener("click", () => location.reload());

const boot = document.getElementById("boot");
try {
  // build-dashboard puts the hashed names in.
  const { default: init } = await import("./app.js");
  await init({ module_or_path: new URL("./app_bg.wasm", import.meta.url) });
  boot.remove();
} catch (error) {
  console.error(error);
  boot.setAttribute("role", "alert");
  boot.textContent = typeof WebAssembly === "undefined"
    ? "This browser can't run the page: it needs WebAssembly."
    : `The page could not be loaded: ${error.message}. Reload to try again; if that does not help, run scripts/build-dashboard and start the gateway again.`;
}
