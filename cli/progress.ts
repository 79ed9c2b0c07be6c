/** Work that takes longer says so. */
const PATIENCE_MS = 2_000
/** Between two lines of the same work. */
const AGAIN_MS = 10_000

/** Waits for work; after 2 s and then every 10 s, the error output says what is waited for. */
export async function saying<T>(what: string, work: Promise<T>): Promise<T> {
  const begun = performance.now()
  let timer: NodeJS.Timeout
  const say = () => {
    const seconds = Math.round((performance.now() - begun) / 1000)
    console.error(seconds < 4 ? `apar: ${what} ...` : `apar: ${what}, for ${seconds} s ...`)
    timer = setTimeout(say, AGAIN_MS)
  }
  timer = setTimeout(say, PATIENCE_MS)
  try {
    return await work
  } finally {
    clearTimeout(timer)
  }
}

/** The same for work that leaves timers no time: gives the items on, and says how many have gone. */
export function* counting<T>(what: string, items: Iterable<T>): Generator<T> {
  let next = performance.now() + PATIENCE_MS
  let done = 0
  for (const item of items) {
    yield item
    done++
    const now = performance.now()
    if (now < next) continue
    next = now + AGAIN_MS
    console.error(`apar: ${what}: ${done} ...`)
  }
}
