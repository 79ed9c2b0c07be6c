import { APICallError, generateText, streamText } from 'ai'
import { expect, test } from 'vitest'
import { aparErrorOf } from '../../ai-sdk/index.ts'
import { AparError } from '../../client/index.ts'
import { accepted, delta, failure, fakeEdge, fork } from './fake-edge.ts'

const prompt = 'hi'
const refusal = (status: number, code: string, headers = {}) =>
  Response.json(failure(code, `no: ${code}`), { status, headers })

async function failureOf(...answers: Response[]): Promise<unknown> {
  const { apar } = fakeEdge(...answers)
  const call = generateText({ model: apar('demo'), prompt, maxRetries: answers.length - 1 })
  return call.then(
    () => expect.fail('it did not fail'),
    (error: unknown) => error,
  )
}

test('a refused call is an APICallError, whose code is known', async () => {
  const error = await failureOf(refusal(404, 'model_not_found'))
  expect(APICallError.isInstance(error) && [error.statusCode, error.isRetryable]).toEqual([404, false])
  expect(aparErrorOf(error)).toMatchObject({
    code: 'model_not_found',
    message: 'no: model_not_found',
    status: 404,
  })
})

test('a limit is tried again after the time that the server says', async () => {
  const limited = () => refusal(429, 'rate_limit_exceeded', { 'retry-after': '0.001' })
  const error = await failureOf(limited(), limited())
  expect(error).toMatchObject({ name: 'AI_RetryError' })
  expect(aparErrorOf(error)).toMatchObject({ code: 'rate_limit_exceeded', retryAfterSeconds: 0.001 })
})

test('a stream that breaks off gives its text so far, and the error', async () => {
  const chunks = [
    accepted,
    delta(0, 'one'),
    fork(1, 0, 3),
    delta(0, 'two'),
    failure('gpu_node_lost', 'it is gone'),
  ]
  const errors: unknown[] = []
  const result = streamText({
    model: fakeEdge(chunks).apar('demo'),
    prompt,
    onError: ({ error }) => void errors.push(error),
  })
  const types = []
  for await (const part of result.fullStream) types.push(part.type)
  expect(types).toContain('error')
  expect(await result.text).toBe('one')
  expect(await result.finishReason).toBe('error')
  expect(errors).toEqual([expect.any(AparError)])
  expect(aparErrorOf(errors[0])).toMatchObject({ code: 'gpu_node_lost', message: 'it is gone' })
  expect((await result.providerMetadata)?.apar?.branches).toMatchObject([
    { branch: 0, text: 'onetwo', reason: null },
    { branch: 1, text: '', reason: null },
  ])
})

test('errors of others have no code of ours', () => {
  for (const error of [new Error('no'), undefined, 'text', { lastError: new Error('no') }])
    expect(aparErrorOf(error)).toBeUndefined()
})
