import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { requires } from '../support/requires.ts'
import { type Stack, startStack } from './stack.ts'

const run = promisify(execFile)
const CURL = await run('curl', ['--version']).then(
  () => true,
  () => false,
)

let stack: Stack
beforeAll(async () => {
  stack = await startStack()
})
afterAll(async () => {
  await stack?.close()
})

async function curl(path: string, body: object, ...more: string[]): Promise<string> {
  const headers = ['-H', `authorization: Bearer ${stack.key}`, '-H', 'content-type: application/json']
  const { stdout } = await run('curl', [
    '-sN',
    `${stack.url}${path}`,
    ...headers,
    ...more,
    '-d',
    JSON.stringify(body),
  ])
  return stdout
}

describe.skipIf(!requires('curl', () => CURL))('curl', () => {
  const body = { model: 'demo', messages: [{ role: 'user', content: 'How do I use tar?' }], max_tokens: 40 }

  it('reads a stream in the format of OpenAI', async () => {
    const request = { ...body, stream: true, stream_options: { include_usage: true } }
    const lines = (await curl('/v1/chat/completions', request)).split('\n\n').filter((line) => line !== '')
    expect(lines.at(-1)).toBe('data: [DONE]')
    const data = lines.slice(0, -1).filter((line) => !line.startsWith(':'))
    expect(data.every((line) => line.startsWith('data: {'))).toBe(true)
    const chunks = data.map((line) => JSON.parse(line.slice('data: '.length)))
    expect(chunks[0]).toMatchObject({
      object: 'chat.completion.chunk',
      choices: [{ delta: { role: 'assistant', content: '' }, finish_reason: null }],
      usage: null,
    })
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 40 } })
  })

  it('gets rate limit headers, and an error object for a bad request', async () => {
    const whole = await curl('/v1/chat/completions', body, '-i')
    expect(whole).toMatch(/^HTTP\/1.1 200 OK/)
    expect(whole).toMatch(/x-ratelimit-limit-requests: 100000/i)
    expect(whole).toMatch(/x-request-id: \S+/i)
    const refused = await curl('/v1/chat/completions', { ...body, tools: [{}] }, '-w', '%{http_code}')
    expect(refused).toMatch(/400$/)
    expect(JSON.parse(refused.slice(0, -3))).toEqual({
      error: {
        message: 'tools.0.type: only functions are supported',
        type: 'invalid_request_error',
        param: 'tools.0.type',
        code: 'invalid_request',
      },
    })
  })
})
