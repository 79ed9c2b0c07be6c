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
