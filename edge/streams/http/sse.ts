import type { Context } from 'hono'
import { type AparError, toAparError } from '../../../shared/errors.ts'
import type { AppEnv } from '../../app-env.ts'
import { logIfForOperator } from '../../log.ts'

/**
 * Proxies close connections that stay quiet (15 s is safe). And workerd by itself notices that a client has
 * disconnected only at the second write after that, so this interval also bounds how long a generation runs without a
 * client while its text waits for an earlier branch. On Cloudflare `request.signal` aborts at once.
 */
const KEEP_ALIVE_MS = 250

/** Bytes that may wait for a client that reads slowly, some 20,000 tokens. With more its connection is closed. */
export const MAX_WAITING_BYTES = 4 * 1024 * 1024

/** An item with an event id, which a client that resumes sends as `last-event-id`. */
export class ItemWithId {
  readonly id: string
  readonly item: unknown

  constructor(id: string, item: unknown) {
    this.id = id
    this.item = item
  }
}

/** How an API writes its items as server-sent events. */
export interface SseFormat {
  readonly item: (item: unknown) => string
  /** Replaces all items that would have followed. */
  readonly error: (error: AparError) => string
  /** After the last item. */
  readonly end: string | undefined
}

/** OpenAI's completions: one JSON per `data:` line, then `[DONE]`, or an error as the last data line instead. */
const COMPLETIONS: SseFormat = {
  item: (item) => (item instanceof ItemWithId ? `id: ${item.id}\n${dataLine(item.item)}` : dataLine(item)),
  error: (error) => dataLine(error.toBody()),
  end: 'data: [DONE]',
}

/** For APIs with named events: an item's `type` is also its event's name. `failure` makes the event for an error. */
export function namedEvents(failure: (error: AparError) => { readonly type: string }): SseFormat {
  const line = (item: { readonly type: string }) => `event: ${item.type}\n${dataLine(item)}`
  return {
    item: (item) => line(item as { readonly type: string }),
    error: (error) => line(failure(error)),
    end: undefined,
  }
}

/** `items` as server-sent events, with a comment as keep-alive when no item comes for a while. */
export function sseResponse(
  c: Context<AppEnv>,
  items: AsyncIterable<unknown>,
  onCancel: () => void,
  format: SseFormat = COMPLETIONS,
): Response {
  const encoder = new TextEncoder()
  // Not a ReadableStream of our own: workerd does not report to it that the connection broke during a write.
  const { readable, writable } = new IdentityTransformStream()
  const writer = writable.getWriter()
  let disconnected = false
  let waitingBytes = 0
  const onDisconnect = () => {
    if (disconnected) return
    disconnected = true
    onCancel()
  }
  const write = (text: string) => {
    if (disconnected) return
    const bytes = encoder.encode(`${text}\n\n`)
    waitingBytes += bytes.length
    const written = () => {
      waitingBytes -= bytes.length
    }
    writer.write(bytes).then(written, onDisconnect)
    // Aborting rejects all writes that wait.
    if (waitingBytes > MAX_WAITING_BYTES) void writer.abort(new Error('the client reads too slowly'))
  }
  void pump(c, items, format, write).then(() => writer.close().catch(onDisconnect))
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
    logIfForOperator(c, error)
    write(format.error(error))
  } finally {
    clearInterval(keepAlive)
  }
}

function dataLine(item: unknown): string {
  return `data: ${JSON.stringify(item)}`
}
