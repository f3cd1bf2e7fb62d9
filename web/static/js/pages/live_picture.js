// @ts-check
/**
 * The still picture of a broadcast over a creator's drawn poster: hidden where it cannot be had, changed in one go.
 */

const PICTURE = "img[data-live-picture]";

/** @param {Event} event */
function follow(event) {
  const image = event.target;
  if (image instanceof HTMLImageElement && image.matches(PICTURE)) image.toggleAttribute("data-missing", event.type === "error");
}

/** Whatever picture of the page fails, now or later, leaves the drawn poster to be seen. */
function watchPictures() {
  document.addEventListener("load", follow, true);
  document.addEventListener("error", follow, true);
  for (const image of /** @type {NodeListOf<HTMLImageElement>} */ (document.querySelectorAll(PICTURE))) {
    if (image.complete && !image.naturalWidth) image.toggleAttribute("data-missing", true);
  }
}

/** A new list shows the old pictures until the new ones are there. @param {Element} old @param {Element} fresh */
export function keepPictures(old, fresh) {
  for (const image of /** @type {NodeListOf<HTMLImageElement>} */ (fresh.querySelectorAll(PICTURE))) {
    const before = /** @type {HTMLImageElement | null} */ (old.querySelector(`img[data-live-picture="${CSS.escape(image.dataset.livePicture ?? "")}"]`));
    if (!before) continue;
    image.replaceWith(before);
    before.src = image.src;
  }
}

/** The picture in a creator's tile; none: the drawn poster. @param {Element} tile @param {string} address or "" */
export function showPicture(tile, address) {
  const poster = tile.querySelector(".poster");
  let image = /** @type {HTMLImageElement | null} */ (poster?.querySelector(PICTURE) ?? null);
  if (!address || !poster) {
    image?.remove();
    return;
  }
  if (!image) {
    image = new Image(640, 360);
    image.alt = "";
    image.dataset.livePicture = "";
    poster.append(image);
  }
  image.src = address;
}

watchPictures();
