import { type CallSettings, generateText, streamText } from 'ai'
import { afterEach, expect, test, vi } from 'vitest'
import { type AparModelOptions, createApar } from '../../ai-sdk/index.ts'
import { FORKED, fakeEdge, usage } from './fake-edge.ts'

afterEach(() => vi.unstubAllEnvs())

const whole = () =>
  Response.json({
    ...usage,
    choices: [{ index: 0, message: { role: 'assistant', content: 'yes' }, finish_reason: 'stop' }],
  })

async function streamedBody(settings: CallSettings & { apar?: AparModelOptions & { min_tokens?: number } }) {
  const { apar, requests } = fakeEdge(FORKED)
  const { apar: own = {}, ...call } = settings
  const result = streamText({ ...call, model: apar('demo'), prompt: 'hi', providerOptions: { apar: own } })
  await result.consumeStream()
  return { ...requests[0]?.body, warnings: await result.warnings }
}

test('a stream asks for the branch of each text', async () => {
  expect(await streamedBody({})).toEqual({
    model: 'demo',
    messages: [{ role: 'user', content: 'hi' }],
    stream: true,
    stream_options: { include_usage: true },
    apar: { branch_deltas: true },
    warnings: [],
  })
})

test('settings and options become fields of the request', async () => {
  const apar = { maxBranches: 4, maxDepth: 2, minP: 0.1, speculation: 'off' as const, min_tokens: 3 }
  const settings = { maxOutputTokens: 9, temperature: 0, topP: 0.5, topK: 7, seed: 1, presencePenalty: 1 }
  expect(await streamedBody({ ...settings, frequencyPenalty: 2, apar })).toMatchObject({
    ...{ max_tokens: 9, temperature: 0, top_p: 0.5, top_k: 7, seed: 1, min_tokens: 3 },
    ...{ presence_penalty: 1, frequency_penalty: 2 },
    apar: { branch_deltas: true, max_branches: 4, max_depth: 2, min_p: 0.1, speculation: 'off' },
    warnings: [],
  })
})

test('a stop string ends the text in the order that the server knows', async () => {
  const body = await streamedBody({ stopSequences: ['\n2.'], apar: { enabled: true } })
  expect(body).toMatchObject({ stop: ['\n2.'], apar: { enabled: true }, warnings: [] })
  expect(body).not.toHaveProperty('apar.branch_deltas')
})

test('a call that is not streamed has no branches', async () => {
  const { apar, requests } = fakeEdge(whole())
  const result = await generateText({ model: apar('demo'), prompt: 'hi', topK: 3 })
  expect(result.text).toBe('yes')
  expect(requests[0]?.body).toEqual({
    model: 'demo',
    messages: [{ role: 'user', content: 'hi' }],
    top_k: 3,
  })
})

test('an effort of reasoning, which later versions of the AI SDK pass on, is a warning', async () => {
  const { apar, requests } = fakeEdge(whole(), whole())
  const prompt = [{ role: 'user' as const, content: [{ type: 'text' as const, text: 'hi' }] }]
  const ask = (reasoning: string) => apar('demo').doGenerate({ prompt, ...{ reasoning } })
  expect((await ask('high')).warnings).toMatchObject([{ type: 'unsupported', feature: 'reasoning' }])
  expect((await ask('provider-default')).warnings).toEqual([])
  for (const { body } of requests) expect(body).not.toHaveProperty('reasoning')
})

test('key and address come from the settings or from the environment', async () => {
  const { apar, requests } = fakeEdge(whole())
  await generateText({ model: apar('demo'), prompt: 'hi' })
  expect(requests[0]?.url).toBe('http://127.0.0.1:8787/v1/chat/completions')
  expect(requests[0]?.headers.get('authorization')).toBe('Bearer key')

  const asked: [string, string | null][] = []
  const fetch = async (url: unknown, init?: RequestInit) => {
    asked.push([String(url), new Headers(init?.headers).get('authorization')])
    return whole()
  }
  const provider = createApar({ fetch })
  const ask = () => generateText({ model: provider('demo'), prompt: 'hi', maxRetries: 0 })
  vi.stubEnv('APAR_API_KEY', undefined)
  await expect(ask()).rejects.toThrow(/APAR_API_KEY/)
  vi.stubEnv('APAR_API_KEY', 'other')
  vi.stubEnv('APAR_BASE_URL', 'https://host/models/v1/')
  await ask()
  expect(asked).toEqual([['https://host/models/v1/chat/completions', 'Bearer other']])
})

test('there are language models only', () => {
  const { apar } = fakeEdge()
  expect(apar.languageModel('a')).toMatchObject({
    specificationVersion: 'v3',
    provider: 'apar.chat',
    modelId: 'a',
  })
  expect(() => apar.embeddingModel('a')).toThrow(/No such embeddingModel: a/)
  expect(() => apar.imageModel('a')).toThrow(/No such imageModel: a/)
})
