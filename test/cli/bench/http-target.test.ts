import type { ServerResponse } from 'node:http'
import { afterEach, describe, expect, test } from 'vitest'
import { ReceivedAnswer } from '../../../cli/bench/serving/target/answer.ts'
import { httpTarget } from '../../../cli/bench/serving/target/http-target.ts'
import { ROUTES, type RouteName } from '../../../cli/bench/serving/target/routes.ts'
import type { BenchRequest, Target } from '../../../cli/bench/serving/target/target.ts'
import { chatStream, type ScriptedServer, sse, startScriptedServer } from './scripted-server.ts'

const REQUEST: BenchRequest = {
  ...{ model: 'm', messages: [{ role: 'user', content: 'Hello' }], maxTokens: 16 },
  ...{ fixedLength: false, temperature: 0, seed: 3, mode: undefined },
}

let server: ScriptedServer
let target: Target
afterEach(async () => {
  target.close()
  await server.close()
})

async function ask(
  route: RouteName,
  respond: (response: ServerResponse) => void,
  {
    request = REQUEST,
    more = {},
    silenceMs = 10_000,
  }: { request?: BenchRequest; more?: object; silenceMs?: number } = {},
): Promise<ReceivedAnswer> {
  server = await startScriptedServer((_, response) => respond(response))
  target = httpTarget(ROUTES[route], { baseUrl: server.url, key: 'k', silenceMs }, more)
  const answer = new ReceivedAnswer()
  await target.ask(request, answer)
  return answer
}

const ANSWERS: Record<RouteName, string> = {
  chat: chatStream(['Hi ', 'there'], { prompt: 7, output: 5 }),
  completions: sse(
    { choices: [{ index: 0, text: 'Hi ', finish_reason: null }], usage: null },
    { choices: [{ index: 0, text: 'there', finish_reason: 'stop' }], usage: null },
    {
      choices: [],
      usage: { prompt_tokens: 7, completion_tokens: 5, prompt_tokens_details: { cached_tokens: 0 } },
    },
    '[DONE]',
  ),
  responses: sse(
    { type: 'response.created', response: { status: 'in_progress', error: null, usage: null } },
    { type: 'response.output_text.delta', delta: 'Hi ' },
    { type: 'response.output_text.delta', delta: 'there' },
    {
      type: 'response.completed',
      response: {
        status: 'completed',
        usage: { input_tokens: 7, output_tokens: 5, input_tokens_details: null },
      },
    },
  ),
  messages: sse(
    { type: 'message_start', message: { usage: { input_tokens: 7, output_tokens: 0 } } },
    { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
    { type: 'ping' },
    { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Hi ' } },
    { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'there' } },
    { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 5 } },
    { type: 'message_stop' },
  ),
}

/** The events in which each API has a trace. */
const TRACED: Record<RouteName, (steps: object[]) => string> = {
  chat: (steps) => sse({ choices: [{ index: 0, delta: {} }], apar: { event: 'trace', version: 1, steps } }),
  completions: (steps) =>
    sse({ choices: [{ index: 0, text: '' }], apar: { event: 'trace', version: 1, steps } }),
  responses: (steps) =>
    sse({ type: 'response.completed', response: { apar: { trace: { version: 1, steps } } } }),
  messages: (steps) => sse({ type: 'message_delta', delta: {}, apar: { trace: { version: 1, steps } } }),
}

