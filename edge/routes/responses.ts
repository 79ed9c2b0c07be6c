import type { Context } from 'hono'
import { ignoredTools } from '../../shared/requests/tools.ts'
import { ResponsesRequest } from '../../shared/responses.ts'
import type { AppEnv } from '../app-env.ts'
import { unresolvedItems } from '../history/responses.ts'
import { apiBody, ignoreFields } from '../middleware/api-body.ts'
import { ResponseEvents, responsesRequest, wholeResponse } from '../openai/responses.ts'
import { withFormatOf, withPromptAs } from '../streams/http/generate-request.ts'
import { SingleAnswer } from '../streams/http/single-answer.ts'
import { namedEvents, sseResponse } from '../streams/http/sse.ts'
import { startStreams } from '../streams/http/streams.ts'

/** `POST /v1/responses`, streaming and not. */
export async function createResponse(c: Context<AppEnv>): Promise<Response> {
  const body = await apiBody(c, ResponsesRequest)
  if (typeof body.input !== 'string') ignoreFields(c, unresolvedItems(body.input))
  ignoreFields(c, ignoredTools(body))
  const start = () => withFormatOf(body, async () => startStreams(c, [responsesRequest(body)]))
  const streams = await withPromptAs('input', start, c.get('unknownFields'))
  const answer = new SingleAnswer(streams)
  if (!body.stream) return c.json(await wholeResponse(body, answer))
  const events = new ResponseEvents(body, answer)
  const format = namedEvents((error) => events.failed(error))
  return sseResponse(c, events.all(), streams.cancel, format)
}
