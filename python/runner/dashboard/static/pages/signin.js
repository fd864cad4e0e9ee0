// The token, once; then a cookie stands for it.
import { post } from "../js/api.js";
import { fill, h } from "../js/dom.js";
import { t } from "../js/i18n.js";

export function signIn(root, done) {
  const token = h("input", { type: "password", name: "token", required: true, autocomplete: "current-password", id: "token" });
  const wrong = h("p", { class: "bad", role: "alert" });
  const button = h("button", { class: "primary", type: "submit" }, t("signin.button"));
  fill(root, h("main", { class: "signin", id: "main" }, h("form", { class: "card stack", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    try { await post("/login", { token: token.value }); token.value = ""; done(); } catch (error) {
      wrong.textContent = error.status === 401 ? t("signin.wrong") : error.message;
      button.disabled = false;
      token.select();
    }
  } }, h("h1", {}, "runner"), h("p", {}, t("signin.text")), h("label", { htmlFor: "token" }, t("signin.token")), token, wrong, button,
  h("p", { class: "muted" }, t("signin.where"), " ", h("code", {}, "$WHATSAPP_DATA_DIR/admin.token")))));
  token.focus();
}
