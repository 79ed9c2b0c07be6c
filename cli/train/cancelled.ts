import { UserError } from '../explain.ts'

/** Ctrl-C, an end that is asked for, and a terminal that is closed. */
export const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Runs `work` with a signal that these abort; it then has to end. @throws UserError `cancelled` */
export async function cancelledBySignal<T>(
  what: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const cancel = new AbortController()
  const stop = () => cancel.abort(new UserError('cancelled', `${what} is cancelled`))
  for (const signal of SIGNALS) process.once(signal, stop)
  try {
    return await work(cancel.signal)
  } finally {
    for (const signal of SIGNALS) process.off(signal, stop)
  }
}
