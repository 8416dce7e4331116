// Numbers as people say them; the same words as the `dst` command uses.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

export function sizeInWords(count) {
  let unit = 0;
  while (count >= 999.5 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  if (unit === 0) return `${Math.round(count)} B`;
  return `${count.toFixed(count < 9.995 ? 2 : count < 99.95 ? 1 : 0)} ${UNITS[unit]}`;
}

export function durationInWords(seconds) {
  let left = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    parts.push([Math.floor(left / size), unit]);
    left %= size;
  }
  while (parts.length > 1 && parts[0][0] === 0) parts.shift();
  return parts.slice(0, 2)
    .filter(([number]) => number > 0 || parts.length === 1)
    .map(([number, unit]) => `${number} ${unit}`)
    .join(" ");
}

// Rounding must not announce the end.
export function percentInWords(done, total) {
  if (total <= 0 || done >= total) return "100%";
  return `${Math.min(99.9, (100 * done) / total).toFixed(1)}%`;
}
