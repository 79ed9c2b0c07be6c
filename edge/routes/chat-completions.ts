import type { Context } from 'hono'
import { toAparError } from '../../shared/errors.ts'
import { ChatCompletionRequest } from '../../shared/openai.ts'
import { parseJson } from '../../shared/parse.ts'
import type { AcceptedEvent, StreamEvent } from '../../shared/protocol/events.ts'
import type { AppEnv } from '../env.ts'
import { logError } from '../middleware/errors.ts'
import { ChatAnswer, streamError } from '../openai/answer.ts'
import { toChunks } from '../openai/chunks.ts'
import { toGenerateRequest } from '../openai/request.ts'
import { sseResponse } from '../openai/sse.ts'
import { generate } from '../session.ts'

/** `POST /v1/chat/completions`, streaming and not. */
export async function createChatCompletion(c: Context<AppEnv>): Promise<Response> {
  const { signal } = c.req.raw
  const body = parseJson(ChatCompletionRequest, await c.req.text())
  const leave = new AbortController()
  signal.addEventListener('abort', () => leave.abort())
  const events = generate(c.env, toGenerateRequest(body), leave.signal)
  // Only an accepted stream gets status 200; a refused one is an ordinary error answer, streaming or not.
  const answer = new ChatAnswer(await firstEvent(events))

  if (body.stream) {
    const includeUsage = body.stream_options?.include_usage ?? false
    return sseResponse(toChunks(answer, events, includeUsage), {
      onCancel: () => leave.abort(),
      onError: (thrown) => logUnexpected(c, thrown),
    })
  }
  for await (const event of events) answer.push(event)
  return c.json(answer.completion())
}

async function firstEvent(events: AsyncGenerator<StreamEvent, void>): Promise<AcceptedEvent> {
  const { value } = await events.next()
  if (value?.type === 'error') throw streamError(value)
  if (value?.type !== 'accepted') throw new Error(`a stream began with ${value?.type}`)
  return value
}

function logUnexpected(c: Context<AppEnv>, thrown: unknown): void {
  const error = toAparError(thrown)
  if (error.code === 'internal_error') logError(c.get('requestId'), error.cause ?? error)
}
