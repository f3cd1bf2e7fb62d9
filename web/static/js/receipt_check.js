// @ts-check
/**
 * Checks a receipt in the browser: canonical JSON (RFC 8785), SHA-256, Ed25519 (RFC 8032), and that what was held
 * is what was paid and came back. Knows no page. The whole check, the bill by the rules too: docs/receipts.md.
 */

/** @typedef {{verdict: "valid" | "wrong" | "unable", words: string}} Checked */

/** @param {any} value texts, whole numbers, booleans, null, lists and objects @returns {string} its canonical JSON */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value !== null && typeof value === "object") {
    // Texts compare by their UTF-16 code units, which is the order that the RFC wants.
    return `{${Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

/** @param {string} text base64url without padding @returns {Uint8Array<ArrayBuffer>} */
function bytes(text) {
  const raw = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(raw, (letter) => letter.charCodeAt(0));
}

/**
 * @param {Record<string, any>} receipt as the API gives it, signed
 * @param {{keys: Record<string, any>[]}} keys the site's JWK Set
 * @returns {Promise<Checked>}
 */
export async function checkReceipt(receipt, keys) {
  const { hash, value, ...place } = receipt.signature ?? {};
  const jwk = keys.keys.find((key) => key.kid === place.keyId);
  if (!value) return { verdict: "unable", words: "This receipt is not signed yet." };
  if (!jwk) return { verdict: "wrong", words: "It is signed with a key that is not ours." };
  const message = new TextEncoder().encode(canonical({ ...receipt, signature: place }));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", message));
  if (Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") !== hash) {
    return { verdict: "wrong", words: "Its hash is not the hash of what it says." };
  }
  let key;
  try {
    key = await crypto.subtle.importKey("jwk", { kty: jwk.kty, crv: jwk.crv, x: jwk.x }, { name: "Ed25519" }, false, ["verify"]);
  } catch {
    return { verdict: "unable", words: "This browser cannot check Ed25519 signatures. The command below can." };
  }
  if (!(await crypto.subtle.verify({ name: "Ed25519" }, key, bytes(value), message))) {
    return { verdict: "wrong", words: "Its signature does not fit what it says." };
  }
  if (receipt.totalHeld !== receipt.earnings + receipt.commission + receipt.refunded) {
    return { verdict: "wrong", words: "What was held is not what was paid and came back." };
  }
  for (const transfer of receipt.transfers) {
    const sum = transfer.entries.reduce((/** @type {number} */ total, /** @type {{amount: number}} */ entry) => total + entry.amount, 0);
    if (sum !== 0) return { verdict: "wrong", words: "A transfer does not sum to zero." };
  }
  return { verdict: "valid", words: "This page checked the signature and the sums in your browser. You can repeat that offline, without us." };
}
