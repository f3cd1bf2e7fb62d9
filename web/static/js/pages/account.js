// @ts-check
/** /account: asks before signing out everywhere; without script the form simply does it. */
import { openDialog } from "../ui.js";
import "./common.js";

const form = /** @type {HTMLFormElement | null} */ (document.querySelector('form[action="/account/sign-out-everywhere"]'));
const dialog = document.getElementById("sure");
form?.addEventListener("submit", (event) => {
  if (!(dialog instanceof HTMLDialogElement) || dialog.returnValue === "yes") return;
  event.preventDefault();
  openDialog(dialog);
});
dialog?.addEventListener("close", () => {
  if (dialog instanceof HTMLDialogElement && dialog.returnValue === "yes") form?.requestSubmit();
});
