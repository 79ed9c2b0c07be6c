import type { Context } from 'hono'
import { ignoredTools } from '../../shared/requests/tools.ts'
import { ResponsesRequest } from '../../shared/responses.ts'
import type { AppEnv } from '../app-env.ts'
import { unresolvedItems } from '../history/responses.ts'
import { apiBody, ignoreFields } from '../middleware/api-body.ts'
import {
  begunResponse,
  endedResponse,
  inputItems,
  keptResponse,
  ResponseEvents,
  responsesRequest,
  wholeResponse,
} from '../openai/responses.ts'
import { startInBackground } from '../responses/background.ts'
import { itemsOf } from '../responses/conversation.ts'
import { keepOf } from '../responses/keep.ts'
import { withFormatOf, withPromptAs } from '../streams/http/generate-request.ts'
import { SingleAnswer } from '../streams/http/single-answer.ts'
import { namedEvents, sseResponse } from '../streams/http/sse.ts'
import { startStreams } from '../streams/http/streams.ts'
import { withModel } from './named-model.ts'
import { streamStored } from './stored-responses.ts'

/** `POST /v1/responses`, streaming and not. */
export async function createResponse(c: Context<AppEnv>): Promise<Response> {
  const body = await withModel(c, await apiBody(c, ResponsesRequest))
  c.set('promptCacheKey', body.prompt_cache_key)
  const { before, own } = await itemsOf(c, inputItems(body), body.previous_response_id)
  ignoreFields(c, unresolvedItems(own))
  ignoreFields(c, ignoredTools(body))
  const refusals = <T>(start: () => Promise<T>) =>
    withPromptAs('input', () => withFormatOf(body, start), c.get('unknownFields'))
  const items = [...before, ...own]
  if (body.background) {
    const first = await refusals(async () => startInBackground(c, body, own, responsesRequest(body, items)))
    return body.stream ? await streamStored(c, first, -1) : c.json(first)
  }
  const streams = await refusals(async () => startStreams(c, [responsesRequest(body, items)]))
  const answer = new SingleAnswer(streams)
  const keep = keepOf(c, body, own)
  const begun = begunResponse(body, answer.accepted, keep !== undefined)
  if (!body.stream) return c.json(await wholeResponse(begun, answer, keep))
  const events = new ResponseEvents(begun, answer)
  const format = namedEvents((error) => events.failed(error))
  const end = () => keptResponse(endedResponse(begun, answer), keep)
  return sseResponse(c, events.all(end), streams.cancel, format)
}
