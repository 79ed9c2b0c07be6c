import { beforeEach, expect, it } from 'vitest'
import type { Completion } from '../../shared/openai.ts'
import { accepted, branchEnd, call, delta, done, fork, register } from './support.ts'

beforeEach(async () => {
  await register('completions')
})

/** `prompt`: the steps of the fake node. */
function create(prompt: unknown[], fields: object = {}): Promise<Response> {
  const json = { model: 'demo', prompt: JSON.stringify(prompt), ...fields }
  return call('/v1/completions', { method: 'POST', json })
}

it.each([true, false])(
  'says where tokens begin whose character has several of them (stream: %s)',
  async (stream) => {
    const row = (at: number, token: string) => ({ at, token, bytes: [0], logprob: -1, top: [] })
    const byte = (at: number) => row(at, '\ufffd')
    const steps = [
      accepted,
      { ...delta(0, 'a€'), logprobs: [row(0, 'a'), byte(1), byte(1), byte(1)] },
      fork(0, 1, 2),
      { ...delta(0, 'd'), logprobs: [row(2, 'd')] },
      { ...delta(1, '€'), logprobs: [byte(0), byte(0), byte(0)] },
      { ...delta(1, 'c'), logprobs: [row(1, 'c')] },
      branchEnd(1),
      branchEnd(0),
      done(),
    ]
    const response = await create(steps, { logprobs: 0, stream })
    const answers: Completion[] = stream
      ? [...(await response.text()).matchAll(/^data: (\{.*)$/gm)].map(([, line = '']) => JSON.parse(line))
      : [await response.json()]
    expect(answers.map(({ choices }) => choices[0]?.text ?? '').join('')).toBe('a€€cd')
    const offsets = answers.flatMap(({ choices }) => choices[0]?.logprobs?.text_offset ?? [])
    expect(offsets).toEqual([0, 1, 1, 1, 2, 2, 2, 3, 4])
  },
)

it.each([false, true])(
  'has entries for tokens behind the text, if the node reports them, at its end (stream: %s)',
  async (stream) => {
    const row = (at: number, token: string) => ({ at, token, bytes: [0], logprob: -1, top: [] })
    const textless = (at: number, id: number) => ({ ...row(at, `token_id:${id}`), bytes: null })
    const steps = [
      accepted,
      { ...delta(0, 'a'), logprobs: [row(0, 'a')] },
      fork(0, 1, 1),
      { ...delta(0, 'c'), logprobs: [row(1, 'c')] },
      { ...delta(1, 'b'), logprobs: [row(0, 'b')] },
      { ...branchEnd(1), logprobs: [textless(1, 3)] },
      { ...branchEnd(0), logprobs: [textless(2, 2)] },
      done(),
    ]
    const read = async (fields: object) => {
      const response = await create(steps, { logprobs: 0, stream, ...fields })
      const answers: Completion[] = stream
        ? [...(await response.text()).matchAll(/^data: (\{.*)$/gm)].map(([, line = '']) => JSON.parse(line))
        : [await response.json()]
      const rows = answers.flatMap(({ choices }) => choices[0]?.logprobs ?? [])
      return {
        text: answers.map(({ choices }) => choices[0]?.text ?? '').join(''),
        tokens: rows.flatMap(({ tokens }) => tokens),
        offsets: rows.flatMap(({ text_offset }) => text_offset),
      }
    }
    expect(await read({})).toEqual({
      text: 'abc',
      tokens: ['a', 'b', 'c', 'token_id:2', 'token_id:3'],
      offsets: [0, 1, 2, 3, 3],
    })
    // Not behind a stop string.
    expect(await read({ stop: ['c'] })).toEqual({ text: 'ab', tokens: ['a', 'b'], offsets: [0, 1] })
  },
)

it('names its prompt in errors about it', async () => {
  const refusal = {
    type: 'error',
    seq: 0,
    code: 'context_length_exceeded',
    message: 'messages: the prompt may have at most 9 tokens',
    param: 'messages',
  }
  const response = await create([refusal])
  expect(response.status).toBe(400)
  const error = { code: 'context_length_exceeded', message: 'prompt: the prompt may have at most 9 tokens' }
  expect(await response.json()).toMatchObject({ error: { ...error, param: 'prompt' } })
})
