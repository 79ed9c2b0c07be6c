const SIZE = 624
const SHIFT = 397

/** Python's random.Random(seed).shuffle(items), for a seed below 2^32: Mersenne Twister (MT19937), seeded by array. */
export function pythonShuffle<T>(items: T[], seed: number): void {
  const next = mersenneTwister(seed)
  for (let index = items.length - 1; index > 0; index--) {
    const other = below(index + 1, next)
    const item = items[index] as T
    items[index] = items[other] as T
    items[other] = item
  }
}

/** A number from 0 to before `limit`: as many random bits as the limit has, until they are small enough. */
function below(limit: number, next: () => number): number {
  const unused = Math.clz32(limit)
  let value = next() >>> unused
  while (value >= limit) value = next() >>> unused
  return value
}

/** Matsumoto and Nishimura's generator of 32-bit numbers, with init_by_array([seed]). */
function mersenneTwister(seed: number): () => number {
  const state = new Uint32Array(SIZE)
  const word = (index: number) => state[index] ?? 0
  const mixed = (index: number, factor: number) =>
    (word(index) ^ Math.imul(word(index - 1) ^ (word(index - 1) >>> 30), factor)) >>> 0
  state[0] = 19650218
  for (let index = 1; index < SIZE; index++) {
    state[index] = Math.imul(1812433253, word(index - 1) ^ (word(index - 1) >>> 30)) + index
  }
  let at = 1
  const advance = () => {
    at += 1
    if (at < SIZE) return
    state[0] = word(SIZE - 1)
    at = 1
  }
  for (let round = 0; round < SIZE; round++) {
    state[at] = mixed(at, 1664525) + seed
    advance()
  }
  for (let round = 1; round < SIZE; round++) {
    state[at] = mixed(at, 1566083941) - at
    advance()
  }
  state[0] = 0x80000000

  let used = SIZE
  return () => {
    if (used === SIZE) {
      for (let index = 0; index < SIZE; index++) {
        const pair = (word(index) & 0x80000000) | (word((index + 1) % SIZE) & 0x7fffffff)
        state[index] = word((index + SHIFT) % SIZE) ^ (pair >>> 1) ^ (pair & 1 ? 0x9908b0df : 0)
      }
      used = 0
    }
    let value = word(used++)
    value ^= value >>> 11
    value ^= (value << 7) & 0x9d2c5680
    value ^= (value << 15) & 0xefc60000
    return (value ^ (value >>> 18)) >>> 0
  }
}
