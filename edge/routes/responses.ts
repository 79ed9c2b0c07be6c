import type { Context } from 'hono'
import { ignoredTools } from '../../shared/requests/tools.ts'
import { ResponsesRequest } from '../../shared/responses.ts'
import type { AppEnv } from '../app-env.ts'
import { unresolvedItems } from '../history/responses.ts'
import { apiBody, ignoreFields } from '../middleware/api-body.ts'
import {
  begunResponse,
  inputItems,
  ResponseEvents,
  responsesRequest,
  wholeResponse,
} from '../openai/responses.ts'
import { itemsOf } from '../responses/conversation.ts'
import { keepOf } from '../responses/keep.ts'
import { withFormatOf, withPromptAs } from '../streams/http/generate-request.ts'
import { SingleAnswer } from '../streams/http/single-answer.ts'
import { namedEvents, sseResponse } from '../streams/http/sse.ts'
import { startStreams } from '../streams/http/streams.ts'

/** `POST /v1/responses`, streaming and not. */
export async function createResponse(c: Context<AppEnv>): Promise<Response> {
  const body = await apiBody(c, ResponsesRequest)
  const { before, own } = await itemsOf(c, inputItems(body), body.previous_response_id)
  ignoreFields(c, unresolvedItems(own))
  ignoreFields(c, ignoredTools(body))
  const start = () =>
    withFormatOf(body, async () => startStreams(c, [responsesRequest(body, [...before, ...own])]))
  const streams = await withPromptAs('input', start, c.get('unknownFields'))
  const answer = new SingleAnswer(streams)
  const keep = keepOf(c, body, own)
  const begun = begunResponse(body, answer.accepted, keep !== undefined)
  if (!body.stream) return c.json(await wholeResponse(begun, answer, keep))
  const events = new ResponseEvents(begun, answer)
  const format = namedEvents((error) => events.failed(error))
  return sseResponse(c, events.all(keep), streams.cancel, format)
}
