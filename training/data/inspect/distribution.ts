/** Values below are counted one by one; from here on, in bins that are at most 1/64 of their value wide. */
const EXACT = 128
const BINS_PER_OCTAVE = 64
const QUANTILES = [0.5, 0.9, 0.99] as const

export interface Summary {
  count: number
  min: number
  mean: number
  p50: number
  p90: number
  p99: number
  max: number
}

/** How often which whole numbers occur, in memory that does not grow with their number or size. */
export class Distribution {
  count = 0
  sum = 0
  #min = Number.POSITIVE_INFINITY
  #max = 0
  readonly #bins: number[] = []

  /** @param value whole and at least 0. */
  add(value: number): void {
    this.count += 1
    this.sum += value
    this.#min = Math.min(this.#min, value)
    this.#max = Math.max(this.#max, value)
    const bin = binOf(value)
    this.#bins[bin] = (this.#bins[bin] ?? 0) + 1
  }

  /** Quantiles are exact below 128, and above it at most 1/64 too low. Undefined when nothing was added. */
  summary(): Summary | undefined {
    if (this.count === 0) return undefined
    const [p50 = 0, p90 = 0, p99 = 0] = QUANTILES.map((share) => this.#quantile(share))
    return { count: this.count, min: this.#min, mean: this.sum / this.count, p50, p90, p99, max: this.#max }
  }

  /** At most about `wanted` bars of equal width that hold all values: `from` to `to` (exclusive). */
  histogram(wanted: number): { from: number; to: number; count: number }[] {
    if (this.count === 0) return []
    const width = roundWidth((this.#max + 1 - this.#min) / wanted)
    const first = Math.floor(this.#min / width)
    const bars = Array.from({ length: Math.floor(this.#max / width) - first + 1 }, (_, at) => {
      return { from: (first + at) * width, to: (first + at + 1) * width, count: 0 }
    })
    for (const [bin, count = 0] of this.#bins.entries()) {
      const bar = bars[Math.max(0, Math.floor(startOf(bin) / width) - first)]
      if (bar) bar.count += count
    }
    return bars
  }

  #quantile(share: number): number {
    let below = 0
    for (const [bin, count = 0] of this.#bins.entries()) {
      below += count
      if (below >= share * this.count) return Math.min(this.#max, Math.max(this.#min, startOf(bin)))
    }
    return this.#max
  }
}

function binOf(value: number): number {
  if (value < EXACT) return value
  const octave = Math.floor(Math.log2(value))
  const within = Math.floor((value / 2 ** octave - 1) * BINS_PER_OCTAVE)
  return EXACT + (octave - Math.log2(EXACT)) * BINS_PER_OCTAVE + within
}

/** The smallest value of a bin. */
function startOf(bin: number): number {
  if (bin < EXACT) return bin
  const octave = Math.floor((bin - EXACT) / BINS_PER_OCTAVE)
  return EXACT * 2 ** octave * (1 + ((bin - EXACT) % BINS_PER_OCTAVE) / BINS_PER_OCTAVE)
}

/** The next larger of 1, 2, 5, 10, 20, ... */
function roundWidth(width: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, width)))
  return power * ([1, 2, 5, 10].find((step) => step * power >= width) ?? 10)
}
