const SIZES = ['bytes', 'kB', 'MB', 'GB', 'TB'] as const
const BINARY_SIZES = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'] as const

/** A size as files and downloads have it, in powers of 1000. */
export function showBytes(bytes: number): string {
  return scaled(bytes, 1000, SIZES)
}

/** A size as memory has it, in powers of 1024. */
export function showBinaryBytes(bytes: number): string {
  return scaled(bytes, 1024, BINARY_SIZES)
}

/** `135 M`. */
export function showCount(count: number): string {
  return scaled(count, 1000, ['', 'K', 'M', 'B', 'T']).trim()
}

function scaled(amount: number, step: number, units: readonly string[]): string {
  let value = amount
  let unit = 0
  while (value >= step - 0.5 && unit < units.length - 1) {
    value /= step
    unit++
  }
  return `${unit === 0 || value >= 99.95 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

/** Columns without lines or colours: the output may go into a file. */
export const PLAIN_TABLE = {
  style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
  chars: Object.fromEntries(
    ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right', 'left']
      .concat(['left-mid', 'mid', 'mid-mid', 'right', 'right-mid', 'middle'])
      .map((part) => [part, '']),
  ),
}

/** Without white space at the ends of lines. */
export function showTable(table: { toString(): string }): string {
  return table.toString().replace(/ +$/gm, '')
}
