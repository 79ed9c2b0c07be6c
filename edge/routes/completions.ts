import type { Context } from 'hono'
import { CompletionRequest } from '../../shared/openai.ts'
import type { AppEnv } from '../app-env.ts'
import { apiBody } from '../middleware/api-body.ts'
import { completion, completionChunks } from '../openai/completion.ts'
import { candidatesOf, completionRequests, countsTokens, promptsOf, stopsOf } from '../openai/request.ts'
import { withFormatOf, withPromptAs } from '../streams/http/generate-request.ts'
import { streamChunks } from '../streams/http/stream-chunks.ts'
import { startStreams } from '../streams/http/streams.ts'
import { withModel } from './named-model.ts'

/** `POST /v1/completions`, streaming and not. */
export async function createCompletion(c: Context<AppEnv>): Promise<Response> {
  const body = await withModel(c, await apiBody(c, CompletionRequest))
  c.set('promptCacheKey', body.prompt_cache_key)
  const options = {
    n: body.n ?? 1,
    candidates: candidatesOf(body),
    logprobs: typeof body.logprobs === 'number',
    stop: stopsOf(body),
    echo: body.echo ? promptsOf(body) : undefined,
    promptOnly: body.max_tokens === 0,
    countsTokens: countsTokens(body),
    includeUsage: (body.stream_options?.include_usage ?? false) || countsTokens(body),
  }
  const requests = completionRequests(body)
  const answer = async () => {
    if (!body.stream) return c.json(await completion(await startStreams(c, requests), options))
    return streamChunks(c, requests, body.apar?.resumable, (streams) => completionChunks(streams, options))
  }
  return withPromptAs('prompt', () => withFormatOf(body, answer), c.get('unknownFields'))
}