describe.each(Object.keys(ROUTES) as RouteName[])('the route %s', (route) => {
  test('reads text, times and usage', async () => {
    const answer = await ask(route, (response) => void response.end(ANSWERS[route]))
    expect(answer.text).toBe('Hi there')
    expect(answer.pieceTimes).toHaveLength(2)
    expect(answer.usage).toEqual({ promptTokens: 7, cachedTokens: 0, outputTokens: 5 })
    expect(answer.finish).toBeDefined()
    expect(server.calls[0]?.headers.authorization).toBe('Bearer k')
  })

  test('sends nothing that is not of the API, unless it is asked for', async () => {
    await ask(route, (response) => void response.end(ANSWERS[route]))
    const plain = server.calls[0]?.body ?? {}
    expect(Object.keys(plain).filter((name) => /apar|eos|min_tokens|seed/.test(name))).toEqual([])
    await server.close()

    const mode = { parallel: false, speculation: 'medusa' } as const
    const request = { ...REQUEST, fixedLength: true, temperature: 0.7, mode }
    await ask(route, (response) => void response.end(ANSWERS[route]), { request, more: { top_k: 5 } })
    expect(server.calls[0]?.body).toMatchObject({
      ...{ ignore_eos: true, min_tokens: 16, seed: 3, temperature: 0.7, top_k: 5 },
      apar: { enabled: false, speculation: 'medusa' },
    })
  })

  test('reads when the steps of a traced request ended', async () => {
    const steps = [
      { us: 1500, rows: 7 },
      { us: 2500, rows: 2 },
      { us: 2600, rows: 0 },
    ]
    const traced = TRACED[route](steps) + ANSWERS[route]
    const request = { ...REQUEST, trace: true }
    const answer = await ask(route, (response) => void response.end(traced), { request })
    expect(server.calls[0]?.body.apar).toEqual({ trace: true })
    expect(answer.stepTimes).toEqual([1.5, 2.5])
    expect(answer.text).toBe('Hi there')
  })

  test('knows an answer without its end', async () => {
    const cut = ANSWERS[route].slice(0, ANSWERS[route].indexOf('there'))
    await expect(ask(route, (response) => void response.end(cut))).rejects.toMatchObject({
      code: 'incomplete',
    })
  })
})

describe('a failure', () => {
  test.each([
    [429, '{"error": {"code": "rate_limit_exceeded", "message": "slow down"}}', 'rate_limit_exceeded'],
    [400, '{"object": "error", "error": {"code": 400, "message": "no"}}', 'http_400'],
    [529, '{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}', 'overloaded_error'],
    [502, '<html>bad gateway</html>', 'http_502'],
  ])('with status %d has the code of its body: %s', async (status, body, code) => {
    const refused = ask('chat', (response) => void response.writeHead(status).end(body))
    await expect(refused).rejects.toMatchObject({ code })
  })

  test.each([
    [sse({ error: { code: 'engine_error', message: 'it broke' } }), 'engine_error'],
    ['data: {"choices": [\n\n', 'invalid_event'],
    [sse({ choices: 'none' }), 'invalid_event'],
  ])('in the stream is one of the request: %j', async (events, code) => {
    await expect(ask('chat', (response) => void response.end(events))).rejects.toMatchObject({ code })
  })

  test('of a response is in its last event', async () => {
    const failed = {
      type: 'response.failed',
      response: { error: { code: 'gpu_node_lost', message: 'gone' } },
    }
    const asked = ask('responses', (response) => void response.end(sse(failed)))
    await expect(asked).rejects.toMatchObject({ code: 'gpu_node_lost' })
  })

  test('of the connection keeps what had arrived', async () => {
    server = await startScriptedServer((_, response) => {
      response.write(
        chatStream(['Hi ']).split(
          'data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},',
        )[0] ?? '',
      )
      setTimeout(() => response.destroy(), 50)
    })
    target = httpTarget(ROUTES.chat, { baseUrl: server.url, key: undefined, silenceMs: 10_000 })
    const answer = new ReceivedAnswer()
    await expect(target.ask(REQUEST, answer)).rejects.toMatchObject({
      code: 'ECONNRESET',
    })
    expect(answer.text).toBe('Hi ')
    expect(server.calls[0]?.headers.authorization).toBeUndefined()
  })

  test('is also silence', async () => {
    const silent = ask('chat', (response) => void response.write(': hello\n\n'), { silenceMs: 50 })
    await expect(silent).rejects.toMatchObject({ code: 'timeout' })
  })

  test('is a port on which nothing listens', async () => {
    server = await startScriptedServer(() => {})
    await server.close()
    target = httpTarget(ROUTES.chat, { baseUrl: server.url, key: undefined, silenceMs: 1000 })
    await expect(target.ask(REQUEST, new ReceivedAnswer())).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  })
})
