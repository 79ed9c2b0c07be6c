const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * Settles when the process should shut down: on a signal, or when the parent process that opened an IPC channel
 * to it has ended in any way. A second signal exits at once.
 */
export function shutdownRequested(): Promise<void> {
  return new Promise((resolve) => {
    let requested = false
    const stop = () => {
      if (requested) process.exit(130)
      requested = true
      resolve()
    }
    for (const signal of SIGNALS) process.on(signal, stop)
    process.once('disconnect', () => {
      if (!requested) stop()
    })
  })
}
