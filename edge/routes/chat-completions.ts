import type { Context } from 'hono'
import { toAparError } from '../../shared/errors.ts'
import { ChatCompletionRequest } from '../../shared/openai.ts'
import { parseJson } from '../../shared/parse.ts'
import type { AppEnv } from '../env.ts'
import { logError } from '../middleware/errors.ts'
import { ChatAnswer } from '../openai/answer.ts'
import { toChunks } from '../openai/chunks.ts'
import { toGenerateRequest } from '../openai/request.ts'
import { sseResponse } from '../openai/sse.ts'
import { startStreams } from '../openai/streams.ts'

/** `POST /v1/chat/completions`, streaming and not. */
export async function createChatCompletion(c: Context<AppEnv>): Promise<Response> {
  const body = parseJson(ChatCompletionRequest, await c.req.text())
  const { streams, cancel } = await startStreams(c, [toGenerateRequest(body)])
  const [stream] = streams
  if (!stream) throw new Error('no stream was started')
  const answer = new ChatAnswer(stream.accepted)
  if (body.stream) {
    const includeUsage = body.stream_options?.include_usage ?? false
    return sseResponse(toChunks(answer, stream.events, includeUsage), {
      onCancel: cancel,
      onError: (thrown) => logUnexpected(c, thrown),
    })
  }
  for await (const event of stream.events) answer.push(event)
  return c.json(answer.completion())
}

function logUnexpected(c: Context<AppEnv>, thrown: unknown): void {
  const error = toAparError(thrown)
  if (error.code === 'internal_error') logError(c.get('requestId'), error.cause ?? error)
}
