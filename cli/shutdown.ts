const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * Settles when the process is told to end: by a signal, or by the end of the process that started it with an IPC
 * channel, however that one died. A second signal ends it at once.
 */
export function untilToldToStop(): Promise<void> {
  return new Promise((resolve) => {
    let told = false
    const stop = () => {
      if (told) process.exit(130)
      told = true
      resolve()
    }
    for (const signal of SIGNALS) process.on(signal, stop)
    process.once('disconnect', () => {
      if (!told) stop()
    })
  })
}
