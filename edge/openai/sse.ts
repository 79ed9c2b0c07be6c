import { toAparError } from '../../shared/errors.ts'

/**
 * Proxies cut connections that stay quiet (15 s is safe), and workerd notices that a client has left only when it
 * writes: so this is also how long a generation may go on for nobody while its text waits for an earlier branch.
 */
const KEEP_ALIVE_MS = 1_000

export interface SseOptions {
  /** Called when the client leaves before the end. */
  readonly onCancel: () => void
  readonly onError: (thrown: unknown) => void
}

/**
 * `items` as server-sent events the way OpenAI's clients read them: one JSON per `data:` line, `[DONE]` after the
 * last, an error as a last data line instead. A comment goes out whenever nothing else did for a while.
 */
export function sseResponse(items: AsyncIterable<unknown>, options: SseOptions): Response {
  const encoder = new TextEncoder()
  let left = false
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const write = (text: string) => {
        if (!left) controller.enqueue(encoder.encode(`${text}\n\n`))
      }
      void pump(items, write, options).then(() => {
        if (!left) controller.close()
      })
    },
    cancel() {
      left = true
      options.onCancel()
    },
  })
  const headers = { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' }
  return new Response(body, { headers })
}

async function pump(items: AsyncIterable<unknown>, write: (text: string) => void, options: SseOptions) {
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
    options.onError(thrown)
    write(`data: ${JSON.stringify(toAparError(thrown).toBody())}`)
  } finally {
    clearInterval(keepAlive)
  }
}
