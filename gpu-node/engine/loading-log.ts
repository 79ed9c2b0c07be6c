import type { OnLoading } from './types.ts'

const LEAST_MS = 1000
const LEAST_PERCENT = 10

/** Says how far a long load is: a line every 10 %, and at most one a second, so that a short one passes in silence. */
export function loadingLog(
  log: (line: string) => void,
  now: () => number = () => performance.now(),
): OnLoading {
  let saidAt = now()
  let said = 0
  return (doneBytes, totalBytes) => {
    const percent = Math.floor((100 * doneBytes) / totalBytes)
    if (percent < said + LEAST_PERCENT || percent === 100 || now() < saidAt + LEAST_MS) return
    saidAt = now()
    said = percent
    log(`loading weights ${percent} %`)
  }
}
