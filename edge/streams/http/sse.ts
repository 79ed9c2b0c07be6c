import type { Context } from 'hono'
import { type AparError, toAparError } from '../../../shared/errors.ts'
import type { AppEnv } from '../../app-env.ts'
import { logIfBug } from '../../log.ts'

/**
 * Proxies cut connections that stay quiet (15 s is safe), and workerd by itself notices that a client has left only with
 * the second write after that: so this is also how long a generation may go on for nobody while its text waits for an
 * earlier branch. On Cloudflare `request.signal` tells.
 */
const KEEP_ALIVE_MS = 250

/** What may wait for a client that reads slowly, some 20,000 tokens; with more it is cut. */
export const MAX_WAITING_BYTES = 4 * 1024 * 1024

/** An item with an id, which a client that comes back names in `last-event-id`. */
export class Identified {
  readonly id: string
  readonly item: unknown

  constructor(id: string, item: unknown) {
    this.id = id
    this.item = item
  }
}

/** How an API writes its items. */
export interface SseFormat {
  readonly item: (item: unknown) => string
  /** In the place of all that would have followed. */
  readonly error: (error: AparError) => string
  /** After the last item. */
  readonly end: string | undefined
}

/** The completions': one JSON per `data:` line, `[DONE]` after the last, an error as a last data line instead. */
const COMPLETIONS: SseFormat = {
  item: (item) => (item instanceof Identified ? `id: ${item.id}\n${dataLine(item.item)}` : dataLine(item)),
  error: (error) => dataLine(error.toBody()),
  end: 'data: [DONE]',
}

/** Of APIs that name their events: each item's `type` is its event's name, too. `failure` makes the last of them. */
export function namedEvents(failure: (error: AparError) => { readonly type: string }): SseFormat {
  const line = (item: { readonly type: string }) => `event: ${item.type}\n${dataLine(item)}`
  return {
    item: (item) => line(item as { readonly type: string }),
    error: (error) => line(failure(error)),
    end: undefined,
  }
}

/** `items` as server-sent events. A comment goes out whenever nothing else did for a while. */
export function sseResponse(
  c: Context<AppEnv>,
  items: AsyncIterable<unknown>,
  onCancel: () => void,
  format: SseFormat = COMPLETIONS,
): Response {
  const encoder = new TextEncoder()
  // Not a stream of our own: when the connection breaks in the middle of a write, workerd tells those nothing.
  const { readable, writable } = new IdentityTransformStream()
  const writer = writable.getWriter()
  let left = false
  let waitingBytes = 0
  const leave = () => {
    if (left) return
    left = true
    onCancel()
  }
  const write = (text: string) => {
    if (left) return
    const bytes = encoder.encode(`${text}\n\n`)
    waitingBytes += bytes.length
    const written = () => {
      waitingBytes -= bytes.length
    }
    writer.write(bytes).then(written, leave)
    // The abort fails every write that waits.
    if (waitingBytes > MAX_WAITING_BYTES) void writer.abort(new Error('the client reads too slowly'))
  }
  void pump(c, items, format, write).then(() => writer.close().catch(leave))
  const headers = { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' }
  return new Response(readable, { headers })
}

async function pump(
  c: Context<AppEnv>,
  items: AsyncIterable<unknown>,
  format: SseFormat,
  write: (text: string) => void,
) {
  let quiet = true
  const keepAlive = setInterval(() => {
    if (quiet) write(': keep-alive')
    quiet = true
  }, KEEP_ALIVE_MS)
  try {
    for await (const item of items) {
      write(format.item(item))
      quiet = false
    }
    if (format.end !== undefined) write(format.end)
  } catch (thrown) {
    const error = toAparError(thrown)
    logIfBug(c, error)
    write(format.error(error))
  } finally {
    clearInterval(keepAlive)
  }
}

function dataLine(item: unknown): string {
  return `data: ${JSON.stringify(item)}`
}
