// @ts-check
/**
 * How often a spectator's player asks again for a playlist or a segment: soon and often, while there is still
 * something to play. hls.js by itself takes no answer at all (a server that starts again) for a final one, and gives
 * up. Knows no player and no page.
 */

/** About half a minute of them: then the player asks for another address. */
const RETRIES = 60;
const SOON_MS = 250;
const LONGEST_PAUSE_MS = 600;
const KINDS = ["manifestLoadPolicy", "playlistLoadPolicy", "fragLoadPolicy"];

/**
 * hls.js's own policies, but for how errors are taken. Each player has pauses of its own: not all come at once.
 * @param {any} defaults `Hls.DefaultConfig`
 * @returns {Record<string, any>} to be spread into hls.js's configuration
 */
export function loadPolicies(defaults) {
  const errorRetry = {
    maxNumRetry: RETRIES,
    retryDelayMs: SOON_MS * (1 + Math.random()),
    maxRetryDelayMs: LONGEST_PAUSE_MS * (1 - Math.random() / 4),
    shouldRetry,
  };
  return Object.fromEntries(KINDS.map((kind) => [kind, { default: { ...defaults[kind].default, errorRetry } }]));
}

/**
 * What hls.js tries again (5xx, timeouts), and what nobody answered; a refusal (4xx) is one.
 * @param {{maxNumRetry: number}} config @param {number} count @param {boolean} _late
 * @param {{code?: number} | undefined} response @param {boolean} retry what hls.js would do
 */
function shouldRetry(config, count, _late, response, retry) {
  return retry || (count < config.maxNumRetry && response?.code === 0);
}
