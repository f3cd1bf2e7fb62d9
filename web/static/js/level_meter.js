/**
 * How loud the microphone is, as a number of bars. Knows Web Audio; not devices, not pages.
 */
const EVERY_MS = 100;
const BARS = 5;
/** Below this root mean square it is a quiet room; each bar above doubles the loudness. */
const QUIET = 0.012;

export class LevelMeter {
  #context = null;
  #source = null;
  #timer = 0;

  /** @param {(bars: number) => void} onLevel 0 to 5, ten times a second */
  constructor(onLevel) {
    this.onLevel = onLevel;
  }

  /** @param {MediaStreamTrack|null} track */
  listen(track) {
    this.stop();
    if (!track) return;
    this.#context = new AudioContext();
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 1024;
    this.#source = this.#context.createMediaStreamSource(new MediaStream([track]));
    this.#source.connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    this.#timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const loudness = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
      const bars = loudness < QUIET ? 0 : 1 + Math.floor(Math.log2(loudness / QUIET));
      this.onLevel(Math.min(BARS, bars));
    }, EVERY_MS);
  }

  stop() {
    clearInterval(this.#timer);
    this.#source?.disconnect();
    this.#context?.close().catch(() => undefined);
    this.#context = null;
    this.#source = null;
  }
}
