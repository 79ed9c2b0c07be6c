import { beforeEach, describe, expect, it, vi } from 'vitest'
import type { ChatCompletion, ChatCompletionChunk, Completion } from '../../shared/openai.ts'
import type { Heartbeat } from '../../shared/protocol/fleet.ts'
import {
  accepted,
  branchEnd,
  Client,
  call,
  delta,
  deregister,
  done,
  fakeNodeUrl,
  framesSeenByNode,
  heartbeat,
  register,
  registerTwo,
  request,
} from './support.ts'

const ngram = { drafted: 4, accepted: 1 }
const speculation = { drafted: 9, accepted: 4, heads: [{ drafted: 5, accepted: 3 }], ngram }

function drafted(usage: object = speculation) {
  const last = done()
  return { ...last, usage: { ...last.usage, apar: { speculation: usage } } }
}
const answer = [accepted, delta(0, 'a'), branchEnd(0), drafted()]
const plain = [accepted, delta(0, 'a'), branchEnd(0), done()]
const script = JSON.stringify(answer)

const TAKES = heartbeat({
  capacity: { branches: 8, blocks: 100, start_fields: ['stop_scope', 'speculation'] },
})

beforeEach(async () => {
  await register('speculation', TAKES)
  return () => deregister('speculation')
})

async function post<T>(path: string, json: object): Promise<T> {
  return await (await call(path, { method: 'POST', json: { model: 'demo', ...json } })).json<T>()
}

const messages = [{ role: 'user', content: script }]

describe('usage.apar.speculation', () => {
  it('is in a whole chat answer, beside the standard fields, summed over its choices', async () => {
    const { usage } = await post<ChatCompletion>('/v1/chat/completions', { messages, n: 2 })
    expect(usage).toEqual({
      ...{ prompt_tokens: 5, completion_tokens: 14, total_tokens: 19 },
      prompt_tokens_details: { cached_tokens: 2 },
      apar: {
        speculation: {
          ...{ drafted: 18, accepted: 8 },
          heads: [{ drafted: 10, accepted: 6 }],
          ngram: { drafted: 8, accepted: 2 },
        },
      },
    })
  })

  it('is in the last chunk of a streamed one', async () => {
    const fields = { stream: true, stream_options: { include_usage: true } }
    const json = { model: 'demo', messages, ...fields }
    const text = await (await call('/v1/chat/completions', { method: 'POST', json })).text()
    const lines = text.split('\n\n').filter((line) => line.startsWith('data: {'))
    const chunks: ChatCompletionChunk[] = lines.map((line) => JSON.parse(line.slice('data: '.length)))
    expect(chunks.at(-1)?.usage?.apar).toEqual({ speculation })
  })

  it('is in text completions', async () => {
    const { usage } = await post<Completion>('/v1/completions', { prompt: script })
    expect(usage?.apar).toEqual({ speculation })
  })

  it('is in responses, whole and streamed', async () => {
    const { usage } = await post<{ usage: object }>('/v1/responses', { input: script })
    expect(usage).toMatchObject({ input_tokens: 5, output_tokens: 7, apar: { speculation } })
    const json = { model: 'demo', input: script, stream: true }
    const text = await (await call('/v1/responses', { method: 'POST', json })).text()
    expect(text).toContain(`"apar":${JSON.stringify({ speculation })}`)
  })

  it('is in messages, whole and streamed', async () => {
    const { usage } = await post<{ usage: object }>('/v1/messages', { messages, max_tokens: 9 })
    expect(usage).toMatchObject({ output_tokens: 7, apar: { speculation } })
    const json = { model: 'demo', messages, max_tokens: 9, stream: true }
    const text = await (await call('/v1/messages', { method: 'POST', json })).text()
    const [last = ''] = text.split('\n\n').filter((block) => block.startsWith('event: message_delta'))
    expect(JSON.parse(last.split('\ndata: ')[1] ?? '')).toMatchObject({ usage: { apar: { speculation } } })
  })

  it('is in the event of a WebSocket', async () => {
    const client = await Client.generate(answer)
    expect((await client.rest()).at(-1)).toMatchObject({ type: 'done', usage: { apar: { speculation } } })
  })

  it('is absent where nothing was drafted', async () => {
    const content = JSON.stringify(plain)
    const chat = await post<ChatCompletion>('/v1/chat/completions', { messages: [{ role: 'user', content }] })
    expect(chat.usage).not.toHaveProperty('apar')
    const { usage } = await post<{ usage: object }>('/v1/responses', { input: content })
    expect(usage).not.toHaveProperty('apar')
  })

  it.each([
    ['in all', { drafted: 1, accepted: 2 }],
    ['of a head', { drafted: 5, accepted: 1, heads: [{ drafted: 0, accepted: 1 }] }],
    ['of n-grams', { drafted: 5, accepted: 1, ngram: { drafted: 0, accepted: 1 } }],
  ])('with more accepted than drafted tokens %s comes from no honest node', async (_, nonsense) => {
    vi.spyOn(console, 'warn').mockImplementation(() => {})
    await deregister('speculation')
    await registerTwo()
    const begun = [accepted, delta(0, 'a'), branchEnd(0)]
    const client = await Client.generate([[...begun, drafted(nonsense)], [done()]])
    const last = (await client.rest()).at(-1)
    expect(last).toMatchObject({ type: 'done' })
    expect(last).not.toHaveProperty('usage.apar')
  })
})

