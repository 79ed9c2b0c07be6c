import { spawn } from 'node:child_process'

export interface PythonOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal | undefined
  /** Gets each line of standard output while the program runs. */
  readonly onLine?: (line: string) => void
}

/** What a Python program has written when it ended. */
export interface PythonResult {
  /** Undefined when the program could not be started; `errors` then says why. */
  readonly code: number | undefined
  readonly output: string
  readonly errors: string
}

const MAX_TEXT = 1_000_000

/** Runs Python to its end. @throws the signal's reason when it is aborted; the program has then ended. */
export async function runPython(
  python: string,
  args: readonly string[],
  { env = {}, signal, onLine }: PythonOptions = {},
): Promise<PythonResult> {
  signal?.throwIfAborted()
  const child = spawn(python, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } })
  const stop = () => child.kill()
  signal?.addEventListener('abort', stop)
  // A spinner ends this process at Ctrl-C.
  process.prependOnceListener('exit', stop)
  let output = ''
  let errors = ''
  let line = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-MAX_TEXT)
    const lines = (line + text).split('\n')
    line = (lines.pop() ?? '').slice(-MAX_TEXT)
    for (const each of lines) onLine?.(each)
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-MAX_TEXT)
  })
  const code = await new Promise<number | undefined>((resolve) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      errors = error.code === 'ENOENT' ? 'not found' : error.message
      if (child.pid === undefined) resolve(undefined)
    })
    child.once('close', (exit) => resolve(exit ?? 1))
  })
  signal?.removeEventListener('abort', stop)
  process.off('exit', stop)
  signal?.throwIfAborted()
  return { code, output, errors }
}

/** The cause in what pip has written: its first error is the cause of the others. */
export function pipReason(errors: string): string {
  const lines = errors.trim().split('\n')
  const line = lines.find((text) => /^ERROR: (?!Exception)/.test(text)) ?? lines.at(-1) ?? ''
  return line.replace(/^ERROR: /, '').slice(0, 300) || 'without a reason'
}
