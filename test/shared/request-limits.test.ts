import { expect, test } from 'vitest'
import { ChatCompletionRequest, CompletionRequest } from '../../shared/openai.ts'
import { GenerateRequest } from '../../shared/protocol/request.ts'

const message = { role: 'user', content: 'hi' }
const request = { model: 'demo', messages: [message] }
const times = <T>(count: number, value: T) => Array.from({ length: count }, () => value)
const bias = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, id) => [id, 1]))

test.each<[string, (size: number) => object, number]>([
  ['messages', (size) => ({ messages: times(size, message) }), 4096],
  ['characters', (size) => ({ messages: [{ ...message, content: 'x'.repeat(size) }] }), 1_000_000],
  ['branches', (max_branches) => ({ branching: { max_branches } }), 256],
  ['depth', (max_depth) => ({ branching: { max_depth } }), 16],
  ['stop strings', (size) => ({ stop: times(size, 'x') }), 16],
  ['characters of a stop string', (size) => ({ stop: ['x'.repeat(size)] }), 256],
  ['biases', (size) => ({ logit_bias: bias(size) }), 1024],
])('limits the number of %s in a request', (_, fields, most) => {
  const parsed = (size: number) => GenerateRequest.safeParse({ ...request, ...fields(size) }).success
  expect([parsed(most), parsed(most + 1)]).toEqual([true, false])
})

test('a call has at most 16 choices and 16 prompts', () => {
  const choices = (n: number) => ChatCompletionRequest.safeParse({ ...request, n }).success
  const prompts = (size: number) =>
    CompletionRequest.safeParse({ model: 'demo', prompt: times(size, 'x') }).success
  expect([choices(16), choices(17), prompts(16), prompts(17)]).toEqual([true, false, true, false])
})
