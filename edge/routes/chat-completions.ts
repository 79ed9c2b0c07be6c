import type { Context } from 'hono'
import { ChatCompletionRequest } from '../../shared/openai.ts'
import { parseJson } from '../../shared/parse.ts'
import type { AppEnv } from '../env.ts'
import { chatChunks, chatCompletion } from '../openai/chat.ts'
import { chatRequests } from '../openai/request.ts'
import { sseResponse } from '../openai/sse.ts'
import { startStreams } from '../openai/streams.ts'

/** `POST /v1/chat/completions`, streaming and not. */
export async function createChatCompletion(c: Context<AppEnv>): Promise<Response> {
  const body = parseJson(ChatCompletionRequest, await c.req.text())
  const logprobs = body.logprobs === true
  const streams = await startStreams(c, chatRequests(body))
  if (!body.stream) return c.json(await chatCompletion(streams, { logprobs }))
  const includeUsage = body.stream_options?.include_usage ?? false
  const branchDeltas = body.apar?.branch_deltas ?? false
  return sseResponse(c, chatChunks(streams, { includeUsage, logprobs, branchDeltas }), streams.cancel)
}
