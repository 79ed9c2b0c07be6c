import type { Context } from 'hono'
import { ChatCompletionRequest } from '../../shared/openai.ts'
import { hasFunctions } from '../../shared/requests/tools.ts'
import type { AppEnv } from '../app-env.ts'
import { apiBody } from '../middleware/api-body.ts'
import { chatChunks, chatCompletion } from '../openai/chat.ts'
import { chatRequests, countsTokens, stopsOf } from '../openai/request.ts'
import { withFormatOf } from '../streams/http/generate-request.ts'
import { streamChunks } from '../streams/http/stream-chunks.ts'
import { startStreams } from '../streams/http/streams.ts'
import { withModel } from './named-model.ts'

/** `POST /v1/chat/completions`, streaming and not. */
export async function createChatCompletion(c: Context<AppEnv>): Promise<Response> {
  const body = await withModel(c, await apiBody(c, ChatCompletionRequest))
  c.set('promptCacheKey', body.prompt_cache_key)
  const logprobs = body.logprobs === true
  const stop = stopsOf(body)
  const requests = chatRequests(body)
  const includeUsage = (body.stream_options?.include_usage ?? false) || countsTokens(body)
  const branchDeltas = body.apar?.branch_deltas ?? false
  const showsReasoning = body.include_reasoning ?? !body.reasoning?.exclude
  const counts = { includeUsage, countsTokens: countsTokens(body) }
  const options = { logprobs, branchDeltas, stop, showsReasoning, asFunctions: hasFunctions(body), ...counts }
  return withFormatOf(body, async () => {
    if (!body.stream) return c.json(await chatCompletion(await startStreams(c, requests), options))
    return streamChunks(c, requests, body.apar?.resumable, (streams) => chatChunks(streams, options))
  })
}
