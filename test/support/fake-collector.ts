import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

interface Attribute {
  key: string
  value: { stringValue?: string; intValue?: number; boolValue?: boolean; arrayValue?: unknown }
}

interface Span {
  traceId: string
  parentSpanId?: string
  traceState?: string
  name: string
  events: { name: string }[]
  attributes: Attribute[]
}

interface Batch {
  resourceSpans: { resource: { attributes: Attribute[] }; scopeSpans: { spans: Span[] }[] }[]
}

/** Receives spans like an OpenTelemetry collector: OTLP as JSON over HTTP. */
export class FakeCollector {
  serviceName: unknown
  readonly #spans: Span[] = []
  #wake = () => {}
  readonly #server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    if (request.url === '/v1/traces') this.#take(JSON.parse(body))
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  })

  /** The endpoint's address. */
  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Waits for the first span that satisfies `wanted`. */
  async span(wanted: (span: Span) => boolean): Promise<Span> {
    for (;;) {
      const found = this.#spans.find(wanted)
      if (found) return found
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  attributes({ attributes }: Pick<Span, 'attributes'>): Record<string, unknown> {
    return Object.fromEntries(
      attributes.map(({ key, value }) => [key, value.stringValue ?? value.intValue ?? value.boolValue]),
    )
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  #take({ resourceSpans }: Batch): void {
    for (const { resource, scopeSpans } of resourceSpans) {
      this.serviceName = this.attributes(resource)['service.name']
      this.#spans.push(...scopeSpans.flatMap(({ spans }) => spans))
    }
    this.#wake()
  }
}
