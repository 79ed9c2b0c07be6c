/** Events cross from a Durable Object to the worker as lines of JSON, as fast as they are read. */

/** Writes those behind number `after`. Ends early when nobody reads any more. */
export async function writeLines(
  events: AsyncIterable<object>,
  after: number,
  writable: WritableStream<Uint8Array>,
): Promise<void> {
  const encoder = new TextEncoder()
  const writer = writable.getWriter()
  try {
    for await (const event of events) {
      const isNew = 'sequence_number' in event && Number(event.sequence_number) > after
      if (isNew) await writer.write(encoder.encode(`${JSON.stringify(event)}\n`))
    }
    await writer.close()
  } catch (why) {
    await writer.abort(why).catch(() => {})
  }
}

/** The events, and what to call when they are not needed any more. */
export function readLines(
  readable: ReadableStream<Uint8Array>,
): [events: AsyncGenerator<object, void>, cancel: () => void] {
  const reader = readable.getReader()
  return [eventsOf(reader), () => void reader.cancel().catch(() => {})]
}

async function* eventsOf(reader: ReadableStreamDefaultReader<Uint8Array>): AsyncGenerator<object, void> {
  const decoder = new TextDecoder()
  let line = ''
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    const [first = '', ...others] = decoder.decode(chunk.value, { stream: true }).split('\n')
    line += first
    for (const next of others) {
      yield JSON.parse(line)
      line = next
    }
  }
}