describe('the option', () => {
  async function seen(stream: string): Promise<unknown[]> {
    const starts = (await framesSeenByNode(stream)).filter(({ type }) => type === 'start')
    return starts.map(({ request }) => (request as { speculation?: string }).speculation)
  }
  const apar = { speculation: 'ngram', enabled: false }

  it.each([
    ['/v1/chat/completions', { messages }],
    ['/v1/completions', { prompt: script }],
    ['/v1/responses', { input: script }],
    ['/v1/messages', { messages, max_tokens: 9 }],
  ])('of %s reaches the gpu node', async (path, fields) => {
    const { id } = await post<{ id: string }>(path, { ...fields, apar })
    expect(await seen(id.replace(/^[a-z]+[-_]/, ''))).toEqual(['ngram'])
  })

  it.each([
    ['/v1/chat/completions', { messages }],
    ['/v1/completions', { prompt: script }],
    ['/v1/responses', { input: script }],
    ['/v1/messages', { messages, max_tokens: 9 }],
  ])('of %s is refused with a value that is none', async (path, fields) => {
    const json = { model: 'demo', ...fields, apar: { speculation: 'eagle' } }
    const response = await call(path, { method: 'POST', json })
    expect(response.status).toBe(400)
    const { error } = await response.json<{ error: { code: string; param: string; message: string } }>()
    expect(error).toMatchObject({ code: 'invalid_request', param: 'apar.speculation' })
    expect(error.message).toMatch(/"auto".*"off".*"medusa".*"ngram"/)
  })

  it('of a WebSocket is a field of the request, and refused with a value that is none', async () => {
    const client = await Client.generate(answer, { speculation: 'off' })
    const [first] = await client.rest()
    expect(await seen((first as { stream: string }).stream)).toEqual(['off'])
    const refused = await Client.generate(answer, { speculation: 'eagle' })
    expect(await refused.rest()).toMatchObject([
      { type: 'error', code: 'invalid_request', param: 'speculation' },
    ])
  })

  it('does not reach a gpu node of an older version, and comes back at one that knows it', async () => {
    vi.spyOn(console, 'warn').mockImplementation(() => {})
    const at = (path: string, node: Heartbeat) => ({ ...node, url: `${fakeNodeUrl}/${path}` })
    await register('speculation', at('old', heartbeat()))
    const begun = [accepted, delta(0, 'a'), { await: 'cancel_branch' }, { die: true }]
    const client = await Client.open()
    client.send({ type: 'generate', ...request([begun, [branchEnd(0), done()]], { speculation: 'off' }) })
    const first = await client.next()
    await client.next()
    await register('new', at('new', TAKES))
    client.send({ type: 'cancel_branch', branch: 7 })
    expect((await client.rest()).at(-1)).toMatchObject({ type: 'done' })
    expect(await seen((first as { stream: string }).stream)).toEqual([undefined, 'off'])
    await deregister('new')
  })
})
