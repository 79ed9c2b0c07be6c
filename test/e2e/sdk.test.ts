import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { APICallError, generateText, streamText } from 'ai'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { type BranchPiecePart, branchesOf, branchParts, createApar } from '../../ai-sdk/index.ts'
import { type Stack, startStack } from './stack.ts'

const PROMPT = 'How do I use tar?'
const messages = [{ role: 'user' as const, content: PROMPT }]
const options = { model: 'demo', messages, temperature: 0, max_tokens: 120 }

type Settings = { baseURL: string; apiKey: string }

let stack: Stack
let openai: OpenAI

beforeAll(async () => {
  stack = await startStack()
  openai = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: stack.key, maxRetries: 0 })
})

afterAll(async () => {
  await stack?.close()
})

async function textOf(fields: object): Promise<string> {
  const answer = await openai.chat.completions.create({ ...options, ...fields })
  return answer.choices[0]?.message.content ?? ''
}

describe("OpenAI's own client", () => {
  it('gets one model, or 404', async () => {
    expect(await openai.models.retrieve('demo')).toMatchObject({ id: 'demo', object: 'model' })
    await expect(openai.models.retrieve('a/b')).rejects.toMatchObject({
      status: 404,
      code: 'model_not_found',
    })
  })

  it('gets several choices, the first as without n', async () => {
    const fields = { ...options, temperature: 1, seed: 11 }
    const single = await openai.chat.completions.create(fields)
    const three = await openai.chat.completions.create({ ...fields, n: 3 })
    const texts = three.choices.map(({ message }) => message.content)
    expect(texts[0]).toBe(single.choices[0]?.message.content)
    expect(new Set(texts).size).toBe(3)
    expect(three.system_fingerprint).toMatch(/^fp_[0-9a-f]{16}\.\d+(-[0-9a-z]+){3}$/)
    expect(single.system_fingerprint).toBe(three.system_fingerprint)
    expect(three.usage?.prompt_tokens).toBe(single.usage?.prompt_tokens)
  })

  it('gets log-probabilities of the text, in its order', async () => {
    const answer = await openai.chat.completions.create({ ...options, logprobs: true, top_logprobs: 2 })
    const [choice] = answer.choices
    const rows = choice?.logprobs?.content ?? []
    const bytes = rows.flatMap((row) => row.bytes ?? [])
    expect(Buffer.from(bytes).toString().trimStart()).toBe(choice?.message.content?.trimStart())
    for (const { logprob, top_logprobs } of rows) {
      expect(logprob).toBeLessThanOrEqual(0)
      expect(top_logprobs).toHaveLength(2)
      // Greedy: the chosen token is the likeliest, except where a [Fork] was refused.
      expect(logprob).toBeLessThanOrEqual(top_logprobs[0]?.logprob ?? 0)
    }
    const certain = rows.filter(({ logprob, top_logprobs }) => logprob === top_logprobs[0]?.logprob)
    expect(certain.length).toBeGreaterThan(rows.length * 0.9)
  })

  it('can forbid and penalize tokens', async () => {
    const plain = await openai.chat.completions.create({ ...options, logprobs: true, top_logprobs: 1 })
    expect(await textOf({ presence_penalty: 2, frequency_penalty: 2 })).not.toBe(
      plain.choices[0]?.message.content,
    )
    // 2 is the demo model's end-of-text token: without it every answer has max_tokens.
    const endless = await openai.chat.completions.create({
      ...options,
      logit_bias: { '2': -100 },
      ...{ apar: { enabled: false } },
    })
    expect(endless.choices[0]?.finish_reason).toBe('length')
    expect(endless.usage?.completion_tokens).toBe(120)
    const stray = openai.chat.completions.create({ ...options, logit_bias: { '999999': 1 } })
    await expect(stray).rejects.toMatchObject({ status: 400, param: 'logit_bias.999999' })
  })

  it('stops at a stop string and at a branch budget', async () => {
    const whole = await textOf({})
    const word = whole.split(' ').find((part) => part.length > 4) ?? ''
    expect(whole).toContain(word)
    expect(await textOf({ stop: word, apar: { enabled: false } })).not.toContain(word)
    const short = await openai.chat.completions.create({ ...options, ...{ apar: { max_branch_tokens: 5 } } })
    expect(short.choices[0]?.finish_reason).toBe('length')
  })

  it('completes a text without a template, streamed or not', async () => {
    const body = {
      model: 'demo',
      prompt: 'USER: How do I use tar?\nASSISTANT:\n',
      temperature: 0,
      max_tokens: 60,
    }
    const whole = await openai.completions.create({ ...body, logprobs: 1 })
    const [choice] = whole.choices
    expect(choice?.text.length).toBeGreaterThan(20)
    expect(choice?.logprobs?.tokens?.length).toBeGreaterThan(10)
    let streamed = ''
    for await (const chunk of await openai.completions.create({ ...body, stream: true })) {
      streamed += chunk.choices[0]?.text ?? ''
    }
    expect(streamed).toBe(choice?.text)
    // The chat template produces exactly this prompt.
    const chat = await openai.chat.completions.create({ ...options, max_tokens: 60 })
    expect(chat.usage?.prompt_tokens).toBe(whole.usage?.prompt_tokens)
    expect(chat.choices[0]?.message.content).toBe(streamed)
  })

  it('can assemble branches from addressed deltas', async () => {
    const stream = await openai.chat.completions.create({
      ...options,
      stream: true,
      ...{ apar: { branch_deltas: true } },
    })
    const texts = new Map<number, string>()
    let forks = 0
    for await (const chunk of stream) {
      const { apar } = chunk as unknown as {
        apar?: { event: string; branch: number; at?: number; parent?: number }
      }
      if (apar?.event === 'fork') {
        forks++
        expect(texts.get(apar.parent ?? -1)?.length).toBe(apar.at)
      }
      if (apar?.event === 'delta') {
        texts.set(apar.branch, (texts.get(apar.branch) ?? '') + (chunk.choices[0]?.delta.content ?? ''))
      }
    }
    expect(forks).toBeGreaterThan(0)
    expect(texts.size).toBeGreaterThan(1)
    expect([...texts.values()].join('').length).toBe((await textOf({})).length)
  })
})

