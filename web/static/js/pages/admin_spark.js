// @ts-check
/**
 * A sparkline: how many waited, drawn into an SVG from the numbers in its data-points. Knows no page.
 */

const [WIDTH, HEIGHT, FLOOR, CEILING] = [96, 28, 27, 2];

/** @param {(number | null)[]} points @returns {string[]} one path for each stretch without a gap */
export function stretches(points) {
  const most = Math.max(4, ...points.map((point) => point ?? 0));
  const step = WIDTH / Math.max(1, points.length - 1);
  /** @type {string[]} */
  const paths = [];
  let open = false;
  points.forEach((point, index) => {
    if (point === null) {
      open = false;
      return;
    }
    const place = `${(index * step).toFixed(1)} ${(FLOOR - (point / most) * (FLOOR - CEILING)).toFixed(1)}`;
    if (open) paths[paths.length - 1] += ` L${place}`;
    else paths.push(`M${place}`);
    open = true;
  });
  return paths;
}

/** @param {SVGSVGElement} svg */
export function draw(svg) {
  /** @type {(number | null)[]} */
  const points = JSON.parse(svg.dataset.points ?? "[]");
  svg.replaceChildren();
  for (const path of stretches(points)) {
    const [first, last] = [path.slice(1).split(" ")[0], path.split(" L").pop()?.replace("M", "").split(" ")[0]];
    svg.append(shape(`${path} L${last} ${HEIGHT} L${first} ${HEIGHT}z`, "spark__area"), shape(path));
  }
}

/** @param {string} d @param {string} [name] @returns {SVGPathElement} */
function shape(d, name) {
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", d);
  if (name) path.setAttribute("class", name);
  return path;
}
