import { Hono } from 'hono'
import { MESSAGES_PATH } from './anthropic/errors.ts'
import type { AppEnv } from './app-env.ts'
import { authenticate, authenticateGeneration, authenticateSocket, rateHeaders } from './keys/authenticate.ts'
import { limitByAddress } from './keys/refuse-credential.ts'
import { adminAuth } from './middleware/admin-auth.ts'
import { refuseAmbiguousLength } from './middleware/ambiguous-length.ts'
import { handleError } from './middleware/errors.ts'
import { metricsAuth } from './middleware/metrics-auth.ts'
import { nodeAuth } from './middleware/node-auth.ts'
import { allowOnly, notFound } from './middleware/not-found.ts'
import { observe } from './middleware/observe.ts'
import { allowOrigins } from './middleware/origins.ts'
import { readableBody } from './middleware/readable-body.ts'
import { responseHeaders } from './middleware/response-headers.ts'
import { routedPath } from './paths.ts'
import { createTicket, getUsage } from './routes/account.ts'
import {
  changeKey,
  createKey,
  getKey,
  getKeyUsage,
  listKeys,
  revokeKey,
  rotateKey,
} from './routes/admin-keys.ts'
import { listNodes } from './routes/admin-nodes.ts'
import { createChatCompletion } from './routes/chat-completions.ts'
import { createCompletion } from './routes/completions.ts'
import { deleteFeedback, exportFeedback, giveFeedback, withdrawFeedback } from './routes/feedback.ts'
import { health, ready, serving } from './routes/health.ts'
import { createMessage } from './routes/messages.ts'
import { metrics } from './routes/metrics.ts'
import { getModel, listModels } from './routes/models.ts'
import { deregisterNode, dialIn, registerNode } from './routes/nodes.ts'
import { openApi } from './routes/openapi.ts'
import { chatPage, chatScript, chatStyle, revalidated } from './routes/page.ts'
import { createResponse } from './routes/responses.ts'
import { cancelResponse, deleteResponse, getResponse, listInputItems } from './routes/stored-responses.ts'
import { cancelStream, openStream } from './routes/stream.ts'
import {
  applyTemplate,
  countResponseTokens,
  countTokens,
  detokenize,
  tokenize,
  tokenizerInfo,
} from './routes/tokens.ts'

export const MAX_BODY_BYTES = 2 * 1024 * 1024

export function createApp(): Hono<AppEnv> {
  const app = new Hono<AppEnv>({ getPath: routedPath })
  app.onError(handleError)
  app.notFound(notFound)
  app.use(responseHeaders, observe, refuseAmbiguousLength)
  // Behind every check of a credential: a stranger's body is not read.
  const body = readableBody(MAX_BODY_BYTES)

  app.get('/', revalidated, chatPage).all(allowOnly('GET'))
  app.get('/chat.js', revalidated, chatScript).all(allowOnly('GET'))
  app.get('/chat.css', revalidated, chatStyle).all(allowOnly('GET'))
  app.get('/healthz', health).all(allowOnly('GET'))
  app.get('/readyz', limitByAddress, ready).all(allowOnly('GET'))
  app.get('/health', limitByAddress, serving).all(allowOnly('GET'))
  app.get('/metrics', metricsAuth, metrics).all(allowOnly('GET'))
  app.get('/openapi.json', openApi).all(allowOnly('GET'))

  app.use('/v1/*', allowOrigins, rateHeaders)
  app.get('/v1/models', authenticate('models'), listModels).all(allowOnly('GET'))
  app.get('/v1/models/:id{.+}', authenticate('models'), getModel).all(allowOnly('GET'))
  app.get('/v1/usage', authenticate('usage'), getUsage).all(allowOnly('GET'))
  app.post('/v1/tickets', authenticate('generate'), body, createTicket).all(allowOnly('POST'))
  app.post('/v1/feedback', authenticate('generate'), body, giveFeedback).all(allowOnly('POST'))
  app.delete('/v1/feedback/:id', authenticate('generate'), withdrawFeedback).all(allowOnly('DELETE'))
  app.get('/v1/stream', authenticateSocket, openStream).all(allowOnly('GET'))
  app.delete('/v1/streams/:id', authenticate('generate'), cancelStream).all(allowOnly('DELETE'))
  app.post('/v1/chat/completions', authenticateGeneration, body, createChatCompletion).all(allowOnly('POST'))
  app.post('/v1/completions', authenticateGeneration, body, createCompletion).all(allowOnly('POST'))
  app.post('/v1/responses', authenticateGeneration, body, createResponse).all(allowOnly('POST'))
  app.post('/v1/responses/input_tokens', authenticateGeneration, body, countResponseTokens)
  app.all('/v1/responses/input_tokens', allowOnly('POST'))
  // Not the id of a response.
  app.all('/v1/responses/compact', notFound)
  app.get('/v1/responses/:id', authenticate('generate'), getResponse)
  app.delete('/v1/responses/:id', authenticate('generate'), deleteResponse).all(allowOnly('GET', 'DELETE'))
  app.post('/v1/responses/:id/cancel', authenticate('generate'), cancelResponse).all(allowOnly('POST'))
  app.get('/v1/responses/:id/input_items', authenticate('generate'), listInputItems).all(allowOnly('GET'))
  app.post(MESSAGES_PATH, authenticateGeneration, body, createMessage).all(allowOnly('POST'))

  app.post('/v1/messages/count_tokens', authenticate('generate'), body, countTokens).all(allowOnly('POST'))
  app.post('/v1/tokenize', authenticate('generate'), body, tokenize).all(allowOnly('POST'))
  app.post('/v1/detokenize', authenticate('generate'), body, detokenize).all(allowOnly('POST'))
  app.post('/v1/apply-template', authenticate('generate'), body, applyTemplate).all(allowOnly('POST'))
  app.get('/v1/tokenizer_info', authenticate('models'), tokenizerInfo).all(allowOnly('GET'))

  app.use('/admin/v1/*', adminAuth, body)
  app.get('/admin/v1/keys', listKeys).post(createKey).all(allowOnly('GET', 'POST'))
  app.get('/admin/v1/keys/:id', getKey).patch(changeKey).delete(revokeKey)
  app.all('/admin/v1/keys/:id', allowOnly('GET', 'PATCH', 'DELETE'))
  app.get('/admin/v1/keys/:id/usage', getKeyUsage).all(allowOnly('GET'))
  app.post('/admin/v1/keys/:id/rotate', rotateKey).all(allowOnly('POST'))
  app.get('/admin/v1/feedback', exportFeedback).delete(deleteFeedback).all(allowOnly('GET', 'DELETE'))
  app.get('/admin/v1/nodes', listNodes).all(allowOnly('GET'))

  app.use('/internal/v1/*', nodeAuth, body)
  app.put('/internal/v1/nodes/:id', registerNode)
  app.delete('/internal/v1/nodes/:id', deregisterNode)
  app.all('/internal/v1/nodes/:id', allowOnly('PUT', 'DELETE'))
  app.get('/internal/v1/nodes/:id/socket', dialIn).all(allowOnly('GET'))
  return app
}