describe.each([
  {
    name: 'of OpenAI-compatible servers',
    create: (settings: Settings) => createOpenAICompatible({ ...settings, name: 'apar', includeUsage: true }),
  },
  { name: 'of apar', create: createApar },
])('the AI SDK with the provider $name', ({ create }) => {
  const provider = () => create({ baseURL: `${stack.url}/v1`, apiKey: stack.key })
  const asked = () => ({
    model: provider()('demo'),
    prompt: PROMPT,
    temperature: 0,
    maxOutputTokens: 120,
    maxRetries: 0,
  })

  it('generates and streams the same text, with its usage', async () => {
    const whole = await generateText(asked())
    expect(whole.text).toBe(await textOf({}))
    const stream = streamText(asked())
    let streamed = ''
    for await (const part of stream.textStream) streamed += part
    expect(streamed).toBe(whole.text)
    const usage = await stream.usage
    expect(usage.outputTokens).toBeGreaterThan(0)
    expect(usage).toMatchObject({
      inputTokens: whole.usage.inputTokens,
      outputTokens: whole.usage.outputTokens,
    })
    expect(await stream.finishReason).toBe(whole.finishReason)
  })

  it('passes options on, and understands errors', async () => {
    const { forks } = stack.node.runner.stats()
    // The SDK sends options under the provider's name as fields of the body.
    await generateText({ ...asked(), providerOptions: { apar: { apar: { enabled: false } } } })
    expect(stack.node.runner.stats().forks).toBe(forks)
    const failing = generateText({ ...asked(), model: provider()('nope') })
    await expect(failing).rejects.toSatisfy(
      (error) =>
        APICallError.isInstance(error) && error.statusCode === 404 && /no model "nope"/.test(error.message),
    )
  })

  it('frees the engine when it aborts', async () => {
    const abort = new AbortController()
    const stream = streamText({
      ...asked(),
      maxOutputTokens: 400,
      abortSignal: abort.signal,
      onError: () => {},
    })
    for await (const _ of stream.textStream) {
      abort.abort()
      break
    }
    await vi.waitFor(() => expect(stack.node.runner.stats().runningRequests).toBe(0), { timeout: 30_000 })
  })
})

describe('the provider of apar', () => {
  it('says more and more of several branches, while the text is in order', async () => {
    const apar = createApar({ baseURL: stack.url, apiKey: stack.key })
    const answer = streamText({
      ...{ model: apar('demo'), prompt: PROMPT, temperature: 0, maxOutputTokens: 300, maxRetries: 0 },
      includeRawChunks: true,
    })
    const pieces: BranchPiecePart[] = []
    for await (const part of branchParts(answer.fullStream)) pieces.push(part)
    const kept = [...new Map(pieces.map((part) => [part.id, part])).values()]
    const branches = branchesOf({ parts: kept })
    expect(branches.length).toBeGreaterThan(2)
    expect(branches.every(({ reason }) => reason !== undefined)).toBe(true)
    // The texts come in turns.
    const turns = pieces.filter(({ data }, at) => data.branch !== pieces[at - 1]?.data.branch)
    expect(turns.length).toBeGreaterThan(2 * branches.length)
    const { apar: metadata } = (await answer.providerMetadata) ?? {}
    expect(branches.map(({ key: _, answer: __, ...branch }) => branch)).toEqual(metadata?.branches)
    const whole = await generateText({
      model: apar('demo'),
      prompt: PROMPT,
      temperature: 0,
      maxOutputTokens: 300,
    })
    expect(await answer.text).toBe(whole.text)
  })
})
