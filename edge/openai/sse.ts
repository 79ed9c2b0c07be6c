import type { Context } from 'hono'
import { toAparError } from '../../shared/errors.ts'
import type { AppEnv } from '../env.ts'
import { logIfBug } from '../log.ts'

/**
 * Proxies cut connections that stay quiet (15 s is safe), and workerd notices that a client has left only when it
 * writes: so this is also how long a generation may go on for nobody while its text waits for an earlier branch.
 */
const KEEP_ALIVE_MS = 1_000

/**
 * `items` as server-sent events the way OpenAI's clients read them: one JSON per `data:` line, `[DONE]` after the
 * last, an error as a last data line instead. A comment goes out whenever nothing else did for a while.
 */
export function sseResponse(
  c: Context<AppEnv>,
  items: AsyncIterable<unknown>,
  onCancel: () => void,
): Response {
  const encoder = new TextEncoder()
  let left = false
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const write = (text: string) => {
        if (!left) controller.enqueue(encoder.encode(`${text}\n\n`))
      }
      void pump(c, items, write).then(() => {
        if (!left) controller.close()
      })
    },
    cancel() {
      left = true
      onCancel()
    },
  })
  const headers = { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' }
  return new Response(body, { headers })
}

async function pump(c: Context<AppEnv>, items: AsyncIterable<unknown>, write: (text: string) => void) {
  let quiet = true
  const keepAlive = setInterval(() => {
    if (quiet) write(': keep-alive')
    quiet = true
  }, KEEP_ALIVE_MS)
  try {
    for await (const item of items) {
      write(`data: ${JSON.stringify(item)}`)
      quiet = false
    }
    write('data: [DONE]')
  } catch (thrown) {
    const error = toAparError(thrown)
    logIfBug(c, error)
    write(`data: ${JSON.stringify(error.toBody())}`)
  } finally {
    clearInterval(keepAlive)
  }
}
