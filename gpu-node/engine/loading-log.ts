import type { OnLoading } from './engine.ts'

const MIN_INTERVAL_MS = 1000
const MIN_PERCENT = 10

/** Logs the progress of loading: a line every 10 %, at most one per second, so that a short load logs nothing. */
export function loadingLog(
  log: (line: string) => void,
  now: () => number = () => performance.now(),
): OnLoading {
  let loggedAt = now()
  let loggedPercent = 0
  return (doneBytes, totalBytes) => {
    const percent = Math.floor((100 * doneBytes) / totalBytes)
    if (percent < loggedPercent + MIN_PERCENT || percent === 100 || now() < loggedAt + MIN_INTERVAL_MS) return
    loggedAt = now()
    loggedPercent = percent
    log(`loading weights ${percent} %`)
  }
}
